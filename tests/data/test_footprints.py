"""Vector labels: read from any file and CRS, placed on any raster, and the same in every window."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import Polygon, box

from segsmith.data.footprints import foreground_pixels, is_vector, rasterised, read_footprints, reprojected, to_pixels
from segsmith.data.windows import Window, scaled_hw, whole
from segsmith.delivery.polygons import FoundObject
from segsmith.delivery.vectors import FORMATS, write_vectors
from segsmith.errors import DataError

SQUARE = [[0, 0], [2, 0], [2, 2], [0, 2], [0, 0]]
HOLE = [[0.5, 0.5], [1, 0.5], [1, 1], [0.5, 1], [0.5, 0.5]]
BOWTIE = [[0, 0], [2, 2], [2, 0], [0, 2], [0, 0]]


def geojson(path, *geometries, properties=None, **more):
    features = [
        {"type": "Feature", "geometry": geometry, "properties": (properties or {}).get(n, {})}
        for n, geometry in enumerate(geometries)
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features} | more))
    return path


def polygon(*rings):
    return {"type": "Polygon", "coordinates": list(rings)}


def write(path, shapes, crs, kind="Polygon", layer=None):
    names = np.array([f"kind {n % 2}" for n in range(len(shapes))], object)
    pyogrio.raw.write(
        path, shapely.to_wkb(np.array(shapes)), [names], ["kind"], crs=crs, geometry_type=kind, layer=layer,
        append=path.exists(),
    )  # fmt: skip
    return path


@pytest.mark.parametrize("suffix", ["geojson", "gpkg", "shp", "fgb"])
def test_every_format_gives_the_same_polygons(tmp_path, suffix):
    shapes = [box(0, 0, 1, 1), Polygon(SQUARE, [HOLE])]
    found = read_footprints(write(tmp_path / f"x.{suffix}", shapes, "EPSG:4326"), "kind")
    order = np.argsort(found.classes)  # FlatGeobuf has one of its own
    assert shapely.equals(found.polygons[order], shapes).all()
    assert (found.crs, found.features, found.repaired, found.skipped) == ("EPSG:4326", 2, 0, 0)
    assert sorted(found.classes) == ["kind 0", "kind 1"]
    assert found.numbers.tolist() == [1, 2]
    assert set(read_footprints(found.file).classes) == {"object"}


def test_objects_that_were_predicted_are_read_as_labels_in_every_format(tmp_path):
    outlines = [box(10, 20, 30, 50), Polygon([(40, 4), (60, 4), (60, 24), (40, 24)], [[(45, 9), (50, 9), (50, 14)]])]
    found = [
        FoundObject(name, shapely.MultiPolygon([outline]), 600, 0.5)
        for name, outline in zip(("ship", "quay"), outlines, strict=True)
    ]
    read = {}
    for suffix in FORMATS:
        write_vectors(tmp_path / f"x.{suffix}", found, Affine(1, 0, 500000, 0, -1, 5000000), "EPSG:32633")
        read[suffix] = read_footprints(tmp_path / f"x.{suffix}", "class")
    assert (read["parquet"].crs, read["parquet"].classes) == ("EPSG:32633", ("ship", "quay"))
    assert shapely.equals(read["parquet"].polygons, read["gpkg"].polygons).all()
    with pytest.raises(DataError, match="has no field kind; its fields are id, class, score, area_m2"):
        read_footprints(tmp_path / "x.parquet", "kind")


def test_a_table_that_is_no_geoparquet_is_no_vector_file(tmp_path):
    pq.write_table(pa.table({"id": [1]}), tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_text("no table")
    assert not is_vector(tmp_path / "a.parquet")
    assert not is_vector(tmp_path / "b.parquet")


def test_geojson_is_longitude_and_latitude_unless_it_says_otherwise(tmp_path):
    assert read_footprints(geojson(tmp_path / "a.geojson", polygon(SQUARE))).crs == "EPSG:4326"
    named = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    assert read_footprints(geojson(tmp_path / "b.geojson", polygon(SQUARE), crs=named)).crs == "EPSG:32633"


@pytest.mark.parametrize("suffix", ["gpkg", "shp"])
@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_a_file_without_crs_is_refused(tmp_path, suffix):
    path = write(tmp_path / f"x.{suffix}", [box(0, 0, 1, 1)], None)
    with pytest.raises(DataError, match=rf"x\.{suffix}: names no CRS.*ogr2ogr -a_srs"):
        read_footprints(path)


def test_self_crossing_polygons_are_repaired_and_counted(tmp_path):
    found = read_footprints(geojson(tmp_path / "x.geojson", polygon(BOWTIE), polygon(SQUARE)))
    assert found.repaired == 1
    assert shapely.is_valid(found.polygons).all()
    assert shapely.area(found.polygons).tolist() == [2, 4]


def test_what_is_no_polygon_is_skipped_and_counted(tmp_path):
    point, line = {"type": "Point", "coordinates": [0, 1]}, {"type": "LineString", "coordinates": [[0, 0], [1, 1]]}
    flat = polygon([[0, 0], [2, 2], [1, 1], [0, 0]])
    found = read_footprints(geojson(tmp_path / "x.geojson", point, None, polygon(SQUARE), line, flat))
    assert (len(found.polygons), found.skipped, found.features) == (1, 4, 5)
    assert found.numbers.tolist() == [3]
    for geometry, kind in ((point, "Point"), (line, "LineString"), (None, "nothing"), (flat, "")):
        with pytest.raises(DataError, match=rf"y\.geojson: holds no polygon with an area, only .*{kind}"):
            read_footprints(geojson(tmp_path / "y.geojson", geometry))


def test_an_empty_file_holds_nothing(tmp_path):
    found = read_footprints(geojson(tmp_path / "x.geojson"))
    assert (len(found.polygons), found.features) == (0, 0)


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", '{"type": "FeatureCollection", "features": [{"type": "Fea'])
def test_a_broken_file_is_named(tmp_path, content, capfd):
    (tmp_path / "x.geojson").write_text(content)
    with pytest.raises(DataError, match=r"x\.geojson: does not read as vector labels"):
        read_footprints(tmp_path / "x.geojson")
    assert capfd.readouterr() == ("", "")


def test_several_layers_are_refused(tmp_path):
    for layer in ("roofs", "roads"):
        write(tmp_path / "x.gpkg", [box(0, 0, 1, 1)], "EPSG:4326", layer=layer)
    with pytest.raises(DataError, match=r"holds 2 layers of geometry \(roofs, roads\)"):
        read_footprints(tmp_path / "x.gpkg")


def test_a_class_that_is_missing_is_named(tmp_path):
    path = geojson(tmp_path / "x.geojson", polygon(SQUARE), polygon(SQUARE), properties={0: {"kind": "a"}, 1: {}})
    with pytest.raises(DataError, match=r"x\.geojson, feature 2: no kind"):
        read_footprints(path, "kind")
    with pytest.raises(DataError, match="has no field sort; its fields are kind"):
        read_footprints(path, "sort")


def test_reprojection_is_that_of_web_mercator():
    moved = reprojected(np.array([Polygon(SQUARE, [HOLE])]), "EPSG:4326", "EPSG:3857")[0]
    degree = 6378137 * np.pi / 180
    north = 6378137 * np.log(np.tan(np.pi / 4 + np.radians(2) / 2))
    np.testing.assert_allclose(moved.bounds, (0, 0, 2 * degree, north), atol=1e-3)
    assert len(moved.interiors) == 1


def test_places_a_crs_does_not_know_become_empty():
    shapes = np.array([box(500000, 0, 500010, 10), box(0, 0, 1, 1), box(0, 89, 1, 95), box(0, 50, 1, 51)])
    for target in ("EPSG:3857", "EPSG:32633"):
        assert shapely.is_empty(reprojected(shapes, "EPSG:4326", target)).tolist() == [True, False, True, False]


@pytest.mark.parametrize(
    "transform",
    [
        Affine(0.5, 0, 100, 0, -0.5, 900),
        Affine(0.5, 0, 100, 0, 0.5, 900),
        Affine(0.5, 0, 100, 0, -0.25, 900) @ Affine.rotation(33),
    ],
    ids=["north up", "south up", "rotated"],
)
def test_pixel_coordinates_follow_the_raster(transform):
    corners = [(3, 5), (10, 5), (10, 9.5), (3, 9.5)]
    on_map = Polygon([(transform.a * x + transform.b * y + transform.c, transform.d * x + transform.e * y + transform.f)
                      for x, y in corners])  # fmt: skip
    found = to_pixels(np.array([on_map]), transform[:6])
    assert found[0].equals(Polygon(corners))
    coordinates = shapely.get_coordinates(to_pixels(np.array([box(100.123, 890.4, 103, 897.77)]), transform[:6])) * 256
    assert (coordinates == np.round(coordinates)).all()


def test_a_pixel_counts_when_its_centre_lies_within():
    tree = shapely.STRtree([box(1.25, 2.25, 4.25, 4.75)])
    expected = np.zeros((8, 9), bool)
    expected[2:5, 1:4] = True  # centres from 1.5 to 3.5, from 2.5 to 4.5
    assert (rasterised(tree, (8, 9)) == expected).all()


def test_holes_stay_open():
    tree = shapely.STRtree([Polygon([(0, 0), (8, 0), (8, 8), (0, 8)], [[(2, 2), (4, 2), (4, 6), (2, 6)]])])
    mask = rasterised(tree, (8, 8))
    assert not mask[2:6, 2:4].any()
    assert mask.sum() == 64 - 8


def test_no_polygon_is_no_mask():
    assert not rasterised(shapely.STRtree([]), (5, 6)).any()
    assert not rasterised(shapely.STRtree([box(0, 0, 5, 5)]), (5, 6), Window(0, 90, 3, 4)).any()


coordinates = st.integers(-20 * 256, 70 * 256).map(lambda n: n / 256) | st.integers(-10, 120).map(lambda n: n / 2)


@st.composite
def outlines(draw):
    points = draw(st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=7, unique=True))
    return shapely.convex_hull(shapely.MultiPoint(points)) if draw(st.booleans()) else Polygon(points)


@settings(max_examples=120)
@given(
    shapes=st.lists(outlines().filter(lambda shape: shape.area > 0), min_size=1, max_size=4),
    scale=st.sampled_from([1.0, 2.0, 0.5]) | st.floats(0.05, 4),
    place=st.tuples(st.floats(-0.4, 1.2), st.floats(-0.4, 1.2)),
    size=st.tuples(st.integers(1, 80), st.integers(1, 80)),
)
def test_a_window_equals_the_whole_cut(shapes, scale, place, size):
    hw, tree = (41, 53), shapely.STRtree(shapes)
    new_hw = scaled_hw(hw, scale)
    window = Window(int(place[0] * new_hw[0]), int(place[1] * new_hw[1]), *size)
    margin = 500
    framed = np.pad(rasterised(tree, hw, whole(new_hw), scale), margin)
    expected = framed[margin + window.top :, margin + window.left :][: size[0], : size[1]]
    assert (rasterised(tree, hw, window, scale) == expected).all()


def test_the_whole_is_what_each_polygon_covers():
    """Against a plain point-in-polygon test of every centre, at three scales."""
    rng = np.random.default_rng(3)
    shapes = np.array([Polygon(rng.uniform(-5, 45, (3, 2)).round(2)) for _ in range(6)])
    for scale in (0.5, 1.0, 2.0):
        mask = rasterised(shapely.STRtree(shapes), (40, 40), None, scale)
        rows, columns = (np.indices(mask.shape) + 0.5) / scale
        truth = np.logical_or.reduce([shapely.contains_xy(shape, columns, rows) for shape in shapes])
        assert (mask != truth).mean() < 0.002  # the snap to 1/256 pixel may turn a centre on an edge


def test_foreground_is_counted_in_strips(monkeypatch):
    tree = shapely.STRtree([box(2, 3, 30, 40), box(20, 30, 45, 50)])
    expected = int(rasterised(tree, (48, 40)).sum())
    monkeypatch.setattr("segsmith.data.footprints._STRIP_PIXELS", 170)
    assert foreground_pixels(tree, (48, 40)) == expected
