"""Masks -> a CSV of run lengths in the layout the labels came in, and back again to prove it."""

import csv
import hashlib
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from segsmith.data import rle
from segsmith.data.dataset import Layout
from segsmith.data.index import read_header
from segsmith.errors import DataError, RunLengthError, listed
from segsmith.files import write_text
from segsmith.prediction.masks import object_runs
from segsmith.types import HW, ClassMask

csv.field_size_limit(sys.maxsize)  # a large mask has more run lengths than fit into the default of 131 072 characters


def mask_rows(mask: ClassMask, layout: Layout) -> list[str]:
    """The run-length texts of one image, a row each: one per object or one per image; one empty text for an empty
    mask."""
    if layout.one_row_per == "object":
        return [rle.to_text(runs) for runs in object_runs(mask)] or [""]
    return [rle.to_text(rle.encode(mask))]


def read_order(sample_submission: Path, layout: Layout) -> list[str]:
    """Image ids of a sample submission, in its order, each once.

    Raises DataError for other columns than the layout's, no rows, or an image twice where one row is one image.
    """
    header = read_header(sample_submission)
    wanted = [layout.id_column, layout.runs_column]
    if header != wanted:
        raise DataError(
            f"{sample_submission}: columns {','.join(header) or 'none'}; the model's labels had {','.join(wanted)}"
        )
    first_row: dict[str, int] = {}
    try:
        with sample_submission.open(newline="", encoding="utf-8-sig") as file:
            for row, fields in enumerate(csv.reader(file), start=1):
                if row == 1 or not fields:
                    continue
                image_id = fields[0].strip()
                if layout.one_row_per == "image" and image_id in first_row:
                    earlier = f"already stands in row {first_row[image_id]}; one row per image"
                    raise DataError(f"{sample_submission}, row {row}: {image_id} {earlier}")
                first_row.setdefault(image_id, row)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{sample_submission}: does not read as CSV ({error})") from None
    if not first_row:
        raise DataError(f"{sample_submission}: has no rows below its header")
    return list(first_row)


def write_submission(path: Path, layout: Layout, rows: Mapping[str, Sequence[str]], order: Sequence[str]) -> None:
    """Write the rows of each image in `order`, whole or not at all. Raises WriteError."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([layout.id_column, layout.runs_column])
    for image_id in order:
        writer.writerows([image_id, runs] for runs in rows[image_id])
    write_text(path, text.getvalue())


def check_submission(
    path: Path, layout: Layout, order: Sequence[str], sizes: Mapping[str, HW], masks: "MaskProofs"
) -> None:
    """Read a submission back as a stranger would, and compare each image with the mask it was made of.

    Raises DataError naming the rows that are malformed, out of order, overlap, or decode to another mask.
    """
    found: dict[str, list[str]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        problems = [] if header == [layout.id_column, layout.runs_column] else [f"columns {','.join(header)}"]
        for row, fields in enumerate(reader, start=2):
            if len(fields) != 2:
                problems.append(f"row {row}: {len(fields)} fields, not two")
                continue
            found.setdefault(fields[0], []).append(fields[1])
    if list(found) != list(order):
        problems.append("images are not those asked for, in their order")
    for image_id in order:
        joined = np.zeros(sizes[image_id], bool)
        try:
            for text in found.get(image_id, []):
                mask = rle.decode(rle.parse(text, sizes[image_id]), sizes[image_id])
                if (joined & mask).any():
                    problems.append(f"{image_id}: objects overlap")
                joined |= mask
        except RunLengthError as error:
            problems.append(f"{image_id}: {error}")
            continue
        if not masks.same(image_id, joined):
            problems.append(f"{image_id}: decodes to another mask than was predicted")
    if problems:
        raise DataError(f"{path}: does not read back as written:\n{listed(problems)}\nplease report this")


class MaskProofs:
    """What each predicted mask was, in a few bytes, to hold what was written against."""

    def __init__(self) -> None:
        self._digests: dict[str, bytes] = {}

    def note(self, image_id: str, mask: ClassMask) -> None:
        self._digests[image_id] = _digest(mask)

    def same(self, image_id: str, mask: ClassMask) -> bool:
        return self._digests[image_id] == _digest(mask)


def _digest(mask: ClassMask) -> bytes:
    return hashlib.blake2b(repr(mask.shape).encode() + np.packbits(mask).tobytes(), digest_size=16).digest()
