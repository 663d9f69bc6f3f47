"""Threshold, objects and smallest areas, against a flood fill that goes pixel by pixel."""

import by_hand
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from segsmith.data import rle
from segsmith.data.rle import decode
from segsmith.decision.masks import count_areas, decided, decided_by, object_runs
from segsmith.modeling.bundle import Cell, Decision

SHAPES = array_shapes(min_dims=2, max_dims=2, max_side=9)
VALUES = st.sampled_from([0, 1, 2, 100, 101, 254, 255])  # few, so that objects grow, split and repeat between levels
PLANES = SHAPES.flatmap(lambda shape: arrays(np.uint8, shape, elements=VALUES))
PAIRS = SHAPES.flatmap(lambda shape: st.tuples(arrays(np.uint8, shape, elements=VALUES), arrays(bool, shape)))
LEVELS = [0, 1, 2, 3, 100, 101, 102, 254, 255]


def together(planes: np.ndarray, level: int, area: int, *, exclusive: bool = False) -> np.ndarray:
    return decided_by(Decision((Cell(level, area),)), planes, exclusive=exclusive)


MASKS = SHAPES.flatmap(lambda shape: arrays(bool, shape))


@settings(max_examples=80)
@given(PAIRS, st.lists(st.integers(0, 20), min_size=1, max_size=5, unique=True).map(sorted))
@example((np.full((3, 4), 255, np.uint8), np.ones((3, 4), bool)), [0, 12, 13])
def test_all_levels_and_areas_are_counted_as_one_by_one(pair, areas):
    plane, truth = pair
    tp, predicted = count_areas(plane, truth, np.array(areas))
    for level in LEVELS:
        for column, area in enumerate(areas):
            mask = by_hand.decided(plane, level, area)
            assert predicted[level, column] == mask.sum(), (level, area)
            assert tp[level, column] == (mask & truth).sum(), (level, area)


@settings(max_examples=80)
@given(PLANES, st.sampled_from([0, 1, 2, 101, 255]), st.integers(0, 20))
def test_decided(plane, level, area):
    mask = decided(plane, Cell(level, area))
    assert (mask == by_hand.decided(plane, level, area)).all()
    assert mask.dtype == bool


def test_every_class_is_decided_alone():
    planes = np.array([[[200, 200, 0]], [[0, 200, 200]]], np.uint8)
    assert together(planes, 200, 2).tolist() == [[[True, True, False]], [[False, True, True]]]
    cells = (Cell(201), Cell(200))
    assert decided_by(Decision(cells), planes).tolist() == [[[False] * 3], [[False, True, True]]], "at its own level"


def test_exclusive_classes_share_no_pixel_and_the_most_probable_has_it():
    planes = np.array([[[200, 90, 130, 80, 0]], [[100, 110, 130, 0, 70]]], np.uint8)
    assert together(planes, 90, 0).tolist() == [[[1, 1, 1, 0, 0]], [[1, 1, 1, 0, 0]]]
    found = together(planes, 90, 0, exclusive=True)
    assert found.tolist() == [[[1, 0, 0, 0, 0]], [[0, 1, 1, 0, 0]]], "of equal ones the later"


def test_what_was_too_small_is_background_and_not_the_next_class():
    planes = np.array([[[100, 100, 100]], [[0, 200, 0]]], np.uint8)
    assert together(planes, 90, 2, exclusive=True).sum() == 0, "three objects of one pixel each"
    assert together(planes, 90, 2).tolist() == [[[1, 1, 1]], [[0, 0, 0]]]


@settings(max_examples=80)
@given(SHAPES.flatmap(lambda shape: arrays(np.uint8, (3, *shape), elements=VALUES)), st.sampled_from([1, 2, 101, 255]))
def test_exclusive_is_the_most_probable_of_the_classes_that_reach_the_level(planes, level):
    found = together(planes, level, 0, exclusive=True)
    for row, column in np.ndindex(planes.shape[1:]):
        reaching = [(value, n) for n, value in enumerate(planes[:, row, column].tolist()) if value >= level]
        winner = max(reaching)[1] if reaching else None
        assert found[:, row, column].tolist() == [n == winner for n in range(3)]


def test_pixels_that_touch_at_a_corner_are_one_object():
    diagonal = np.eye(5, dtype=np.uint8) * 255
    assert decided(diagonal, Cell(255, 5)).sum() == 5
    assert not decided(diagonal, Cell(255, 6)).any()
    assert len(object_runs(diagonal > 0)) == 1


@pytest.mark.parametrize("area", [0, 1])
def test_no_object_is_smaller_than_a_pixel(area):
    lone = np.zeros((3, 3), np.uint8)
    lone[1, 1] = 7
    assert decided(lone, Cell(7, area)).sum() == 1
    assert not decided(lone, Cell(8, area)).any()


@settings(max_examples=80)
@given(MASKS)
def test_objects_are_whole_apart_and_all(mask):
    found = [by_hand.pixels(decode(runs, mask.shape)) for runs in object_runs(mask)]
    assert sorted(map(sorted, found)) == sorted(map(sorted, by_hand.objects(mask)))


@settings(max_examples=80)
@given(MASKS)
def test_objects_come_in_the_order_of_their_first_pixel(mask):
    first = [int(runs[0, 0]) for runs in object_runs(mask)]
    assert first == sorted(first)


def test_a_mask_seen_through_another_order_in_memory():
    mask = np.zeros((6, 4), bool)
    mask[0, :2] = mask[5, 3] = True
    for seen, same in ((mask.T, mask.T.copy()), (mask[:, ::-1], mask[:, ::-1].copy())):
        assert [rle.to_text(runs) for runs in object_runs(seen)] == [rle.to_text(runs) for runs in object_runs(same)]
        plane = seen.astype(np.uint8) * 9
        assert (decided(plane, Cell(9, 2)) == by_hand.decided(same * 9, 9, 2)).all()


def test_an_image_below_the_gate_is_empty():
    plane = np.array([[200, 100], [0, 0]], np.uint8)
    by = Decision((Cell(90, 0, gate=150),), gate_by="top_k", gate_pixels=2)
    assert decided_by(by, plane[None]).tolist() == [[[True, True], [False, False]]], "the two highest mean 150"
    stricter = Decision((Cell(90, 0, gate=151),), gate_by="top_k", gate_pixels=2)
    assert not decided_by(stricter, plane[None]).any()
    assert decided_by(Decision((Cell(90, 0, gate=255),)), plane[None]).any(), "no gate, whatever its cell says"


def test_holes_are_filled_before_the_area_is_asked_for():
    ring = np.full((5, 5), 0, np.uint8)
    ring[1:4, 1:4] = 200
    ring[2, 2] = 0
    assert decided(ring, Cell(100, 9), fill_holes=True).sum() == 9
    assert not decided(ring, Cell(100, 9)).any()
    ring[0, 0] = ring[1, 1] = 0
    assert decided(ring, Cell(100), fill_holes=True).sum() == 7 + 1, "what is around does not leak through a corner"
