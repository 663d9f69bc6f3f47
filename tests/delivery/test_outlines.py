"""Simplified and squared outlines stay close to their objects, and none lies over another."""

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio.features import rasterize
from shapely import MultiPolygon, Polygon, box
from shapely.affinity import rotate

from segsmith.delivery.outlines import simplified, squared, without_overlaps
from segsmith.delivery.polygons import FoundObject, ObjectPolygons

HW = (14, 11)


def objects_of(mask: np.ndarray) -> list[FoundObject]:
    polygons = ObjectPolygons("house")
    groups = [*polygons.add(mask, mask.astype(np.uint8)), *polygons.finish()]
    return [of for group in groups for of in group]


@settings(max_examples=60)
@given(arrays(bool, HW, elements=st.booleans()))
def test_simplified_outlines_are_valid_and_within_half_a_pixel(mask):
    for of in objects_of(mask):
        found = simplified([of.outline])[0]
        assert found.is_valid
        assert not found.is_empty
        assert found.boundary.hausdorff_distance(of.outline.boundary) <= 0.5 + 0.5**1.5 + 1e-9  # of cut corners
        assert found.area == pytest.approx(of.pixels, abs=0.5 * of.outline.length)


@pytest.mark.parametrize("slope", [0, 1 / 2, 1, 2])
def test_a_straight_wall_becomes_straight(slope):
    rows, columns = np.mgrid[:80, :80]
    mask = (rows > 20 + slope * (columns - 20)) & (columns > 10) & (columns < 70) & (rows < 75)
    of = max(objects_of(mask), key=lambda of: of.pixels)
    points = len(simplified([of.outline])[0].geoms[0].exterior.coords) - 1
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
    (of,) = objects_of(mask)
    found = squared([of.outline])[0]
    assert len(found.geoms) == 1
    assert len(found.geoms[0].exterior.coords) - 1 == 6
    turned = (angles_of(found.geoms[0]) - angle + 45) % 90 - 45
    assert np.abs(turned).max() < 2.5
    assert turned.std() < 1e-6, "walls do not meet at right angles"
    assert found.intersection(truth).area / found.union(truth).area > 0.95


def test_a_round_tank_stays_round():
    rows, columns = np.mgrid[:60, :60]
    mask = (rows - 30) ** 2 + (columns - 30) ** 2 < 20**2
    (of,) = objects_of(mask)
    found = squared([of.outline])[0]
    assert found.is_valid
    assert found.intersection(of.outline).area / found.union(of.outline).area > 0.85


def test_a_court_stays_open():
    mask = np.zeros((60, 60), bool)
    mask[10:50, 10:50] = True
    mask[20:40, 22:38] = False
    (of,) = objects_of(mask)
    assert squared([of.outline])[0].equals(of.outline)
    assert len(simplified([of.outline])[0].geoms[0].interiors) == 1


def test_squared_outlines_of_anything_are_valid():
    rng = np.random.default_rng(0)
    for _ in range(40):
        noise = cv2.GaussianBlur(rng.normal(size=(80, 80)).astype(np.float32), (0, 0), rng.uniform(1, 6))
        for of in objects_of(noise > 0.5 * noise.std()):
            found = squared([of.outline])[0]
            assert isinstance(found, MultiPolygon)
            assert found.is_valid
            assert found.area > 0


def test_a_slanted_wall_that_two_share_stays_one_line():
    rows, columns = np.mgrid[:60, :60]
    left = columns < 20 + rows / 3
    labels = np.where((rows > 5) & (rows < 55) & (columns > 5) & (columns < 55), np.where(left, 1, 2), 0)
    touching = [objects_of(labels == number)[0].outline for number in (1, 2)]
    one, other = simplified(touching)
    assert one.intersection(other).area == 0
    assert one.union(other).area == pytest.approx((labels > 0).sum(), abs=1.5), "no gap, and corners cut"
    assert one.intersection(other).length == pytest.approx(50 * np.hypot(1, 1 / 3), rel=0.05)
    assert max(shapely.get_num_coordinates([one, other])) < 50


def test_the_larger_of_two_makes_room():
    large, small, inside = (MultiPolygon([box(*of)]) for of in ((0, 0, 10, 10), (8, 0, 13, 5), (2, 2, 3, 3)))
    found = without_overlaps([large, small, inside, MultiPolygon([box(20, 0, 21, 1)])])
    assert [of.area for of in found] == [100 - 10 - 1, 25, 1, 1]
    assert found[0].equals(large.difference(small).difference(inside))
    assert without_overlaps([]) == []
