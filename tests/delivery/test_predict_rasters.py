"""A bundle and rasters -> probabilities and masks in their place on the ground, a folder that is whole or not there."""

import json
import multiprocessing
import os
import resource
import shutil
import signal
import threading
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import by_hand
import cv2
import numpy as np
import pyarrow.parquet as pq
import pyogrio
import pytest
import rasterio
import rasterio.shutil
import shapely
from by_hand import files_in
from processes import in_child
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.features import rasterize

from segsmith.data.rasters import Levels
from segsmith.decision.masks import connected_objects, decided, decided_by
from segsmith.decision.separation import objects_by
from segsmith.delivery import polygons
from segsmith.delivery.predict_rasters import find_rasters, predict_rasters
from segsmith.errors import DataError, ModelError, ResolutionError, WriteError
from segsmith.modeling.bundle import Bundle, Cell, Decision, Part, Skip
from segsmith.prediction.blending import shares
from segsmith.prediction.network_calls import TorchCall
from segsmith.prediction.probabilities import Predictor
from segsmith.samples.sight import Sight

CHIPS = ("data.fit=chip", "data.input_hw=[32,32]", "predict.batch_size=4", "predict.flips=none")
HW = (150, 130)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, make_bundle):
    """It finds some objects in noise, the smallest of which go; trained on pixels of 0.2 m."""
    path = tmp_path_factory.mktemp("bundle") / "bundle.safetensors"
    made = make_bundle(*CHIPS)
    level = int(np.percentile(Predictor(made)([noise(64, 64)])[0], 80))
    made = make_bundle(*CHIPS, level=level, smallest_area=6)
    replace(made, sight=Sight(gsd_m=(0.2, 0.2), levels=(Levels((100.0,) * 3, (1100.0,) * 3),))).write(path)
    return path


