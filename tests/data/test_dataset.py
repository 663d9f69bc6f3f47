"""The index on disk: what is written is what is opened, and what has changed since is refused."""

import json
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest

from segsmith.data.dataset import Dataset
from segsmith.data.ingest_rle import ingest
from segsmith.errors import DataError


@pytest.mark.parametrize("layout", ["ships", "salt"])
def test_write_and_open(request, tmp_path, layout):
    dataset = ingest(request.getfixturevalue(layout))
    dataset.write(tmp_path / "index", {"profile.json": "{}\n"})
    opened = Dataset.open(tmp_path / "index")

    assert (opened.raw, opened.layout, opened.classes, opened.notes) == (
        dataset.raw, dataset.layout, dataset.classes, dataset.notes,
    )  # fmt: skip
    pd.testing.assert_frame_equal(opened.objects, dataset.objects)
    lists = ["band_mean", "band_std", "band_low", "band_high"]
    pd.testing.assert_frame_equal(opened.images.drop(columns=lists), dataset.images.drop(columns=lists))
    for column in lists:
        assert [list(values) for values in opened.images[column]] == dataset.images[column].tolist()
    for i in range(len(dataset)):
        assert (opened.mask(i) == dataset.mask(i)).all()
        assert (opened.image(i) == dataset.image(i)).all()
    assert opened.fingerprint == dataset.fingerprint
    assert (tmp_path / "index" / "profile.json").read_text() == "{}\n"


@pytest.mark.parametrize("content", ["ImageId,EncodedPixels\na.jpg,\nb.jpg,\n", "ImageId,EncodedPixels\na.jpg,1 2\n"])
def test_write_and_open_labels_alone(ships, tmp_path, content):
    (ships / "train.csv").write_text(content)
    dataset = ingest(ships, assume_hw=(20, 24))
    dataset.write(tmp_path / "index")
    opened = Dataset.open(tmp_path / "index")
    assert opened.fingerprint == dataset.fingerprint
    assert (opened.mask(0) == dataset.mask(0)).all()


def test_writing_again_replaces_the_index(ships, tmp_path):
    ingest(ships).write(tmp_path / "index", {"profile.json": "{}"})
    (ships / "train.csv").write_text("ImageId,EncodedPixels\na.jpg,1 2\n")
    ingest(ships).write(tmp_path / "index")
    assert sorted(path.name for path in (tmp_path / "index").iterdir()) == [
        "dataset.json", "images.parquet", "objects.parquet",
    ]  # fmt: skip
    assert len(Dataset.open(tmp_path / "index").objects) == 1


def test_the_fingerprint_knows_no_place(ships, tmp_path):
    before = ingest(ships).fingerprint
    shutil.move(ships, tmp_path / "elsewhere")
    assert ingest(tmp_path / "elsewhere").fingerprint == before
    assert len(before) == 16
    int(before, 16)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("b.jpg,1 3", "b.jpg,1 4"),
        ("b.jpg,1 3", "b.jpg,2 3"),
        ("b.jpg,1 3", "b.jpg,"),
        ("g.jpg,\n", ""),
        ("d.jpg,0", "d.jpg,1 3"),
        ("f.jpg,1 2 21 2\nf.jpg,101 4", "f.jpg,1 2\nf.jpg,21 2 101 4"),
        ("a.jpg,\nb.jpg,1 3\n", "b.jpg,1 3\na.jpg,\n"),
    ],
    ids=["length", "start", "emptied", "unlabelled", "filled", "other objects of the same pixels", "other order"],
)
def test_the_fingerprint_changes_with_any_label(ships, old, new):
    before = ingest(ships).fingerprint
    text = (ships / "train.csv").read_text()
    assert old in text
    (ships / "train.csv").write_text(text.replace(old, new))
    assert ingest(ships).fingerprint != before


def test_the_fingerprint_changes_with_an_image(ships):
    before = ingest(ships).fingerprint
    cv2.imwrite(str(ships / "test_v2" / "x.jpg"), np.zeros((20, 24, 3), np.uint8))
    after = ingest(ships).fingerprint
    assert after != before
    (ships / "test_v2" / "x.jpg").rename(ships / "test_v2" / "z.jpg")
    assert ingest(ships).fingerprint not in (before, after)


def test_an_image_that_changed_its_size_is_refused(ships):
    dataset = ingest(ships)
    cv2.imwrite(str(ships / "train_v2" / "b.jpg"), np.zeros((24, 20, 3), np.uint8))
    with pytest.raises(DataError, match=r"b\.jpg: is 24 x 20 pixels, .* 20 x 24; inspect it again"):
        dataset.image(1)


def test_an_image_that_is_gone_is_refused(ships):
    dataset = ingest(ships)
    (ships / "train_v2" / "b.jpg").unlink()
    with pytest.raises(DataError, match=r"b\.jpg: no such file"):
        dataset.image(1)


@pytest.mark.parametrize("name", ["dataset.json", "images.parquet", "objects.parquet"])
def test_an_incomplete_index_says_what_is_missing(ships, tmp_path, name):
    ingest(ships).write(tmp_path / "index")
    (tmp_path / "index" / name).unlink()
    with pytest.raises(DataError, match=rf"no dataset \({name} is missing\); make one with: segsmith inspect"):
        Dataset.open(tmp_path / "index")


@pytest.mark.parametrize("name", ["dataset.json", "images.parquet", "objects.parquet"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"PAR1PAR1"])
def test_an_index_with_a_broken_file_is_refused(ships, tmp_path, name, content):
    ingest(ships).write(tmp_path / "index")
    (tmp_path / "index" / name).write_bytes(content)
    with pytest.raises(DataError, match="the dataset does not read"):
        Dataset.open(tmp_path / "index")


@pytest.mark.parametrize("facts", [{"format": 99}, {}, []])
def test_an_index_of_another_format_is_refused(ships, tmp_path, facts):
    ingest(ships).write(tmp_path / "index")
    (tmp_path / "index" / "dataset.json").write_text(json.dumps(facts))
    with pytest.raises(DataError, match=r"dataset format (99|None), this segsmith reads 2"):
        Dataset.open(tmp_path / "index")


def test_an_index_whose_raw_files_are_gone_is_refused(ships, tmp_path):
    ingest(ships).write(tmp_path / "index")
    shutil.move(ships, tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"its raw files were in .*ships, which is gone"):
        Dataset.open(tmp_path / "index")
