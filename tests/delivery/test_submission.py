"""Masks -> CSV -> masks, read by a decoder written here; a file that was tampered with is found out."""

import csv
from dataclasses import replace

import by_hand
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays

from segsmith.data.ingest_rle import LAYOUTS
from segsmith.delivery.submission import Key, MaskProofs, check_submission, mask_rows, read_order, write_submission
from segsmith.errors import DataError, WriteError

OBJECTS, MASKS, CLASSES, ID_CLASS = LAYOUTS
HW = (6, 5)


def mask(*rectangles: tuple[slice, slice]) -> np.ndarray:
    drawn = np.zeros(HW, bool)
    for rows, columns in rectangles:
        drawn[rows, columns] = True
    return drawn


FOUND = {
    "b.jpg": mask((slice(0, 2), slice(0, 2)), (slice(4, 6), slice(3, 5))),
    "a.jpg": mask(),
    "c.jpg": mask((slice(3, 4), slice(0, 5))),
}
OBJECT_LINES = ["ImageId,EncodedPixels", "b.jpg,1 2 7 2", "b.jpg,23 2 29 2", "a.jpg,", "c.jpg,4 1 10 1 16 1 22 1 28 1"]
MASK_LINES = ["id,rle_mask", "b.jpg,1 2 7 2 23 2 29 2", "a.jpg,", "c.jpg,4 1 10 1 16 1 22 1 28 1"]


def proofs() -> MaskProofs:
    noted = MaskProofs()
    for image_id, found in FOUND.items():
        noted.note(Key(image_id), found)
    return noted


def check(path, layout) -> None:
    check_submission(path, layout, [Key(i) for i in FOUND], dict.fromkeys(FOUND, HW), proofs())


@pytest.mark.parametrize(("layout", "lines"), [(OBJECTS, OBJECT_LINES), (MASKS, MASK_LINES)], ids=lambda v: str(v)[:16])
def test_both_layouts_in_the_order_asked_for(tmp_path, layout, lines):
    path = tmp_path / "submission.csv"
    rows = {Key(image_id): mask_rows(FOUND[image_id], layout) for image_id in sorted(FOUND)}
    write_submission(path, layout, rows, [Key(i) for i in FOUND])
    assert path.read_text() == "\n".join(lines) + "\n"
    check(path, layout)
    assert sorted(tmp_path.iterdir()) == [path]


@settings(max_examples=60)
@given(array_shapes(min_dims=2, max_dims=2, max_side=9).flatmap(lambda shape: arrays(bool, shape)))
def test_objects_are_apart_and_make_up_the_mask(drawn):
    decoded = [by_hand.decode(text, drawn.shape) for text in mask_rows(drawn, OBJECTS)]
    assert (np.sum(decoded, axis=0) == drawn).all(), "no pixel missing, none in two objects"
    assert (by_hand.decode(mask_rows(drawn, MASKS)[0], drawn.shape) == drawn).all()
    assert len(decoded) == max(1, len(by_hand.objects(drawn)))
    assert len(mask_rows(drawn, MASKS)) == 1


def test_an_empty_mask_is_one_row_without_pixels():
    assert mask_rows(mask(), OBJECTS) == mask_rows(mask(), MASKS) == [""]


def test_ids_with_commas_and_quotes_and_other_letters(tmp_path):
    path, odd = tmp_path / "submission.csv", 'a,"b" é.jpg'
    write_submission(path, OBJECTS, {Key(odd): ["1 2"]}, [Key(odd)])
    with path.open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["ImageId", "EncodedPixels"], [odd, "1 2"]]
    noted = MaskProofs()
    noted.note(Key(odd), mask((slice(0, 2), slice(0, 1))))
    check_submission(path, OBJECTS, [Key(odd)], {odd: HW}, noted)


def test_run_lengths_longer_than_a_csv_field_may_be_by_default(tmp_path):
    speckled = np.random.default_rng(0).random((400, 500)) < 0.5
    rows = mask_rows(speckled, MASKS)
    assert len(rows[0]) > 131_072
    write_submission(tmp_path / "submission.csv", MASKS, {Key("a"): rows}, [Key("a")])
    noted = MaskProofs()
    noted.note(Key("a"), speckled)
    check_submission(tmp_path / "submission.csv", MASKS, [Key("a")], {"a": (400, 500)}, noted)


def without(line: str):
    return lambda lines: [other for other in lines if other != line]


def swapped(line: str, new: str):
    return lambda lines: [new if other == line else other for other in lines]


