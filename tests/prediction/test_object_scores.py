"""F2 of objects against the contest's definition, pair by pair and in fractions."""

from fractions import Fraction

import by_hand
import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from segsmith.prediction.object_scores import f2_of_labels, f2_scores

SHAPES = array_shapes(min_dims=2, max_dims=2, max_side=8)
VALUES = st.sampled_from([0, 1, 100, 101, 255])
PAIRS = SHAPES.flatmap(
    lambda shape: st.tuples(
        arrays(np.uint8, shape, elements=VALUES), arrays(np.int32, shape, elements=st.integers(0, 3))
    )
)


def f2_by_hand(predicted: list[set], true: list[set]) -> Fraction:
    if not predicted and not true:
        return Fraction(1)
    total = Fraction(0)
    for threshold in range(50, 100, 5):
        hit = sum(
            Fraction(len(one & other), len(one | other)) > Fraction(threshold, 100)
            for one in predicted
            for other in true
        )
        missed, wrong = len(true) - hit, len(predicted) - hit
        total += Fraction(5 * hit, 5 * hit + 4 * missed + wrong)
    return total / 10


@settings(deadline=None, max_examples=120)
@given(PAIRS, st.lists(st.integers(0, 12), min_size=1, max_size=3, unique=True).map(sorted))
@example((np.full((2, 2), 255, np.uint8), np.ones((2, 2), np.int32)), [0, 4, 5])
def test_every_level_and_area_as_one_by_one(pair, areas):
    plane, labels = pair
    true = [by_hand.pixels(labels == number) for number in range(1, 4) if (labels == number).any()]
    found = f2_scores(plane, labels, np.array(areas))
    for level in (0, 1, 2, 100, 101, 102, 255):
        for column, area in enumerate(areas):
            predicted = by_hand.objects(by_hand.decided(plane, level, area))
            assert found[level, column] == pytest.approx(float(f2_by_hand(predicted, true)), abs=1e-12)
            numbered = cv2.connectedComponents(by_hand.decided(plane, level, area).astype(np.uint8), connectivity=8)[1]
            assert f2_of_labels(numbered, labels) == pytest.approx(found[level, column], abs=1e-12)


def test_empty_images():
    nothing, ship = np.zeros((4, 4), np.int32), np.zeros((4, 4), np.int32)
    ship[1:3, 1:3] = 1
    assert f2_of_labels(nothing, nothing) == 1
    assert f2_of_labels(ship, nothing) == f2_of_labels(nothing, ship) == 0
    assert f2_of_labels(ship, ship) == 1


def test_two_ships_that_became_one_are_one_hit_at_the_most():
    true = np.array([[1, 1, 1, 2, 0, 0]], np.int32)
    joined = (true > 0).astype(np.int32)
    assert f2_of_labels(joined, true) == pytest.approx(np.mean([5 / 9] * 5 + [0] * 5)), "3/4 exceeds 0.50 .. 0.70"
