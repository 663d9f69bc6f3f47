"""Outlines hold exactly their objects' pixels, in whatever strips; simplified and squared ones stay close."""

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio.features import rasterize
from shapely import MultiPolygon, Polygon
from shapely.affinity import rotate

from segsmith.delivery.polygons import FoundObject, ObjectPolygons, simplified, squared

HW = (14, 11)


def objects_of(mask: np.ndarray, levels: np.ndarray, rows: list[int]) -> list[FoundObject]:
    """The objects of a mask given in strips that begin at `rows`."""
    polygons, found = ObjectPolygons("house"), []
    for first, last in zip(rows, [*rows[1:], len(mask)], strict=True):
        found += polygons.add(mask[first:last], levels[first:last])
    return [*found, *polygons.finish()]


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


@settings(max_examples=60)
@given(arrays(bool, HW, elements=st.booleans()))
def test_simplified_outlines_are_valid_and_within_half_a_pixel(mask):
    for of in objects_of(mask, np.zeros(HW, np.uint8), [0]):
        found = simplified(of.outline)
        assert found.is_valid
        assert not found.is_empty
        assert found.boundary.hausdorff_distance(of.outline.boundary) <= 0.5 + 0.5**1.5 + 1e-9  # of cut corners
        assert found.area == pytest.approx(of.pixels, abs=0.5 * of.outline.length)


@pytest.mark.parametrize("slope", [0, 1 / 2, 1, 2])
def test_a_straight_wall_becomes_straight(slope):
    rows, columns = np.mgrid[:80, :80]
    mask = (rows > 20 + slope * (columns - 20)) & (columns > 10) & (columns < 70) & (rows < 75)
    of = max(objects_of(mask, np.zeros(mask.shape, np.uint8), [0]), key=lambda of: of.pixels)
    points = len(simplified(of.outline).geoms[0].exterior.coords) - 1
    assert points <= 10, "a quadrangle with its corners cut has eight"


def building(angle: float) -> Polygon:
    """A house with a wing, turned."""
    shape = Polygon([(20, 20), (70, 20), (70, 45), (48, 45), (48, 70), (20, 70)])
    return rotate(shape, angle, origin=(45, 45))


def angles_of(polygon: Polygon) -> np.ndarray:
    steps = np.diff(np.asarray(polygon.exterior.coords), axis=0)
    return np.degrees(np.arctan2(steps[:, 1], steps[:, 0]))


@pytest.mark.parametrize("angle", [0, 7, 30, 45, 61.5, 89])
def test_a_building_gets_its_right_angles_back(angle):
    truth = building(angle)
    mask = rasterize([truth], out_shape=(90, 90)).astype(bool)
    (of,) = objects_of(mask, np.zeros((90, 90), np.uint8), [0])
    found = squared(of.outline)
    assert len(found.geoms) == 1
    assert len(found.geoms[0].exterior.coords) - 1 == 6
    turned = (angles_of(found.geoms[0]) - angle + 45) % 90 - 45
    assert np.abs(turned).max() < 2.5
    assert turned.std() < 1e-6, "walls do not meet at right angles"
    assert found.intersection(truth).area / found.union(truth).area > 0.95


def test_a_round_tank_stays_round():
    rows, columns = np.mgrid[:60, :60]
    mask = (rows - 30) ** 2 + (columns - 30) ** 2 < 20**2
    (of,) = objects_of(mask, np.zeros((60, 60), np.uint8), [0])
    found = squared(of.outline)
    assert found.is_valid
    assert found.intersection(of.outline).area / found.union(of.outline).area > 0.85


def test_a_court_stays_open():
    mask = np.zeros((60, 60), bool)
    mask[10:50, 10:50] = True
    mask[20:40, 22:38] = False
    (of,) = objects_of(mask, np.zeros((60, 60), np.uint8), [0, 25, 26])
    assert squared(of.outline).equals(of.outline)
    assert len(simplified(of.outline).geoms[0].interiors) == 1


def test_squared_outlines_of_anything_are_valid():
    rng = np.random.default_rng(0)
    for _ in range(40):
        noise = cv2.GaussianBlur(rng.normal(size=(80, 80)).astype(np.float32), (0, 0), rng.uniform(1, 6))
        for of in objects_of(noise > 0.5 * noise.std(), np.zeros((80, 80), np.uint8), [0]):
            found = squared(of.outline)
            assert isinstance(found, MultiPolygon)
            assert found.is_valid
            assert found.area > 0
