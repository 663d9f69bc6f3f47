"""Objects in view, in pixels of their raster, from whichever file they were written to."""

import numpy as np
import pytest
import shapely
from affine import Affine
from predictions import UTM

from segsmith.data.rasters import RasterFacts
from segsmith.delivery.polygons import FoundObject
from segsmith.delivery.vectors import write_vectors
from segsmith.errors import DataError
from segsmith.viewer.map_objects import CELL, MapObjects, ObjectsOnDemand

TURNED = Affine.translation(500_000, 5_000_000) @ Affine.rotation(30) @ Affine.scale(0.5, -0.5)


def facts(transform: Affine = UTM) -> RasterFacts:
    return RasterFacts((400, 500), 3, "uint8", "EPSG:32631", tuple(transform)[:6], 0.5, None, 0, ())


def square(left: int, top: int, side: int, score: float, name: str = "house") -> FoundObject:
    box = shapely.box(left, top, left + side, top + side)
    return FoundObject(name, shapely.MultiPolygon([box]), side * side, score)


def view(left: int, top: int, right: int, bottom: int) -> tuple[float, float, float, float]:
    return float(left), float(top), float(right), float(bottom)


FOUND = [square(10, 20, 8, 0.5), square(100, 50, 30, 0.9), square(300, 200, 20, 0.7, "shed")]


@pytest.mark.parametrize("suffix", ["gpkg", "geojson", "parquet"])
@pytest.mark.parametrize("transform", [UTM, TURNED])
def test_objects_stand_in_pixels(tmp_path, suffix, transform):
    file = tmp_path / f"a.{suffix}"
    write_vectors(file, FOUND, transform, "EPSG:32631")
    objects = MapObjects.read(file, facts(transform))
    assert len(objects) == 3
    assert objects.within(view(90, 40, 140, 90)).tolist() == [1]
    assert objects.within(view(0, 0, 500, 400)).tolist() == [0, 1, 2]
    assert objects.within(view(200, 0, 250, 400)).tolist() == []
    (row,) = objects.rows(np.array([2]))
    assert (row.id, row.class_name, row.score) == (3, "shed", 0.7)
    assert row.area_m2 == pytest.approx(20 * 20 * 0.25, rel=1e-3)
    assert row.at == pytest.approx((310, 210), abs=0.05)
    assert row.box == pytest.approx((300, 200, 320, 220), abs=0.05)
    (rings,) = objects.drawn(np.array([2]), pixel=0.5)
    drawn, expected = shapely.normalize([shapely.Polygon(*rings), shapely.box(300, 200, 320, 220)])
    assert shapely.equals_exact(drawn, expected, 0.05)


def test_holes_and_parts_are_rings(tmp_path):
    holed = shapely.box(0, 0, 40, 40) - shapely.box(10, 10, 20, 20)
    parts = shapely.MultiPolygon([holed, shapely.box(50, 50, 60, 60)])
    write_vectors(tmp_path / "a.gpkg", [FoundObject("house", parts, 1700, 0.5)], UTM, "EPSG:32631")
    objects = MapObjects.read(tmp_path / "a.gpkg", facts())
    (rings,) = objects.drawn(np.array([0]), pixel=1.0)
    assert len(rings) == 3
    (rings,) = objects.drawn(np.array([0]), pixel=64.0)
    assert rings, "what is smaller than a pixel of the screen is still there"


def test_they_come_in_order(tmp_path):
    write_vectors(tmp_path / "a.gpkg", FOUND, UTM, "EPSG:32631")
    objects = MapObjects.read(tmp_path / "a.gpkg", facts())
    assert objects.ordered("score").tolist() == [1, 2, 0]
    assert objects.ordered("area").tolist() == [1, 2, 0]
    assert objects.ordered("id").tolist() == [0, 1, 2]


def test_many_are_counted_in_cells(tmp_path):
    many = [square(left, top, 2, 0.5) for top in range(0, 400, 10) for left in range(0, 500, 10)]
    write_vectors(tmp_path / "a.gpkg", many, UTM, "EPSG:32631")
    objects = MapObjects.read(tmp_path / "a.gpkg", facts())
    cells = objects.counted(objects.within(view(0, 0, 500, 400)), pixel=2.0)
    assert sum(count for *_, count in cells) == 40 * 50
    assert len(cells) == -(-500 // (2 * CELL)) * -(-400 // (2 * CELL))


def test_none_were_found(tmp_path):
    write_vectors(tmp_path / "a.gpkg", [], UTM, "EPSG:32631")
    objects = MapObjects.read(tmp_path / "a.gpkg", facts())
    assert len(objects) == 0
    assert objects.drawn(objects.within(view(0, 0, 500, 400)), pixel=1.0) == []


def test_a_file_is_read_again_when_it_changed(tmp_path):
    file, on_demand = tmp_path / "a.parquet", ObjectsOnDemand()
    write_vectors(file, FOUND, UTM, "EPSG:32631")
    assert on_demand.of(file, facts()) is on_demand.of(file, facts())
    write_vectors(file, FOUND[:1], UTM, "EPSG:32631")
    assert len(on_demand.of(file, facts())) == 1
    file.unlink()
    with pytest.raises(DataError, match=r"a\.parquet: is gone"):
        on_demand.of(file, facts())


@pytest.mark.parametrize("suffix", ["gpkg", "geojson", "parquet"])
def test_a_broken_file_is_said(tmp_path, suffix):
    file = tmp_path / f"a.{suffix}"
    file.write_bytes(b"no such thing")
    with pytest.raises(DataError, match=rf"a\.{suffix}: does not read as objects of `predict`"):
        MapObjects.read(file, facts())
