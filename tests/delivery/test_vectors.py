"""Features read back by a GIS library: where they lie, how large they are, what is said of them."""

import json

import numpy as np
import pyarrow.parquet as pq
import pyogrio
import pytest
import shapely
from affine import Affine
from rasterio.crs import CRS
from shapely import MultiPolygon, Polygon

from segsmith.delivery.polygons import FoundObject
from segsmith.delivery.vectors import vector_formats, write_vectors
from segsmith.errors import WriteError

UTM = CRS.from_epsg(32629)
MERCATOR = CRS.from_epsg(3857)
# a raster of 0.5 m a pixel in Senegal, north up
TRANSFORM = Affine(0.5, 0, 300000, 0, -0.5, 1600000)
HOUSE = MultiPolygon([Polygon([(100, 200), (140, 200), (140, 220), (100, 220)])])
COURT = MultiPolygon([Polygon([(0, 0), (60, 0), (60, 60), (0, 60)], [[(20, 20), (40, 20), (40, 40), (20, 40)]])])


def written(tmp_path, suffix, crs=UTM, transform=TRANSFORM, shapes=(HOUSE, COURT)):
    file = tmp_path / f"objects{suffix}"
    names = ["house", "court"][: len(shapes)]
    objects = [FoundObject(name, shape, int(shape.area), 0.8765432) for name, shape in zip(names, shapes, strict=True)]
    write_vectors(file, objects, transform, crs.to_string())
    return file


def read(file):
    meta, _, geometry, fields = pyogrio.raw.read(file)
    return meta, shapely.from_wkb(geometry), dict(zip(meta["fields"].tolist(), fields, strict=True))


def test_a_geopackage_lies_in_the_raster_s_crs(tmp_path):
    meta, shapes, fields = read(written(tmp_path, ".gpkg"))
    assert CRS.from_user_input(meta["crs"]) == UTM
    assert shapes[0].bounds == (300050, 1599890, 300070, 1599900)
    assert shapes[1].area == (3600 - 400) / 4
    assert fields["class"].tolist() == ["house", "court"]
    assert fields["score"].tolist() == [0.8765, 0.8765]
    assert fields["id"].tolist() == [1, 2]


def test_sizes_are_those_on_the_ground(tmp_path):
    """UTM lengths are up to 0.04 % off at its middle and more at its edges; areas twice that."""
    _, _, fields = read(written(tmp_path, ".gpkg"))
    assert fields["area_m2"] == pytest.approx([200, 800], rel=3e-3)
    assert fields["length_m"] == pytest.approx([20, 30], rel=2e-3)
    assert fields["width_m"] == pytest.approx([10, 30], rel=2e-3)
    assert fields["angle_deg"][0] == pytest.approx(0, abs=2) or fields["angle_deg"][0] == pytest.approx(180, abs=2)


def test_web_mercator_metres_are_not_taken_for_metres(tmp_path):
    """At 60 degrees north a metre of web mercator is half a metre on the ground."""
    north = Affine(1, 0, 0, 0, -1, 8399737.89)
    _, shapes, fields = read(written(tmp_path, ".gpkg", MERCATOR, north))
    assert shapes[0].area == 800
    assert fields["area_m2"][0] == pytest.approx(200, rel=0.01)
    assert fields["length_m"][0] == pytest.approx(20, rel=0.01)


def test_geojson_is_longitude_and_latitude(tmp_path):
    file = written(tmp_path, ".geojson")
    _, shapes, fields = read(file)
    assert -11 < shapes[0].centroid.x < -10.8
    assert 14.4 < shapes[0].centroid.y < 14.5
    assert fields["area_m2"][0] == pytest.approx(200, rel=3e-3)
    assert json.loads(file.read_text())["features"][0]["geometry"]["type"] == "MultiPolygon"


def test_geoparquet_says_what_its_geometry_is(tmp_path):
    table = pq.read_table(written(tmp_path, ".parquet"))
    geo = json.loads(table.schema.metadata[b"geo"])
    column = geo["columns"][geo["primary_column"]]
    assert (geo["version"], column["encoding"], column["geometry_types"]) == ("1.1.0", "WKB", ["MultiPolygon"])
    assert column["crs"]["id"] == {"authority": "EPSG", "code": 32629}
    assert column["bbox"] == [300000, 1599890, 300070, 1600000]
    assert shapely.from_wkb(np.array(table["geometry"]))[0].bounds == (300050, 1599890, 300070, 1599900)


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".parquet"])
def test_no_objects_make_a_file_without_features(tmp_path, suffix):
    file = written(tmp_path, suffix, shapes=())
    if suffix == ".parquet":
        assert pq.read_table(file).num_rows == 0
    else:
        _, shapes, fields = read(file)
        assert len(shapes) == 0
        assert suffix == ".geojson" or {"class", "score", "area_m2"} <= fields.keys()  # GeoJSON has no table of fields


def test_a_turned_house_tells_its_angle(tmp_path):
    turned = MultiPolygon([shapely.affinity.rotate(HOUSE.geoms[0], -30)])  # y is down: to the left on the map
    _, _, fields = read(written(tmp_path, ".gpkg", shapes=(turned,)))
    assert fields["angle_deg"][0] == pytest.approx(30, abs=1.5)


def test_formats_are_asked_for_or_none():
    assert vector_formats(["parquet", "gpkg", "gpkg"]) == ("gpkg", "parquet")
    assert vector_formats(["none"]) == ()
    with pytest.raises(WriteError, match="as none and as gpkg; leave out none"):
        vector_formats(["none", "gpkg"])
