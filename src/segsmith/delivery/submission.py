"""Masks -> a CSV of run lengths in the layout the labels came in, and back again to prove it."""

import csv
import hashlib
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segsmith.data import rle
from segsmith.data.dataset import Layout
from segsmith.data.index import read_header
from segsmith.decision.masks import Labels, label_runs, object_runs
from segsmith.errors import DataError, RunLengthError, listed, unreadable
from segsmith.files import write_text
from segsmith.types import HW, ClassMask

csv.field_size_limit(sys.maxsize)  # a large mask has more run lengths than fit into the default of 131 072 characters


class Key(NamedTuple):
    """What the rows of a submission are about: an image, and one of its classes."""

    image_id: str
    class_id: int = 0


class Row(NamedTuple):
    """Where a row stands in its file, 1 for the header, and its run lengths as text."""

    row: int
    text: str


Rows = dict[Key, list[Row]]


def mask_rows(mask: ClassMask, layout: Layout, objects: Labels | None = None) -> list[str]:
    """The run-length texts of one class of an image, a row each: one per object or one in all; one empty text for an
    empty mask. `objects` are those of the mask, and what is connected if they are not given."""
    if layout.one_row_per == "object":
        found = object_runs(mask) if objects is None else label_runs(objects)
        return [rle.to_text(runs) for runs in found] or [""]
    return [rle.to_text(rle.encode(mask))]


def read_order(sample_submission: Path, layout: Layout) -> list[Key]:
    """Images and classes of a sample submission, in its order, each once.

    Raises DataError for other columns than the layout's, no rows, a class the model does not know, or an image (and
    class) twice where one row is all of it.
    """
    header = read_header(sample_submission)
    if header != layout.columns:
        raise DataError(
            f"{sample_submission}: columns {','.join(header) or 'none'}; the model's labels had "
            f"{','.join(layout.columns)}"
        )
    first_row: dict[Key, int] = {}
    try:
        with sample_submission.open(newline="", encoding="utf-8-sig") as file:
            for row, fields in enumerate(csv.reader(file), start=1):
                if row == 1 or not fields:
                    continue
                key = _key(f"{sample_submission}, row {row}", fields, layout)
                if layout.one_row_per == "image" and key in first_row:
                    each = "one row per image and class" if layout.class_column else "one row per image"
                    raise DataError(
                        f"{sample_submission}, row {row}: {said(key, layout)} already stands in row "
                        f"{first_row[key]}; {each}"
                    )
                first_row.setdefault(key, row)
    except (UnicodeDecodeError, OSError, csv.Error) as error:
        raise DataError(unreadable(sample_submission, "CSV", error)) from None
    if not first_row:
        raise DataError(f"{sample_submission}: has no rows below its header")
    return list(first_row)


def read_rows(path: Path, layout: Layout) -> tuple[Rows, list[str]]:
    """The rows of a submission by what they are about, in its order; and those that are about nothing, or again about
    what has its one row. Raises DataError for a file that does not read as CSV."""
    rows: Rows = {}
    problems: list[str] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            if header != layout.columns:
                problems.append(f"columns {','.join(header) or 'none'}, not {','.join(layout.columns)}")
            for number, fields in enumerate(reader, start=2):
                if len(fields) != len(layout.columns):
                    problems.append(f"row {number}: {len(fields)} fields, not {len(layout.columns)}")
                    continue
                try:
                    key = _key(f"row {number}", fields, layout)
                except DataError as error:
                    problems.append(str(error))
                    continue
                of_key = rows.setdefault(key, [])
                if of_key and layout.one_row_per == "image":
                    problems.append(f"row {number}: {said(key, layout)} already stands in row {of_key[0].row}")
                    continue
                of_key.append(Row(number, fields[-1]))
    except (UnicodeDecodeError, OSError, csv.Error) as error:
        raise DataError(unreadable(path, "CSV", error)) from None
    return rows, problems


def all_keys(image_ids: Iterable[str], layout: Layout) -> list[Key]:
    """Every class of every image, image by image."""
    return [Key(image_id, class_id) for image_id in image_ids for class_id in range(max(1, len(layout.class_keys)))]


def write_submission(path: Path, layout: Layout, rows: Mapping[Key, Sequence[str]], order: Sequence[Key]) -> None:
    """Write the rows of each image and class in `order`, whole or not at all. Raises WriteError."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(layout.columns)
    for key in order:
        writer.writerows(layout.fields(key.image_id, key.class_id, runs) for runs in rows[key])
    write_text(path, text.getvalue())


def check_submission(
    path: Path, layout: Layout, order: Sequence[Key], sizes: Mapping[str, HW], masks: "MaskProofs"
) -> None:
    """Read a submission back as a stranger would, and compare each image and class with the mask it was made of.

    Raises DataError naming the rows that are malformed, out of order, overlap, or decode to another mask.
    """
    found, problems = read_rows(path, layout)
    if list(found) != list(order):
        problems.append("images are not those asked for, in their order")
    for key in order:
        joined = np.zeros(sizes[key.image_id], bool)
        try:
            for _, text in found.get(key, []):
                mask = rle.decode(rle.parse(text, sizes[key.image_id]), sizes[key.image_id])
                if (joined & mask).any():
                    problems.append(f"{said(key, layout)}: objects overlap")
                joined |= mask
        except RunLengthError as error:
            problems.append(f"{said(key, layout)}: {error}")
            continue
        if not masks.same(key, joined):
            problems.append(f"{said(key, layout)}: decodes to another mask than was predicted")
    if problems:
        raise DataError(f"{path}: does not read back as written:\n{listed(problems)}\nplease report this")


def _key(where: str, fields: Sequence[str], layout: Layout) -> Key:
    if len(fields) < len(layout.columns) - 1:  # the run lengths of a sample are of no use
        raise DataError(f"{where}: {len(fields)} fields, not {len(layout.columns)}")
    image_id, name = layout.image_and_class(fields)
    if layout.class_column is None:
        return Key(image_id)
    if name not in layout.class_keys:
        known = ", ".join(layout.class_keys)
        raise DataError(f"{where}: {fields[0]}: class '{name}'; the model's labels had {known}")
    return Key(image_id, layout.class_keys.index(name))


def said(key: Key, layout: Layout) -> str:
    """As a message names it."""
    return f"{key.image_id} class {layout.class_keys[key.class_id]}" if layout.class_column else key.image_id


class MaskProofs:
    """What each predicted mask was, in a few bytes, to hold what was written against."""

    def __init__(self) -> None:
        self._digests: dict[Key, bytes] = {}

    def note(self, key: Key, mask: ClassMask) -> None:
        self._digests[key] = _digest(mask)

    def same(self, key: Key, mask: ClassMask) -> bool:
        return self._digests[key] == _digest(mask)


def _digest(mask: ClassMask) -> bytes:
    return hashlib.blake2b(repr(mask.shape).encode() + np.packbits(mask).tobytes(), digest_size=16).digest()
