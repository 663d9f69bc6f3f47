"""Holes are filled in strips, and small objects go from them, as in the whole mask."""

from itertools import pairwise

import by_hand
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from segsmith.decision.masks import decided
from segsmith.delivery.objects_in_strips import HolesInStrips, ObjectsInStrips
from segsmith.modeling.bundle import Cell


def cut(mask: np.ndarray, edges: list[int]) -> list[np.ndarray]:
    return [mask[top:bottom] for top, bottom in pairwise(edges)]


def in_strips(mask: np.ndarray, edges: list[int], smallest_area: int) -> np.ndarray:
    objects = ObjectsInStrips()
    for strip in cut(mask, edges):
        objects.add(strip)
    kept = [objects.without_small(number, strip, smallest_area) for number, strip in enumerate(cut(mask, edges))]
    return np.concatenate(kept)


def filled_in_strips(mask: np.ndarray, edges: list[int]) -> np.ndarray:
    strips = cut(mask, edges)
    holes = HolesInStrips(len(strips))
    for strip in strips:
        holes.add(strip)
    return np.concatenate([holes.filled(number, strip) for number, strip in enumerate(strips)])


def whole(mask: np.ndarray, smallest_area: int) -> np.ndarray:
    return by_hand.decided(mask.astype(np.uint8), 1, smallest_area)


@pytest.mark.parametrize("seed", range(30))
def test_strips_are_the_whole_cut(seed):
    rng = np.random.default_rng(seed)
    hw = rng.integers(1, 40, 2)
    mask = rng.random(hw) < rng.choice([0.1, 0.3, 0.4, 0.6])
    inner = np.sort(rng.choice(np.arange(1, hw[0]), rng.integers(0, hw[0]), replace=False)) if hw[0] > 1 else []
    edges = [0, *map(int, inner), int(hw[0])]
    for smallest_area in (0, 1, 2, 5, 20, 200):
        assert (in_strips(mask, edges, smallest_area) == whole(mask, smallest_area)).all()


def test_a_spiral_through_every_strip_is_one_object():
    mask = np.zeros((21, 21), bool)
    mask[0, :], mask[:, 20], mask[20, :], mask[2:, 0], mask[2, :19], mask[2:19, 18], mask[18, 2:19] = (True,) * 7
    size = int(mask.sum())
    assert len(by_hand.objects(mask)) == 1
    for edges in ([0, 21], list(range(22)), [0, 1, 10, 21]):
        assert (in_strips(mask, edges, size) == mask).all()
        assert not in_strips(mask, edges, size + 1).any()


def test_objects_that_touch_at_a_corner_across_the_cut_are_one():
    mask = np.eye(6, dtype=bool)[:, ::-1]
    assert in_strips(mask, [0, 3, 6], 6).sum() == 6
    assert in_strips(np.eye(6, dtype=bool), [0, 3, 6], 6).sum() == 6


RING = np.array([[0, 1, 1, 0], [1, 0, 0, 1], [1, 0, 0, 1], [0, 1, 1, 0]], bool)
"""Closed at its corners: background gets out along the sides of pixels alone."""


@settings(max_examples=150)
@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12)), st.sets(st.integers(1, 11)), st.integers(0, 9))
@example(RING, {1, 2, 3}, 0)
@example(np.ones((5, 4), bool), {2}, 3)
@example(np.pad(RING, 2, constant_values=True)[:, 1:], {3, 4}, 5)
def test_holes_are_those_of_the_whole_mask_and_go_before_small_objects(mask, inner, smallest_area):
    edges = [0, *sorted(edge for edge in inner if edge < len(mask)), len(mask)]
    filled = filled_in_strips(mask, edges)
    assert (filled == decided(mask.astype(np.uint8), Cell(1, 0), fill_holes=True)).all()
    expected = decided(mask.astype(np.uint8), Cell(1, smallest_area), fill_holes=True)
    assert (in_strips(filled, edges, smallest_area) == expected).all()


@pytest.mark.parametrize("seed", range(10))
def test_large_holes_through_many_strips(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((60, 50)) < rng.choice([0.5, 0.6, 0.7])
    edges = [0, *sorted(map(int, rng.choice(np.arange(1, 60), 7, replace=False))), 60]
    filled = filled_in_strips(mask, edges)
    assert (filled == decided(mask.astype(np.uint8), Cell(1, 0), fill_holes=True)).all()
    assert (filled > mask).any()


def test_what_gets_out_below_is_no_hole():
    """Up to the last strip it looks closed; a way out at its end opens it all."""
    mask = np.ones((9, 5), bool)
    mask[1:8, 2] = False
    assert filled_in_strips(mask, [0, 3, 6, 9]).all()
    mask[8, 2] = False
    assert (filled_in_strips(mask, [0, 3, 6, 9]) == mask).all()
