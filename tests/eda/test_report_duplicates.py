"""Copies planted among made images, and patches cut from one picture, are counted and shown."""

import cv2
import numpy as np
import pytest

from segsmith.audit.examine import examine
from segsmith.data.ingest import ingest
from segsmith.eda.report_duplicates import duplicates_section


def picture(seed: int, side: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 1, (side, side)).astype(np.float32)
    blurred = sum(cv2.GaussianBlur(noise, (0, 0), sigma) * sigma for sigma in (1.5, 4, 10))
    return np.clip(128 + 60 * blurred / np.std(blurred), 0, 255).astype(np.uint8)


def write(folder, images, masks) -> None:
    for name, pixels in (("images", images), ("masks", masks)):
        (folder / name).mkdir(parents=True)
        for image_id, image in pixels.items():
            cv2.imwrite(str(folder / name / f"{image_id}.png"), image)


def box(side: int, top: int) -> np.ndarray:
    mask = np.zeros((side, side), np.uint8)
    mask[top : top + 9, 5:15] = 255
    return mask


def section(folder):
    found = examine(lambda out: ingest(folder, exclude=out))
    return found, duplicates_section(found.dataset, found.groups, found.examination)


@pytest.fixture
def copies(tmp_path):
    """Six pictures; `turned` is a quarter turn of `a`, `copy` is `b` labelled elsewhere."""
    images = {name: picture(seed, 96) for seed, name in enumerate("abcd")}
    masks = {name: box(96, 40) for name in "abcd"}
    images |= {"turned": np.rot90(images["a"]).copy(), "copy": images["b"]}
    masks |= {"turned": np.rot90(masks["a"]).copy(), "copy": box(96, 70)}
    write(tmp_path / "raw", images, masks)
    return tmp_path / "raw"


def test_copies_are_counted_by_kind_and_shown_worst_first(copies):
    _, found = section(copies)
    words = " ".join(found.parts)
    assert found.parts[0].startswith("4 images stand with others in a group that folds keep whole; the largest holds 2")
    assert "2 pairs of images show the same pixels." in found.parts
    assert "<td>pixel by pixel, rotated by " in words
    assert "<td>labelled otherwise</td>" in words
    captions = [part.split("</figcaption>")[0] for part in words.split("<figcaption>")[1:]]
    assert len(captions) == 2
    assert "b and copy" in captions[0] or "copy and b" in captions[0]
    assert "labels overlap by 0%" in captions[0]
    assert "labels overlap by 100%" in captions[1]
    assert "No images were cut side by side from a larger one." in found.parts


def test_mosaics_are_put_together_again(tmp_path):
    whole = picture(7, 3 * 64)
    places = {f"p{row}{column}": (row, column) for row in range(3) for column in range(3)}
    images = {n: whole[64 * r : 64 * r + 64, 64 * c : 64 * c + 64] for n, (r, c) in places.items()}
    write(tmp_path / "raw", images, {name: box(64, 20) for name in images})
    examined, found = section(tmp_path / "raw")
    (mosaic,) = examined.examination.mosaics.mosaics
    words = " ".join(found.parts)
    assert f"{len(mosaic.images)} images were cut side by side from 1 larger pictures" in words
    assert f"{len(mosaic.images)} images, p00 at the top left" in words
    assert words.count("<img") == 1
    assert "No two images show the same pixels." in found.parts


def test_where_nothing_repeats_that_is_said(tmp_path):
    write(tmp_path / "raw", {n: picture(s, 64) for s, n in enumerate("abc")}, {n: box(64, 20) for n in "abc"})
    _, found = section(tmp_path / "raw")
    assert found.parts == [
        "No two images show the same pixels.",
        "No images were cut side by side from a larger one.",
    ]
