"""The conditional random field equals one that sums over all pairs of pixels, and does what it is for."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from segsmith.prediction.crf import ITERATIONS, SURE, refined
from segsmith.recipe import Crf

CRF = Crf(alike=2.0, reach_px=4.0, levels=32.0, near=0.5, near_px=1.5)


def step(height, width, at):
    """An image that is dark left of a column and bright from there on."""
    image = np.full((height, width, 3), 40, np.uint8)
    image[:, at:] = 200
    return image


def by_hand(probabilities, image, options):
    """Mean field with every pair of pixels, for classes and background."""
    labels = np.concatenate([1 - probabilities.sum(axis=0, keepdims=True), probabilities])
    labels = np.clip(labels, SURE, 1)
    height, width = image.shape[:2]
    row, column = (axis.ravel().astype(float) for axis in np.mgrid[:height, :width])
    grey = image.mean(axis=2).ravel()
    apart = (row[:, None] - row) ** 2 + (column[:, None] - column) ** 2
    alike = np.exp(-apart / (2 * options.reach_px**2) - (grey[:, None] - grey) ** 2 / (2 * options.levels**2))
    near = np.exp(-apart / (2 * options.near_px**2))
    alike, near = (kernel / kernel.sum(axis=1, keepdims=True) for kernel in (alike, near))
    unary = np.log(labels).reshape(len(labels), -1)
    likely = np.exp(unary)
    for _ in range(ITERATIONS):
        energy = unary + options.alike * likely @ alike.T + options.near * likely @ near.T
        likely = np.exp(energy) / np.exp(energy).sum(axis=0)
    return likely.reshape(labels.shape)[1:]


@pytest.mark.parametrize("exclusive", [False, True])
def test_it_equals_the_sum_over_all_pairs(exclusive):
    draw = np.random.default_rng(1)
    smooth = np.cumsum(np.cumsum(draw.normal(size=(2, 40, 48)), axis=1), axis=2)
    probabilities = (0.45 / (1 + np.exp(-smooth / 15))).astype(np.float32)
    image = np.repeat((100 + 60 * np.sin(smooth[0] / 12))[..., None], 3, axis=2).clip(0, 255).astype(np.uint8)
    found = refined(probabilities, image, CRF, exclusive=exclusive)
    expected = (
        by_hand(probabilities, image, CRF)
        if exclusive
        else np.concatenate([by_hand(plane[None], image, CRF) for plane in probabilities])
    )
    moved = np.abs(expected - probabilities).mean()
    assert moved > 0.03, "or nothing was asked of it"
    assert np.abs(found - expected).mean() < 0.1 * moved


def test_a_mask_moves_to_the_edge_of_the_image():
    image = step(40, 60, at=30)
    probabilities = np.full((1, 40, 60), 0.3, np.float32)
    probabilities[:, :, 34:] = 0.7  # four pixels beside it
    mask = refined(probabilities, image, CRF.model_copy(update={"alike": 6.0}), exclusive=False)[0] >= 0.5
    assert_allclose(mask, np.broadcast_to(np.arange(60) >= 30, (40, 60)))


def test_weights_of_nothing_change_nothing():
    draw = np.random.default_rng(0)
    probabilities = draw.uniform(SURE, 1 - SURE, (2, 9, 7)).astype(np.float32)
    found = refined(probabilities, draw.integers(0, 256, (9, 7, 4), np.uint8), Crf(alike=0, near=0), exclusive=False)
    assert_allclose(found, probabilities, atol=1e-5)


def test_one_level_everywhere_and_pure_black_and_white_are_images_too():
    probabilities = np.random.default_rng(0).uniform(0, 1, (1, 5, 400)).astype(np.float32)
    for level in (0, 255):
        found = refined(probabilities, np.full((5, 400, 1), level, np.uint8), CRF, exclusive=False)
        assert found.shape == probabilities.shape
        assert np.isfinite(found).all()
        assert 0 <= found.min() <= found.max() <= 1
