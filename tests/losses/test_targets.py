"""Planes that exclude each other, and pixels near outlines: against definitions pixel by pixel."""

import math

import cv2
import numpy as np
import pytest
import torch

from segsmith.losses.targets import filled, image_weight, outline_weight, with_background


def pixels(*columns: tuple[float, ...]) -> torch.Tensor:
    """One image, one row: for each pixel its value in every plane."""
    return torch.tensor(columns).T.reshape(1, len(columns[0]), 1, len(columns))


def test_background_is_what_no_class_claims_and_the_later_of_two_wins():
    truth = pixels((0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0), (1, 1, 1))
    expected = pixels((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 1, 0), (0, 0, 0, 1))
    assert torch.equal(with_background(truth.float()), expected.float())


def test_soft_labels_keep_their_shares_as_far_as_these_fit_into_a_pixel():
    found = with_background(pixels((0.25, 0.5), (0.5, 0.5), (0.75, 0.5), (1.0, 0.75)))
    assert torch.equal(found, pixels((0.25, 0.25, 0.5), (0.0, 0.5, 0.5), (0.0, 0.5, 0.5), (0.0, 0.25, 0.75)))


def test_an_image_counts_as_its_heaviest_pixel():
    weight = torch.tensor([[0.0, 0.25], [0.0, 0.0], [1.0, 0.5]]).view(3, 1, 1, 2)
    assert image_weight(weight).tolist() == [0.25, 0, 1]


def test_filled_is_what_has_usable_foreground():
    truth = torch.tensor([[1.0, 0.4], [0.6, 0.0], [0.0, 0.0]]).view(3, 1, 1, 2)
    assert filled(truth, None).tolist() == [[True], [True], [False]]
    weight = torch.tensor([[0.0, 1.0], [0.25, 1.0], [1.0, 1.0]]).view(3, 1, 1, 2)
    assert filled(truth, weight).tolist() == [[False], [True], [False]]


def at_outlines(plane: np.ndarray) -> np.ndarray:
    """Pixels one of whose four neighbours is of the other kind."""
    found = np.zeros(plane.shape, bool)
    for row, column in np.ndindex(plane.shape):
        for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            y, x = row + down, column + right
            if 0 <= y < plane.shape[0] and 0 <= x < plane.shape[1] and plane[y, x] != plane[row, column]:
                found[row, column] = True
    return found


@pytest.mark.parametrize("width_px", [0.7, 2.0, 5.0])
def test_weights_fall_with_the_distance_from_the_nearest_outline(width_px):
    noise = np.random.default_rng(0)
    truth = np.zeros((2, 2, 24, 31), np.float32)
    for plane in truth.reshape(4, 24, 31)[:3]:
        cv2.circle(plane, (int(noise.integers(31)), int(noise.integers(24))), 5, 1, -1)
    found = outline_weight(torch.from_numpy(truth), None, 3.0, width_px).numpy()
    for plane, weights in zip(truth.reshape(4, 24, 31), found.reshape(4, 24, 31), strict=True):
        if not plane.any():
            assert (weights == 1).all(), "nothing has no outline"
            continue
        outline = at_outlines(plane)
        distance = cv2.distanceTransform(1 - outline.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        expected = 1 + 3 * np.exp(-((distance / width_px) ** 2) / 2)
        assert weights == pytest.approx(expected, abs=3 * math.exp(-4.5)), "cut off at three deviations"
        near = distance <= 3 * width_px
        assert weights[near] == pytest.approx(expected[near], rel=1e-5)
        assert (weights[outline] == 4).all()


def test_a_width_of_0_weighs_the_pixels_at_the_outline_alone():
    found = outline_weight(torch.tensor([0.0, 0, 1, 1, 1, 0, 0]).view(1, 1, 1, 7), None, 2.0, 0.0)
    assert found.flatten().tolist() == [1, 3, 3, 1, 3, 3, 1]


def test_where_usable_pixels_end_there_is_no_outline():
    truth = torch.tensor([1.0, 1, 1, 0, 0, 1]).view(1, 1, 1, 6)
    weight = torch.tensor([1.0, 1, 1, 0, 0, 0.5]).view(1, 1, 1, 6)
    assert (outline_weight(truth, weight, 2.0, 1.0) == 1).all()
