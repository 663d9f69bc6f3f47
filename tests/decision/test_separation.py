"""Objects that touch: taken apart they are a partition of their mask, and what is one stays one."""

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from segsmith.decision.masks import connected_objects, decided_by
from segsmith.decision.separation import DEPTHS, border_relief, distance_relief, objects_by, separated
from segsmith.modeling.bundle import Cell, Decision

SHAPES = array_shapes(min_dims=2, max_dims=2, max_side=12)
RELIEFS = SHAPES.flatmap(lambda shape: arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2, 40, 90, 255])))


def discs(*centres: tuple[int, int], radius: int = 12, hw: tuple[int, int] = (64, 96)) -> np.ndarray:
    y, x = np.mgrid[: hw[0], : hw[1]]
    return np.any([(x - cx) ** 2 + (y - cy) ** 2 <= radius**2 for cx, cy in centres], axis=0)


@settings(max_examples=150)
@given(RELIEFS, st.integers(1, 254))
@example(np.full((3, 3), 7, np.uint8), 1)
@example(np.array([[255, 1, 255]], np.uint8), 254)
def test_a_partition_of_the_mask_into_connected_objects(relief, depth):
    (labels,) = separated(relief, [depth])
    assert ((labels > 0) == (relief > 0)).all(), "nothing lost, nothing added"
    assert set(np.unique(labels)) - {0} == set(range(1, labels.max() + 1)), "numbered without gaps"
    whole = connected_objects(relief > 0)
    for number in range(1, labels.max() + 1):
        assert connected_objects(labels == number).max() == 1, "each hangs together"
        assert len(np.unique(whole[labels == number])) == 1, "none is of two that do not touch"


@settings(max_examples=60)
@given(RELIEFS, st.integers(1, 254))
def test_objects_are_as_many_as_peaks_of_that_depth(relief, depth):
    """A peak counts where each way to a higher one (or one found before) leads `depth` below it: by hand."""
    (labels,) = separated(relief, [depth])
    whole = connected_objects(relief > 0)
    for number in range(1, whole.max() + 1):
        inside = whole == number
        assert len(np.unique(labels[inside])) == max(1, peaks_by_hand(np.where(inside, relief, 0), depth))


def peaks_by_hand(relief: np.ndarray, depth: int) -> int:
    """Flooded from above, level by level: when lakes meet, all but the highest end, and count if they were deep."""
    highest, count = [], 0
    before: np.ndarray | None = None
    for level in range(255, 0, -1):
        labels = connected_objects(relief >= level)
        peaks_now = []
        for number in range(1, labels.max() + 1):
            here = labels == number
            inside = [highest[n - 1] for n in np.unique(before[here]) if n] if before is not None else []
            inside.sort()
            count += sum(peak - level - 1 >= depth for peak in inside[:-1])
            peaks_now.append(inside[-1] if inside else level)
        highest, before = peaks_now, labels
    return count + sum(peak - 1 >= depth for peak in highest)


@pytest.mark.parametrize("gap", [16, 19, 22])
def test_overlapping_discs_come_apart_in_the_middle(gap):
    mask = discs((30, 32), (30 + gap, 32))
    (labels,) = separated(distance_relief(mask), [6])
    assert labels.max() == 2
    left, right = labels[32, 30], labels[32, 30 + gap]
    columns = np.arange(96)
    assert (labels[:, columns < 30 + gap / 2 - 1][mask[:, columns < 30 + gap / 2 - 1]] == left).all()
    assert (labels[:, columns > 30 + gap / 2 + 1][mask[:, columns > 30 + gap / 2 + 1]] == right).all()


@pytest.mark.parametrize("ellipse", [False, True])
def test_a_convex_object_stays_one(ellipse):
    rng = np.random.default_rng(int(ellipse))
    for _ in range(60):
        mask = np.zeros((96, 96), np.uint8)
        box = (rng.uniform(40, 56, 2), rng.uniform((8, 4), (70, 30)), rng.uniform(0, 180))
        if ellipse:
            cv2.ellipse(mask, box, 1, -1)
        else:
            cv2.fillConvexPoly(mask, np.rint(cv2.boxPoints(box)).astype(np.int32), 1)
        found = separated(distance_relief(mask.astype(bool)), DEPTHS["distance"])
        assert [labels.max() for labels in found] == [1] * len(found), box


def test_an_object_cut_by_the_edge_of_the_image_stays_one():
    """The edge is no outline, so a bar that runs into it is as wide there as anywhere."""
    mask = np.zeros((40, 40), bool)
    mask[18:25] = True
    assert separated(distance_relief(mask), [DEPTHS["distance"][0]])[0].max() == 1


def test_a_border_takes_apart_what_no_outline_does():
    mask = np.zeros((20, 30), bool)
    mask[4:16, 3:27] = True
    plane = mask * np.uint8(240)
    border = np.zeros_like(plane)
    border[:, 14:16] = 120
    found = separated(border_relief(mask, plane, border), [60, 200])
    assert [labels.max() for labels in found] == [2, 1], "not by a valley that is not deep enough"
    assert (found[0][4:16, 3:14] == found[0][4, 3]).all()
    assert (found[0][4:16, 16:27] == found[0][4, 26]).all()


def test_classes_are_taken_apart_by_cells_of_their_own():
    mask = discs((30, 32), (50, 32))
    planes = np.stack([mask, mask]) * np.uint8(200)
    decision = Decision((Cell(100, depth=6), Cell(100)), separate_by="distance")
    found = objects_by(decision, decided_by(decision, planes), planes)
    assert [labels.max() for labels in found] == [2, 1]
    crossed = Decision((Cell(100),), separate_by="distance", parts=((Cell(100),), (Cell(100, depth=6),)))
    assert [objects_by(crossed, planes > 0, planes, part=part)[0].max() for part in (0, 1)] == [1, 2]
