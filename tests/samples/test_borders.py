"""Where two labelled objects of a class touch: against the distance of every pixel, and on the way into samples."""

import json
from dataclasses import replace
from pathlib import Path

import by_hand
import cv2
import numpy as np
import pytest
import rasterio

from segsmith.data import ingest_vector
from segsmith.data.dataset import Dataset
from segsmith.data.ingest_rle import ingest
from segsmith.data.windows import Window, scaled_hw, whole
from segsmith.errors import DataError
from segsmith.recipe import Data
from segsmith.samples.borders import borders, polygon_borders
from segsmith.samples.chips import cut
from segsmith.samples.samples import fit_mask, read_sample

HW = (20, 26)
LABELS = np.zeros(HW, np.int32)
LABELS[2:9, 3:10] = 1
LABELS[2:9, 10:16] = 2
LABELS[11:15, 3:12] = 3
LABELS[0:2, 24:26] = 4


def dataset(folder: Path) -> Dataset:
    """a.png with four objects, b.png with none."""
    (folder / "train").mkdir(parents=True)
    for name in ("a.png", "b.png"):
        _, png = cv2.imencode(".png", np.zeros((*HW, 3), np.uint8))
        (folder / "train" / name).write_bytes(png.tobytes())
    rows = [f"a.png,{by_hand.encode(number == LABELS)}" for number in range(1, 5)]
    (folder / "train.csv").write_text("\n".join(["ImageId,EncodedPixels", *rows, "b.png,"]) + "\n")
    return ingest(folder)


def scene(folder: Path) -> Dataset:
    """The same objects as polygons of a GeoTIFF."""
    (folder / "area").mkdir(parents=True)
    profile = {"driver": "GTiff", "height": HW[0], "width": HW[1], "count": 3, "dtype": "uint8", "crs": "EPSG:32631"}
    place = rasterio.transform.from_origin(500_000, 5_000_000, 1, 1)
    with rasterio.open(folder / "area" / "a.tif", "w", **profile, transform=place) as file:
        file.write(np.zeros((3, *HW), np.uint8))
    features = []
    for number in range(1, 5):
        rows, columns = np.nonzero(number == LABELS)
        xs, ys = (columns.min(), columns.max() + 1), (rows.min(), rows.max() + 1)
        ring = [place @ (xs[i], ys[j]) for i, j in ((0, 0), (1, 0), (1, 1), (0, 1), (0, 0))]
        geometry = {"type": "Polygon", "coordinates": [[[float(x), float(y)] for x, y in ring]]}
        features.append({"type": "Feature", "properties": {}, "geometry": geometry})
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32631"}}
    (folder / "area" / "area.geojson").write_text(
        json.dumps({"type": "FeatureCollection", "crs": crs, "features": features})
    )
    return ingest_vector.ingest(folder)


@pytest.mark.parametrize("width", [1, 2, 3])
def test_polygons_have_the_borders_of_run_lengths(tmp_path, width):
    found = polygon_borders(scene(tmp_path / "scene"), 0, width, whole(HW))
    assert found.any()
    assert (found == borders(dataset(tmp_path / "runs"), 0, width)).all()


@pytest.mark.parametrize("scale", [0.4, 1.0, 2.0])
def test_borders_of_a_window_are_those_of_the_whole_cut(tmp_path, scale):
    opened, hw = scene(tmp_path), scaled_hw(HW, scale)
    everywhere = polygon_borders(opened, 0, 2, whole(hw), scale)
    assert everywhere.any()
    framed = np.pad(everywhere, ((0, 0), (3, 20), (3, 20)))
    for top in range(-3, hw[0], 4):
        for left in range(-3, hw[1], 5):
            found = polygon_borders(opened, 0, 2, Window(top, left, 9, 7), scale)
            assert (found == framed[:, top + 3 : top + 12, left + 3 : left + 10]).all()


def test_chips_of_scenes_hold_borders_and_know_objects_that_touch(tmp_path):
    options = Data(fit="chip", input_hw=(16, 16), stride=8)
    chips = replace(cut(scene(tmp_path), options), border_px=1)
    for chip in range(len(chips)):
        top, left = int(chips.top[chip]), int(chips.left[chip])
        window = Window(top, left, 16, 16)
        assert (read_sample(chips, chip).mask[1:] == polygon_borders(chips.dataset, 0, 1, window)).all()
        expected = np.pad(LABELS, ((0, 16), (0, 16)))[top : top + 16, left : left + 16]
        (numbers,) = chips.numbered(chip)
        assert ((numbers > 0) == (expected > 0)).all()
        pairs = np.unique(np.stack([numbers[numbers > 0], expected[expected > 0]]), axis=1)
        assert len(pairs[0]) == len(np.unique(pairs[0])) == len(np.unique(pairs[1])), "each object is one number"


@pytest.mark.parametrize("width", [1, 2, 3])
def test_pixels_near_two_objects(tmp_path, width):
    opened = dataset(tmp_path)
    y, x = np.mgrid[: HW[0], : HW[1]]
    near = []
    for number in range(1, 5):
        rows, columns = np.nonzero(number == LABELS)
        near.append(((y[..., None] - rows) ** 2 + (x[..., None] - columns) ** 2).min(axis=2) <= width**2)
    expected = np.sum(near, axis=0) >= 2
    found = borders(opened, 0, width)
    assert found.shape == (1, *HW)
    assert (found[0] == expected).all()
    assert expected[5, 9], "the pixels of both that touch"
    assert expected[5, 10]
    assert expected[9, 5] == expected[10, 5] == (width > 1), "between two that nearly do"
    assert not expected[:, 20:].any(), "and none at an outline alone"
    assert not borders(opened, 1, width).any()


@pytest.mark.parametrize("fit", ["resize", "pad", "chip"])
def test_borders_stand_behind_the_classes_in_a_sample(tmp_path, fit):
    options = Data(fit=fit, input_hw=(32, 32) if fit == "pad" else (16, 16), stride=8 if fit == "chip" else None)
    opened = dataset(tmp_path)
    plain = cut(opened, options)
    chips = replace(plain, border_px=1)
    for chip in range(len(chips)):
        before, sample = read_sample(plain, chip), read_sample(chips, chip)
        assert sample.mask.shape == (2, *options.input_hw)
        assert (sample.mask[:1] == before.mask).all()
        whole = borders(opened, int(chips.image[chip]), 1)
        if fit == "chip":
            top, left = int(chips.top[chip]), int(chips.left[chip])
            whole = np.pad(whole, ((0, 0), (0, 16), (0, 16)))[:, top : top + 16, left : left + 16]
        assert (sample.mask[1:] == fit_mask(whole, options)).all()


def test_labels_that_do_not_tell_objects_apart_are_refused(tmp_path, salt):
    with pytest.raises(DataError, match=r"layout rle-masks a row is all of a class"):
        borders(ingest(salt), 0, 1)
