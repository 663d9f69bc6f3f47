"""Margins that go on smoothly."""

import numpy as np
import pytest

from segsmith.samples.margins import continued

MARGINS = ((6, 7), (5, 9))


@pytest.mark.parametrize("bands", [1, 3, 5])
def test_a_plane_goes_on_as_a_plane(bands):
    rows, columns = np.indices((40 + 13, 30 + 14))
    planes = np.stack([100 + rows - 2 * columns + 5 * band for band in range(bands)], axis=2).clip(0, 255)
    inside = planes[6:46, 5:35].astype(np.uint8)
    assert (inside > 0).all(), "a clipped plane would be none"
    assert (continued(inside, MARGINS) == planes).all()


def test_the_image_within_is_untouched_and_the_margin_joins_it_smoothly():
    rows, columns = np.indices((50, 44))
    image = np.rint(127 + 60 * np.sin(rows / 9) + 60 * np.cos(columns / 11)).astype(np.uint8)[:, :, None]
    padded = continued(image, MARGINS)
    assert padded.shape == (63, 58, 1)
    assert (padded[6:56, 5:49] == image).all()
    across = padded[30, :, 0].astype(float)
    assert np.abs(np.diff(across, 2)[3:8]).max() <= 3, "a kink at the edge"
    assert np.abs(np.diff(across)[48:50]).max() < 12


def test_levels_are_clipped_and_no_margin_is_no_work():
    steep = np.tile(np.arange(0, 250, 25, dtype=np.uint8), (10, 1))[:, :, None]
    padded = continued(steep, ((0, 0), (4, 4)))
    assert padded[:, -4:].min() == 250 or padded[:, -3:].min() == 255
    assert padded[:, :4].max() == 0
    assert continued(steep, ((0, 0), (0, 0))) is steep


@pytest.mark.parametrize("hw", [(1, 1), (2, 5), (1, 8)])
def test_tiny_images_are_continued(hw):
    image = np.full((*hw, 2), 77, np.uint8)
    assert (continued(image, ((2, 2), (3, 1))) == 77).all()
