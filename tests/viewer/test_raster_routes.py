"""What the viewer answers of predicted rasters: by numbers alone, once where nothing changed, whatever their size."""

import json
import multiprocessing
import resource
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from predictions import UTM, make_prediction
from starlette.testclient import TestClient

from segsmith.delivery.polygons import FoundObject
from segsmith.errors import DataError
from segsmith.viewer.app import make_viewer

RASTER = "/api/folders/0/rasters/0"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    draws = np.random.default_rng(0)
    box = shapely.MultiPolygon([shapely.box(10, 20, 40, 50)])
    return make_prediction(
        tmp_path_factory.mktemp("made"), draws.integers(0, 256, (3, 300, 400), np.uint8),
        draws.integers(0, 256, (1, 300, 400), np.uint8), objects=[FoundObject("class0", box, 900, 0.75)],
    )  # fmt: skip


@pytest.fixture(scope="module")
def client(made):
    with TestClient(make_viewer([made.folder])) as client:
        yield client


def test_a_raster_is_described(client, made):
    assert client.get("/api/folders/0/rasters").json() == [{"name": "field", "hw": [300, 400]}]
    told = client.get(RASTER).json()
    assert (told["hw"], told["deepest"], told["crs"], told["has_objects"]) == ([300, 400], 1, "EPSG:32631", True)
    assert told["transform"] == list(UTM)[:6]
    assert told["classes"] == [{"name": "class0", "colour": "#e69f00", "threshold": 100}]
    assert told["image"] == {"coarsest": 0, "awaited": False}
    assert told["also_in"] == []
    assert np.array(told["place"]).shape == (17, 17, 2)


def test_other_predictions_of_a_raster_are_those_of_its_name_and_pixels(tmp_path):
    image, levels = np.zeros((3, 40, 60), np.uint8), np.zeros((1, 40, 60), np.uint8)
    moved = Affine(*UTM[:2], UTM[2] + 100, *UTM[3:6])
    others = [{}, {"name": "meadow"}, {"transform": moved}, {"crs": "EPSG:32632"}, {}]
    made = [make_prediction(tmp_path / str(n), image, levels, **other) for n, other in enumerate(others)]
    smaller = make_prediction(tmp_path / "smaller", image[:, :39], levels[:, :39])
    (made[-1].folder / "probabilities" / "field.tif").write_bytes(b"broken since")
    same = make_prediction(tmp_path / "same", image, levels)
    with TestClient(make_viewer([of.folder for of in (*made, smaller, same)])) as client:
        assert client.get(RASTER).json()["also_in"] == [{"folder": 6, "raster": 0}]
        assert client.get("/api/folders/1/rasters/0").json()["also_in"] == []


def test_tiles_are_sent_once_until_the_file_changes(client, made):
    address = f"{RASTER}/levels/1/0/0"
    first = client.get(address)
    assert first.status_code == 200
    planes = np.frombuffer(first.content, np.uint8).reshape(2, 256, 256)
    assert (planes[0] == made.levels[0, :256, :256]).all()
    tag = {"If-None-Match": first.headers["etag"]}
    assert client.get(address, headers=tag).status_code == 304
    assert client.get(f"{RASTER}/levels/1/1/0", headers=tag).status_code == 200
    file = made.folder / "probabilities" / "field.tif"
    file.write_bytes(file.read_bytes())
    assert client.get(address, headers=tag).status_code == 200


