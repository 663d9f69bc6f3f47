"""Chips blended as they come are the weighted mean of all of them at once."""

import numpy as np
import pytest

from segsmith.data.windows import cover
from segsmith.prediction.blending import LEAST, Blend, Strip, WayBack, shares, taper
from segsmith.recipe import Predict


def naive(hw, chip_hw, stride_hw, of_window):
    """The weighted mean over all chips in arrays of the whole image, and by its definition."""
    weight = np.outer(taper(chip_hw[0], stride_hw[0]), taper(chip_hw[1], stride_hw[1]))
    total, weights = np.zeros((2, *hw)), np.zeros(hw)
    for window in cover(hw, chip_hw, stride_hw):
        there = window.inside(hw)
        inside = weight[: there.height, : there.width]
        total[:, there.rows, there.columns] += inside * of_window(window)[:, : there.height, : there.width]
        weights[there.rows, there.columns] += inside
    return total / weights


def blended(hw, chip_hw, stride_hw, of_window):
    """The same by Blend, popped whenever a row of chips is over."""
    blend = Blend(hw, chip_hw, stride_hw, 2)
    windows, strips = list(cover(hw, chip_hw, stride_hw)), []
    for number, window in enumerate(windows):
        blend.add([window], of_window(window)[None])
        after = windows[number + 1].top if number + 1 < len(windows) else hw[0]
        if after > window.top:
            strips += blend.pop_finished(after)
    assert [strip.top for strip in strips] == np.cumsum([0, *(s.values.shape[1] for s in strips)])[:-1].tolist()
    return np.concatenate([strip.values for strip in strips], axis=1)


@pytest.mark.parametrize("seed", range(25))
def test_strips_are_the_weighted_mean_of_all_chips(seed):
    rng = np.random.default_rng(seed)
    hw = tuple(rng.integers(1, 50, 2).tolist())
    chip_hw = tuple(rng.integers(2, 24, 2).tolist())
    stride_hw = Predict(overlap=float(rng.choice([0, 0.1, 0.25, 0.5, 0.7, 0.9]))).stride_hw(chip_hw)

    def of_window(window):
        return np.random.default_rng((seed, *window)).random((2, *chip_hw), np.float32)

    found = blended(hw, chip_hw, stride_hw, of_window)
    assert found.shape == (2, *hw)
    np.testing.assert_allclose(found, naive(hw, chip_hw, stride_hw, of_window), atol=1e-5)


@pytest.mark.parametrize(
    ("length", "side", "stride"), [(1, 8, 4), (100, 16, 8), (101, 16, 5), (64, 64, 64), (65, 64, 1)]
)
def test_shares_of_a_pixel_add_up_to_one(length, side, stride):
    of_chips = shares(length, side, stride)
    total = np.zeros((len(of_chips) - 1) * stride + side)
    for number, share in enumerate(of_chips):
        assert (share > 0).all()
        total[number * stride : number * stride + side] += share
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_weights_fall_off_towards_the_edges_and_never_vanish():
    weights = taper(64, 32)
    assert (weights[:4] == LEAST).all(), "a sixteenth at each edge counts only where nothing else does"
    assert (np.diff(weights[4:32]) > 0).all()
    assert weights[31] > 0.99
    np.testing.assert_allclose(weights, weights[::-1])


def test_what_was_popped_is_left_out():
    """A blend that begins in the middle says the same of the rows from there on."""
    hw, chip_hw, stride_hw, rng = (40, 20), (16, 16), (8, 8), np.random.default_rng(0)
    values = {window: rng.random((2, *chip_hw), np.float32) for window in cover(hw, chip_hw, stride_hw)}
    rows = []
    for blend in (Blend(hw, chip_hw, stride_hw, 2), Blend(hw, chip_hw, stride_hw, 2, first_row=11)):
        popped = []
        for top in (0, 8, 16, 24):
            for window, of_chip in values.items():
                if window.top == top:
                    blend.add([window], of_chip[None])
            popped += blend.pop_finished(top + 8 if top < 24 else 40)
        assert popped[0].top == (0 if not rows else 11)
        rows.append(np.concatenate([strip.values for strip in popped], axis=1))
    assert (rows[1] == rows[0][:, 11:]).all()


@pytest.mark.parametrize("hw", [(40, 30), (97, 61), (13, 8), (40, 61), (1, 1)])
def test_probabilities_come_back_to_the_size_of_the_image(hw):
    """A ramp stays the same ramp, however few rows come at a time."""
    seen_hw = (40, 30)
    down, right = ((np.arange(side) + 0.5) / side for side in seen_hw)
    values = ((down[:, None] + right) / 2)[None].astype(np.float32)
    back = WayBack(seen_hw, hw)
    found, row = [], 0
    for count in (1, 2, 3, 13, 21):
        found += list(back.add(Strip(row, values[:, row : row + count])))
        row += count
        assert sum(part.shape[1] for part in found) == back.ready(row)
    there = np.concatenate(found, axis=1)
    assert there.shape == (1, *hw)
    down, right = ((np.arange(side) + 0.5) / side for side in hw)
    expected = (down[:, None] + right) / 2
    assert np.abs(there[0] - expected)[1:-1, 1:-1].max(initial=0) <= 1e-3, "but for edges that go on flat"
