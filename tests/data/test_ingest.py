"""Any raw folder -> the layout it is in; classes in both forms of CSV; images left out; and what fits nothing."""

import json

import cv2
import numpy as np
import pytest

from segsmith.data.cleaning import read_exclusions
from segsmith.data.ingest import ingest
from segsmith.errors import DataError


@pytest.fixture
def steel(tmp_path):
    for name in ("train/a", "train/b", "train/c", "test/t"):
        path = tmp_path / "steel" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (10, 20, 3), np.uint8))
    return tmp_path / "steel"


def labelled(dataset):
    return dict(zip(dataset.images["image_id"], dataset.images["labelled"], strict=True))


def test_classes_in_a_column_of_their_own_overlap_and_a_missing_row_is_empty(steel):
    (steel / "train.csv").write_text("ImageId,ClassId,EncodedPixels\na.jpg,3,1 4\na.jpg,1,3 4\nb.jpg,10,11 2\n")
    found = ingest(steel)
    assert found.classes == ("1", "3", "10")
    assert found.mask(0)[:, 2, 0].tolist() == [True, True, False]
    assert labelled(found) == {"a.jpg": True, "b.jpg": True, "c.jpg": True, "t.jpg": False}
    assert found.notes[0].startswith("layout rle-classes: train.csv")
    assert found.images["foreground"].tolist()[0] == 6


@pytest.mark.parametrize("empty_rows", [True, False])
def test_classes_joined_to_the_id(steel, empty_rows):
    empty = "a.jpg_1,\nb.jpg_1,\nb.jpg_2,\n" if empty_rows else ""
    (steel / "train.csv").write_text(f"ImageId_ClassId,EncodedPixels\na.jpg_2,1 4\n{empty}")
    found = ingest(steel)
    assert found.layout.columns == ["ImageId_ClassId", "EncodedPixels"]
    assert found.classes == (("1", "2") if empty_rows else ("2",))
    assert labelled(found)["c.jpg"] == (not empty_rows)


def test_names_of_classes(steel):
    (steel / "train.csv").write_text("ImageId,ClassId,EncodedPixels\na.jpg,3,1 4\n")
    (steel / "names.txt").write_text("class,name\n3,scratch\n4,hole\n")
    assert ingest(steel, classes=steel / "names.txt").classes == ("scratch", "hole")
    (steel / "names.txt").write_text("class,name\n4,hole\n")
    with pytest.raises(DataError, match="names no class 3"):
        ingest(steel, classes=steel / "names.txt")


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("ImageId,ClassId,EncodedPixels\na.jpg,1,1 4\na.jpg,1,9 4\n", "row 3: a.jpg class 1 already stands in row 2"),
        ("ImageId,ClassId,EncodedPixels\na.jpg,,1 4\n", "row 2: no class"),
        ("ImageId_ClassId,EncodedPixels\nfoo.jpg,1 4\n", "row 2: foo.jpg has no class after an underscore"),
        ("ImageId_ClassId,EncodedPixels\nz.jpg_1,1 4\n", "row 2: z.jpg"),
    ],
)
def test_rows_that_are_refused(steel, rows, says):
    (steel / "train.csv").write_text(rows)
    with pytest.raises(DataError, match=says):
        ingest(steel)


def test_images_left_out_are_counted_and_not_opened(ships, tmp_path):
    (ships / "train_v2" / "a.jpg").write_bytes(b"broken")
    (ships / "train_v2" / "d.jpg").write_bytes(b"too small")
    ids = tmp_path / "ids.txt"
    ids.write_text("# cleaned by hand\nb.jpg  # clouds\nnowhere.jpg\n\n")
    found = ingest(ships, exclude=read_exclusions(ids), smallest_file=100)
    assert not {"a.jpg", "b.jpg", "d.jpg"} & set(found.images["image_id"])
    assert "left out: 1 image (listed in ids.txt)" in found.notes
    assert "left out: 2 images (file smaller than 100 bytes)" in found.notes
    assert "to be left out, but not here: nowhere.jpg" in found.notes


def test_nothing_fits_and_several_fit(ships, tmp_path):
    (tmp_path / "bare").mkdir()
    with pytest.raises(DataError, match=r"no layout recognised; looked for:[\s\S]*rle:[\s\S]*masks:[\s\S]*coco:"):
        ingest(tmp_path / "bare")
    (ships / "coco.json").write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    with pytest.raises(DataError, match=r"several layouts fit:[\s\S]*--layout NAME"):
        ingest(ships)
    assert ingest(ships, layout="rle").notes[0].startswith("layout rle-objects")
    with pytest.raises(DataError, match="no layout masks here"):
        ingest(ships, layout="masks")


def test_mask_files_beside_run_lengths_are_no_layout_of_their_own(salt):
    assert ingest(salt).layout.name == "rle-masks"
    assert (ingest(salt, layout="masks").mask(1) == ingest(salt).mask(1)).all()
