"""Names of what to leave out -> the dataset without it, and the findings that say why."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from patches import COUNT, SIDE, Patches

from segsmith.audit.examine import examine
from segsmith.data.dataset import Dataset
from segsmith.data.findings import BrokenFilesError, Finding
from segsmith.data.ingest import ingest
from segsmith.errors import DataError


@pytest.fixture
def raw(tmp_path: Path) -> Patches:
    return Patches(tmp_path / "raw")


def examined(folder: Path, names: list[str]) -> tuple[Dataset, list[Finding]]:
    found = examine(lambda out: ingest(folder, exclude=out), names)
    return found.dataset, found.findings


def test_broken_files_stop_everything_unless_left_out(raw):
    folder = raw.write()
    for file in (folder / "train" / "p003.png", folder / "masks" / "p005.png"):
        file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(BrokenFilesError, match="--exclude undecodable"):
        examined(folder, [])
    dataset, found = examined(folder, ["undecodable"])
    assert {one.image_id for one in found if one.kind == "undecodable"} == {"p003", "p005"}
    assert found[0].kind == "undecodable"
    assert not {"p003", "p005"} & set(dataset.images["image_id"])
    assert len(dataset) == COUNT - 2
    assert "left out: 2 images (undecodable)" in dataset.notes


def test_a_mask_that_contradicts_the_table_can_be_left_out(raw):
    folder = raw.write()
    cv2.imwrite(str(folder / "masks" / "p005.png"), np.zeros((SIDE, SIDE), np.uint8))
    with pytest.raises(BrokenFilesError, match="--exclude mask-mismatch"):
        examined(folder, ["undecodable"])
    dataset, _ = examined(folder, ["mask-mismatch"])
    assert len(dataset) == COUNT - 1


def test_findings_and_listed_ids_are_left_out_and_counted(raw, tmp_path):
    raw.masks["p004"] = np.zeros((SIDE, SIDE), bool)
    raw.masks["p004"][10:25, 8:30] = True
    (tmp_path / "bad.txt").write_text("p010\np011\n\n")
    dataset, found = examined(raw.write(), ["rectangle", str(tmp_path / "bad.txt")])
    assert set(raw.images) - set(dataset.images["image_id"]) == {"p004", "p010", "p011"}
    assert {"left out: 2 images (listed in bad.txt)", "left out: 1 image (rectangle)"} <= set(dataset.notes)
    assert [one.kind for one in found if one.image_id == "p004"] == ["rectangle"]
    assert dataset.mask(4).any() == raw.masks["p005"].any()


def test_of_two_that_show_the_same_but_are_labelled_otherwise_one_stays(raw):
    raw.images["p006"] = raw.images["p010"] = raw.images["p005"]
    raw.masks["p006"], raw.masks["p010"] = raw.masks["p001"], raw.masks["p005"]
    dataset, found = examined(raw.write(), ["duplicates-disagree"])
    told = {(one.image_id, one.other) for one in found if one.kind == "duplicates-disagree"}
    assert told == {("p006", "p005")}
    kept = set(dataset.images["image_id"])
    assert set(raw.images) - kept == {"p006"}, "those that are left are labelled alike"


@pytest.mark.parametrize("name", ["rectangles", "no-such-file.txt"])
def test_an_unknown_name_is_refused(raw, name):
    with pytest.raises(DataError, match=f"'{name}' is neither a kind of finding nor a file of ids"):
        examined(raw.write(), [name])


def test_nothing_left_is_refused(raw, tmp_path):
    (tmp_path / "all.txt").write_text("\n".join(raw.images))
    with pytest.raises(DataError, match="images are left out"):
        examined(raw.write(), [str(tmp_path / "all.txt")])


def test_a_fold_without_some_class_is_a_finding(raw):
    for name in list(raw.masks)[2:]:
        raw.masks[name] = np.zeros((SIDE, SIDE), bool)
    found = [one.reason for one in examined(raw.write(), [])[1] if one.kind == "class-missing"]
    assert len(found) == 4, "one image has an object, in one of five folds"
    assert all(reason.endswith("holds no object of class object") for reason in found)
