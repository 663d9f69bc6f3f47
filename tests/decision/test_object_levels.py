"""F2 of objects against the contest's definition, pair by pair and in fractions."""

from fractions import Fraction

import by_hand
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from segsmith.decision.masks import connected_objects
from segsmith.decision.object_levels import LEVELS_SEPARATED, f2_scores, separated_f2_scores
from segsmith.decision.separation import border_relief, objects_by
from segsmith.modeling.bundle import Cell, Decision

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


@settings(max_examples=120)
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


@settings(max_examples=25)
@given(
    SHAPES.flatmap(
        lambda shape: st.tuples(
            arrays(np.uint8, (2, *shape), elements=st.sampled_from([0, 40, 90, 200, 255])),
            arrays(np.int32, shape, elements=st.integers(0, 3)),
        )
    )
)
def test_taken_apart_as_one_by_one(pair):
    """What is decided by: objects of the mask of a cell, as `objects_by` tells them, whose mask has lost what is small
    before anything is taken apart."""
    planes, labels = pair
    areas, depths = np.array([0, 3, 12]), (30, 100)
    true = [by_hand.pixels(labels == number) for number in range(1, 4) if (labels == number).any()]

    def relief(mask):
        return border_relief(mask, *planes)

    found = separated_f2_scores(planes[0], labels, areas, relief, depths)
    assert found.shape == (2, 256, 3)
    for level in (16, 48, 96, 240):
        assert level in LEVELS_SEPARATED
        for column, area in enumerate(areas.tolist()):
            mask = by_hand.decided(planes[0], level, area)
            for row, depth in enumerate(depths):
                decision = Decision((Cell(level, area, depth=depth),), separate_by="border")
                (apart,) = objects_by(decision, mask[None], planes)
                predicted = [by_hand.pixels(apart == number) for number in range(1, apart.max() + 1)]
                assert found[row, level, column] == pytest.approx(float(f2_by_hand(predicted, true)), abs=1e-12)
                assert connected_objects(mask).max() <= len(predicted)
