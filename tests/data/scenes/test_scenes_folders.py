"""Made-up folders of a new job: images with masks of every kind, and COCO as its own tools would read it."""

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segsmith.data import scenes
from segsmith.data.scenes.folders import _counts, _packed

HW = (64, 80)


def read(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None
    return image


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
@pytest.mark.parametrize("things", ["cells", "cracks"])
def test_binary_masks_stand_beside_their_images(tmp_path: Path, suffix: Any, things: Any) -> None:
    scenes.make_folder(tmp_path, images=8, things=things, suffix=suffix, hw=HW)
    names = [f"{n:04d}{suffix}" for n in range(8)]
    assert sorted(files(tmp_path)) == [f"{folder}/{name}" for folder in ("images", "masks") for name in names]
    empty = 0
    for name in names:
        image, mask = read(tmp_path / "images" / name), read(tmp_path / "masks" / name)
        assert (image.shape, mask.shape) == ((*HW, 3), HW)
        if suffix == ".jpg":
            mask = np.where(mask > 127, 255, 0)
        assert set(np.unique(mask)) <= {0, 255}
        empty += not mask.any()
        if mask.any():
            assert image[mask > 0].mean() < image[mask == 0].mean() - 10, "what is masked is darker"
    assert empty == 2


def test_index_and_colour_masks_agree_with_the_binary_ones(tmp_path: Path) -> None:
    for kind in ("binary", "index", "colour"):
        scenes.make_folder(tmp_path / kind, images=12, masks=kind, suffix=".jpg", hw=HW, seed=2)
    with (tmp_path / "colour" / "classes.csv").open(newline="") as file:
        classes = list(csv.DictReader(file))
    assert [row["name"] for row in classes] == ["background", "round", "rod", "star"]
    colours = np.array([[int(row[part]) for part in ("blue", "green", "red")] for row in classes])
    seen = set()
    for n in range(12):
        binary = read(tmp_path / "binary" / "masks" / f"{n:04d}.jpg") > 127
        index = read(tmp_path / "index" / "masks" / f"{n:04d}.png")
        colour = read(tmp_path / "colour" / "masks" / f"{n:04d}.png")
        assert (binary == (index > 0)).mean() > 0.99, "JPEG may spoil a pixel at a border"
        np.testing.assert_array_equal(colours[index], colour)
        seen |= set(np.unique(index).tolist())
    assert seen == {0, 1, 2, 3}


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "coco"
    scenes.make_coco(folder, images=16, hw=HW, seed=3)
    return folder


def unpacked(text: str) -> list[int]:
    """COCO's rleFrString, written from its description."""
    counts: list[int] = []
    at = 0
    while at < len(text):
        value, shift, more = 0, 0, True
        while more:
            five = ord(text[at]) - 48
            value |= (five & 31) << shift
            more, at, shift = bool(five & 32), at + 1, shift + 5
            if not more and five & 16:
                value |= -1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    return counts


def uncounted(counts: list[int]) -> np.ndarray:
    values = np.arange(len(counts)) % 2
    return np.repeat(values, counts).reshape(HW[::-1]).T.astype(bool)


def mask_of(segmentation: Any) -> np.ndarray:
    if isinstance(segmentation, dict):
        counts = segmentation["counts"]
        return uncounted(unpacked(counts) if isinstance(counts, str) else counts)
    fine = np.zeros((HW[0] * 8, HW[1] * 8), np.uint8)
    for ring in segmentation:
        cv2.fillPoly(fine, [np.round(np.reshape(ring, (-1, 2)) * 8 - 0.5).astype(np.int32)], 255)
    return np.asarray(cv2.resize(fine, HW[::-1], interpolation=cv2.INTER_AREA)) >= 128


def test_coco_is_whole(coco: Path) -> None:
    content = json.loads((coco / "annotations.json").read_text())
    assert {"info", "licenses", "images", "annotations", "categories"} == set(content)
    assert [image["file_name"] for image in content["images"]] == sorted(p.name for p in (coco / "images").iterdir())
    assert all((image["height"], image["width"]) == HW for image in content["images"])
    annotations = content["annotations"]
    assert [a["id"] for a in annotations] == list(range(1, len(annotations) + 1))
    assert {a["category_id"] for a in annotations} <= {c["id"] for c in content["categories"]}
    labelled = {a["image_id"] for a in annotations}
    assert labelled < {image["id"] for image in content["images"]}
    assert len(labelled) == 12, "a quarter of 16 images has none"
    forms = [type(a["segmentation"]).__name__ + str(a["iscrowd"]) for a in annotations]
    assert forms.count("dict1") == 1
    assert forms.count("dict0") == 1
    assert forms.count("list0") == len(forms) - 2
    crowd = next(a for a in annotations if a["iscrowd"])
    assert isinstance(crowd["segmentation"]["counts"], list)
    packed = next(a for a in annotations if isinstance(a["segmentation"], dict) and not a["iscrowd"])
    assert isinstance(packed["segmentation"]["counts"], str)


def test_coco_segments_have_their_area_and_box_and_lie_on_what_is_drawn(coco: Path) -> None:
    content = json.loads((coco / "annotations.json").read_text())
    names = {image["id"]: image["file_name"] for image in content["images"]}
    for annotation in content["annotations"]:
        mask = mask_of(annotation["segmentation"])
        y, x = np.nonzero(mask)
        assert abs(mask.sum() - annotation["area"]) <= 3 + 0.05 * annotation["area"]
        box = (x.min(), y.min(), x.max() + 1 - x.min(), y.max() + 1 - y.min())
        assert np.abs(np.subtract(box, annotation["bbox"])).max() <= 2, "thin tips are a matter of rounding"
        image = read(coco / "images" / names[annotation["image_id"]]).astype(int)
        near = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9))).astype(bool) & ~mask
        assert image[mask].mean() < image[near].mean() - 5


@given(seed=st.integers(0, 10_000), share=st.sampled_from([0.0, 0.02, 0.5, 0.98, 1.0]))
@settings(max_examples=30)
def test_coco_run_lengths_come_back(seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random(HW) < share
    counts = _counts(mask)
    assert sum(counts) == mask.size
    np.testing.assert_array_equal(uncounted(counts), mask)
    assert unpacked(_packed(counts)) == counts


def test_packed_counts_are_cocos_own() -> None:
    # A pair of plain and packed counts known from COCO's own tools.
    assert _packed([6, 1, 40, 4, 5, 4, 5, 4, 21]) == "61X13mN000`0"


def test_the_same_call_writes_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        scenes.make_folder(tmp_path / name / "f", images=4, seed=seed, hw=(32, 32), masks="colour")
        scenes.make_coco(tmp_path / name / "c", images=4, seed=seed, hw=(32, 32))
    a, b, c = (files(tmp_path / name) for name in "abc")
    assert a == b
    assert a.keys() == c.keys()
    assert a["f/images/0000.png"] != c["f/images/0000.png"]


def test_what_cannot_be_made_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 32"):
        scenes.make_folder(tmp_path / "x", hw=(31, 64))
    with pytest.raises(ValueError, match="binary masks only"):
        scenes.make_folder(tmp_path / "x", things="cracks", masks="index")
    with pytest.raises(ValueError, match="at least 32"):
        scenes.make_coco(tmp_path / "x", hw=(64, 31))
    assert not (tmp_path / "x").exists()