def test_objects_of_a_view(client):
    found = client.get(f"{RASTER}/view", params={"box": [0, 0, 100, 100], "pixel": 1}).json()
    assert found["count"] == 1
    (one,) = found["objects"]
    assert (one["class_name"], one["score"], one["area_m2"]) == ("class0", 0.75, pytest.approx(900 * 0.25, rel=1e-3))
    assert one["at"] == pytest.approx([25, 35], abs=0.05)
    assert client.get(f"{RASTER}/view", params={"box": [200, 0, 300, 100], "pixel": 1}).json()["count"] == 0
    listed = client.get(f"{RASTER}/objects", params={"by": "area"}).json()
    assert listed["count"] == 1
    assert listed["objects"][0]["id"] == 1


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/api/folders/0/rasters/1", "raster 1: there are 1, counted from 0"),
        ("/api/folders/7/rasters/0", "folder 7, raster 0: there are 0"),
        (f"{RASTER}/levels/1/9/0", "tile 9, 0: lies outside"),
        (f"{RASTER}/levels/9/0/0", "zoom 9"),
        (f"{RASTER}/masks/1/-1/0", "tile -1, 0: lies outside"),
    ],
)
def test_what_is_not_there_is_said(client, path, said):
    answer = client.get(path)
    assert answer.status_code == 200, "a browser would call anything else an error on its console"
    assert said in answer.json()["said"]


@pytest.mark.parametrize(
    "path", ["/api/folders/0/rasters/..%2f..%2fetc", f"{RASTER}/levels/1/0/passwd", "/page/..%2fapp.py"]
)
def test_no_path_leads_to_a_file(client, path):
    assert client.get(path).status_code in (404, 422)


def test_many_tiles_at_once_are_all_answered(client):
    """By two threads; none waits for ever."""
    with ThreadPoolExecutor(16) as pool:
        paths = [f"{RASTER}/{kind}/1/{n % 2}/0" for n in range(20) for kind in ("image", "levels", "masks")]
        answers = list(pool.map(client.get, paths))
    assert {answer.status_code for answer in answers} == {200}


def test_a_prediction_that_none_wrote_is_refused(tmp_path):
    (tmp_path / "prediction.json").write_text('{"no": "list"}')
    with pytest.raises(DataError, match=r"prediction\.json: does not read as what `predict` says of rasters"):
        make_viewer([tmp_path])


def test_memory_does_not_grow_with_the_raster(tmp_path):
    """20,000 x 20,000 pixels of three bands are 1.2 GB; no more than 400 MB of them are ever held. In a process of its
    own, begun anew: of a fork the most memory ever held would be that of all tests before."""
    process = multiprocessing.get_context("spawn").Process(target=look_at_a_wide_one, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 0, "what failed is printed above"


def look_at_a_wide_one(folder: Path) -> None:
    profile = {
        "driver": "GTiff", "height": 20_000, "width": 20_000, "dtype": "uint8", "crs": "EPSG:32631", "transform": UTM,
        "tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "SPARSE_OK": True,
    }  # fmt: skip
    out = folder / "out"
    for name in ("probabilities", "masks"):
        (out / name).mkdir(parents=True)
    with rasterio.Env(GDAL_CACHEMAX=64):  # or what is kept of writing would make room for what is read
        for file, bands in (
            (folder / "wide.tif", 3),
            (out / "probabilities" / "wide.tif", 1),
            (out / "masks" / "wide.tif", 1),
        ):
            with rasterio.open(file, "w", **profile, count=bands) as made:
                window = rasterio.windows.Window(12_000, 9_000, 300, 300)
                made.write(np.full((bands, 300, 300), 200, np.uint8), window=window)
                if bands == 1:
                    made.build_overviews([2, 4, 8, 16, 32, 64])
    told = {"raster": str(folder / "wide.tif"), "hw": [20_000, 20_000], "levels": None, "foreground_pixels": {"a": 1}}
    (out / "prediction.json").write_text(json.dumps([told]))
    with TestClient(make_viewer([out])) as client:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found = client.get(RASTER).json()
        assert found["deepest"] == 7
        assert found["image"] == {"coarsest": 5, "awaited": True}
        tile = client.get(f"{RASTER}/levels/7/47/36").content
        assert np.frombuffer(tile, np.uint8)[: 256 * 256].max() == 200
        for zoom in range(8):
            assert client.get(f"{RASTER}/levels/{zoom}/0/0").status_code == 200
        for x in range(8):
            assert client.get(f"{RASTER}/image/5/{x}/{x}").status_code == 200
        while client.get(RASTER).json()["image"]["awaited"]:
            time.sleep(0.1)
        assert client.get(f"{RASTER}/image/0/0/0").status_code == 200
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert held < 400_000, f"{held} KB"
