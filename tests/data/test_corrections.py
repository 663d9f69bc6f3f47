import re

import numpy as np
import pandas as pd
import pytest

from segsmith.data.dataset import Dataset
from segsmith.data.ingest import ingest
from segsmith.data.rle import decode, encode, parse, to_text
from segsmith.data.scenes import make_buildings, make_ships, make_steel

HW = (96, 96)


@pytest.fixture
def ships(tmp_path):
    """A dataset folder whose layout has a row for each object."""
    make_ships(tmp_path / "raw", train_images=24, test_images=2, size=HW[0])
    ingest(tmp_path / "raw").write(tmp_path / "dataset")
    return tmp_path / "dataset"


def filled(dataset, count):
    """Ids of images with foreground."""
    found = dataset.images[(dataset.images["objects"] > 0) & dataset.images["labelled"]]
    assert len(found) >= count
    return list(found["image_id"][:count])


def row_of(dataset, image_id):
    return list(dataset.images["image_id"]).index(image_id)


def said(tmp_path, *rows):
    file = tmp_path / "said.csv"
    file.write_text("\n".join(["image_id,class,verdict,runs", *rows]) + "\n")
    return file


def test_each_verdict_and_what_is_counted_from_it(ships, command, tmp_path):
    before = Dataset.open(ships)
    right, emptied, replaced, left = filled(before, 4)
    drawn = np.zeros(HW, bool)
    drawn[3:9, 4:7] = drawn[50:60, 40:44] = True
    rows = (
        f"{right},object,keep,",
        f"{emptied},object,empty,",
        f"{replaced},object,replace,{to_text(encode(drawn))}",
        f"{left},,leave out,",
    )
    ended = command("correct", ships, said(tmp_path, *rows))
    assert ended.code == 0, ended.err
    assert "keep 1, empty 1, replace 1, leave out 1" in ended.out

    after = Dataset.open(ships)
    assert (after.mask(row_of(after, right)) == before.mask(row_of(before, right))).all()
    assert not after.mask(row_of(after, emptied)).any()
    assert (after.mask(row_of(after, replaced))[0] == drawn).all()
    assert not after.images["labelled"][row_of(after, left)]
    counted = after.images.set_index("image_id")[["objects", "foreground"]]
    assert counted.loc[replaced].tolist() == [2, drawn.sum()]
    assert counted.loc[emptied].tolist() == counted.loc[left].tolist() == [0, 0]
    others = ~before.images["image_id"].isin([right, emptied, replaced, left])
    pd.testing.assert_frame_equal(after.images[others], before.images[others])
    for index in np.flatnonzero(others).tolist():
        assert (after.mask(index) == before.mask(index)).all()
    assert after.fingerprint != before.fingerprint
    assert "labels corrected by corrections.csv: empty 1, replace 1, leave out 1" in after.notes


def test_labels_that_are_kept_change_nothing(ships, command, tmp_path):
    before = Dataset.open(ships)
    rows = [f"{image_id},object,keep," for image_id in before.images["image_id"][before.labelled]]
    assert command("correct", ships, said(tmp_path, *rows)).code == 0
    after = Dataset.open(ships)
    assert after.fingerprint == before.fingerprint
    pd.testing.assert_frame_equal(after.images, before.images)
    assert after.notes == before.notes


def test_what_is_said_later_of_the_same_label_holds(ships, command, tmp_path):
    image_id = filled(Dataset.open(ships), 1)[0]
    command("correct", ships, said(tmp_path, f"{image_id},object,empty,"))
    ended = command("correct", ships, said(tmp_path, f"{image_id},object,replace,1 5"))
    assert "replace 1" in ended.out
    opened = Dataset.open(ships)
    assert (opened.mask(row_of(opened, image_id))[0] == decode(parse("1 5", HW), HW)).all()


def test_one_class_of_several_where_a_row_is_a_mask(tmp_path, command):
    """Steel: one row holds all of a class of an image, and is counted by connected parts."""
    make_steel(tmp_path / "raw", images=24, test_images=4, hw=(64, 160))
    ingest(tmp_path / "raw").write(tmp_path / "dataset")
    before = Dataset.open(tmp_path / "dataset")
    image_id = filled(before, 1)[0]
    index, name = row_of(before, image_id), before.classes[1]
    assert command("correct", tmp_path / "dataset", said(tmp_path, f"{image_id},{name},replace,1 3 9 2")).code == 0
    after = Dataset.open(tmp_path / "dataset")
    assert after.mask(index)[1].sum() == 5
    untouched = [number for number in range(len(before.classes)) if number != 1]
    assert (after.mask(index)[untouched] == before.mask(index)[untouched]).all()


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("nobody.jpg,object,empty,", r"row 2: no image nobody\.jpg in the dataset"),
        ("{id},rust,empty,", r"row 2: class 'rust' is none of object"),
        ("{id},object,wrong,", r"row 2: verdict 'wrong' is none of keep, empty, replace, leave out"),
        ("{id},object,replace,9000 999", r"row 2: pair '9000 999' ends beyond the image"),
        ("{id},object", r"row 2: has 2 fields, wanted 4"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(ships, command, tmp_path, row, words):
    image_id = filled(Dataset.open(ships), 1)[0]
    ended = command("correct", ships, said(tmp_path, row.format(id=image_id)))
    assert ended.code == 2
    assert re.search(words, ended.err), ended.err
    assert not (ships / "corrections.csv").exists()


def test_polygons_are_corrected_in_their_own_file(tmp_path, command):
    make_buildings(tmp_path / "raw", areas=1, noisy_areas=0, scenes=2, hw=(96, 96))
    ingest(tmp_path / "raw").write(tmp_path / "dataset")
    dataset = Dataset.open(tmp_path / "dataset")
    image_id = dataset.images["image_id"][0]
    ended = command("correct", tmp_path / "dataset", said(tmp_path, f"{image_id},{dataset.classes[0]},empty,"))
    assert ended.code == 2
    assert f"labels of {image_id} are polygons; correct them in their vector file" in ended.err
    assert command("correct", tmp_path / "dataset", said(tmp_path, f"{image_id},,leave out,")).code == 0
    assert not Dataset.open(tmp_path / "dataset").images["labelled"][0]
