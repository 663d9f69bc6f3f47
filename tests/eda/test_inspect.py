"""A raw folder -> a dataset folder that is whole or not there; the raw files stay as they are."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest
from html_page import Page

from segsmith.data.dataset import Dataset
from segsmith.data.scenes import make_salt
from segsmith.eda.inspect import inspect
from segsmith.errors import DataError, WriteError

WRITTEN = {"dataset.json", "images.parquet", "objects.parquet", "profile.json", "report.html", "findings.csv"}
HOSTILE = "<img src=x onerror=alert(1)>&.png"


def page(folder: Path) -> Page:
    return Page((folder / "report.html").read_text("utf-8"))


def state(folder: Path) -> dict[str, tuple[str, int]]:
    """Content and time of change of everything below a folder, hidden or not."""
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
            path.stat().st_mtime_ns if path.is_file() else 0,
        )
        for path in folder.rglob("*")
    }


def test_what_is_found_is_what_is_written(raw, tmp_path):
    before = state(raw)
    found = inspect(raw, tmp_path / "out")
    assert state(raw) == before
    assert {path.name for path in (tmp_path / "out").iterdir()} == WRITTEN
    assert found.folder == tmp_path / "out"
    opened = Dataset.open(tmp_path / "out")
    assert opened.fingerprint == found.dataset.fingerprint == found.profile.fingerprint
    assert json.loads((tmp_path / "out" / "profile.json").read_text()) == json.loads(
        json.dumps(found.profile.as_dict())
    )
    assert (found.profile.labelled, found.profile.empty, found.profile.objects) == (5, 2, 5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "raw"]


def test_the_report_needs_no_other_file_and_names_stay_names(raw, tmp_path):
    (raw / "train" / "a.png").rename(raw / "train" / HOSTILE)
    text = (raw / "train.csv").read_text()
    (raw / "train.csv").write_text(text.replace("a.png", HOSTILE))
    evil = tmp_path / "<b>raw"
    shutil.move(raw, evil)
    inspect(evil, tmp_path / "out")
    found, html = page(tmp_path / "out"), (tmp_path / "out" / "report.html").read_text("utf-8")
    fetched = {"src", "href", "srcset", "poster", "data", "action", "xlink:href", "background"}
    links = [value for _, attributes in found.elements for name, value in attributes.items() if name in fetched]
    assert links
    assert all(link.startswith(("#", "data:")) for link in links)
    assert set(re.findall(r"https?://[^\"'\s<>&]+", html)) <= {"http://www.w3.org/2000/svg"}
    assert "url(" not in html
    assert not [name for _, attributes in found.elements for name in attributes if name.startswith("on")]
    assert not [tag for tag, _ in found.elements if tag == "b"]
    assert any(attributes.get("alt", "").startswith(HOSTILE) for _, attributes in found.elements)
    assert found.all("h1") == ["Data report: <b>raw"]


def test_salt_in_its_own_layout(tmp_path):
    make_salt(tmp_path / "raw", train_images=12, test_images=3)
    before = state(tmp_path / "raw")
    found = inspect(tmp_path / "raw", tmp_path / "out")
    assert state(tmp_path / "raw") == before
    assert found.dataset.layout.name == "rle-masks"
    assert found.profile.images == 15
    assert "train/masks: mask files agree with train.csv" in page(tmp_path / "out").all("p")
    assert "Pixels per mask" in (tmp_path / "out" / "report.html").read_text("utf-8")


def test_labels_alone_open_no_image(raw, tmp_path):
    for folder in ("train", "test"):
        shutil.rmtree(raw / folder)
    found = inspect(raw, tmp_path / "out", assume_hw=(20, 24))
    assert (found.profile.images, found.profile.objects) == (5, 5)
    report = page(tmp_path / "out")
    assert not [tag for tag, _ in report.elements if tag == "img"]
    assert report.all("h2") == ["What was found", "Labels", "Images", "Folds"]
    assert "labels alone: no image was opened, all are taken to be 20 x 24" in report.all("p")


def test_of_several_label_files_one_is_named(raw, tmp_path):
    (raw / "other.csv").write_text("ImageId,EncodedPixels\na.png,1 2\n")
    with pytest.raises(DataError, match=r"several label files \(other\.csv, train\.csv\); say which with --labels"):
        inspect(raw, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert inspect(raw, tmp_path / "out", labels=raw / "other.csv").profile.labelled == 1


# Whole or not at all


def test_a_dataset_is_replaced_as_a_whole(raw, tmp_path):
    inspect(raw, tmp_path / "out")
    (tmp_path / "out" / "report.html").write_text("old")
    (raw / "train.csv").write_text("ImageId,EncodedPixels\nb.png,1 3\n")
    assert inspect(raw, tmp_path / "out").profile.labelled == 1
    assert {path.name for path in (tmp_path / "out").iterdir()} == WRITTEN
    assert len(Dataset.open(tmp_path / "out").labelled) == 1
    assert page(tmp_path / "out").all("h1") == ["Data report: raw"]


def test_what_is_wrong_with_the_raw_files_leaves_an_earlier_dataset(raw, tmp_path):
    inspect(raw, tmp_path / "out")
    (raw / "train" / "b.png").write_bytes((raw / "train" / "b.png").read_bytes()[:-50])
    before = state(tmp_path)
    with pytest.raises(DataError, match=r"b\.png: does not decode as an image"):
        inspect(raw, tmp_path / "out")
    assert state(tmp_path) == before


def foreign(out: Path) -> None:
    out.mkdir()
    (out / "thesis.txt").write_text("mine")


def foreign_beside_a_dataset(out: Path) -> None:
    (out / "run").mkdir(parents=True)
    (out / "run" / "bundle.safetensors").write_text("hours of training")
    (out / "dataset.json").write_text("{}")


def file(out: Path) -> None:
    out.write_text("mine")


@pytest.mark.parametrize("stands_there", [foreign, foreign_beside_a_dataset, file])
def test_what_inspect_did_not_write_is_left_alone(raw, tmp_path, stands_there):
    stands_there(tmp_path / "out")
    before = state(tmp_path)
    with pytest.raises(WriteError, match=rf"{tmp_path / 'out'}: .*choose"):
        inspect(raw, tmp_path / "out")
    assert state(tmp_path) == before


def test_the_raw_folder_is_no_place_for_the_dataset(raw, tmp_path):
    before = state(tmp_path)
    with pytest.raises(WriteError):
        inspect(raw, raw)
    assert state(tmp_path) == before


def test_an_empty_folder_is_filled(raw, tmp_path):
    (tmp_path / "out").mkdir()
    inspect(raw, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == WRITTEN
