"""Submissions that are right, and ones that are wrong in each of the ways a contest refuses."""

import csv
import re
import shutil

import pytest

from segsmith.data.scenes import make_salt, make_ships, make_steel
from segsmith.delivery.check import check
from segsmith.eda.inspect import inspect

SHIPS = "ImageId,EncodedPixels\na.jpg,1 2 7 2\na.jpg,20 3\nb.jpg,\nc.jpg,4 1\n"
STEEL = "ImageId,ClassId,EncodedPixels\na.jpg,1,1 2\na.jpg,2,\nb.jpg,1,\nb.jpg,2,3 4\n"


def written(path, text):
    path.write_text(text)
    return path


@pytest.fixture
def ships(tmp_path):
    return written(tmp_path / "truth.csv", SHIPS)


def scores_of(found):
    return {score.name: score.value for score in found.scores}


def test_the_truth_itself_is_right(ships):
    found = check(ships, sample=ships, truth=ships, hw=(6, 7))
    assert (found.layout, found.rows, found.images, found.with_foreground) == ("rle-objects", 4, 3, 2)
    assert found.problems == found.notes == ()
    assert scores_of(found)["f2_objects"] == scores_of(found)["mean_dice"] == scores_of(found)["mean_iou_map"] == 1
    assert next(score for score in found.scores if score.name == "f2_objects").all_empty == pytest.approx(1 / 3)


def test_what_is_missed_costs_what_the_contest_says(tmp_path, ships):
    text = SHIPS.replace("a.jpg,20 3\n", "").replace("c.jpg,4 1", "c.jpg,")
    found = check(written(tmp_path / "mine.csv", text), sample=ships, truth=ships, hw=(6, 7))
    assert scores_of(found)["f2_objects"] == pytest.approx((5 / 9 + 1 + 0) / 3)  # one of two ships: 5 / (5 + 4)
    assert scores_of(found)["mean_dice"] == pytest.approx((8 / 11 + 1 + 0) / 3)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("a.jpg,20 3", "a.jpg,20 three", "row 3, a.jpg: 'three' is not a whole number"),
        ("a.jpg,20 3", "a.jpg,20", "row 3, a.jpg: 1 numbers, an odd count"),
        ("a.jpg,20 3", "a.jpg,8 3", "row 2, a.jpg: objects share pixel 8"),
        ("a.jpg,20 3", "a.jpg,40 4", "row 3, a.jpg: pair '40 4' ends beyond the image"),
        ("a.jpg,20 3", "a.jpg,", "row 3, a.jpg: no pixels, yet the image has 2 rows"),
        ("a.jpg,20 3", "a.jpg,9 1 5 1", "row 3, a.jpg: pair '5 1' does not start after the pair before it"),
        ("c.jpg,4 1", "d.jpg,4 1", "row 5, d.jpg: not in truth.csv"),
        ("c.jpg,4 1\n", "", "c.jpg: missing, truth.csv has it"),
        ("c.jpg,4 1", "c.jpg,4 1,7", "row 5: 3 fields, not 2"),
    ],
)
def test_what_is_wrong_is_named_by_row(tmp_path, ships, old, new, says):
    mine = written(tmp_path / "mine.csv", SHIPS.replace(old, new))
    found = check(mine, sample=ships, truth=ships, hw=(6, 7))
    assert any(problem.startswith(says) for problem in found.problems), found.problems
    assert found.scores == ()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("b.jpg,2,3 4", "b.jpg,1,3 4", "row 5: b.jpg class 1 already stands in row 4"),
        ("b.jpg,2,3 4", "b.jpg,3,3 4", "row 5: b.jpg: class '3'; the model's labels had 1, 2"),
        ("b.jpg,2,3 4\n", "", "b.jpg class 2: missing, truth.csv has it"),
    ],
)
def test_classes_are_held_against_the_sample(tmp_path, old, new, says):
    truth = written(tmp_path / "truth.csv", STEEL)
    mine = written(tmp_path / "mine.csv", STEEL.replace(old, new))
    assert any(problem.startswith(says) for problem in check(mine, sample=truth, hw=(6, 7)).problems)


def test_another_order_is_said_and_not_wrong(tmp_path, ships):
    lines = SHIPS.splitlines()
    mine = written(tmp_path / "mine.csv", "\n".join([lines[0], *lines[:0:-1]]) + "\n")
    found = check(mine, sample=ships, truth=ships, hw=(6, 7))
    assert found.problems == ()
    assert "another order" in found.notes[0]
    assert scores_of(found)["f2_objects"] == 1


def test_an_unknown_size_is_said(ships):
    found = check(ships)
    assert found.problems == ()
    assert "the size of 3 images is not known" in found.notes[0]


@pytest.mark.parametrize(
    ("make", "sizes"),
    [
        (make_ships, {"train_images": 12, "test_images": 1, "size": 64}),
        (make_salt, {"train_images": 12, "test_images": 1}),
        (make_steel, {"images": 12, "test_images": 1, "hw": (64, 160)}),
    ],
)
def test_labels_of_a_raw_folder_score_one_against_their_dataset(command, tmp_path, make, sizes):
    raw = tmp_path / "raw"
    make(raw, **sizes)
    inspect(raw, tmp_path / "dataset", audit=False)
    labels = next(file for file in raw.glob("train*.csv"))
    mine = shutil.copy(labels, tmp_path / "submission.csv")
    said = command("check", mine, "--sample-submission", labels, "--truth", tmp_path / "dataset")
    assert said.code == 0, said.err
    assert "nothing wrong" in said.out
    assert re.search(r"mean_dice +│ 1.0000", said.out), said.out
    rows = list(csv.reader(labels.open()))
    rows[1][-1] = "0 5"
    written(tmp_path / "submission.csv", "\n".join(map(",".join, rows)) + "\n")
    said = command("check", mine, "--sample-submission", labels, "--truth", tmp_path / "dataset")
    assert said.code == 2
    assert "row 2" in said.err
    assert "pair '0 5' starts before pixel 1" in said.err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "columns none; known are"),
        ("Id,Mask\na,1 1\n", "columns Id,Mask; known are"),
        ("id,rle_mask\na,1 1\n", "columns id,rle_mask, but"),
        ("ImageId,EncodedPixels\n\x00\n", "row"),
    ],
)
def test_what_is_no_submission_is_refused(command, tmp_path, ships, text, says):
    said = command("check", written(tmp_path / "mine.csv", text), "--sample-submission", ships)
    assert said.code == 2
    assert says in said.err
    assert "Traceback" not in said.err


def test_a_file_that_is_not_there(command, tmp_path, ships):
    said = command("check", tmp_path / "none.csv")
    assert (said.code, "Traceback" in said.err) == (2, False)
    assert "none.csv" in said.err
    said = command("check", ships, "--truth", tmp_path / "nothing.csv")
    assert said.code == 2
    assert "nothing.csv" in said.err