def noise(*hw: int, seed: int = 0) -> np.ndarray:
    """Of four pixels' width, so that objects are larger than one."""
    coarse = np.random.default_rng(seed).integers(0, 256, (-(-hw[0] // 4), -(-hw[1] // 4), 3), np.uint8)
    return np.kron(coarse, np.ones((4, 4, 1), np.uint8))[: hw[0], : hw[1]]


def save(path: Path, pixels: np.ndarray, *, alpha: np.ndarray | None = None, gsd_m: float = 0.2, **profile) -> Path:
    """A GeoTIFF in UTM; bands last."""
    planes = [*pixels.transpose(2, 0, 1), *([] if alpha is None else [alpha.astype(pixels.dtype) * 255])]
    path.parent.mkdir(parents=True, exist_ok=True)
    place = rasterio.transform.from_origin(500_000, 5_000_000, gsd_m, gsd_m)
    placed = {"crs": "EPSG:32631", "transform": place, "tiled": True, "blockxsize": 64, "blockysize": 64} | profile
    with rasterio.open(
        path, "w", driver="GTiff", height=pixels.shape[0], width=pixels.shape[1], count=len(planes),
        dtype=pixels.dtype, **placed,
    ) as file:  # fmt: skip
        file.write(np.stack(planes))
        if alpha is not None:
            file.colorinterp = [*file.colorinterp[:-1], ColorInterp.alpha]
    return path


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read()


# What is written


def test_a_raster_is_predicted_as_the_same_image_in_memory(tmp_path, bundle):
    raster = save(tmp_path / "in" / "scene.tif", noise(*HW))
    (done,) = predict_rasters(bundle, raster, tmp_path / "out")
    assert sorted(files_in(tmp_path / "out")) == [
        "masks", "masks/scene.tif", "objects", "objects/scene.gpkg", "prediction.json",
        "probabilities", "probabilities/scene.tif",
    ]  # fmt: skip
    opened = Bundle.read(bundle)
    (expected,) = Predictor(opened)([noise(*HW)])
    found = read(tmp_path / "out" / "probabilities" / "scene.tif")
    assert (found == expected).all()
    mask = decided_by(opened.decision, expected)
    assert (read(tmp_path / "out" / "masks" / "scene.tif") == mask).all()
    assert 0 < mask.sum() < mask.size
    assert not (mask == (expected >= opened.decision.cells[0].level)).all(), "small objects went"
    assert done.foreground_pixels == {"ship": int(mask.sum())}
    assert done.usable_pixels == HW[0] * HW[1]
    assert (done.chips, done.blank, done.scale) == (9 * 8, 0, 1.0)
    assert done.seam == pytest.approx(1, abs=0.5)
    assert json.loads((tmp_path / "out" / "prediction.json").read_text())[0]["seam"] == done.seam


def test_parts_sweep_a_raster_each_in_its_own_way(tmp_path, make_bundle):
    """At other input sizes, scales and enlargements, in the strips of the first; killed on the way, the same bytes."""
    options = ("data.input_hw=[32,32]", "predict.batch_size=4", "predict.flips=none", "predict.scales=[1,0.5]")
    first = replace(make_bundle(*options, "decide.gate=none"), sight=Sight(enlarged=0.5))
    second = replace(make_bundle("data.input_hw=[64,64]", "predict.average=geometric"), sight=Sight(enlarged=1.25))
    for name, opened in (("first", first), ("second", second)):
        opened.write(tmp_path / f"{name}.safetensors")
    parts = (Part(0.25, Bundle.read(tmp_path / "first.safetensors")), Part(0.75, second))
    replace(first, members=(), parts=parts).write(tmp_path / "both.safetensors")
    raster = save(tmp_path / "in" / "scene.tif", noise(*HW))
    levels = {}
    for name in ("first", "second", "both"):
        predict_rasters(tmp_path / f"{name}.safetensors", raster, tmp_path / name, vectors=())
        levels[name] = read(tmp_path / name / "probabilities" / "scene.tif").astype(float)
    assert np.abs(levels["first"] - levels["second"]).max() > 10
    assert np.abs(levels["both"] - (0.25 * levels["first"] + 0.75 * levels["second"])).max() <= 1

    strips = tmp_path / ".again.progress" / "work" / "scene" / "probabilities"

    def work():
        predict_rasters(tmp_path / "both.safetensors", raster, tmp_path / "again", vectors=())

    in_child(work, kill_when=lambda: strips.is_dir() and len(list(strips.iterdir())) >= 3)
    work()
    for file in ("probabilities/scene.tif", "masks/scene.tif"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "both" / file).read_bytes()


@pytest.mark.parametrize(("file", "nodata"), [("probabilities", None), ("masks", 255)])
def test_files_lie_where_the_raster_lies(tmp_path, bundle, file, nodata):
    raster = save(tmp_path / "wide.tif", noise(120, 1100))
    predict_rasters(bundle, raster, tmp_path / "out")
    with rasterio.open(raster) as source, rasterio.open(tmp_path / "out" / file / "wide.tif") as written:
        assert written.crs == source.crs
        assert written.transform == source.transform
        assert written.shape == source.shape
        assert written.dtypes == ("uint8",)
        assert written.descriptions == ("ship",)
        assert written.nodata == nodata
        assert written.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert written.overviews(1) == [2, 4]


@pytest.mark.parametrize("square", [False, True])
def test_objects_are_those_of_the_mask(tmp_path, bundle, command, square):
    raster = save(tmp_path / "a.tif", noise(*HW))
    asked = ["--vectors", "gpkg", "--vectors", "parquet", *(["--square"] if square else [])]
    said = command("predict", bundle, raster, "--to", tmp_path / "out", *asked)
    assert said.code == 0, said.err
    mask = read(tmp_path / "out" / "masks" / "a.tif")[0] == 1
    meta, _, geometry, fields = pyogrio.raw.read(tmp_path / "out" / "objects" / "a.gpkg")
    shapes, table = shapely.from_wkb(geometry), dict(zip(meta["fields"].tolist(), fields, strict=True))
    count, _ = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)
    assert len(shapes) == count - 1 > 3
    assert f"{count - 1} objects" in said.out
    assert shapely.is_valid(shapes).all()
    with rasterio.open(raster) as file:
        drawn = rasterize(shapes, out_shape=HW, transform=file.transform) > 0
        assert CRS.from_user_input(meta["crs"]) == file.crs
    assert (drawn != mask).mean() < (0.06 if square else 0.03)
    assert table["area_m2"].sum() == pytest.approx(mask.sum() * 0.04, rel=0.1 if square else 0.05)
    assert ((table["score"] > 0) & (table["score"] <= 1)).all()
    assert pq.read_table(tmp_path / "out" / "objects" / "a.parquet").num_rows == len(shapes)


def test_nothing_is_said_of_pixels_that_hold_nothing(tmp_path, bundle):
    alpha = np.ones(HW, bool)
    alpha[:, :70], alpha[100:] = False, False
    (done,) = predict_rasters(bundle, save(tmp_path / "a.tif", noise(*HW), alpha=alpha), tmp_path / "out")
    mask = read(tmp_path / "out" / "masks" / "a.tif")[0]
    assert ((mask == 255) == ~alpha).all()
    with rasterio.open(tmp_path / "out" / "probabilities" / "a.tif") as file:
        assert ((file.read_masks(1) > 0) == alpha).all()
        assert not file.read(1)[~alpha].any()
    assert done.usable_pixels == alpha.sum()
    assert done.chips + done.blank == 9 * 8
    assert done.chips == 7 * 5, "chips that reach into the usable part alone"


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_more_than_eight_bits_become_the_levels_of_the_training(tmp_path, bundle, dtype):
    """The bundle was trained with 100 to 1100 as 0 to 255; NaN is nodata."""
    deep = (100 + noise(*HW) * (1000 / 255)).astype(dtype)
    expected = np.clip(np.rint((deep.astype(float) - 100) * 0.255), 0, 255).astype(np.uint8)
    if dtype == "float32":
        deep[:9, :9, 1] = np.nan
    (done,) = predict_rasters(bundle, save(tmp_path / "deep.tif", deep), tmp_path / "out")
    assert done.levels == ((100.0,) * 3, (1100.0,) * 3)
    (whole,) = Predictor(Bundle.read(bundle))([expected])
    found = read(tmp_path / "out" / "probabilities" / "deep.tif")[0].astype(int)
    if dtype == "float32":
        assert not found[:9, :9].any()
        assert (read(tmp_path / "out" / "masks" / "deep.tif")[0, :9, :9] == 255).all()
    assert np.abs(found - whole[0])[40:, 40:].max() <= 1


def test_a_finer_raster_is_seen_at_the_resolution_of_the_training(tmp_path, bundle):
    """Pixels of 0.1 m, each four of which are one of the raster of 0.2 m: the same objects in the same place."""
    coarse = save(tmp_path / "coarse.tif", noise(*HW))
    fine = save(tmp_path / "fine.tif", np.kron(noise(*HW), np.ones((2, 2, 1), np.uint8)), gsd_m=0.1)
    (first,) = predict_rasters(bundle, coarse, tmp_path / "one")
    (second,) = predict_rasters(bundle, fine, tmp_path / "two")
    assert second.scale == pytest.approx(0.5, rel=0.01)
    assert second.chips == first.chips
    halved = read(tmp_path / "two" / "probabilities" / "fine.tif")[0].reshape(HW[0], 2, HW[1], 2).mean((1, 3))
    # linear between pixels' centres, so the mean of four is one pixel mixed with its neighbours
    assert np.corrcoef(halved.ravel(), read(tmp_path / "one" / "probabilities" / "coarse.tif").ravel())[0, 1] > 0.98
    assert second.foreground_pixels["ship"] == pytest.approx(4 * first.foreground_pixels["ship"], rel=0.15)


def test_small_objects_are_small_on_the_ground(tmp_path, bundle):
    fine = save(tmp_path / "fine.tif", np.kron(noise(*HW), np.ones((2, 2, 1), np.uint8)), gsd_m=0.1)
    predict_rasters(bundle, fine, tmp_path / "out")
    sizes = [len(one) for one in by_hand.objects(read(tmp_path / "out" / "masks" / "fine.tif")[0] == 1)]
    assert min(sizes) >= 6 * 4 * 0.99


def test_every_geotiff_of_a_folder(tmp_path, bundle, command):
    save(tmp_path / "in" / "b.tif", noise(40, 50))
    save(tmp_path / "in" / "more" / "a.tif", noise(33, 20, seed=1))
    (tmp_path / "in" / "labels.geojson").write_text("{}")
    said = command("predict", bundle, tmp_path / "in", "--to", tmp_path / "out")
    assert said.code == 0, said.err
    assert "b.tif: 40 x 50 pixels, enlarged 1 times" in said.out
    assert "chips, 0 without a usable pixel left out" in said.out
    assert {path.name for path in (tmp_path / "out" / "masks").iterdir()} == {"a.tif", "b.tif"}
    assert [entry["raster"] for entry in json.loads((tmp_path / "out" / "prediction.json").read_text())] == [
        str(tmp_path / "in" / name) for name in ("b.tif", "more/a.tif")
    ]


def test_what_is_left_alone_beside_rasters_is_told(tmp_path, bundle, command):
    """The next prediction, of a folder without such images, tells of none."""
    save(tmp_path / "in" / "a.tif", noise(40, 50))
    left = [save(tmp_path / "in" / f"b{n}.tif", noise(9, 9), crs=None, transform=None) for n in range(3)]
    left.append(tmp_path / "in" / "c.png")
    cv2.imwrite(str(left[-1]), noise(9, 9))
    said = command("predict", bundle, tmp_path / "in", "--to", tmp_path / "out")
    assert said.code == 0, said.err
    shown = ", ".join(map(str, left[:3]))
    assert f"4 images were left alone, without a CRS that says where they lie: {shown}, ...\n" in said.out
    assert (tmp_path / "out" / "left_alone.txt").read_text().splitlines() == list(map(str, left))
    for file in left:
        file.unlink()
    said = command("predict", bundle, tmp_path / "in", "--to", tmp_path / "out")
    assert "left alone" not in said.out
    assert not (tmp_path / "out" / "left_alone.txt").exists()


def test_what_was_predicted_among_the_rasters_is_none_of_them(tmp_path, bundle):
    """A folder that was written, and one that a prediction was stopped in."""
    raster = save(tmp_path / "a.tif", noise(40, 50))
    predict_rasters(bundle, tmp_path, tmp_path / "prediction")
    shutil.copytree(tmp_path / "prediction", tmp_path / ".prediction.progress" / "result")
    assert find_rasters(tmp_path) == ([raster], [])
    again = save(tmp_path / "more" / "a.tif", noise(9, 9))
    with pytest.raises(DataError, match=f"same name:\n  - {raster}\n  - {again}\npredict one folder"):
        find_rasters(tmp_path)


def test_where_a_raster_lies_and_its_thresholds_are_told(tmp_path, bundle, monkeypatch):
    """For whoever looks at the files later, from another folder: of levels as they were written."""
    opened = Bundle.read(bundle)
    replace(opened, decision=replace(opened.decision, temperature=2.0)).write(tmp_path / "warm.safetensors")
    save(tmp_path / "in" / "a.tif", noise(*HW))
    monkeypatch.chdir(tmp_path / "in")
    (done,) = predict_rasters(tmp_path / "warm.safetensors", Path("a.tif"), tmp_path / "out")
    assert done.raster == "a.tif"
    (told,) = json.loads((tmp_path / "out" / "prediction.json").read_text())
    assert told["raster"] == str(tmp_path / "in" / "a.tif")
    levels, mask = (read(tmp_path / "out" / folder / "a.tif") for folder in ("probabilities", "masks"))
    threshold = told["thresholds"]["ship"]
    assert threshold != opened.decision.cells[0].level
    assert levels[mask == 1].min() == threshold


def test_a_raster_within_an_archive(tmp_path, bundle, command):
    """What GDAL reaches by name; a path would drop the second slash."""
    save(tmp_path / "in" / "a.tif", noise(40, 50))
    shutil.make_archive(str(tmp_path / "in"), "zip", tmp_path / "in")
    name = f"/vsizip/{tmp_path}/in.zip/a.tif"
    assert command("predict", bundle, name, "--to", tmp_path / "out").code == 0
    predict_rasters(bundle, tmp_path / "in" / "a.tif", tmp_path / "plain")
    assert read(tmp_path / "out" / "masks" / "a.tif").any()
    assert (read(tmp_path / "out" / "masks" / "a.tif") == read(tmp_path / "plain" / "masks" / "a.tif")).all()


MOSAIC = """<VRTDataset rasterXSize="130" rasterYSize="150"><SRS>EPSG:32631</SRS>
<GeoTransform>500000, 0.2, 0, 5000000, 0, -0.2</GeoTransform>{bands}</VRTDataset>"""
TILE = """<SimpleSource><SourceFilename relativeToVRT="1">{name}.tif</SourceFilename><SourceBand>{band}</SourceBand>
<SrcRect xOff="0" yOff="0" xSize="{width}" ySize="150"/><DstRect xOff="{left}" yOff="0" xSize="{width}" ySize="150"/>
</SimpleSource>"""


def test_a_mosaic_of_two_scenes_is_one_raster(tmp_path, bundle, command):
    """What gdalbuildvrt writes: the cut between the scenes shows nowhere, and objects across it are one."""
    whole = noise(*HW)
    for name, left, right in (("west", 0, 70), ("east", 70, 130)):
        place = rasterio.transform.from_origin(500_000 + 0.2 * left, 5_000_000, 0.2, 0.2)
        save(tmp_path / f"{name}.tif", whole[:, left:right], transform=place)
    tiles = [{"name": "west", "left": 0, "width": 70}, {"name": "east", "left": 70, "width": 60}]
    bands = (
        f'<VRTRasterBand dataType="Byte" band="{band}">'
        f"{''.join(TILE.format(band=band, **tile) for tile in tiles)}</VRTRasterBand>"
        for band in (1, 2, 3)
    )
    (tmp_path / "both.vrt").write_text(MOSAIC.format(bands="".join(bands)))
    said = command("predict", bundle, tmp_path / "both.vrt", "--to", tmp_path / "out")
    assert said.code == 0, said.err
    predict_rasters(bundle, save(tmp_path / "whole.tif", whole), tmp_path / "whole")
    for kind in ("probabilities", "masks"):
        found, expected = tmp_path / "out" / kind / "both.tif", tmp_path / "whole" / kind / "whole.tif"
        assert (read(found) == read(expected)).all()
        with rasterio.open(found) as mosaic, rasterio.open(expected) as one:
            assert (mosaic.crs, mosaic.transform) == (one.crs, one.transform)
    mask = read(tmp_path / "out" / "masks" / "both.tif")[0] == 1
    assert (mask[:, 69] & mask[:, 70]).any(), "some object lies across the cut"
    shapes = [
        shapely.from_wkb(pyogrio.raw.read(tmp_path / of)[2])
        for of in ("out/objects/both.gpkg", "whole/objects/whole.gpkg")
    ]
    assert shapely.equals(*shapes).all()


def test_tiles_without_place_stay_images(tmp_path, bundle):
    save(tmp_path / "in" / "a.tif", noise(40, 50), crs=None, transform=None)
    assert find_rasters(tmp_path / "in").rasters == []
    assert find_rasters(tmp_path / "in" / "a.tif").rasters == [tmp_path / "in" / "a.tif"]


# Stopped on the way


def test_killed_again_and_again_it_ends_with_the_same_bytes(tmp_path, bundle):
    """While strips are written, while files are made of them, and between two rasters."""
    rasters = tmp_path / "in"
    for seed, name in enumerate(("a", "b")):
        save(rasters / f"{name}.tif", noise(*HW, seed=seed), gsd_m=0.11)
    predict_rasters(bundle, rasters, tmp_path / "unharmed")
    progress = tmp_path / ".out.progress"

    def reached(pattern: str, count: int = 1):
        return lambda: len(list(progress.glob(pattern))) >= count

    for instant in (
        reached("work/a/probabilities/*.tif", 1),
        reached("work/a/probabilities/*.tif", 3),
        reached("work/a/masks/*.tif", 2),
        reached("result/probabilities/.a.tif.partial*"),
        reached("result/masks/a.tif"),
        reached("work/b/probabilities/*.tif", 2),
        reached("result/masks/b.tif"),
    ):
        ended = in_child(lambda: predict_rasters(bundle, rasters, tmp_path / "out"), kill_when=instant)
        if ended != -signal.SIGKILL:  # it was faster than whoever waited for that instant
            break
        assert not (tmp_path / "out").exists()
    predict_rasters(bundle, rasters, tmp_path / "out")
    assert files_in(tmp_path / "out") == files_in(tmp_path / "unharmed")
    assert not progress.exists()


def test_strips_that_are_there_are_not_made_again(tmp_path, bundle):
    raster = save(tmp_path / "a.tif", noise(*HW))
    progress = tmp_path / ".out.progress" / "work" / "a" / "probabilities"

    def three() -> bool:
        return len(list(progress.glob("*.tif"))) >= 3

    assert in_child(lambda: predict_rasters(bundle, raster, tmp_path / "out"), kill_when=three) == -signal.SIGKILL

    def strips() -> dict[str, int]:
        """Inodes by name: a file that is written again is another one."""
        return {path.name: path.stat().st_ino for path in progress.glob("[0-9]*.tif")}

    there, later = strips(), {}

    def two_more() -> bool:
        later.update(strips())
        return len(later) >= len(there) + 2

    assert in_child(lambda: predict_rasters(bundle, raster, tmp_path / "out"), kill_when=two_more) == -signal.SIGKILL
    assert len(there) >= 3
    assert later.items() > there.items()


@pytest.mark.parametrize("change", ["raster", "scene", "scale", "bundle"])
def test_another_raster_option_or_bundle_begins_anew(tmp_path, bundle, make_bundle, change):
    raster, used, scale = save(tmp_path / "a.tif", noise(*HW)), tmp_path / "used.safetensors", None
    shutil.copy(bundle, used)
    progress = tmp_path / ".out.progress" / "work" / "a" / "probabilities"
    scene = raster
    if change == "scene":
        raster = tmp_path / "a.vrt"
        rasterio.shutil.copy(scene, raster, driver="VRT")
    killed = in_child(
        lambda: predict_rasters(used, raster, tmp_path / "out"), kill_when=lambda: (progress / "000002.tif").exists()
    )
    assert killed == -signal.SIGKILL
    match change:
        case "raster" | "scene":
            save(scene, noise(*HW, seed=5))
        case "scale":
            scale = 0.7
        case _:
            replace(Bundle.read(bundle), std=(0.3,) * 3).write(used)
    predict_rasters(used, raster, tmp_path / "out", scale=scale)
    predict_rasters(used, raster, tmp_path / "fresh", scale=scale)
    assert files_in(tmp_path / "out") == files_in(tmp_path / "fresh")


def test_an_earlier_prediction_is_replaced_and_nothing_else(tmp_path, bundle):
    raster = save(tmp_path / "a.tif", noise(40, 50))
    predict_rasters(bundle, raster, tmp_path / "out")
    predict_rasters(bundle, save(tmp_path / "b.tif", noise(40, 50)), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out" / "masks").iterdir()] == ["b.tif"]
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    before = files_in(tmp_path)
    with pytest.raises(WriteError, match=r"holds thesis\.txt"):
        predict_rasters(bundle, raster, tmp_path / "out")
    assert files_in(tmp_path) == before


@pytest.mark.parametrize("limit", [1000, 9000])
def test_a_full_disk(tmp_path, bundle, limit):
    """For a strip, or for a file made of all strips, there is no room; with room, the same command goes on."""
    raster = save(tmp_path / "a.tif", noise(250, 400))
    predict_rasters(bundle, raster, tmp_path / "unharmed")

    def refused() -> str:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        with pytest.raises(WriteError) as caught:
            predict_rasters(bundle, raster, tmp_path / "out")
        return str(caught.value)

    assert "cannot be written" in in_child(refused)
    assert not (tmp_path / "out").exists()
    predict_rasters(bundle, raster, tmp_path / "out")
    assert files_in(tmp_path / "out") == files_in(tmp_path / "unharmed")


# What is refused


def grey(path: Path) -> None:
    save(path, noise(40, 50)[:, :, :1])


def cut_short(path: Path) -> None:
    save(path, np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:-9000])


def no_raster(path: Path) -> None:
    path.write_text("not a raster")


def far_too_coarse(path: Path) -> None:
    save(path, noise(40, 50), gsd_m=10)


def far_too_fine(path: Path) -> None:
    save(path, noise(40, 50), gsd_m=0.01)


def all_nan(path: Path) -> None:
    save(path, np.full((40, 50, 3), np.nan, np.float32))


def all_transparent(path: Path) -> None:
    save(path, noise(40, 50), alpha=np.zeros((40, 50), bool))


@pytest.mark.parametrize(
    ("spoil", "error", "says"),
    [
        (grey, ModelError, "number of bands is 1, the model was trained on 3"),
        (cut_short, DataError, "does not read as a GeoTIFF"),
        (no_raster, DataError, "does not read as a GeoTIFF"),
        (far_too_coarse, ResolutionError, r"a pixel is 10 m, and the model was trained on 0\.2 m.*enlarged by$"),
        (far_too_fine, ResolutionError, r"a pixel is 0\.01 m, and the model was trained on 0\.2 m.*enlarged by$"),
        (all_nan, DataError, "no usable pixel"),
        (all_transparent, DataError, "no usable pixel"),
    ],
)
def test_rasters_that_cannot_be_predicted(tmp_path, bundle, spoil, error, says):
    spoil(tmp_path / "a.tif")
    with pytest.raises(error, match=says):
        predict_rasters(bundle, tmp_path / "a.tif", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_place_of_progress_without_any_is_not_left(tmp_path, bundle):
    raster = save(tmp_path / "a.tif", np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8))
    raster.write_bytes(raster.read_bytes()[:2000])
    with pytest.raises(DataError, match="does not read as a GeoTIFF"):
        predict_rasters(bundle, raster, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [raster]


def placed_by_points(path: Path) -> None:
    corners = [(0, 0), (0, 50), (40, 0), (40, 50)]
    points = [GroundControlPoint(row, col, 5e5 + col, 5e6 - row) for row, col in corners]
    save(path, noise(40, 50), crs=CRS.from_epsg(32631), transform=None, gcps=points)


def test_a_raster_placed_by_control_points_is_to_be_warped(tmp_path, bundle):
    """Of what is written on its grid nobody would know where it lies."""
    placed_by_points(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"a\.tif: is placed by control points; warp it .*\(gdalwarp\)"):
        predict_rasters(bundle, tmp_path / "a.tif", tmp_path / "out", scale=1.0)


def test_a_raster_without_place_has_no_objects_and_that_is_said(tmp_path, bundle, command):
    words = ("predict", bundle, save(tmp_path / "a.tif", noise(40, 50), crs=None), "--to", tmp_path / "out")
    said = command(*words, "--vectors", "geojson")
    assert said.code == 2
    assert "a.tif: has no CRS, so its objects have no coordinates" in said.err
    said = command(*words)
    assert "  no objects: a.tif has no CRS\n" in said.out
    assert f"\nprobabilities and masks: {tmp_path / 'out'}\n" in said.out
    (told,) = json.loads((tmp_path / "out" / "prediction.json").read_text())
    assert told["objects"] is None
    assert not (tmp_path / "out" / "objects").exists()


def test_another_resolution_is_predicted_when_told(tmp_path, bundle, command):
    raster = save(tmp_path / "a.tif", noise(40, 50), gsd_m=10)
    said = command("predict", bundle, raster, "--to", tmp_path / "out")
    assert said.code == 2
    assert said.err.endswith("say what it is to be enlarged by: --scale FACTOR\n")
    (done,) = predict_rasters(bundle, raster, tmp_path / "out", scale=2.0)
    assert done.scale == 2
    assert done.chips == 4 * 6


@pytest.mark.parametrize(("north", "says"), [(60, True), (10, False)])
def test_pixels_that_are_not_square_on_the_ground_are_told(tmp_path, bundle, command, north, says):
    """Degrees: at 60 degrees north a pixel is half as wide as it is high."""
    place = rasterio.transform.from_origin(15, north, 2e-6, 2e-6)
    raster = save(tmp_path / "a.tif", noise(40, 50), crs="EPSG:4326", transform=place)
    said = command("predict", bundle, raster, "--to", tmp_path / "out", "--vectors", "none")
    assert said.code == 0, said.err
    assert ("  a pixel is 0.112 m wide and 0.223 m high on the ground" in said.out) == says
    assert ("better warp the raster to a metric CRS" in said.out) == says


def test_a_blank_tile_among_others_is_nodata(tmp_path, bundle):
    save(tmp_path / "in" / "a.tif", noise(40, 50))
    all_nan(tmp_path / "in" / "b.tif")
    predict_rasters(bundle, tmp_path / "in", tmp_path / "out")
    assert (read(tmp_path / "out" / "masks" / "b.tif") == 255).all()


@pytest.mark.parametrize(
    ("name", "says"), [("none", "none: no such file or folder"), ("https://host/a.tif", "/vsicurl/https://host")]
)
def test_what_is_not_there(tmp_path, bundle, command, monkeypatch, name, says):
    monkeypatch.chdir(tmp_path)
    said = command("predict", bundle, name, "--to", "out")
    assert said.code == 2
    assert says in said.err
    assert list(tmp_path.iterdir()) == []


def test_real_scenes_of_another_resolution(tmp_path, bundle, real_data):
    """Drone scenes of 0.07 m by a model of 0.2 m: cut down to one corner, to be quick."""
    scene = real_data / "buildings" / "train_tier_1" / "kam" / "kam_0.tif"
    with rasterio.open(scene) as file:
        window = rasterio.windows.Window(0, 0, 400, 300)
        corner = file.profile | {"height": 300, "width": 400, "transform": file.window_transform(window)}
        with rasterio.open(tmp_path / "corner.tif", "w", **corner) as cut:
            cut.write(file.read(window=window))
            cut.colorinterp = file.colorinterp
    (done,) = predict_rasters(bundle, tmp_path / "corner.tif", tmp_path / "out")
    assert done.scale == pytest.approx(0.074 / 0.2, rel=0.02)
    with (
        rasterio.open(tmp_path / "corner.tif") as source,
        rasterio.open(tmp_path / "out" / "masks" / "corner.tif") as mask,
    ):
        assert mask.bounds == source.bounds
        assert mask.crs == source.crs
        assert ((mask.read(1) == 255) == (source.read(4) == 0)).all()


def test_written_probabilities_are_calibrated_and_decisions_stay(tmp_path, bundle):
    opened = Bundle.read(bundle)
    sure = tmp_path / "sure.safetensors"
    replace(opened, decision=replace(opened.decision, temperature=0.5)).write(sure)
    raster = save(tmp_path / "a.tif", noise(*HW))
    for name, file in (("plain", bundle), ("sure", sure)):
        predict_rasters(file, raster, tmp_path / name)
    plain, calibrated = (read(tmp_path / name / "probabilities" / "a.tif") for name in ("plain", "sure"))
    odds = (plain / 255) ** 2 / ((plain / 255) ** 2 + (1 - plain / 255) ** 2)  # logits twice as large
    inside = (plain > 0) & (plain < 255)
    assert inside.any()
    assert np.abs(calibrated - 255 * odds)[inside].max() <= 0.5 + 1e-9
    assert (read(tmp_path / "plain" / "masks" / "a.tif") == read(tmp_path / "sure" / "masks" / "a.tif")).all()
    scores = [pyogrio.raw.read(tmp_path / name / "objects" / "a.gpkg")[3][2] for name in ("plain", "sure")]
    assert len(scores[0]) == len(scores[1]) > 0
    assert (scores[0] != scores[1]).any()


def test_a_raster_is_decided_by_no_gate(tmp_path, bundle):
    opened = Bundle.read(bundle)
    other = tmp_path / "other.safetensors"
    replace(opened, decision=replace(opened.decision, cells=(Cell(100, 0, 30),), gate_by="top_k")).write(other)
    raster = save(tmp_path / "a.tif", noise(*HW))
    with pytest.raises(ModelError, match=r"a gate for empty images.*; decide again with decide\.gate=none"):
        predict_rasters(other, raster, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_holes_of_a_raster_are_filled_as_those_of_an_image(tmp_path, bundle):
    """Through strips, before small objects go; what is nodata within a hole stays so."""
    opened, file, alpha = Bundle.read(bundle), tmp_path / "bundle.safetensors", np.ones(HW, bool)
    alpha[20::30, 15::25] = False
    level = int(np.percentile(Predictor(opened)([noise(*HW)])[0], 35))
    replace(opened, decision=replace(opened.decision, cells=(Cell(level, 40),), fill_holes=True)).write(file)
    (told,) = predict_rasters(file, save(tmp_path / "a.tif", noise(*HW), alpha=alpha), tmp_path / "out")
    over = (read(tmp_path / "out" / "probabilities" / "a.tif")[0] >= level) & alpha
    filled = decided(over.astype(np.uint8), Cell(1, 0), fill_holes=True)
    assert (filled > over)[alpha].sum() > 20
    assert (filled > over)[~alpha].any()
    expected = by_hand.decided((filled & alpha).astype(np.uint8), 1, 40)
    assert (read(tmp_path / "out" / "masks" / "a.tif")[0] == np.where(alpha, expected, 255)).all()
    assert told.foreground_pixels == {"ship": int(expected.sum())}


@pytest.mark.parametrize("by", ["distance", "border"])
def test_touching_objects_come_apart_as_those_of_an_image(tmp_path, make_bundle, command, by):
    """Across strips, with their scores; none lies over another, the mask is the same, and borders are no band."""
    opened, file = make_bundle(*CHIPS, "network.heads={border: {kind: border}}"), tmp_path / "bundle.safetensors"
    (planes,) = Predictor(opened)([noise(*HW)])
    decision = Decision((Cell(int(np.percentile(planes[0], 55)), 6, depth=8),), separate_by=by)
    replace(opened, decision=decision).write(file)
    said = command("predict", file, save(tmp_path / "a.tif", noise(*HW)), "--to", tmp_path / "out")
    assert said.code == 0, said.err
    assert (read(tmp_path / "out" / "probabilities" / "a.tif") == planes[:1]).all()
    mask = decided_by(decision, planes[:1])
    assert (read(tmp_path / "out" / "masks" / "a.tif") == mask).all()
    (labels,) = objects_by(decision, mask, planes)
    assert labels.max() > connected_objects(mask[0]).max() + 5
    assert f"{labels.max()} objects" in said.out
    assert "not taken apart" not in said.out
    _, _, geometry, fields = pyogrio.raw.read(tmp_path / "out" / "objects" / "a.gpkg")
    scores = [round(float(planes[0][labels == number].mean()) / 255, 4) for number in range(1, labels.max() + 1)]
    assert sorted(fields[2].tolist()) == pytest.approx(sorted(scores), abs=1e-9)
    assert fields[3].sum() == pytest.approx(mask.sum() * 0.04, rel=0.05)
    shapes = shapely.from_wkb(geometry)
    assert shapely.is_valid(shapes).all()
    assert shapely.area(shapely.union_all(shapes)) == pytest.approx(shapely.area(shapes).sum(), rel=1e-6)


def test_killed_while_objects_come_apart_it_ends_with_the_same_bytes(tmp_path, make_bundle):
    opened, file = make_bundle(*CHIPS, "network.heads={border: {kind: border}}"), tmp_path / "bundle.safetensors"
    replace(opened, decision=Decision((Cell(100, depth=8),), separate_by="border")).write(file)
    raster = save(tmp_path / "a.tif", noise(*HW))
    predict_rasters(file, raster, tmp_path / "unharmed")
    work = tmp_path / ".out.progress" / "work" / "a"
    for kind in ("probabilities", "masks"):
        reached = partial(lambda files: len(list(files.glob("*.tif"))) >= 3, work / kind)
        assert in_child(lambda: predict_rasters(file, raster, tmp_path / "out"), kill_when=reached) == -signal.SIGKILL
    predict_rasters(file, raster, tmp_path / "out")
    assert files_in(tmp_path / "out") == files_in(tmp_path / "unharmed")


def test_what_is_too_large_to_be_taken_apart_is_told(tmp_path, bundle, command, monkeypatch):
    monkeypatch.setattr(polygons, "LONGEST_PX", 40)
    file, opened = tmp_path / "bundle.safetensors", Bundle.read(bundle)
    replace(opened, decision=Decision((Cell(1, depth=8),), separate_by="distance")).write(file)
    said = command("predict", file, save(tmp_path / "a.tif", noise(*HW)), "--to", tmp_path / "out")
    assert said.code == 0, said.err
    assert "ship: 1 connected object longer or wider than 40 pixels is not taken apart" in said.out
    (told,) = json.loads((tmp_path / "out" / "prediction.json").read_text())
    assert (told["left_whole"], told["objects"]) == ({"ship": 1}, {"ship": 1})


def test_a_raster_is_not_refined(tmp_path, make_bundle):
    raster, file = save(tmp_path / "a.tif", noise(40, 50)), tmp_path / "bundle.safetensors"
    make_bundle(*CHIPS, "predict.crf={}").write(file)
    with pytest.raises(ModelError, match=r"refines images as a whole \(predict\.crf\)"):
        predict_rasters(file, raster, tmp_path / "other")


# Skipping


@pytest.fixture(scope="module")
def sparing(tmp_path_factory, make_bundle):
    """It may skip chips; of a raster of noise that fades to a plain ground, about half."""
    path = tmp_path_factory.mktemp("bundle") / "sparing.safetensors"
    made = make_bundle(*CHIPS[:-1], "predict.flips=both", level=120)
    chips = [chip for chip, _ in swept_chips()]
    values = Predictor(made).first_look(chips, [np.empty(0, np.uint8)] * len(chips), 0.5)
    skip = Skip(0.05, float(np.median(values)), 0.5, (30,), 60, 20, 40, 1)
    replace(made, decision=replace(made.decision, skip=skip)).write(path)
    return path


def fading() -> np.ndarray:
    return (noise(*HW) * np.linspace(1, 0, HW[1])[None, :, None]).astype(np.uint8)


def swept_chips() -> list[tuple[np.ndarray, tuple[int, int]]]:
    """The chips of it, 0 beyond its edges, and where each lies."""
    padded = np.zeros((200, 200, 3), np.uint8)
    padded[: HW[0], : HW[1]] = fading()
    places = [(top, left) for top in range(0, HW[0] - 16, 16) for left in range(0, HW[1] - 16, 16)]
    return [(padded[top : top + 32, left : left + 32], (top, left)) for top, left in places]


def test_chips_that_are_skipped_add_nothing_to_the_mean_of_the_others(tmp_path, sparing, command):
    raster, opened = save(tmp_path / "a.tif", fading()), Bundle.read(sparing)
    said = command("predict", sparing, raster, "--to", tmp_path / "out", "--skip")
    assert said.code == 0, said.err
    chips = swept_chips()
    predictor, skip = Predictor(opened), opened.decision.skip
    numbers = np.empty(0, np.uint8)
    values = predictor.first_look([chip for chip, _ in chips], [numbers] * len(chips), 0.5)
    kept = [chip for chip, value in zip(chips, values, strict=True) if value >= skip.below]
    (told,) = json.loads((tmp_path / "out" / "prediction.json").read_text())
    assert (told["chips"], told["skipped"], told["blank"]) == (len(kept), len(chips) - len(kept), 0)
    assert 0.3 < len(kept) / len(chips) < 0.7
    assert f"{told['skipped']} skipped, since a first look found nothing" in " ".join(said.out.split())
    down, across = (shares(length, 32, 16) for length in HW)
    expected = np.zeros((200, 200))
    for chip, (top, left) in kept:
        (plane,) = predictor.of_chips(chip[None], numbers)[0]
        expected[top : top + 32, left : left + 32] += plane * np.outer(down[top // 16], across[left // 16])
    expected = expected[: HW[0], : HW[1]]
    found = read(tmp_path / "out" / "probabilities" / "a.tif")[0]
    assert np.abs(found - 255 * expected).max() <= 0.51
    assert (found == 0).mean() > 0.2
    predict_rasters(sparing, raster, tmp_path / "whole")
    whole = read(tmp_path / "whole" / "probabilities" / "a.tif")[0]
    assert (found <= whole).all()
    assert (found == whole).mean() > 0.2


def test_networks_see_what_is_kept_and_a_small_look_at_the_rest(tmp_path, sparing, monkeypatch):
    """Four flips of each chip that goes through, one look of a quarter of its pixels at every chip."""
    seen = Counter()
    call = TorchCall.__call__

    def counting(self, images):
        seen[tuple(images.shape[2:])] += len(images)
        return call(self, images)

    monkeypatch.setattr(TorchCall, "__call__", counting)
    raster = save(tmp_path / "a.tif", fading())
    (done,) = predict_rasters(sparing, raster, tmp_path / "out", skip=True)
    skipping = seen.copy()
    seen.clear()
    predict_rasters(sparing, raster, tmp_path / "whole")
    chips = len(swept_chips())
    assert seen == {(32, 32): 4 * chips}
    assert 0 <= skipping[32, 32] - 4 * done.chips <= 9 * 4, "a chip alone at the end of its row is seen twice"
    assert chips <= skipping[16, 16] <= chips + 9
    assert skipping[32, 32] + skipping[16, 16] / 4 < 0.8 * seen[32, 32]


def test_a_loss_of_0_skips_nothing(tmp_path, sparing):
    opened = Bundle.read(sparing)
    skip = replace(opened.decision.skip, below=0.0, loss=0.0)
    replace(opened, decision=replace(opened.decision, skip=skip)).write(tmp_path / "b.safetensors")
    raster = save(tmp_path / "a.tif", fading())
    for name, skip in (("out", True), ("whole", False)):
        (done,) = predict_rasters(tmp_path / "b.safetensors", raster, tmp_path / name, skip=skip)
        assert done.skipped == 0
    assert files_in(tmp_path / "out") == files_in(tmp_path / "whole")


def test_killed_while_it_skips_it_ends_with_the_same_bytes_in_other_batches_too(tmp_path, sparing):
    raster = save(tmp_path / "a.tif", fading())
    predict_rasters(sparing, raster, tmp_path / "unharmed", skip=True)
    strips = tmp_path / ".out.progress" / "work" / "a" / "probabilities"

    def work():
        predict_rasters(sparing, raster, tmp_path / "out", skip=True)

    for count in (2, 5):
        ended = in_child(work, kill_when=lambda count=count: len(list(strips.glob("*.tif"))) >= count)
        assert ended == -signal.SIGKILL
    work()
    assert files_in(tmp_path / "out") == files_in(tmp_path / "unharmed")
    opened = Bundle.read(sparing)
    predict = opened.recipe.predict.model_copy(update={"batch_size": 7})
    replace(opened, recipe=opened.recipe.model_copy(update={"predict": predict})).write(tmp_path / "b.safetensors")
    predict_rasters(tmp_path / "b.safetensors", raster, tmp_path / "other", skip=True)
    assert files_in(tmp_path / "other") == files_in(tmp_path / "unharmed")


def test_without_a_loss_that_is_allowed_nothing_can_be_skipped(tmp_path, bundle, command):
    said = command("predict", bundle, save(tmp_path / "a.tif", fading()), "--to", tmp_path / "out", "--skip")
    assert said.code == 2
    assert "first: segsmith decide RUN --skip-loss 0.01" in said.err
    assert not (tmp_path / "out").exists()


def test_a_raster_in_which_nothing_is_worth_it_is_empty(tmp_path, sparing):
    opened = Bundle.read(sparing)
    skip = replace(opened.decision.skip, below=1.1)
    replace(opened, decision=replace(opened.decision, skip=skip)).write(tmp_path / "b.safetensors")
    raster = save(tmp_path / "a.tif", fading())
    (done,) = predict_rasters(tmp_path / "b.safetensors", raster, tmp_path / "out", skip=True)
    assert (done.chips, done.skipped) == (0, len(swept_chips()))
    assert not read(tmp_path / "out" / "masks" / "a.tif").any()


# On a cluster


@pytest.fixture
def mixed(tmp_path) -> Path:
    """Rasters of mixed sizes, the largest of which is not the first by name."""
    for number, hw in enumerate([(40, 50), (300, 130), (64, 64), (150, 130)]):
        save(tmp_path / "in" / f"r{number}.tif", noise(*hw, seed=number))
    return tmp_path / "in"


def test_on_two_workers_one_of_which_is_killed_midway_the_same_bytes(tmp_path, bundle, mixed, command):
    pytest.importorskip("distributed", reason="Dask is not installed: pip install 'segsmith[cluster]'")
    assert command("predict", bundle, mixed, "--to", tmp_path / "alone").code == 0
    progress = tmp_path / ".out.progress"
    killed = []

    def kill_who_is_at_the_largest() -> None:
        strips = progress / "work" / "r1" / "probabilities"
        while not killed and progress.parent.exists() and not (tmp_path / "out").exists():
            if len(list(strips.glob("*.tif"))) >= 2:
                killed.append(max(child.pid or 0 for child in multiprocessing.active_children()))
                os.kill(killed[0], signal.SIGKILL)
            time.sleep(0.002)

    killer = threading.Thread(target=kill_who_is_at_the_largest)
    killer.start()
    said = command("predict", bundle, mixed, "--to", tmp_path / "out", "--cluster", "local", "--workers", 2)
    killer.join(1)
    assert said.code == 0, said.err
    assert killed
    assert files_in(tmp_path / "out") == files_in(tmp_path / "alone")
    assert not progress.exists()


def test_workers_skip_what_one_process_skips(tmp_path, sparing, mixed, command, two_workers):
    for place, spread in (("alone", ()), ("out", ("--cluster", two_workers))):
        said = command("predict", sparing, mixed, "--to", tmp_path / place, "--skip", *spread)
        assert said.code == 0, said.err
    assert files_in(tmp_path / "out") == files_in(tmp_path / "alone")
    assert "skipped, since a first look found nothing" in " ".join(said.out.split())


def test_a_broken_raster_ends_a_cluster_with_a_message(tmp_path, bundle, mixed, command, two_workers):
    broken = mixed / "r3.tif"
    broken.write_bytes(broken.read_bytes()[:-20_000])
    said = command("predict", bundle, mixed, "--to", tmp_path / "out", "--cluster", two_workers)
    assert said.code == 2
    assert said.err.startswith(f"segsmith: {broken}: ")
    assert "Traceback" not in said.err
    assert not (tmp_path / "out").exists()


def test_a_cluster_that_is_not_there_leaves_nothing(tmp_path, bundle, mixed, command):
    said = command("predict", bundle, mixed, "--to", tmp_path / "out", "--cluster", "nonsense://x")
    assert said.code == 2
    assert "--cluster nonsense://x: " in said.err
    assert {path.name for path in tmp_path.iterdir()} == {"in"}


OF_RASTERS = (("--cluster", "local"), ("--scale", 2), ("--vectors", "gpkg"), ("--square",))
OF_IMAGES = (("--no-masks",), ("--overlays",), ("--mosaics",))


@pytest.mark.parametrize(("options", "of"), [(OF_RASTERS, "images"), (OF_IMAGES, "rasters")])
def test_options_that_would_not_be_heard_are_refused(tmp_path, bundle, command, options, of):
    placed = {"crs": None, "transform": None} if of == "images" else {}
    save(tmp_path / "in" / "a.tif", noise(40, 50), **placed)
    for words in options:
        said = command("predict", bundle, tmp_path / "in", "--to", tmp_path / "out", *words)
        assert said.code == 2
        assert said.err.startswith(f"segsmith: {words[0]}: for ")
        assert "is predicted as " in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_plain_images_are_refused_by_a_model_of_stated_metres_a_pixel(tmp_path, bundle, make_bundle, command):
    """As the same image by its name is: neither tells how large its pixels are."""
    asked, to = tmp_path / "asked.safetensors", ("--to", tmp_path / "out")
    make_bundle(*CHIPS, "data.gsd_m=0.3").write(asked)
    image = save(tmp_path / "in" / "a.tif", noise(40, 50), crs=None, transform=None)
    for given in (image, image.parent):
        said = command("predict", asked, given, *to)
        assert said.code == 2
        assert said.err.startswith(f"segsmith: {image}: does not say")
        assert "how many metres a pixel is, and the model sees 0.3" in said.err
        assert said.err.endswith("say what it is to be enlarged by: --scale FACTOR\n")
    assert command("predict", asked, image, *to, "--scale", 2).code == 0
    assert command("predict", bundle, image.parent, "--to", tmp_path / "other").code == 0