@pytest.mark.parametrize(
    ("tamper", "says"),
    [
        (swapped("b.jpg,1 2 7 2", "b.jpg,1 3 7 2"), "b.jpg: decodes to another mask"),
        (swapped("b.jpg,1 2 7 2", "b.jpg,1 2 7 1"), "b.jpg: decodes to another mask"),
        (swapped("c.jpg,4 1 10 1 16 1 22 1 28 1", "c.jpg,"), "c.jpg: decodes to another mask"),
        (swapped("a.jpg,", "a.jpg,30 1"), "a.jpg: decodes to another mask"),
        (swapped("b.jpg,23 2 29 2", "b.jpg,1 2 23 2 29 2"), "b.jpg: objects overlap"),
        (swapped("b.jpg,23 2 29 2", "b.jpg,23 2 29 3"), "b.jpg: pair '29 3' ends beyond the image"),
        (swapped("b.jpg,23 2 29 2", "b.jpg,23 2 29"), "b.jpg: 3 numbers, an odd count"),
        (swapped("b.jpg,23 2 29 2", "b.jpg,23 2,29 2"), "row 3"),
        (swapped("b.jpg,23 2 29 2", "b.jpg"), "row 3"),
        (swapped("ImageId,EncodedPixels", "ImageId,Pixels"), "columns ImageId,Pixels"),
        (without("ImageId,EncodedPixels"), "columns b.jpg,1 2 7 2"),
        (without("a.jpg,"), "images are not those asked for"),
        (without("b.jpg,23 2 29 2"), "b.jpg: decodes to another mask"),
        (lambda lines: [*lines, "d.jpg,"], "images are not those asked for"),
        (lambda lines: [lines[0], *reversed(lines[1:])], "images are not those asked for"),
        (lambda lines: [], "columns "),
    ],
)
def test_a_tampered_file_is_found_out(tmp_path, tamper, says):
    path = tmp_path / "submission.csv"
    path.write_text("".join(f"{line}\n" for line in tamper(OBJECT_LINES)))
    with pytest.raises(DataError) as caught:
        check(path, OBJECTS)
    assert says in str(caught.value)
    assert str(caught.value).startswith(f"{path}: does not read back as written:\n")


def test_a_mask_of_another_size_is_another_mask():
    noted = MaskProofs()
    noted.note(Key("a"), np.zeros((2, 8), bool))
    assert noted.same(Key("a"), np.zeros((2, 8), bool))
    assert not noted.same(Key("a"), np.zeros((8, 2), bool))
    assert not noted.same(Key("a"), np.zeros((2, 7), bool))


def test_a_file_that_cannot_be_written_leaves_what_was_there(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(WriteError):
        write_submission(tmp_path / "file" / "submission.csv", OBJECTS, {Key("a"): [""]}, [Key("a")])
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("layout", "lines"),
    [
        (CLASSES, ["ImageId,ClassId,EncodedPixels", "a_1.jpg,7,", "a_1.jpg,3,1 2"]),
        (ID_CLASS, ["ImageId_ClassId,EncodedPixels", "a_1.jpg_7,", "a_1.jpg_3,1 2"]),
    ],
)
def test_one_row_per_image_and_class_in_the_order_of_the_sample(tmp_path, layout, lines):
    layout = replace(layout, class_keys=("3", "7"))
    path = tmp_path / "submission.csv"
    path.write_text("\n".join(lines) + "\n")
    order = read_order(path, layout)
    assert order == [Key("a_1.jpg", 1), Key("a_1.jpg", 0)]
    masks = {Key("a_1.jpg", 0): mask((slice(0, 2), slice(0, 1))), Key("a_1.jpg", 1): mask()}
    noted = MaskProofs()
    for key, drawn in masks.items():
        noted.note(key, drawn)
    write_submission(path, layout, {key: mask_rows(drawn, layout) for key, drawn in masks.items()}, order)
    assert path.read_text().splitlines() == lines
    check_submission(path, layout, order, {"a_1.jpg": HW}, noted)
    path.write_text(path.read_text().replace("3,1 2", "3,1 3"))
    with pytest.raises(DataError, match=r"a_1\.jpg class 3: decodes to another mask"):
        check_submission(path, layout, order, {"a_1.jpg": HW}, noted)
    path.write_text(path.read_text().replace("7,", "8,"))
    with pytest.raises(DataError, match="class '8'; the model's labels had 3, 7"):
        read_order(path, layout)


# The order of a sample submission


def sample(tmp_path, text: str | bytes):
    path = tmp_path / "sample.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_the_order_of_the_sample(tmp_path):
    assert read_order(sample(tmp_path, "id,rle_mask\nz,1 1\na,\nm,1 1\n"), MASKS) == [Key("z"), Key("a"), Key("m")]
    assert read_order(sample(tmp_path, "\ufeffid,rle_mask\r\n z ,1 1\r\n\r\na,1 1"), MASKS) == [Key("z"), Key("a")]


def test_an_image_with_several_rows_stands_where_its_first_one_did(tmp_path):
    path = sample(tmp_path, "ImageId,EncodedPixels\nz,1 1\na,1 1\nz,5 1\n")
    assert read_order(path, OBJECTS) == [Key("z"), Key("a")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "columns none; the model's labels had id,rle_mask"),
        ("ImageId,EncodedPixels\na,1 1\n", "columns ImageId,EncodedPixels; the model's labels had id,rle_mask"),
        ("id\na\n", "columns id; the model's labels"),
        ("id,rle_mask\n", "has no rows below its header"),
        ("id,rle_mask\n\n", "has no rows below its header"),
        ("id,rle_mask\na,1 1\nb,1 1\na,1 1\n", "row 4: a already stands in row 2"),
        ("id,rle_mask\na,1 1\n\n\nb,\na,1 1\n", "row 6: a already stands in row 2"),
        (b"\x89PNG\r\n\x1a\n", "does not read as CSV"),
        (b"id,rle_mask\n%s\xff\xfe,\n" % b"".join(b"%d,1 1\n" % n for n in range(5000)), "does not read as CSV"),
    ],
)
def test_a_sample_that_fixes_no_order_is_refused(tmp_path, text, says):
    path = sample(tmp_path, text)
    with pytest.raises(DataError) as caught:
        read_order(path, MASKS)
    assert str(caught.value).startswith(str(path))
    assert says in str(caught.value)


def test_a_sample_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"sample\.csv: no such file"):
        read_order(tmp_path / "sample.csv", MASKS)
