"""Dataset -> duplicates: every form of a copy is found with how it was made; plain and unlike images are not."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from segsmith.audit.duplicates import Duplicates, Pair, describe, find_duplicates, nearest
from segsmith.audit.fitting import SYMMETRIES, symmetric
from segsmith.data.dataset import Dataset
from segsmith.data.ingest_rle import ingest

HW = (120, 150)


def texture(seed: int, hw: tuple[int, int] = HW) -> np.ndarray:
    """Blobs of all sizes, uint8."""
    rng = np.random.default_rng(seed)
    fields = [cv2.GaussianBlur(rng.normal(size=hw), (0, 0), sigma) * sigma for sigma in (2, 4, 9)]
    return np.clip(128 + 60 * sum(fields), 0, 255).astype(np.uint8)


def dataset_of(raw: Path, images: dict[str, np.ndarray], masks: dict[str, str] | None = None) -> Dataset:
    """Labelled images by file name, empty unless run lengths are given; the suffix says how they are written."""
    (raw / "images").mkdir(parents=True)
    for name, image in images.items():
        quality = [cv2.IMWRITE_JPEG_QUALITY, 60] if name.endswith(".jpg") else []
        cv2.imwrite(str(raw / "images" / name), image, quality)
    rows = [f"{name},{(masks or {}).get(name, '')}" for name in images]
    (raw / "train.csv").write_text("ImageId,EncodedPixels\n" + "\n".join(rows) + "\n")
    return ingest(raw)


def by_name(dataset: Dataset, found: Duplicates) -> dict[tuple[str, str], Pair]:
    ids = dataset.images["image_id"]
    return {(ids[pair.first], ids[pair.second]): pair for pair in found.pairs}


def others(count: int) -> dict[str, np.ndarray]:
    return {f"other{n}.png": texture(100 + n) for n in range(count)}


@pytest.mark.parametrize("symmetry", range(1, 8))
def test_flips_and_turns_are_exact(tmp_path, symmetry):
    one = texture(0)
    dataset = dataset_of(tmp_path, {"a.png": symmetric(one, symmetry), "b.png": one} | others(3))
    ((names, pair),) = by_name(dataset, find_duplicates(dataset)).items()
    assert names == ("a.png", "b.png")
    assert (pair.fit.symmetry, pair.fit.shift_yx, pair.fit.similarity) == (symmetry, (0, 0), 1.0)
    assert pair.exact
    assert pair.kind == f"exact, {SYMMETRIES[symmetry]}"


def test_the_symmetries_are_what_they_are_called():
    one = np.arange(6).reshape(2, 3)
    assert symmetric(one, 1).tolist() == [[2, 5], [1, 4], [0, 3]]
    assert symmetric(one, 4).tolist() == [[2, 1, 0], [5, 4, 3]]
    assert symmetric(one, 6).tolist() == [[3, 4, 5], [0, 1, 2]]
    assert len({symmetric(np.arange(4).reshape(2, 2), s).tobytes() for s in range(8)}) == 8


def test_re_compressed_brighter_and_resized_copies_are_near(tmp_path):
    one = texture(1)
    copies = {
        "b.jpg": one,
        "c.png": np.clip(one * 1.1 + 9, 0, 255).astype(np.uint8),
        "d.png": cv2.resize(one, None, fx=2, fy=2),
    }
    dataset = dataset_of(tmp_path, {"a.png": one} | copies | others(3))
    found = by_name(dataset, find_duplicates(dataset))
    for name in copies:
        pair = found["a.png", name]
        assert not pair.exact
        assert (pair.fit.symmetry, pair.fit.shift_yx) == (0, (0, 0))
    assert not any("other" in name for names in found for name in names)


@pytest.mark.parametrize("shift", [(6, -8), (-6, 0), (12, 15)])
def test_shifted_crops_of_one_scene_are_found_with_their_shift(tmp_path, shift):
    scene = texture(2, (180, 210))
    a = scene[30:150, 30:180]
    b = scene[30 + shift[0] : 150 + shift[0], 30 + shift[1] : 180 + shift[1]]
    dataset = dataset_of(tmp_path, {"a.png": a, "b.png": b} | others(3))
    found = by_name(dataset, find_duplicates(dataset))
    assert list(found) == [("a.png", "b.png")]
    pair = found["a.png", "b.png"]
    assert (pair.fit.symmetry, pair.fit.shift_yx, pair.exact) == (0, shift, True)
    assert "shifted by {} down, {} right".format(*shift) in pair.kind


def test_a_crop_that_was_turned_is_found_with_both(tmp_path):
    scene = texture(2, (180, 210))
    turned = symmetric(scene[36:156, 22:172], 3)
    dataset = dataset_of(tmp_path, {"a.png": scene[30:150, 30:180], "b.png": turned} | others(3))
    (pair,) = find_duplicates(dataset).pairs
    assert (pair.fit.symmetry, pair.fit.shift_yx, pair.exact) == (1, (6, -8), True)


def test_plain_images_are_duplicates_only_pixel_by_pixel(tmp_path):
    rng = np.random.default_rng(0)
    noisy = {f"noisy{n}.png": (90 + rng.integers(0, 2, HW)).astype(np.uint8) for n in range(6)}
    plain = {f"plain{n}.png": np.full(HW, 90 + n, np.uint8) for n in range(6)}
    dataset = dataset_of(tmp_path, noisy | plain | {"same.png": plain["plain3.png"]})
    assert list(by_name(dataset, find_duplicates(dataset))) == [("plain3.png", "same.png")]


def test_layers_at_different_depths_are_not_duplicates(tmp_path):
    rows = np.arange(HW[0])[:, None] * np.ones(HW[1])
    layers = {f"{n}.png": np.clip(128 + 80 * np.sin(rows / 5 + n), 0, 255).astype(np.uint8) for n in range(8)}
    dataset = dataset_of(tmp_path, layers)
    assert not find_duplicates(dataset).pairs


def test_labels_are_compared_where_the_copies_lie_on_one_another(tmp_path):
    one = texture(3)
    left = "1 1200"  # the ten columns on the left
    right = f"{120 * 140 + 1} 1200"
    images = {"a.png": one, "flipped.png": one[:, ::-1], "same.png": one, "empty.png": one}
    dataset = dataset_of(tmp_path, images, {"a.png": left, "flipped.png": right, "same.png": right})
    found = by_name(dataset, find_duplicates(dataset))
    said = {name: found["a.png", name].labels_differ for name in ("flipped.png", "same.png", "empty.png")}
    assert said == {"flipped.png": False, "same.png": True, "empty.png": True}
    assert found["a.png", "flipped.png"].labels_iou == 1.0


def test_many_copies_hang_together(tmp_path):
    from segsmith.audit.groups import make_groups

    one = texture(4)
    copies = {f"a{n}.png": symmetric(one, n % 8) for n in range(12)} | {f"b{n}.jpg": one for n in range(12)}
    dataset = dataset_of(tmp_path, copies | others(3))
    groups = make_groups(dataset, find_duplicates(dataset, candidates=4))
    assert len(set(groups.group[:24])) == 1
    assert groups.together == 24


def test_images_too_large_are_counted_and_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("segsmith.audit.duplicates.LARGEST_PIXELS", HW[0] * HW[1])
    dataset = dataset_of(tmp_path, {"a.png": texture(5), "b.png": texture(5), "big.png": texture(5, (140, 150))})
    (tmp_path / "images" / "big.png").unlink()
    found = find_duplicates(dataset)
    assert (len(found.pairs), found.too_large) == (1, 1)
    assert describe(dataset).too_large.tolist() == [2]


def test_nearest_does_not_depend_on_the_size_of_blocks():
    vectors = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    rows, likeness = nearest(vectors, vectors[:20], 3, block=7)
    expected = np.argsort(-(vectors @ vectors[:20].T), axis=1)[:, :3]
    assert rows.tolist() == expected.tolist()
    assert (np.diff(likeness, axis=1) <= 0).all()
