"""Scenes and vector labels in their three layouts, and every fault of theirs as a message."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.warp import transform as warp_points
from rasterio.warp import transform_bounds

from segsmith.data.dataset import Dataset
from segsmith.data.ingest_vector import find_scenes, ingest
from segsmith.data.windows import Window
from segsmith.errors import DataError

ORIGIN = 500000, 5000000
"""Metres east and north in UTM zone 33: the corner of the first scene."""
SIZE = 40, 60


def scene(path: Path, *, x=0, y=0, crs="EPSG:32633", bands=3, dtype="uint8", seed=0, transform=None) -> Path:
    """A scene of SIZE metre pixels whose corner lies `x` metres east and `y` south of ORIGIN."""
    path.parent.mkdir(parents=True, exist_ok=True)
    transform = transform or Affine(1, 0, ORIGIN[0] + x, 0, -1, ORIGIN[1] - y)
    pixels = np.random.default_rng(seed).integers(0, 255, (bands, *SIZE)).astype(dtype)
    with rasterio.open(
        path, "w", driver="GTiff", height=SIZE[0], width=SIZE[1], count=bands, dtype=dtype, crs=crs, transform=transform
    ) as file:
        file.write(pixels)
    return path


def box(left, top, right, bottom):
    """A ring in longitude and latitude around metres east and south of ORIGIN."""
    xs = [ORIGIN[0] + x for x in (left, right, right, left, left)]
    ys = [ORIGIN[1] - y for y in (top, top, bottom, bottom, top)]
    return [list(point) for point in zip(*warp_points("EPSG:32633", "EPSG:4326", xs, ys), strict=True)]


def labels(path: Path, *rings, kinds=None, **more) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": ring if isinstance(ring[0][0], list) else [ring]},
            "properties": {"kind": kinds[n]} if kinds else {},
        }
        for n, ring in enumerate(rings)
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features} | more))
    return path


def expected(*boxes):
    mask = np.zeros(SIZE, bool)
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = True
    return mask


@pytest.fixture
def areas(tmp_path):
    """Tier 1: area a with two scenes side by side and one vector file; tier 2: area b labelled, area c not."""
    raw = tmp_path / "raw"
    scene(raw / "tier_1/a/a_0.tif")
    scene(raw / "tier_1/a/a_1.tif", x=60, seed=1)
    labels(raw / "tier_1/a/a.geojson", box(5, 6, 15, 20), box(50, 10, 70, 14))
    scene(raw / "tier_2/b/b_0.tif", x=1000, seed=2)
    labels(raw / "tier_2/b/b.geojson", box(1030, 30, 1040, 40))
    scene(raw / "tier_2/c/c_0.tif", x=2000, seed=3)
    return raw


def test_areas(areas, tmp_path):
    dataset = ingest(areas)
    images = dataset.images
    assert dataset.layout.name == find_scenes(areas).layout == "area-vectors"
    assert images["image_id"].tolist() == ["a_0", "a_1", "b_0", "c_0"]
    assert images["source"].tolist() == ["tier_1", "tier_1", "tier_2", "tier_2"]
    assert images["labelled"].tolist() == [True, True, True, False]
    assert images["objects"].tolist() == [2, 1, 1, 0]
    assert images["foreground"].tolist() == [180, 40, 100, 0]
    assert len(set(images["group"])) == 4  # side by side shares no ground
    assert set(images["crs"]) == {"EPSG:32633"}
    assert images["gsd_m"].tolist() == pytest.approx([1] * 4, rel=1e-3)
    assert [len(low) for low in images["band_low"]] == [0] * 4
    assert (dataset.mask(0)[0] == expected((5, 6, 15, 20), (50, 10, 60, 14))).all()
    assert (dataset.mask(1)[0] == expected((0, 10, 10, 14))).all()
    assert dataset.objects["source_row"].tolist() == [1, 2, 2, 1]
    dataset.write(tmp_path / "index")
    opened = Dataset.open(tmp_path / "index")
    assert opened.fingerprint == dataset.fingerprint
    assert (opened.mask(0) == dataset.mask(0)).all()
    assert list(opened.images["transform"][1]) == [1, 0, ORIGIN[0] + 60, 0, -1, ORIGIN[1]]


def test_read_gives_windows_of_image_and_truth(areas):
    dataset = ingest(areas)
    with rasterio.open(areas / "tier_1/a/a_0.tif") as file:
        pixels = file.read().transpose(1, 2, 0)
    assert (dataset.image(0) == pixels).all()
    chip = dataset.read(0, Window(10, 40, 40, 30))
    assert (chip.image[:30, :20] == pixels[10:, 40:]).all()
    assert (chip.mask[0, :30, :20] == dataset.mask(0)[0, 10:, 40:]).all()
    assert (chip.valid == np.pad(np.ones((30, 20), bool), ((0, 10), (0, 10)))).all()
    for scale in (0.5, 2.0):
        whole = dataset.read(0, None, scale)
        part = dataset.read(0, Window(3, 4, 9, 11), scale)
        assert (part.image == whole.image[3:12, 4:15]).all()
        assert (part.mask == whole.mask[:, 3:12, 4:15]).all()
        assert whole.mask.sum() == 180 * scale**2


def test_the_fingerprint_covers_polygons(areas):
    before = ingest(areas).fingerprint
    labels(areas / "tier_2/b/b.geojson", box(1030, 30, 1040.5, 40))
    assert ingest(areas).fingerprint != before


def test_a_scene_that_changed_its_size_is_refused(areas):
    dataset = ingest(areas)
    shutil.copy(areas / "tier_1/a/a_0.tif", areas / "x.tif")
    with rasterio.open(areas / "tier_1/a/a_0.tif", "w", driver="GTiff", height=9, width=9, count=3, dtype="uint8") as f:
        f.write(np.zeros((3, 9, 9), np.uint8))
    with pytest.raises(DataError, match=r"a_0\.tif: is 9 x 9 pixels, but was indexed as 40 x 60; inspect it again"):
        dataset.read(0, Window(0, 0, 5, 5))


@pytest.mark.parametrize(
    "transform",
    [Affine(1, 0, ORIGIN[0], 0, 1, ORIGIN[1] - 40), Affine(0, 1, ORIGIN[0], -1, 0, ORIGIN[1])],
    ids=["south up", "rotated by 90 degrees"],
)
def test_scenes_that_do_not_point_north(tmp_path, transform):
    scene(tmp_path / "raw/a.tif", transform=transform)
    labels(tmp_path / "raw/a.geojson", box(5, 6, 15, 20))
    found = ingest(tmp_path / "raw").mask(0)[0]
    here = expected((5, 20, 15, 34)) if transform.e else expected((6, 5, 20, 15))
    assert (found == here).all()


def test_a_footprint_in_two_scenes_is_an_object_of_both_and_they_share_a_group(tmp_path):
    for n, x in enumerate((0, 30, 500)):
        scene(tmp_path / f"raw/{n}.tif", x=x, seed=n)
    labels(tmp_path / "raw/x.geojson", box(35, 5, 50, 10))
    dataset = ingest(tmp_path / "raw")
    assert dataset.images["objects"].tolist() == [1, 1, 0]
    group = dataset.images["group"].tolist()
    assert group[0] == group[1] != group[2]
    assert "1 scenes overlap others on the ground; they share a group" in dataset.notes


def test_scenes_of_other_crs_overlap_too(tmp_path):
    scene(tmp_path / "raw/a.tif")
    with rasterio.open(tmp_path / "raw/a.tif") as file:
        left, bottom, right, top = transform_bounds(file.crs, "EPSG:4326", *file.bounds)
    transform = Affine((right - left) / SIZE[1], 0, left, 0, -(top - bottom) / SIZE[0], top)
    scene(tmp_path / "raw/b.tif", crs="EPSG:4326", transform=transform)
    labels(tmp_path / "raw/x.geojson", box(5, 6, 15, 20))
    dataset = ingest(tmp_path / "raw")
    assert len(set(dataset.images["group"])) == 1
    assert dataset.mask(1).sum() == pytest.approx(140, abs=15)


def test_classes_come_from_a_field(tmp_path):
    scene(tmp_path / "raw/a.tif")
    labels(
        tmp_path / "raw/a.geojson",
        box(5, 6, 15, 20),
        box(10, 6, 20, 20),
        box(30, 0, 31, 1),
        kinds=["tin", "mud", "tin"],
    )
    dataset = ingest(tmp_path / "raw", class_field="kind")
    assert dataset.classes == ("mud", "tin")
    assert (dataset.mask(0) == [expected((10, 6, 20, 20)), expected((5, 6, 15, 20), (30, 0, 31, 1))]).all()
    assert dataset.images["foreground"].tolist() == [15 * 14 + 1]


def test_scenes_of_a_source_share_their_range(tmp_path):
    for n, source in enumerate("aab"):
        scene(tmp_path / f"raw/{source}/{n}.tif", x=100 * n, dtype="uint16", seed=n)
        labels(tmp_path / f"raw/{source}/x.geojson", *(box(100 * k + 5, 6, 100 * k + 15, 20) for k in range(n + 1)))
    dataset = ingest(tmp_path / "raw")
    low = [tuple(values) for values in dataset.images["band_low"]]
    assert low[0] == low[1] != low[2]
    assert dataset.image(0).max() == 255
    scene(tmp_path / "raw/a/8.tif", x=700, dtype="uint8")
    with pytest.raises(DataError, match="scenes of a source must be alike"):
        ingest(tmp_path / "raw")


@pytest.mark.parametrize(
    ("tiles", "vectors"),
    [
        ("RGB-PanSharpen/RGB-PanSharpen_AOI_2_Vegas_img{}.tif", "geojson/buildings_AOI_2_Vegas_img{}.geojson"),
        ("PS-RGB/SN2_AOI_2_Vegas_PS-RGB_img{}.tif", "outlines/SN2_AOI_2_Vegas_geojson_buildings_img{}.geojson"),
        ("tile_{}.tif", "tile_{}.geojson"),
    ],
)  # fmt: skip
def test_tiles(tmp_path, tiles, vectors):
    raw = tmp_path / "raw"
    for n in (1, 2, 11):
        scene(raw / tiles.format(n), x=100 * n, seed=n)
    labels(raw / vectors.format(1), box(105, 6, 115, 20))
    labels(raw / vectors.format(11))
    labels(raw / vectors.format(7), box(105, 6, 115, 20))
    dataset = ingest(raw)
    by_id = dataset.images.set_index(dataset.images["image_id"].str.extract(r"(\d+)$")[0])
    assert dataset.layout.name == "tile-vectors"
    assert by_id.loc[["1", "2", "11"], "objects"].tolist() == [1, 0, 0]
    assert by_id.loc[["1", "2", "11"], "labelled"].tolist() == [True, False, True]
    assert any("1 vector file holds nothing" in note for note in dataset.notes)
    assert any("1 vector files have no tile" in note for note in dataset.notes)


def test_tiles_of_two_cities_find_their_own_labels(tmp_path):
    for n, city in enumerate(("Vegas", "Paris")):
        scene(tmp_path / f"raw/{city}/PS/SN2_{city}_PS_img1.tif", x=100 * n)
        labels(
            tmp_path / f"raw/{city}/vectors/SN2_{city}_buildings_img1.geojson", box(100 * n + 5, 6, 100 * n + 15, 20)
        )
        labels(tmp_path / f"raw/{city}/vectors/SN2_{city}_buildings_img2.geojson")
    assert ingest(tmp_path / "raw").images["objects"].tolist() == [1, 1]


def test_names_that_fit_alike_or_not_at_all_are_refused(tmp_path):
    scene(tmp_path / "raw/x_img1.tif")
    for name in ("a", "b"):
        labels(tmp_path / f"raw/v/{name}_img1.geojson", box(5, 6, 15, 20))
    with pytest.raises(DataError, match=r"x_img1\.tif: its name fits v/a_img1\.geojson, v/b_img1\.geojson alike"):
        ingest(tmp_path / "raw")
    (tmp_path / "raw/x_img1.tif").rename(tmp_path / "raw/x_img3.tif")
    with pytest.raises(DataError, match="no name of one ends like one of the other"):
        ingest(tmp_path / "raw")


@pytest.fixture
def stac(tmp_path):
    """A catalog with one collection, an image item, a label item, and an image item without labels."""
    raw = tmp_path / "raw"
    write = {
        "catalog.json": {"type": "Catalog", "links": [{"rel": "child", "href": "./a/collection.json"}]},
        "a/collection.json": {
            "type": "Collection",
            "links": [{"rel": "self", "href": "https://example.com/a/collection.json"}]
            + [{"rel": "item", "href": f"./{name}/{name}.json"} for name in ("one", "one-labels", "two")],
        },
        "a/one/one.json": item({"image": {"href": "./one.tif", "type": "image/tiff; application=geotiff"}}),
        "a/two/two.json": item({"image": {"href": "./two.tif"}, "thumbnail": {"href": "https://example.com/x.png"}}),
        "a/one-labels/one-labels.json": item(
            {"labels": {"href": "./outlines.geojson"}}, [{"rel": "source", "href": "../one/one.json"}]
        ),
    }
    scene(raw / "a/one/one.tif")
    scene(raw / "a/two/two.tif", x=500)
    labels(raw / "a/one-labels/outlines.geojson", box(5, 6, 15, 20))
    for name, document in write.items():
        (raw / name).write_text(json.dumps({"stac_version": "1.0.0"} | document))
    return raw


def item(assets, links=()):
    return {"type": "Feature", "stac_version": "1.0.0", "assets": assets, "links": list(links)}


def test_stac(stac):
    dataset = ingest(stac)
    assert dataset.layout.name == "stac"
    assert dataset.images["path"].tolist() == ["a/one/one.tif", "a/two/two.tif"]
    assert dataset.images["labelled"].tolist() == [True, False]
    assert (dataset.mask(0)[0] == expected((5, 6, 15, 20))).all()


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("a/one/one.json", "./one.tif", "../../../outside.tif", r"one\.json: \.\./\.\./\.\./outside\.tif leads out of"),
        ("a/one/one.json", "./one.tif", "/etc/one.tif", "/etc/one.tif leads out of"),
        ("a/one/one.json", "./one.tif", "https://example.com/one.tif", "is no file of this folder; download it"),
        ("a/one/one.json", "./one.tif", "/vsicurl/http:one.tif", "is no file of this folder"),
        ("a/one/one.json", "./one.tif", "./gone.tif", r"\./gone\.tif is missing"),
        ("a/one/one.json", '"assets"', '"nothing"', "linked as source of labels, but has no GeoTIFF"),
        ("a/one-labels/one-labels.json", '"source"', '"other"', "no link rel=source"),
        ("a/one-labels/one-labels.json", "../one/one.json", "../../../one.json", "leads out of"),
        ("a/collection.json", "./two/two.json", "./three/three.json", "three/three.json is missing"),
    ],
)
def test_stac_links_that_do_not_hold_are_refused(stac, file, old, new, words):
    scene(stac.parent / "outside.tif")
    text = (stac / file).read_text()
    assert old in text
    (stac / file).write_text(text.replace(old, new))
    with pytest.raises(DataError, match=words):
        ingest(stac)


def test_a_stac_folder_without_any_of_its_images_names_them(stac):
    for image in list(stac.rglob("*.tif")):
        image.unlink()
    with pytest.raises(DataError, match=r"one\.json: \./one\.tif is missing\n.*two\.json: \./two\.tif is missing"):
        ingest(stac)
    for item in stac.rglob("*.json"):
        item.write_text(item.read_text().replace(".tif", ".png").replace("geotiff", "png"))
    assert find_scenes(stac) is None, "nothing says that it was to hold scenes"


def test_labels_of_a_kind_that_is_not_read_are_named(tmp_path, command):
    scene(tmp_path / "raw/x.tif")
    (tmp_path / "raw/houses.kml").write_text("<kml/>")
    said = command("inspect", tmp_path / "raw", "--to", tmp_path / "dataset")
    assert said.code == 2
    assert "not read as vector labels; convert them to GeoPackage:\n  - houses.kml" in said.err


def test_other_folders_are_not_recognised(tmp_path, ships):
    assert find_scenes(ships) is None
    scene(tmp_path / "alone/x.tif")
    assert find_scenes(tmp_path / "alone") is None
    with pytest.raises(DataError, match="no GeoTIFF scenes with vector labels"):
        ingest(tmp_path / "alone")
    with pytest.raises(DataError, match="no such folder"):
        ingest(tmp_path / "gone")


def test_holes_and_self_crossings(tmp_path):
    scene(tmp_path / "raw/a.tif")
    crossing = [box(20, 5, 30, 5)[0], box(30, 15, 30, 15)[0], box(30, 5, 30, 5)[0], box(20, 15, 20, 15)[0]]
    labels(tmp_path / "raw/a.geojson", [box(2, 2, 12, 12), box(4, 4, 8, 8)], [*crossing, crossing[0]])
    dataset = ingest(tmp_path / "raw")
    mask = dataset.mask(0)[0]
    assert mask[:, :15].sum() == 100 - 16
    assert 40 <= mask[:, 15:].sum() <= 60
    assert "1 footprint crossed itself and was repaired" in dataset.notes


def test_labels_partly_outside_are_counted(areas):
    labels(areas / "tier_2/b/b.geojson", box(1030, 30, 1040, 40), box(3000, 0, 3010, 10))
    dataset = ingest(areas)
    assert dataset.images["objects"].tolist() == [2, 1, 1, 0]
    assert any(note.startswith("1 footprint lies outside all scenes") for note in dataset.notes)


@pytest.mark.parametrize(
    ("rings", "more", "words"),
    [
        ([box(3000, 0, 3010, 10)], {}, r"labels at longitude 15\.03.*scenes at longitude 15\.01.*EPSG:32633"),
        ([[[500005, 4999990], [500009, 4999990], [500009, 4999980], [500005, 4999990]]], {}, "no longitude and lat"),
        ([box(1030, 30, 1040, 40)], {"crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::3857"}}},
         r"b\.geojson: all 1 footprints lie outside"),
    ],
    ids=["elsewhere", "metres taken for degrees", "degrees taken for metres"],
)  # fmt: skip
def test_labels_all_outside_name_both_places(areas, rings, more, words):
    labels(areas / "tier_2/b/b.geojson", *rings, **more)
    with pytest.raises(DataError, match=words):
        ingest(areas)


def test_empty_labels_are_empty_scenes_unless_all_are(areas):
    labels(areas / "tier_2/b/b.geojson")
    dataset = ingest(areas)
    assert dataset.images["labelled"].tolist() == [True, True, True, False]
    assert dataset.images["foreground"][2] == 0
    assert "1 vector file holds nothing: its scene is labelled as empty" in dataset.notes
    labels(areas / "tier_1/a/a.geojson")
    with pytest.raises(DataError, match="all 2 vector files are empty"):
        ingest(areas)


def test_broken_scenes_are_all_named(areas):
    content = (areas / "tier_1/a/a_0.tif").read_bytes()
    (areas / "tier_1/a/a_0.tif").write_bytes(content[: len(content) // 2])
    scene(areas / "tier_2/b/b_0.tif", crs=None)
    with pytest.raises(DataError) as raised:
        ingest(areas)
    assert "b_0.tif: names no CRS" in str(raised.value)
    scene(areas / "tier_2/b/b_0.tif", x=1000)
    with pytest.raises(DataError, match=r"1 of 4 scenes cannot be used:\n.*a_0\.tif: does not read as a GeoTIFF"):
        ingest(areas)


def test_broken_labels_are_named(areas):
    (areas / "tier_2/b/b.geojson").write_text("{")
    with pytest.raises(DataError, match=r"1 of 2 vector files cannot be used:\n.*b\.geojson: does not read"):
        ingest(areas)


def test_the_real_buildings(real_data):
    dataset = ingest(real_data / "buildings")
    assert dataset.images["objects"].tolist() == [108, 98, 121, 80, 85, 95]
    assert len(set(dataset.images["group"])) == 6
    assert set(dataset.images["source"]) == {"train_tier_1", "train_tier_2"}
    window = dataset.read(2, Window(300, 200, 300, 400))
    assert (window.mask == dataset.mask(2)[:, 300:600, 200:600]).all()
    inside, outside = (window.image[where].mean() for where in (window.mask[0], ~window.mask[0]))
    assert inside > outside + 20  # roofs are brighter than ground: labels lie where the buildings are
