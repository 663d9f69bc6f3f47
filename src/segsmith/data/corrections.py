"""What a person decided about labels, in `corrections.csv` beside an index -> the dataset with labels corrected.

image_id,class,verdict,runs
a.jpg,ship,keep,            looked at, and right
b.jpg,ship,empty,           holds none of this class
c.jpg,ship,replace,1 3 9 2  holds these pixels of it, in the run lengths of the contests
d.jpg,,leave out,           not to be trained on nor scored on: it counts as unlabelled

Raw files and index stay as they are; whoever opens the dataset sees what was corrected, and its fingerprint changes.
"""

import csv
import hashlib
import io
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import cv2
import numpy as np
import pandas as pd

from segsmith.data import rle
from segsmith.errors import DataError, StaleError, listed, unreadable
from segsmith.files import held, write_text
from segsmith.types import ClassMask, Runs

if TYPE_CHECKING:
    from segsmith.data.dataset import Dataset

csv.field_size_limit(sys.maxsize)  # a large mask has more run lengths than fit into the default of 131 072 characters

FILE = "corrections.csv"
COLUMNS = ("image_id", "class", "verdict", "runs")
Verdict = Literal["keep", "empty", "replace", "leave out"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


class Correction(NamedTuple):
    """One row of the file; `class_name` is "" where the verdict is of the whole image."""

    image_id: str
    class_name: str
    verdict: Verdict
    runs: str = ""


def correct(dataset: Path, file: Path) -> list[Correction]:
    """Check a file of corrections against a dataset and put them beside its index, where those of the same image and
    class replace what was said before. Returns all that now stand there. Raises DataError naming rows that are wrong.
    """
    from segsmith.data.dataset import Dataset

    opened = Dataset.open(dataset)
    said = {_about(found): found for found in _beside(dataset)}
    said |= {_about(found): found for found in read_corrections(file)}
    corrections = list(said.values())
    corrected(opened, corrections, file)
    _write(dataset / FILE, corrections)
    return corrections


def say(file: Path, about: Correction, version: str, *, taken_back: bool = False) -> list[Correction]:
    """Put what is said of a label into a file, made if it is not there, in place of what was said of the same image and
    class; or take that back. What is said of a class of an image that was left out takes it in again. Returns what the
    file now says.

    `version` is what `version_of` gave for the image when the label was looked at. Raises StaleError if something else
    was said of the image since: then the file stays as it is, whoever wrote it; DataError and WriteError as reading and
    writing do. Processes take turns; threads of one process must do so by themselves.
    """
    with held(file.parent, "folder of corrections", lock=f".{file.name}.lock", wait=True):
        corrections = read_corrections(file) if file.exists() else []
        if version != version_of(corrections, about.image_id):
            raise StaleError(
                f"{about.image_id}: something else was said of it since it was shown here; look at it again"
            )
        gone = {_about(about), (about.image_id, "")}
        kept = [found for found in corrections if _about(found) not in gone]
        if taken_back or about.verdict == "leave out":  # what was said of its classes comes back with the image
            kept = [found for found in corrections if _about(found) != _about(about)]
        kept += [] if taken_back else [about]
        _write(file, kept)
        return kept


def version_of(corrections: Sequence[Correction], image_id: str) -> str:
    """What changes with anything that corrections say of an image."""
    of_image = sorted(found[1:] for found in corrections if found.image_id == image_id)
    return hashlib.blake2b(repr(of_image).encode(), digest_size=8).hexdigest()


def _write(file: Path, corrections: Sequence[Correction]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([COLUMNS, *corrections])
    write_text(file, text.getvalue())


def with_corrections(dataset: "Dataset", folder: Path) -> "Dataset":
    """The dataset of a folder with the corrections that lie there; itself where none do."""
    corrections = _beside(folder)
    return corrected(dataset, corrections, folder / FILE) if corrections else dataset


def read_corrections(file: Path) -> list[Correction]:
    """The rows of a file. Raises DataError for a file that does not read, other columns, and unknown verdicts."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            rows = list(csv.reader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(unreadable(file, "corrections", error)) from None
    if not rows or tuple(rows[0]) != COLUMNS:
        raise DataError(
            f"{file}: its columns are {', '.join(rows[0]) if rows else 'none'}; wanted {', '.join(COLUMNS)}"
        )
    found, problems = [], []
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(COLUMNS):
            problems.append(f"row {number}: has {len(row)} fields, wanted {len(COLUMNS)}")
        elif row[2] not in VERDICTS:
            problems.append(f"row {number}: verdict '{row[2]}' is none of {', '.join(VERDICTS)}")
        else:
            found.append(Correction(row[0], row[1], row[2], row[3]))
    if problems:
        raise DataError(f"{file}: {len(problems)} rows are wrong:\n{listed(problems)}")
    return found


def corrected(dataset: "Dataset", corrections: Sequence[Correction], file: Path) -> "Dataset":
    """The dataset with those labels, which `file` is the source of, and a note of how many there are.

    Where a row of the layout is one object, the connected parts of new pixels are objects. Raises DataError for ids,
    classes and run lengths that do not fit the dataset, and for new pixels where labels are polygons.
    """
    rows = dict(zip(dataset.images["image_id"], range(len(dataset)), strict=True))
    left_out: list[int] = []
    replaced: dict[tuple[int, int], Runs] = {}
    problems = []
    for number, found in enumerate(corrections, start=2):
        index = rows.get(found.image_id)
        if index is None:
            problems.append(f"row {number}: no image {found.image_id} in the dataset")
        elif found.verdict == "leave out":
            left_out.append(index)
        else:
            try:
                runs = new_pixels(dataset, index, found)
            except DataError as error:
                problems.append(f"row {number}: {error}")
            else:
                if runs is not None:
                    replaced[index, dataset.classes.index(found.class_name)] = runs
    if problems:
        raise DataError(f"{file}: {len(problems)} corrections do not fit the dataset:\n{listed(problems)}")
    counts = Counter(found.verdict for found in corrections if found.verdict != "keep")
    told = ", ".join(f"{verdict} {count:,}" for verdict, count in counts.items())
    return _applied(dataset, set(left_out), replaced, f"labels corrected by {FILE}: {told}" if told else "")


def new_pixels(dataset: "Dataset", index: int, found: Correction) -> Runs | None:
    """The pixels that a class of an image gets by a correction; None where its label is kept, or left out with its
    image. Raises DataError where the correction does not fit the image."""
    if found.verdict == "leave out":
        return None
    if found.class_name not in dataset.classes:
        raise DataError(f"class '{found.class_name}' is none of {', '.join(dataset.classes)}")
    if found.verdict == "keep":
        return None
    if reason := fixed(dataset, index):
        raise DataError(reason)
    return rle.parse(found.runs if found.verdict == "replace" else "", dataset.hw(index))


def fixed(dataset: "Dataset", index: int) -> str | None:
    """Why the label of an image cannot be given other pixels, if it cannot."""
    image_id = dataset.images["image_id"].iloc[index]
    if dataset.taught[index]:
        return f"labels of {image_id} are soft ones, of a run; it can be left out"
    if dataset.of_polygons:
        return f"labels of {image_id} are polygons; correct them in their vector file"
    return None


def _applied(dataset: "Dataset", left_out: set[int], replaced: dict[tuple[int, int], Runs], note: str) -> "Dataset":
    objects, by_object = dataset.objects, dataset.layout.one_row_per == "object"
    of_object = list(zip(objects["image"].tolist(), objects["class"].tolist(), strict=True))
    kept = [o for o, about in enumerate(of_object) if about[0] not in left_out and about not in replaced]
    runs = [dataset.runs[dataset.offsets[o] : dataset.offsets[o + 1]] for o in kept]
    tables = [objects.iloc[kept]]
    for (image, class_id), pixels in replaced.items():
        parts = _objects(rle.decode(pixels, dataset.hw(image))) if by_object else [pixels][: len(pixels)]
        runs += parts
        new = {"image": [image] * len(parts), "class": [class_id] * len(parts), "source_row": [0] * len(parts)}
        tables.append(pd.DataFrame(new).astype(objects.dtypes[list(new)]))
    table = pd.concat(tables, ignore_index=True)
    order = np.argsort(table["image"].to_numpy(), kind="stable")
    runs = [runs[place] for place in order]
    lengths = [len(found) for found in runs]
    images = dataset.images.copy()
    images.loc[sorted(left_out), "labelled"] = False
    changed = replace(
        dataset,
        images=images,
        objects=table.iloc[order].reset_index(drop=True),
        runs=np.concatenate([*runs, np.empty((0, 2), np.int32)]).astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int32),
        notes=(*dataset.notes, *([note] if note else [])),
    )
    for image in left_out | {image for image, _ in replaced}:
        mask = changed.mask(image)
        first, last = changed.first_object[image : image + 2]
        images.loc[image, "foreground"] = mask.any(axis=0).sum()
        images.loc[image, "objects"] = last - first if by_object else sum(len(_objects(of_class)) for of_class in mask)
    return changed


def _objects(mask: ClassMask) -> list[Runs]:
    """The connected parts of a mask; pixels that touch at a corner are connected."""
    count, labels = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)
    return [rle.encode(labels == label) for label in range(1, count)]


def _beside(folder: Path) -> list[Correction]:
    return read_corrections(folder / FILE) if (folder / FILE).is_file() else []


def _about(found: Correction) -> tuple[str, str]:
    return found.image_id, found.class_name
