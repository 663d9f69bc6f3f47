"""Images and labels that an ingest found -> Dataset: the table of images, the table of objects, their counts.

Beside it what every ingest needs: to look at many images at once, and to read a CSV strictly.
"""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from os import cpu_count
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
import pandas as pd
from jaxtyping import Int

from segsmith.data import rle
from segsmith.data.dataset import Dataset, Layout
from segsmith.data.findings import BrokenFilesError, Finding
from segsmith.data.images import ImageFacts, inspect_image
from segsmith.errors import DataError, listed
from segsmith.progress import track
from segsmith.types import Runs

Item = TypeVar("Item")
Result = TypeVar("Result")


class LabelledImage(NamedTuple):
    """An image file that an ingest found; `path` is relative to the raw folder."""

    image_id: str
    path: str
    labelled: bool
    source: str = "all"
    """The part of the raw folder it belongs to, such as a tier."""


class LabelledObject(NamedTuple):
    """Pixels of one class of one image: what one row of a CSV, one mask file or one polygon says."""

    image: int
    class_id: int
    source_row: int
    """Row of the file it came from, 1 for the first, header included."""
    runs: Runs


def index(
    raw: Path,
    layout: Layout,
    classes: Sequence[str],
    images: Sequence[LabelledImage],
    facts: Sequence[ImageFacts],
    objects: Iterable[LabelledObject],
    notes: Sequence[str],
) -> Dataset:
    """The dataset of images and labels in the order given; `facts` belong to `images`.

    Objects per image are counted by rows where the layout says that one row is one object, by connected components
    of each class otherwise.
    """
    ordered = sorted(objects, key=lambda found: found.image)
    runs = [found.runs for found in ordered]
    table = pd.DataFrame(
        {
            "image": np.array([found.image for found in ordered], np.int32),
            "class": np.array([found.class_id for found in ordered], np.int8),
            "source_row": np.array([found.source_row for found in ordered], np.int32),
        }
    )
    return Dataset(
        raw=raw,
        layout=layout,
        classes=tuple(classes),
        images=pd.DataFrame(
            {
                "image_id": [image.image_id for image in images],
                "path": [image.path for image in images],
                "labelled": np.array([image.labelled for image in images], bool),
                "source": [image.source for image in images],
                "group": np.arange(len(images), dtype=np.int32),
                "height": np.array([f.hw[0] for f in facts], np.int32),
                "width": np.array([f.hw[1] for f in facts], np.int32),
                "bands": np.array([f.bands for f in facts], np.int16),
                "file_bytes": np.array([f.file_bytes for f in facts], np.int64),
                "objects": _object_counts(layout, len(images), ordered, facts),
                "foreground": _foreground(len(images), ordered, facts),
                "band_mean": [list(f.band_mean) for f in facts],
                "band_std": [list(f.band_std) for f in facts],
            }
        ),
        objects=table,
        runs=np.concatenate(runs).astype(np.int32) if runs else np.empty((0, 2), np.int32),
        offsets=np.concatenate([[0], np.cumsum([len(r) for r in runs], dtype=np.int64)]).astype(np.int32),
        notes=tuple(notes),
    )


def look_at_all(raw: Path, paths: Sequence[str], ids: Sequence[str] | None = None) -> list[ImageFacts]:
    """The facts of every image, each decoded once. Raises BrokenFilesError naming those that cannot be used;
    with `ids`, the images' ids, its findings say which to leave out."""

    def look(path: str) -> ImageFacts | str:
        try:
            return inspect_image(raw / path)
        except DataError as error:
            return str(error)

    looked = list(track(in_threads(look, paths), "images", len(paths)))
    problems = [found for found in looked if isinstance(found, str)]
    if problems:
        raise BrokenFilesError(
            f"{len(problems)} of {len(paths)} images cannot be used:\n{listed(problems)}\n"
            "repair or remove them, or leave them out with --exclude undecodable",
            [
                Finding("undecodable", 1.0, image_id, path, found)
                for image_id, path, found in zip(ids or paths, paths, looked, strict=True)
                if isinstance(found, str)
            ],
        )
    return [found for found in looked if not isinstance(found, str)]


def in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Results in order; a thousand items at a time, so that memory does not grow with their number."""
    with ThreadPoolExecutor(cpu_count()) as threads:
        remaining = iter(items)
        while chunk := list(islice(remaining, 1000)):
            yield from threads.map(function, chunk)


def read_header(file: Path) -> list[str]:
    """Column names of a CSV; none for an empty file. Raises DataError if it is no text."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            return next(csv.reader(lines), [])
    except (UnicodeDecodeError, OSError, csv.Error) as error:
        raise DataError(f"{file}: does not read as CSV ({error})") from None


def read_csv(file: Path, **options: Any) -> pd.DataFrame:
    """A CSV as a table; row n stands in row n + 2 of the file. Raises DataError if it does not read."""
    try:
        table: pd.DataFrame = pd.read_csv(file, encoding="utf-8-sig", **options)
    except (ValueError, OSError) as error:
        raise DataError(f"{file}: does not read as CSV ({' '.join(str(error).split())})") from None
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes a field too many for the name of the row
        raise DataError(f"{file}, row 2: has more fields than the header")
    return table


def _foreground(
    count: int, objects: Sequence[LabelledObject], facts: Sequence[ImageFacts]
) -> Int[np.ndarray, " images"]:
    """Pixels of each image that are of any class; one where two classes overlap counts once."""
    pixels = np.zeros(count, np.int64)
    classes: dict[int, set[int]] = {}
    for found in objects:
        pixels[found.image] += int(found.runs[:, 1].sum())
        classes.setdefault(found.image, set()).add(found.class_id)
    shared = {image for image, present in classes.items() if len(present) > 1}
    joined: dict[int, list[Runs]] = {}
    for found in objects:
        if found.image in shared:
            joined.setdefault(found.image, []).append(found.runs)
    for image, parts in joined.items():
        pixels[image] = int(rle.decode(np.concatenate(parts), facts[image].hw).sum())
    return pixels


def _object_counts(
    layout: Layout, count: int, objects: Sequence[LabelledObject], facts: Sequence[ImageFacts]
) -> Int[np.ndarray, " images"]:
    if layout.one_row_per == "object":
        return np.bincount([found.image for found in objects], minlength=count).astype(np.int32)
    counts = np.zeros(count, np.int32)
    for found in objects:
        mask = rle.decode(found.runs, facts[found.image].hw).view(np.uint8)
        counts[found.image] += cv2.connectedComponents(mask)[0] - 1
    return counts
