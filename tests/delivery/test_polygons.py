"""Outlines hold exactly their objects' pixels, in whatever strips, also of those that were taken apart."""

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio.features import rasterize

from segsmith.decision.masks import connected_objects
from segsmith.decision.separation import objects_by
from segsmith.delivery import polygons as module
from segsmith.delivery.outlines import simplified, squared
from segsmith.delivery.polygons import Apart, ClassPolygons, FoundObject, ObjectPolygons
from segsmith.modeling.bundle import Cell, Decision

HW = (14, 11)


def groups_of(
    polygons: ObjectPolygons, mask: np.ndarray, levels: np.ndarray, rows: list[int], planes: np.ndarray | None = None
) -> list[list[FoundObject]]:
    """The objects of each connected thing of a mask given in strips that begin at `rows`."""
    found: list[list[FoundObject]] = []
    for first, last in zip(rows, [*rows[1:], len(mask)], strict=True):
        relief = None if planes is None else planes[:, first:last]
        found += polygons.add(mask[first:last], levels[first:last], relief)
    return [*found, *polygons.finish()]


def objects_of(mask: np.ndarray, levels: np.ndarray, rows: list[int]) -> list[FoundObject]:
    return [of for (of,) in groups_of(ObjectPolygons("house"), mask, levels, rows)]


def by_place(found: list[FoundObject]) -> list[tuple[str, int, float]]:
    return sorted((shapely.normalize(of.outline).wkt, of.pixels, round(of.score, 9)) for of in found)


@settings(max_examples=80)
@given(
    arrays(bool, HW, elements=st.booleans()),
    st.lists(st.integers(1, HW[0] - 1), unique=True, max_size=5).map(sorted),
    st.integers(0, 2**32 - 1),
)
def test_strips_make_no_difference(mask, cuts, seed):
    levels = np.random.default_rng(seed).integers(0, 256, HW).astype(np.uint8)
    whole, cut = objects_of(mask, levels, [0]), objects_of(mask, levels, [0, *cuts])
    assert [of[1:] for of in by_place(cut)] == [of[1:] for of in by_place(whole)]
    for one, other in zip(sorted(whole, key=_place), sorted(cut, key=_place), strict=True):
        assert one.outline.equals(other.outline)


def _place(found: FoundObject) -> tuple[float, ...]:
    return (*found.outline.bounds, found.outline.area, *found.outline.representative_point().coords[0])


@settings(max_examples=80)
@given(arrays(bool, HW, elements=st.booleans()))
def test_outlines_are_valid_and_hold_the_pixels_of_connected_objects(mask):
    levels = np.full(HW, 51, np.uint8)
    found = objects_of(mask, levels, [0, 5])
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    assert len(found) == count - 1
    sizes = np.bincount(labels.ravel())[1:]
    assert sorted(of.pixels for of in found) == sorted(sizes.tolist())
    for of in found:
        assert of.outline.is_valid
        assert of.outline.area == of.pixels
        assert of.score == pytest.approx(0.2)
        inside = rasterize([of.outline], out_shape=HW) > 0
        label = labels[inside][0]
        assert (inside == (labels == label)).all()


def test_memory_holds_no_finished_object():
    polygons = ObjectPolygons("house")
    strip = np.zeros((4, 8), bool)
    strip[1:3, 2:5] = True
    for _ in range(5):
        list(polygons.add(strip, strip.view(np.uint8)))
    assert polygons._open == {}


# Taken apart


def blobs(seed: int, hw: tuple[int, int] = (48, 40)) -> np.ndarray:
    """Probabilities, and those of borders, whose masks hold many things that touch, also at the raster's edges."""
    rng = np.random.default_rng(seed)
    noise = [cv2.GaussianBlur(rng.normal(size=hw).astype(np.float32), (0, 0), sigma) for sigma in (2.5, 1.5)]
    return np.stack([np.clip(128 + 60 * of / of.std(), 0, 255).astype(np.uint8) for of in noise])


@pytest.mark.parametrize("by", ["distance", "border"])
def test_objects_are_those_of_the_raster_taken_apart_as_a_whole(by):
    """In strips of one row and more: every pixel, size and score."""
    apart, rng = 0, np.random.default_rng(1)
    for seed in range(25):
        planes = blobs(seed)
        mask = planes[0] >= 110
        decision = Decision((Cell(110, depth=8),), separate_by=by)
        (expected,) = objects_by(decision, mask[None], planes)
        cuts = sorted(rng.choice(np.arange(1, 48), rng.integers(1, 30), replace=False).tolist())
        polygons = ObjectPolygons("house", Apart(by, 8))
        groups = groups_of(polygons, mask, planes[0], [0, *cuts], planes if by == "border" else None)
        assert len(groups) == connected_objects(mask).max()
        found = [of for group in groups for of in group]
        drawn = [rasterize([of.outline], out_shape=mask.shape) > 0 for of in found]
        labels = [expected[inside].max() for inside in drawn]
        assert sorted(labels) == list(range(1, expected.max() + 1))
        for of, inside, label in zip(found, drawn, labels, strict=True):
            assert (inside == (expected == label)).all()
            assert of.outline.area == of.pixels == inside.sum()
            assert of.score == pytest.approx(planes[0][inside].mean() / 255)
        assert polygons.left_whole == 0
        apart += len(found) - len(groups)
    assert apart > 50


def test_what_is_too_long_stays_one_and_is_let_go_of(monkeypatch):
    """Two chains of discs, one of which goes through all strips."""
    monkeypatch.setattr(module, "LONGEST_PX", 60)
    y, x = np.mgrid[:130, :90]
    mask = np.zeros(y.shape, bool)
    for row in range(12, 130, 17):
        mask |= (y - row) ** 2 + (x - 20) ** 2 <= 100
    for row in (60, 77, 94):
        mask |= (y - row) ** 2 + (x - 70) ** 2 <= 100
    polygons = ObjectPolygons("ship", Apart("distance", 6))
    groups = []
    for first in range(0, 130, 10):
        groups += polygons.add(mask[first : first + 10], mask[first : first + 10].view(np.uint8))
        for of in polygons._open.values():
            top, _, bottom, _ = of.box
            assert bool(of.held) == (bottom - top <= 60)
    groups += polygons.finish()
    assert sorted(map(len, groups)) == [1, 3]
    assert polygons.left_whole == 1


@pytest.mark.parametrize("shape", [simplified, squared])
def test_no_two_outlines_of_a_class_overlap(shape):
    for seed in range(12):
        planes = blobs(seed, (70, 60))
        mask = planes[0] >= 120
        decision = Decision((Cell(120, depth=8),), separate_by="distance")
        polygons = ClassPolygons(["house"], shape, decision)
        for first in (0, 25, 50):
            strip = slice(first, first + 25)
            polygons.add(mask[None, strip], planes[:1, strip], planes[:1, strip])
        found = np.array([of.outline for of in polygons.finish()])
        assert len(found) == objects_by(decision, mask[None], planes)[0].max() > connected_objects(mask).max()
        assert shapely.is_valid(found).all()
        assert (shapely.area(found) > 0).all()
        one, other = shapely.STRtree(found).query(found, predicate="intersects")
        both = one < other
        assert shapely.area(shapely.intersection(found[one[both]], found[other[both]])).max(initial=0) < 1e-9
