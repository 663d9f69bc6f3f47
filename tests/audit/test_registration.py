"""A scene and its mask -> the constant offset between them, or nothing where none stands out."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segsmith.audit.registration import label_shift


def town(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Houses of any brightness on noisy ground, and where they stand."""
    draw = np.random.default_rng(seed)
    grey, mask = np.full((220, 260), 110.0), np.zeros((220, 260), bool)
    for _ in range(25):
        top, left, height, width = *draw.integers(20, 180, 2), *draw.integers(8, 22, 2)
        grey[top : top + height, left : left + width] = draw.choice([50, 70, 170, 200])
        mask[top : top + height, left : left + width] = True
    noisy = np.clip(cv2.GaussianBlur(grey, (0, 0), 0.8) + draw.normal(0, 10, grey.shape), 0, 255)
    return np.repeat(noisy.astype(np.uint8)[:, :, None], 3, axis=2), mask


@settings(max_examples=12)
@given(st.integers(-16, 16), st.integers(-16, 16), st.integers(0, 5))
def test_any_shift_is_found_to_the_pixel(down, right, seed):
    image, mask = town(seed)
    found = label_shift(image, np.roll(mask, (down, right), (0, 1)), reach_px=20, gsd_m=0.5)
    assert found is not None
    assert abs(found.dy - down) <= 1
    assert abs(found.dx - right) <= 1
    assert found.metres == pytest.approx(np.hypot(found.dy, found.dx) / 2)


def test_no_offset_is_claimed_where_none_stands_out():
    """Labels of another scene, and a scene without anything to see."""
    for seed in range(6):
        image, _ = town(seed)
        _, other = town(seed + 100)
        assert label_shift(image, other, reach_px=20) is None
    noise = np.random.default_rng(0).integers(0, 256, (220, 260, 3), np.uint8)
    assert label_shift(noise, town()[1]) is None
    assert label_shift(np.zeros_like(noise), town()[1]) is None


@pytest.mark.parametrize("filled", [False, True])
def test_a_mask_without_outline_says_nothing(filled):
    image, mask = town()
    assert label_shift(image, np.full_like(mask, filled)) is None


def test_an_offset_beyond_reach_is_not_made_up():
    image, mask = town()
    assert label_shift(image, np.roll(mask, (30, 0), (0, 1)), reach_px=8) is None


def test_metres_are_said_only_where_known():
    image, mask = town()
    found = label_shift(image, mask)
    assert found is not None
    assert (found.dy, found.dx, found.metres) == (0, 0, None)


def test_a_reach_beyond_the_image_is_refused():
    image, mask = town()
    for reach in (0, 110):
        with pytest.raises(ValueError, match=f"Received: {reach}"):
            label_shift(image, mask, reach_px=reach)
