"""Raw folder -> Dataset: what is recognised, and one DataError naming file and row for everything that is wrong."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from segsmith.data.dataset import Dataset
from segsmith.data.ingest_rle import ingest
from segsmith.errors import DataError

WRONG_RUNS = [
    ("1 2 3", "3 numbers, an odd count"),
    ("1 0", "pair '1 0' has no length"),
    ("0 1", "pair '0 1' starts before pixel 1"),
    ("1 -2", "pair '1 -2' has no length"),
    ("-1 2", "pair '-1 2' starts before pixel 1"),
    ("1 5 3 4", "pair '3 4' overlaps the pair before it"),
    ("30 2 10 2", "pair '10 2' does not start after the pair before it"),
    ("999 1", "pair '999 1' ends beyond the image"),
    ("1 2.5", "'2.5' is not a whole number"),
]


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(raw: Path, **options) -> str:
    """The message with which `raw` is refused; nothing may have been written or changed, beside it neither."""
    before = contents(raw.parent)
    with pytest.raises(DataError) as caught:
        ingest(raw, **options)
    assert contents(raw.parent) == before
    return str(caught.value)


def by_id(dataset: Dataset, column: str) -> dict[str, object]:
    return dict(zip(dataset.images["image_id"], dataset.images[column].tolist(), strict=True))


# What is recognised


def test_one_row_per_ship(ships):
    before = contents(ships)
    dataset = ingest(ships)

    assert dataset.layout.name == "rle-objects"
    assert by_id(dataset, "objects") == {
        "a.jpg": 0, "b.jpg": 1, "c.jpg": 2, "d.jpg": 0, "e.jpg": 1, "f.jpg": 3, "g.jpg": 0, "x.jpg": 0, "y.jpg": 0,
    }  # fmt: skip
    assert by_id(dataset, "foreground")["f.jpg"] == 9
    assert [name for name, known in by_id(dataset, "labelled").items() if not known] == ["x.jpg", "y.jpg"]
    assert {dataset.hw(i) for i in range(len(dataset))} == {(20, 24)}
    assert dataset.path(2) == ships / "train_v2" / "c.jpg"
    assert dataset.objects["source_row"].tolist() == [3, 4, 9, 6, 7, 8, 10], "CSV rows, in the order of the images"
    assert dataset.notes == ("train.csv: 10 rows, 7 images, 7 with pixels", "unlabelled: 2 in test_v2")
    assert contents(ships) == before


def test_masks_of_ships_stand_where_their_rows_say(ships):
    dataset = ingest(ships)
    joined = dataset.mask(2)[0]  # c.jpg: pixels 22-24 and 42-44 of one ship, 301-304 of another
    assert np.argwhere(joined).tolist() == sorted(
        [[row, column] for row in (1, 2, 3) for column in (1, 2)] + [[row, 15] for row in range(4)]
    )
    assert not dataset.mask(0).any()
    assert not dataset.mask(7).any(), "an unlabelled image has no truth"


def test_one_row_per_image_with_mask_files_and_depths(salt):
    before = contents(salt)
    dataset = ingest(salt)

    assert dataset.layout.name == "rle-masks"
    assert by_id(dataset, "objects") == {"b1": 0, "b2": 1, "b3": 0, "b4": 2, "t1": 0}, "connected components"
    assert by_id(dataset, "z")["b3"] == 300
    assert np.isnan(by_id(dataset, "z")["t1"])
    assert dataset.notes == (
        "train.csv: 4 rows, 4 images, 2 with pixels",
        "unlabelled: 1 in test/images",
        "train/masks: mask files agree with train.csv",
        "depths.csv: z for 4 images, none for 1, 1 rows of other ids",
    )
    assert contents(salt) == before


def test_mask_files_may_stand_beside_one_row_per_object(ships):
    dataset = ingest(ships)
    (ships / "masks").mkdir()
    for row, name in enumerate("abcdefg"):
        cv2.imwrite(str(ships / "masks" / f"{name}.png"), dataset.mask(row)[0].astype(np.uint8) * 255)
    assert "masks: mask files agree with train.csv" in ingest(ships).notes


def test_labels_alone(ships):
    with_images = ingest(ships)
    shutil.rmtree(ships / "train_v2")
    dataset = ingest(ships, assume_hw=(20, 24))

    assert list(dataset.images["image_id"]) == [f"{name}.jpg" for name in "abcdefg"]
    assert dataset.images["labelled"].all()
    assert (dataset.runs == with_images.runs).all()
    assert "no image was opened, all are taken to be 20 x 24" in dataset.notes[1]


def test_labels_alone_are_checked_against_the_assumed_size(ships):
    assert "train.csv, row 6, e.jpg: pair '476 5' ends beyond the image, which has 20 x 23 = 460 pixels" in refused(
        ships, assume_hw=(20, 23)
    )


def test_ids_with_dots_stay_whole_without_images(salt):
    (salt / "train.csv").write_text("id,rle_mask\nline.01,1 2\nline.02,\n")
    assert list(ingest(salt, assume_hw=(13, 11)).images["image_id"]) == ["line.01", "line.02"]


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ("b.jpg", "row with its second field missing"),
        ("b.jpg,", "empty second field"),
        ("b.jpg,nan", "nan"),
        ("b.jpg,0", "zero"),
        (" b.jpg ,  ", "blanks around"),
    ],
)
def test_all_ways_to_say_empty(ships, rows, what):
    (ships / "train.csv").write_text(f"ImageId,EncodedPixels\n{rows}\nc.jpg,1 2\n")
    assert by_id(ingest(ships), "objects")["b.jpg"] == 0, what


def test_labels_that_spreadsheets_saved_with_a_mark_and_windows_line_ends(ships):
    text = (ships / "train.csv").read_text().replace("\n", "\r\n")
    (ships / "train.csv").write_text("\ufeff" + text, newline="")
    assert len(ingest(ships).objects) == 7


def test_all_images_empty(ships):
    (ships / "train.csv").write_text("ImageId,EncodedPixels\na.jpg,\nb.jpg,\n")
    dataset = ingest(ships)
    assert len(dataset.objects) == 0
    assert not any(dataset.mask(i).any() for i in range(len(dataset)))


def test_labels_may_lie_elsewhere(ships, tmp_path):
    elsewhere = tmp_path / "labels.csv"
    shutil.move(ships / "train.csv", elsewhere)
    assert ingest(ships, labels=elsewhere).notes[0].startswith("labels.csv: 10 rows")

    (ships / "train.csv").symlink_to(elsewhere)
    assert ingest(ships).notes[0].startswith("train.csv: 10 rows")


def test_two_label_files_want_a_choice(ships):
    (ships / "train_v1.csv").write_text("ImageId,EncodedPixels\na.jpg,1 2\n")
    message = refused(ships)
    assert "several label files (train.csv, train_v1.csv)" in message
    assert "--labels" in message
    assert len(ingest(ships, labels=ships / "train_v1.csv").labelled) == 1
    assert len(ingest(ships, labels=ships / "train.csv").labelled) == 7


def test_a_sample_submission_is_no_label_file(salt):
    (salt / "train.csv").unlink()
    assert "no CSV file with known columns" in refused(salt)


# What is wrong with single rows


@pytest.mark.parametrize(("text", "reason"), WRONG_RUNS)
def test_wrong_runs_of_a_ship(ships, text, reason):
    (ships / "train.csv").write_text(f"ImageId,EncodedPixels\na.jpg,\nb.jpg,5 2\nc.jpg,{text}\n")
    assert f"1 of 3 rows are wrong:\n  - train.csv, row 4, c.jpg: {reason}" in refused(ships)


@pytest.mark.parametrize(("text", "reason"), WRONG_RUNS)
def test_wrong_runs_of_a_salt_mask(salt, text, reason):
    (salt / "train.csv").write_text(f"id,rle_mask\nb1,\nb2,{text}\n")
    assert f"1 of 2 rows are wrong:\n  - train.csv, row 3, b2: {reason}" in refused(salt)


def test_the_same_object_twice(ships):
    (ships / "train.csv").write_text("ImageId,EncodedPixels\nb.jpg,5 2\nc.jpg,5 2\nb.jpg,9 2\nb.jpg,5 2\n")
    assert "train.csv, row 5: b.jpg with the same pixels as row 2" in refused(ships)


@pytest.mark.parametrize("rows", ["b.jpg,\nb.jpg,5 2", "b.jpg,5 2\nb.jpg,", "b.jpg,\nb.jpg,0"])
def test_an_empty_row_beside_another(ships, rows):
    (ships / "train.csv").write_text(f"ImageId,EncodedPixels\na.jpg,\n{rows}\n")
    assert "train.csv, row 4: b.jpg also stands in row 3" in refused(ships)


def test_an_image_in_two_rows_where_each_has_one(salt):
    (salt / "train.csv").write_text("id,rle_mask\nb1,\nb2,1 4\nb1,5 2\n")
    assert "train.csv, row 4: b1 already stands in row 2; one row per image" in refused(salt)


def test_ten_problems_are_listed_and_the_rest_counted(ships):
    (ships / "train.csv").write_text("ImageId,EncodedPixels\na.jpg,\n" + "b.jpg,1\n" * 13)
    message = refused(ships)
    assert message.startswith("13 of 14 rows are wrong:")
    assert [f"row {row}," in message for row in range(3, 16)] == [True] * 10 + [False] * 3
    assert "  - and 3 more\n" in message


# What is wrong with the CSV as a whole


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "train.csv: empty file"),
        (b"image,mask\na.jpg,1 2\n", "train.csv: image,mask"),
        (b"ImageId,EncodedPixels,ClassId\na.jpg,1 2,1\n", "train.csv: ImageId,EncodedPixels,ClassId"),
        (b"ImageId,EncodedPixels\n", "train.csv: has no rows below its header"),
        (b"ImageId,EncodedPixels\na.jpg,\n,1 2\n", "train.csv, row 3: no ImageId"),
        (b"ImageId,EncodedPixels\na.jpg,\n\nb.jpg,1 2\n", "train.csv, row 3: no ImageId"),
        (b"ImageId,EncodedPixels\na.jpg,\nb.jpg,1 2,7\n", "Expected 2 fields in line 3, saw 3"),
        (b"ImageId,EncodedPixels\na.jpg,1 2,\nb.jpg,1 2,\n", "train.csv, row 2: has more fields than the header"),
        (b'ImageId,EncodedPixels\na.jpg,\nb.jpg,"1 2\n', "train.csv: does not read as CSV"),
        ("ImageId,EncodedPixels\ncafé.jpg,\n".encode("latin-1"), "train.csv: does not read as CSV ('utf-8'"),
        (b"ImageId,EncodedPixels\n" + b"a.jpg,\n" * 3000 + b"\xe9.jpg,\n", "train.csv: does not read as CSV ('utf-8'"),
    ],
    ids=[
        "empty", "other columns", "third column", "header only", "no id", "blank line", "field too many",
        "all rows end in a comma", "open quote", "latin-1 at once", "latin-1 far down",
    ],
)  # fmt: skip
def test_a_csv_that_does_not_read(ships, content, reason):
    (ships / "train.csv").write_bytes(content)
    assert reason in refused(ships)
    if b"\n" in content:
        assert reason in refused(ships, assume_hw=(20, 24)), "and without images no less"


def test_known_columns_are_told(ships):
    (ships / "train.csv").write_text("image,mask\n")
    message = refused(ships)
    assert "ImageId,EncodedPixels (one row per object)" in message
    assert "id,rle_mask (one row per image)" in message


def test_no_csv(ships):
    (ships / "train.csv").unlink()
    (ships / "sample_submission_v2.csv").unlink()
    assert "no CSV file with labels here; known columns: ImageId,EncodedPixels" in refused(ships)


def test_no_folder(tmp_path):
    assert refused(tmp_path / "nowhere") == f"{tmp_path / 'nowhere'}: no such folder"


# What is wrong with the images


def test_missing_images_are_named_with_their_rows(ships):
    (ships / "train_v2" / "c.jpg").unlink()
    message = refused(ships)
    assert f"train.csv names 1 images of 7 that are not in {ships / 'train_v2'}:\n  - row 4: c.jpg\n" in message


def test_no_images_at_all(ships):
    shutil.rmtree(ships / "train_v2")
    shutil.rmtree(ships / "test_v2")
    assert "no image files; to index the labels alone" in refused(ships)


def test_images_that_do_not_decode(ships):
    for name in ("train_v2/b.jpg", "test_v2/x.jpg"):
        (ships / name).write_bytes((ships / name).read_bytes()[:300])
    message = refused(ships)
    assert message.startswith("2 of 9 images cannot be used:")
    assert f"{ships / 'train_v2/b.jpg'}: does not decode as an image" in message
    assert f"{ships / 'test_v2/x.jpg'}: does not decode as an image" in message


def test_the_same_id_in_two_folders(ships):
    shutil.copy(ships / "train_v2" / "c.jpg", ships / "test_v2" / "c.jpg")
    assert "the same id in two folders:\n  - c.jpg\n" in refused(ships)


def test_the_same_unlabelled_id_in_two_folders(ships):
    shutil.copytree(ships / "test_v2", ships / "test_v1")
    assert "the same id in two folders:\n  - x.jpg\n  - y.jpg\n" in refused(ships)


def test_the_same_id_with_two_suffixes(salt):
    shutil.copy(salt / "train/masks/b2.png", salt / "train/images/b2.bmp")
    assert "b2.bmp and b2.png have the same id" in refused(salt)


# What is wrong with mask files


def test_a_mask_that_disagrees_with_the_csv(salt):
    file = salt / "train/masks/b4.png"
    mask = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    mask[0, 0] = 0
    mask[12, 10] = 65535
    cv2.imwrite(str(file), mask)
    assert f"1 of 4 mask files cannot be used:\n  - {file}: differs from train.csv in 2 pixels" in refused(salt)


def test_a_mask_that_is_not_empty_beside_an_empty_row(salt):
    shutil.copy(salt / "train/masks/b2.png", salt / "train/masks/b1.png")
    assert f"{salt / 'train/masks/b1.png'}: differs from train.csv in 8 pixels" in refused(salt)


def test_a_mask_of_another_size(salt):
    file = salt / "train/masks/b2.png"
    cv2.imwrite(str(file), np.zeros((11, 13), np.uint8))
    assert f"{file}: is 11 x 13 pixels, its image 13 x 11" in refused(salt)


def test_a_mask_that_is_missing(salt):
    (salt / "train/masks/b3.png").unlink()
    assert f"b3: no mask file in {salt / 'train/masks'}" in refused(salt)


def test_a_mask_with_colours(salt):
    colours = np.zeros((13, 11, 3), np.uint8)
    colours[0, 0] = (0, 0, 128)
    cv2.imwrite(str(salt / "train/masks/b2.png"), colours)
    assert f"{salt / 'train/masks/b2.png'}: a mask with colours" in refused(salt)


def test_a_mask_that_does_not_decode(salt):
    (salt / "train/masks/b2.png").write_text("no mask")
    assert f"{salt / 'train/masks/b2.png'}: does not decode as an image" in refused(salt)


# What is wrong with tables of numbers


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"id,z\nb1,1\nb2,2\nb1,3\n", "depths.csv, row 4: b1 stands there twice"),
        (b"id,z\nb1,1\nb2,deep\n", "depths.csv: column z holds something other than numbers"),
        (b"id,height\nb1,1\n", "depths.csv: column height would stand twice in the index"),
        (b"id,z\nb1,1\nb2,2,3\n", "depths.csv: does not read as CSV"),
        (b"id,z\nb1,1,5\nb2,2,6\n", "depths.csv, row 2: has more fields than the header"),
        (b"id,z\n" + b"".join(b"q%d,1\n" % n for n in range(2000)) + b"\xe9,2\n", "depths.csv: does not read as CSV"),
    ],
    ids=["repeated id", "words", "taken name", "field too many", "a field too many in all", "latin-1 far down"],
)
def test_a_table_of_numbers_that_is_none(salt, content, reason):
    (salt / "depths.csv").write_bytes(content)
    assert reason in refused(salt)


def test_other_tables_are_left_alone(salt):
    (salt / "notes.csv").write_text("who,what\nme,words\n")
    assert "who" not in ingest(salt).images


# The contests' own files


def test_real_ships(real_data):
    raw = real_data / "ships"
    dataset = ingest(raw)
    lines = [line.split(",") for line in (raw / "train_ship_segmentations_v2.csv").read_text().split("\n")[1:] if line]
    lengths = {image_id: 0 for image_id, _ in lines}
    for image_id, text in lines:
        lengths[image_id] += sum(int(word) for word in text.split()[1::2])

    assert len(dataset) == 19
    assert len(dataset.objects) == 31
    assert (dataset.images["objects"] == 0).sum() == 3
    assert {dataset.hw(i) for i in range(19)} == {(768, 768)}
    assert by_id(dataset, "foreground") == lengths
    assert [dataset.mask(i).sum() for i in range(19)] == list(lengths.values()), "no two ships overlap"


def test_real_salt(real_data):
    dataset = ingest(real_data / "salt")
    images = dataset.images

    assert (len(dataset.labelled), len(dataset)) == (3199, 4199)
    assert (images["objects"][dataset.labelled] == 0).mean() == pytest.approx(0.39, abs=0.005)
    assert {dataset.hw(i) for i in range(len(dataset))} == {(101, 101)}
    assert images["z"].notna().all()
    assert "train/masks: mask files agree with train.csv" in dataset.notes
