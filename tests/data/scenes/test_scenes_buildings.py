"""Made-up scenes and footprints read back with rasterio and pyogrio: layouts, forms, and labels where roofs are."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio.raw
import pytest
import rasterio
import shapely
from rasterio.features import rasterize
from rasterio.warp import transform_geom

from segsmith.data import scenes
from segsmith.data.scenes import RasterForm
from segsmith.data.scenes.aerial import draw_town
from segsmith.data.scenes.files import TRAIN

HW = (192, 160)
SMALL: dict[str, Any] = {"hw": HW, "gsds_m": (0.3, 0.2), "share": 0.2}


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def polygons(path: Path) -> list[Any]:
    meta, _, geometry, _ = pyogrio.raw.read(path)
    assert meta["crs"] in ("EPSG:4326", "OGC:CRS84")
    found = list(shapely.from_wkb(geometry))
    assert all(polygon.is_valid for polygon in found)
    return found


def on_pixels(scene: Path, labels: Path) -> np.ndarray:
    with rasterio.open(scene) as file:
        found = polygons(labels)
        if not found:
            return np.zeros(file.shape, bool)
        moved = transform_geom("EPSG:4326", file.crs, [shapely.geometry.mapping(polygon) for polygon in found])
        return np.asarray(rasterize(moved, file.shape, transform=file.transform, dtype="uint8")).astype(bool)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def drawn(scene: int = 0, seed: int = 0) -> Any:
    rng = np.random.default_rng([seed, TRAIN, 0, scene])
    return draw_town(rng, HW, gsd_m=SMALL["gsds_m"][scene % 2], share=SMALL["share"])


@pytest.fixture(scope="module")
def tiers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "tiers"
    scenes.make_buildings(folder, **SMALL)
    return folder


def test_tiers_have_one_vector_file_per_area(tiers: Path) -> None:
    assert names(tiers) == [
        f"{tier}/{area}/{area}{end}"
        for tier, area in (("train_tier_1", "bam"), ("train_tier_1", "fam"), ("train_tier_2", "dam"))
        for end in (".geojson", "_0.tif", "_1.tif")
    ]
    content = json.loads((tiers / "train_tier_1/bam/bam.geojson").read_text())
    assert content["type"] == "FeatureCollection"
    assert "crs" not in content, "longitude and latitude need no telling"
    assert [feature["properties"]["osm_id"] for feature in content["features"]] == list(
        range(1, len(content["features"]) + 1)
    )
    for feature in content["features"]:
        for ring in feature["geometry"]["coordinates"]:
            assert ring[0] == ring[-1]


def test_a_scene_is_tiled_deflated_rgba_with_a_part_unseen(tiers: Path) -> None:
    with rasterio.open(tiers / "train_tier_1/bam/bam_0.tif") as file:
        assert (file.count, file.dtypes[0], file.shape, file.crs.to_epsg()) == (4, "uint8", HW, 3857)
        assert file.profile["tiled"]
        assert file.profile["compress"] == "deflate"
        assert [band.name for band in file.colorinterp] == ["red", "green", "blue", "alpha"]
        pixels = file.read()
        assert 0.02 < (file.dataset_mask() == 0).mean() < 0.2
    assert set(np.unique(pixels[3])) == {0, 255}
    assert not pixels[:3, pixels[3] == 0].any()
    town = drawn()
    np.testing.assert_array_equal(pixels[:3, pixels[3] > 0], town.image.transpose(2, 0, 1)[:, pixels[3] > 0])


def test_pixels_are_as_wide_on_the_ground_as_asked_for(tiers: Path) -> None:
    for n, gsd in enumerate(SMALL["gsds_m"]):
        with rasterio.open(tiers / f"train_tier_1/bam/bam_{n}.tif") as file:
            # Web Mercator is stretched by 1 / cos(latitude).
            assert file.res[0] * np.cos(np.radians(6.04)) == pytest.approx(gsd, rel=0.01)


def test_scenes_of_an_area_do_not_meet(tiers: Path) -> None:
    for area in tiers.glob("*/*"):
        bounds = [rasterio.open(path).bounds for path in sorted(area.glob("*.tif"))]
        assert all(west.right < east.left for west, east in pairwise(bounds))


@pytest.mark.parametrize("labels", [".geojson", ".gpkg", ".shp"])
@pytest.mark.parametrize("turned", ["north-up", "south-up", "rotated"])
def test_footprints_lie_on_their_roofs(tmp_path: Path, labels: Any, turned: Any) -> None:
    form = RasterForm(turned=turned, epsg=32737)
    scenes.make_buildings(tmp_path, areas=1, noisy_areas=0, scenes=1, labels=labels, form=form, **SMALL)
    area = tmp_path / "train_tier_1" / "bam"
    assert overlap(on_pixels(area / "bam_0.tif", area / f"bam{labels}"), drawn().mask) > 0.95
    with rasterio.open(area / "bam_0.tif") as file:
        assert {"north-up": file.transform.e < 0, "south-up": file.transform.e > 0}.get(turned, file.transform.b != 0)


@pytest.mark.parametrize("epsg", [4326, 3857, 32737, 21037, 2263])
def test_any_crs_will_do(tmp_path: Path, epsg: int) -> None:
    place = (-74.0, 40.7) if epsg == 2263 else (39.24, -6.04)  # New York's has feet
    form = RasterForm(epsg=epsg, origin_lonlat=place)
    scenes.make_buildings(tmp_path, areas=1, noisy_areas=0, scenes=1, form=form, **SMALL)
    area = tmp_path / "train_tier_1" / "bam"
    assert overlap(on_pixels(area / "bam_0.tif", area / "bam.geojson"), drawn().mask) > 0.95


def test_the_noisy_tier_is_shifted_and_incomplete(tmp_path: Path) -> None:
    for name, shift, missing in (("true", (0.0, 0.0), 0.0), ("off", (3.0, -2.0), 0.3)):
        folder = tmp_path / name
        scenes.make_buildings(folder, areas=0, scenes=1, shift_m=shift, missing=missing, **SMALL)
        assert not (folder / "train_tier_1").exists()
    true, off = (polygons(tmp_path / name / "train_tier_2/dam/dam.geojson") for name in ("true", "off"))
    assert 0.4 * len(true) < len(off) < 0.95 * len(true)
    metres = np.array([111_320 * np.cos(np.radians(6.07)), 111_320])
    corners = np.array([shapely.get_coordinates(polygon)[0] for polygon in true])
    for polygon in off:
        steps = (shapely.get_coordinates(polygon)[0] - corners) * metres
        assert np.abs(steps - (3.0, -2.0)).max(1).min() < 0.01


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize(("bands", "blank"), [(1, "none"), (2, "alpha"), (3, "nodata"), (5, "alpha"), (12, "nodata")])
def test_bands_types_and_blanks(tmp_path: Path, dtype: Any, bands: int, blank: Any) -> None:
    nodata = -9999.0 if dtype == "float32" else 0.0
    form = RasterForm(bands=bands, dtype=dtype, blank=blank, nodata=nodata)
    options = SMALL | {"hw": (80, 64)}
    scenes.make_buildings(tmp_path, areas=1, noisy_areas=0, scenes=1, form=form, **options)
    with rasterio.open(tmp_path / "train_tier_1/bam/bam_0.tif") as file:
        pixels = file.read().astype(np.float64)
        assert (file.count, set(file.dtypes)) == (bands, {dtype})
        assert file.nodata == (nodata if blank == "nodata" else None)
        assert (file.colorinterp[-1].name == "alpha") == (blank == "alpha")
    colours = pixels[: bands - (blank == "alpha")]
    if blank == "alpha":
        opaque = {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]
        assert set(np.unique(pixels[-1])) == {0, opaque}
        assert not colours[:, pixels[-1] == 0].any()
    elif blank == "nodata":
        unseen = colours == nodata
        assert (unseen.all(0) == unseen.any(0)).all(), "in all bands or in none"
        assert unseen.any()
        colours = colours[:, ~unseen[0]]
    full = {"uint8": 255, "uint16": 4080, "float32": 1}[dtype]
    assert 0.3 * full < colours.max() <= full
    assert colours.min() >= 0
    assert len({band.tobytes() for band in colours}) == len(colours), "every band is another one"


def test_stac_links_every_label_to_its_scene(tmp_path: Path) -> None:
    scenes.make_buildings(tmp_path, style="stac", **SMALL)
    for tier, areas in (("train_tier_1", 2), ("train_tier_2", 1)):
        catalogue = json.loads((tmp_path / tier / "catalog.json").read_text())
        children = [link["href"] for link in catalogue["links"] if link["rel"] == "child"]
        assert len(children) == areas
        for child in children:
            path = tmp_path / tier / child
            collection = json.loads(path.read_text())
            assert collection["id"] == path.parent.name
            items = [path.parent / link["href"] for link in collection["links"] if link["rel"] == "item"]
            assert len(items) == 4
            for item in items:
                content = json.loads(item.read_text())
                assert content["id"] == item.stem == item.parent.name
                assert content["collection"] == path.parent.name
                for link in content["links"]:
                    assert (item.parent / link["href"]).is_file()
                (asset,) = content["assets"].values()
                if not item.stem.endswith("-labels"):
                    with rasterio.open(item.parent / asset["href"]) as file:
                        assert file.shape == HW
                    continue
                (source,) = (link["href"] for link in content["links"] if link["rel"] == "source")
                scene = item.parent / json.loads((item.parent / source).read_text())["assets"]["image"]["href"]
                scene = (item.parent / source).parent / scene.name
                labels = item.parent / asset["href"]
                assert labels.stem == scene.stem
                counts = content["properties"]["label:overviews"][0]["counts"]
                assert counts[0]["count"] == len(polygons(labels))
                assert on_pixels(scene, labels).any()


def test_spacenet_has_a_file_of_footprints_for_every_tile(tmp_path: Path) -> None:
    scenes.make_buildings(tmp_path, areas=1, noisy_areas=1, scenes=2, style="spacenet", **SMALL)
    tiles = [f"AOI_{area}_img{n}" for area in ("1_Bam", "2_Fam") for n in range(1, 9)]
    assert names(tmp_path) == sorted(
        [f"RGB-PanSharpen/RGB-PanSharpen_{tile}.tif" for tile in tiles]
        + [f"geojson/buildings/buildings_{tile}.geojson" for tile in tiles]
    )
    town = drawn()
    half = (HW[0] // 2, HW[1] // 2)
    for n, (y, x) in enumerate(((0, 0), (0, half[1]), (half[0], 0), half)):
        scene = tmp_path / f"RGB-PanSharpen/RGB-PanSharpen_AOI_1_Bam_img{n + 1}.tif"
        labels = tmp_path / f"geojson/buildings/buildings_AOI_1_Bam_img{n + 1}.geojson"
        truth = town.mask[y : y + half[0], x : x + half[1]]
        assert overlap(on_pixels(scene, labels), truth) > 0.94
        features = json.loads(labels.read_text())["features"]
        assert all(len(point) == 3 for f in features for ring in f["geometry"]["coordinates"] for point in ring)
        with rasterio.open(scene) as file:
            frame = shapely.geometry.shape(
                transform_geom(file.crs, "EPSG:4326", shapely.geometry.mapping(shapely.box(*file.bounds)))
            )
        assert all(frame.buffer(1e-7).contains(polygon) for polygon in polygons(labels)), "cut at the border"


@pytest.mark.parametrize(("style", "labels"), [("tiers", ".gpkg"), ("tiers", ".shp"), ("stac", ".geojson")])
def test_the_same_call_writes_the_same_bytes(tmp_path: Path, style: Any, labels: Any) -> None:
    options = SMALL | {"hw": (64, 64)}
    for name, count in (("a", 1), ("b", 1), ("c", 2)):
        scenes.make_buildings(tmp_path / name, areas=count, noisy_areas=1, style=style, labels=labels, **options)
    a, b, c = (
        {file: (tmp_path / name / file).read_bytes() for file in names(tmp_path / name)} for name in ("a", "b", "c")
    )
    assert a == b
    assert {name: content for name, content in a.items() if not name.endswith("catalog.json")}.items() <= c.items()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hw": (63, 100)}, r"at least 64 pixels.*\(63, 100\)"),
        ({"style": "stac", "labels": ".gpkg"}, r"GeoJSON labels only.*'\.gpkg'"),
        ({"form": RasterForm(bands=1)}, "1 to 12 bands"),
        ({"form": RasterForm(bands=13)}, "1 to 12 bands"),
    ],
)
def test_options_that_rule_each_other_out_are_refused(tmp_path: Path, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scenes.make_buildings(tmp_path / "x", **options)
    assert not (tmp_path / "x").exists()
