"""COCO JSON -> Dataset: polygons against arithmetic, run lengths against a coder written here, and refusals."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segsmith.data.ingest_coco import decode_counts, ingest
from segsmith.errors import DataError, RunLengthError

HW = (10, 14)


def compressed(counts: list[int]) -> str:
    """rleToString of COCO's maskApi.c, from its description."""
    text = ""
    for place, count in enumerate(counts):
        value = count - counts[place - 2] if place > 2 else count
        more = True
        while more:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text += chr((bits | 32 if more else bits) + 48)
    return text


@given(st.lists(st.integers(0, 10**6), max_size=30))
def test_compressed_counts_come_back(counts):
    assert decode_counts(compressed(counts)) == counts


@pytest.mark.parametrize("text", ["~", "é", "P"])
def test_counts_that_are_no_code(text):
    with pytest.raises(RunLengthError):
        decode_counts(text)


def told(*segmentations: object, **more: object) -> dict:
    return {
        "images": [
            {"id": 7, "file_name": "train/a.png", "height": HW[0], "width": HW[1]},
            {"id": 8, "file_name": "b.png"},
        ],
        "categories": [{"id": 3, "name": "cat"}, {"id": 1, "name": "ant"}],
        "annotations": [
            {"id": n, "image_id": 7, "category_id": 3, "segmentation": s} for n, s in enumerate(segmentations)
        ],
    } | more


def write(raw: Path, content: dict) -> Path:
    for name in "abc":
        cv2.imwrite(str(raw / f"{name}.png"), np.zeros((*HW, 3), np.uint8))
    (raw / "labels.json").write_text(json.dumps(content))
    return raw


def test_a_pixel_whose_centre_is_inside(tmp_path):
    found = ingest(write(tmp_path, told([[2, 3, 6, 3, 6, 8, 2, 8]], [[8.6, 0, 11.4, 0, 11.4, 2.4, 8.6, 2.4]])))
    wanted = np.zeros(HW, bool)
    wanted[3:8, 2:6] = True
    wanted[0:2, 9:11] = True
    assert found.classes == ("ant", "cat")
    assert (found.mask(0)[1] == wanted).all()
    assert not found.mask(0)[0].any()
    assert found.images["objects"].tolist() == [2, 0, 0]
    assert found.images["labelled"].tolist() == [True, True, False]


@pytest.mark.parametrize("code", [list, compressed])
def test_run_lengths_of_both_kinds(tmp_path, code):
    counts = [0, 3, 20, 15, HW[0] * HW[1] - 38]
    found = ingest(write(tmp_path, told({"size": list(HW), "counts": code(counts)})))
    flat = np.zeros(HW[0] * HW[1], bool)
    flat[0:3] = flat[23:38] = True
    assert (found.mask(0)[1] == flat.reshape(HW[1], HW[0]).T).all()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (told([[1, 1, 5, 1]]), "annotation 0: polygon of 4 numbers"),
        (told([[1, 1, 40, 1, 5, 5]]), r"annotation 0: polygon corner \(40, 1\) lies outside"),
        (told([]), "a box alone"),
        (told([["1", 1, 5, 1, 5, 5]]), "polygons are lists of numbers"),
        (told({"size": [3, 3], "counts": [9]}), r"size \[3, 3\]"),
        (told({"size": list(HW), "counts": [9]}), "add up to 9"),
        (told(annotations=[{"image_id": 9, "category_id": 3}]), "no image has the id 9"),
        (told(annotations=[{"image_id": 7, "category_id": 2}]), "no category has the id 2"),
        (told(annotations=[{"category_id": 2}]), r"annotations\[0\]: no usable 'image_id'"),
        (told(images=[{"id": 1, "file_name": "z.png"}]), "z.png is not here"),
        (told(images=[{"id": 1, "file_name": "a.png", "height": 5, "width": 5}]), "is 10 x 14 pixels, 5 x 5"),
        (told(images=[{"id": 1, "file_name": "a.png"}, {"id": 1, "file_name": "b.png"}]), "id 1 stands 2 times"),
        (told(categories=[]), "'categories' is empty"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path, content, says):
    with pytest.raises(DataError, match=says):
        ingest(write(tmp_path, content))


def test_json_that_breaks_off(tmp_path):
    raw = write(tmp_path, told([[1, 1, 5, 1, 5, 5]]))
    (raw / "labels.json").write_text((raw / "labels.json").read_text()[:-5])
    with pytest.raises(DataError, match=r"labels\.json: does not read as JSON"):
        ingest(raw)
