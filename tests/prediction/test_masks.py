"""Threshold, objects and smallest areas, against a flood fill that goes pixel by pixel."""

import by_hand
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from segsmith.data import rle
from segsmith.data.rle import decode
from segsmith.prediction.masks import count_areas, decided, object_runs

SHAPES = array_shapes(min_dims=2, max_dims=2, max_side=9)
VALUES = st.sampled_from([0, 1, 2, 100, 101, 254, 255])  # few, so that objects grow, split and repeat between levels
PLANES = SHAPES.flatmap(lambda shape: arrays(np.uint8, shape, elements=VALUES))
PAIRS = SHAPES.flatmap(lambda shape: st.tuples(arrays(np.uint8, shape, elements=VALUES), arrays(bool, shape)))
LEVELS = st.lists(st.sampled_from([0, 1, 2, 3, 100, 101, 102, 254, 255]), min_size=1, unique=True).map(sorted)
MASKS = SHAPES.flatmap(lambda shape: arrays(bool, shape))


@settings(deadline=None, max_examples=80)
@given(PAIRS, LEVELS, st.lists(st.integers(0, 20), min_size=1, max_size=5))
@example((np.full((3, 4), 255, np.uint8), np.ones((3, 4), bool)), [1, 128, 255], [0, 12, 13])
def test_all_levels_and_areas_are_counted_as_one_by_one(pair, levels, areas):
    plane, truth = pair
    tp, predicted = count_areas(plane, truth, np.array(levels), np.array(areas))
    for row, level in enumerate(levels):
        for column, area in enumerate(areas):
            mask = by_hand.decided(plane, level, area)
            assert predicted[row, column] == mask.sum(), (level, area)
            assert tp[row, column] == (mask & truth).sum(), (level, area)


@settings(deadline=None, max_examples=80)
@given(PLANES, st.sampled_from([0, 1, 2, 101, 255]), st.integers(0, 20))
def test_decided(plane, level, area):
    (mask,) = decided(plane[None], level, area)
    assert (mask == by_hand.decided(plane, level, area)).all()
    assert mask.dtype == bool


def test_every_class_is_decided_alone():
    planes = np.array([[[200, 200, 0]], [[0, 200, 200]]], np.uint8)
    assert decided(planes, 200, 2).tolist() == [[[True, True, False]], [[False, True, True]]]


def test_exclusive_classes_share_no_pixel_and_the_most_probable_has_it():
    planes = np.array([[[200, 90, 130, 80, 0]], [[100, 110, 130, 0, 70]]], np.uint8)
    assert decided(planes, 90, 0).tolist() == [[[1, 1, 1, 0, 0]], [[1, 1, 1, 0, 0]]]
    found = decided(planes, 90, 0, exclusive=True)
    assert found.tolist() == [[[1, 0, 0, 0, 0]], [[0, 1, 1, 0, 0]]], "of equal ones the later"


def test_what_was_too_small_is_background_and_not_the_next_class():
    planes = np.array([[[100, 100, 100]], [[0, 200, 0]]], np.uint8)
    assert decided(planes, 90, 2, exclusive=True).sum() == 0, "three objects of one pixel each"
    assert decided(planes, 90, 2).tolist() == [[[1, 1, 1]], [[0, 0, 0]]]


@settings(deadline=None, max_examples=80)
@given(SHAPES.flatmap(lambda shape: arrays(np.uint8, (3, *shape), elements=VALUES)), st.sampled_from([1, 2, 101, 255]))
def test_exclusive_is_the_most_probable_of_the_classes_that_reach_the_level(planes, level):
    found = decided(planes, level, 0, exclusive=True)
    for row, column in np.ndindex(planes.shape[1:]):
        reaching = [(value, n) for n, value in enumerate(planes[:, row, column].tolist()) if value >= level]
        winner = max(reaching)[1] if reaching else None
        assert found[:, row, column].tolist() == [n == winner for n in range(3)]


def test_pixels_that_touch_at_a_corner_are_one_object():
    diagonal = np.eye(5, dtype=np.uint8) * 255
    assert decided(diagonal[None], 255, 5).sum() == 5
    assert not decided(diagonal[None], 255, 6).any()
    assert len(object_runs(diagonal > 0)) == 1


@pytest.mark.parametrize("area", [0, 1])
def test_no_object_is_smaller_than_a_pixel(area):
    lone = np.zeros((1, 3, 3), np.uint8)
    lone[0, 1, 1] = 7
    assert decided(lone, 7, area).sum() == 1
    assert not decided(lone, 8, area).any()


@settings(deadline=None, max_examples=80)
@given(MASKS)
def test_objects_are_whole_apart_and_all(mask):
    found = [by_hand.pixels(decode(runs, mask.shape)) for runs in object_runs(mask)]
    assert sorted(map(sorted, found)) == sorted(map(sorted, by_hand.objects(mask)))


@settings(deadline=None, max_examples=80)
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
        assert (decided(plane[None], 9, 2) == by_hand.decided(same * 9, 9, 2)).all()
