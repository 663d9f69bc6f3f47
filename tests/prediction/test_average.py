"""Averages from their definitions, of floats and of levels."""

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segsmith.prediction.average import Average, averaged_levels
from segsmith.recipe import Averaging

HOW = get_args(Averaging)
SEVERAL = arrays(np.uint8, st.tuples(st.integers(1, 5), st.just(2), st.just(3), st.just(4)))


def averaged(how: Averaging, values: np.ndarray, weights=None, *, exclusive: int = 0) -> np.ndarray:
    average = Average(how, exclusive=exclusive)
    for value, weight in zip(values, [1.0] * len(values) if weights is None else weights, strict=True):
        average.add(torch.from_numpy(value), weight)
    return average.result().numpy()


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("times", [1, 2, 3, 7])
def test_of_the_same_it_is_that_at_every_level(how, times):
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    assert (averaged_levels([levels] * times, [0.3] * times, how) == levels).all()


@pytest.mark.parametrize("how", HOW)
def test_of_the_same_exclusive_classes_too(how):
    first, second = np.mgrid[0:256, 0:256].astype(np.uint8)
    there = first.astype(int) + second <= 255  # with the background they sum to 1
    levels = np.stack([first[there], second[there]])[:, :, None]
    found = averaged_levels([levels] * 3, [2.0, 1.0, 1.0], how, exclusive=2)
    assert np.abs(found.astype(int) - levels).max() <= 1


@given(SEVERAL, st.lists(st.floats(0.1, 5), min_size=5, max_size=5))
def test_a_mean_is_the_plain_one_of_floats(levels, weights):
    weights = weights[: len(levels)]
    expected = np.average(levels.astype(float), axis=0, weights=weights)
    assert np.abs(averaged_levels(list(levels), weights, "mean") - expected).max() <= 0.5 + 1e-3


@given(SEVERAL)
def test_a_median_is_the_one_in_the_middle(levels):
    found = averaged("median", levels / 255)
    assert np.allclose(found, np.median(levels / 255, axis=0))


def test_a_geometric_mean_is_of_odds():
    values = np.array([[[[0.5]]], [[[0.9]]], [[[0.2]]]])
    odds = values / (1 - values)
    expected = odds.prod(axis=0) ** (1 / 3)
    assert averaged("geometric", values) == pytest.approx(expected / (1 + expected))
    weighted = odds[0] ** 0.5 * odds[1] ** 0.5
    assert averaged("geometric", values[:2], [2.0, 2.0]) == pytest.approx(weighted / (1 + weighted))


@given(SEVERAL)
def test_foreground_and_background_count_alike(levels):
    values = levels / 255
    assert np.allclose(averaged("geometric", values), 1 - averaged("geometric", 1 - values), atol=1e-6)


def test_a_geometric_mean_of_exclusive_classes_leaves_room_for_the_background():
    shares = np.array([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]])  # the first is the background's
    product = np.sqrt(shares.prod(axis=0))
    expected = (product / product.sum())[1:]
    found = averaged("geometric", shares[:, 1:, None, None], exclusive=2)
    assert found[:, 0, 0] == pytest.approx(expected)


def test_planes_behind_exclusive_classes_stand_by_themselves():
    values = np.random.default_rng(0).dirichlet([1, 1, 1], (3, 4, 5)).transpose(0, 3, 1, 2)  # the last: any plane
    for how in HOW:
        found = averaged(how, values, exclusive=2)
        assert np.allclose(found[:2], averaged(how, values[:, :2], exclusive=2))
        assert np.allclose(found[2:], averaged(how, values[:, 2:]))


def test_one_that_is_sure_does_not_outvote_all_others():
    """Odds of 0 would make every product 0."""
    found = averaged("geometric", np.array([0.0, *[0.95] * 5])[:, None, None, None])
    assert found.item() > 0.5


def test_of_nothing_there_is_no_average():
    with pytest.raises(ValueError, match="nothing was added"):
        Average("mean").result()
