"""Images and labels that an ingest found -> Dataset: the table of images, the table of objects, their counts.

Beside it what every ingest needs: to look at many images at once, and to read a CSV strictly.
"""

import csv
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from os import cpu_count
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
import pandas as pd
import shapely
from jaxtyping import Int

from segsmith.data import rle
from segsmith.data.dataset import Dataset, Layout
from segsmith.data.findings import BrokenFilesError, Finding
from segsmith.data.footprints import foreground_pixels
from segsmith.data.images import ImageFacts, inspect_image
from segsmith.errors import DataError, listed, unreadable
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
    group: int | None = None
    """Shared by images that must not be told apart by folds; None: a group of its own. All have one or none has."""


class LabelledObject(NamedTuple):
    """Pixels of one class of one image: what one row of a CSV, one mask file or one polygon says."""

    image: int
    class_id: int
    source_row: int
    """Row of the file it came from, 1 for the first, header included."""
    runs: Runs
    shape: bytes | None = None
    """In place of runs: a polygon as WKB, in pixel coordinates of its image (footprints.py). All have one or none."""


def index(
    raw: Path,
    layout: Layout,
    classes: Sequence[str],
    images: Sequence[LabelledImage],
    facts: Sequence[ImageFacts],
    objects: Iterable[LabelledObject],
    notes: Sequence[str],
    ignored: Sequence[Runs] = (),
) -> Dataset:
    """The dataset of images and labels in the order given; `facts` belong to `images`, and `ignored`, the pixels that
    labels leave open, to the first of them.

    Objects per image are counted by rows where the layout says that one row is one object, by connected components
    of each class otherwise. Raises DataError for class names that cannot be told apart or cannot name a folder.
    """
    unusable = [name for name in classes if not name.strip() or "/" in name or "\\" in name or name in (".", "..")]
    twice = [name for name, count in Counter(classes).items() if count > 1]
    if unusable or twice:
        what = f"'{unusable[0]}' cannot name a folder" if unusable else f"'{twice[0]}' stands there twice"
        raise DataError(f"{raw}: class names {', '.join(classes)}: {what}; give other names with --classes FILE")
    ordered = sorted(objects, key=lambda found: found.image)
    runs = [found.runs for found in ordered]
    table = pd.DataFrame(
        {
            "image": np.array([found.image for found in ordered], np.int32),
            "class": np.array([found.class_id for found in ordered], np.int8),
            "source_row": np.array([found.source_row for found in ordered], np.int32),
        }
    )
    if any(found.shape is not None for found in ordered):
        table["shape"] = [found.shape for found in ordered]
    open_pixels: dict[str, list[list[int]]] = {}
    if any(len(found) for found in ignored):
        unlabelled = len(images) - len(ignored)
        open_pixels["ignored_runs"] = [*(found.ravel().tolist() for found in ignored), *([] for _ in range(unlabelled))]
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
                "group": np.array(
                    [number if image.group is None else image.group for number, image in enumerate(images)], np.int32
                ),
                "height": np.array([f.hw[0] for f in facts], np.int32),
                "width": np.array([f.hw[1] for f in facts], np.int32),
                "bands": np.array([f.bands for f in facts], np.int16),
                "file_bytes": np.array([f.file_bytes for f in facts], np.int64),
                "objects": _object_counts(layout, len(images), ordered, facts),
                "foreground": _foreground(len(images), ordered, facts),
                "band_mean": [list(f.band_mean) for f in facts],
                "band_std": [list(f.band_std) for f in facts],
                "crs": pd.Series([f.crs for f in facts], dtype=object),
                "transform": pd.Series([f.transform and list(f.transform) for f in facts], dtype=object),
                "gsd_m": np.array([f.gsd_m for f in facts], np.float64),
                "band_low": [list(f.band_low) for f in facts],
                "band_high": [list(f.band_high) for f in facts],
                **open_pixels,
            }
        ),
        objects=table,
        runs=np.concatenate(runs).astype(np.int32) if runs else np.empty((0, 2), np.int32),
        offsets=np.concatenate([[0], np.cumsum([len(r) for r in runs], dtype=np.int64)]).astype(np.int32),
        notes=tuple(notes),
    )


def look_at_all(raw: Path, images: Sequence[LabelledImage]) -> list[ImageFacts]:
    """The facts of every image, each decoded once. Raises BrokenFilesError with a finding for each that cannot be
    used."""

    def look(image: LabelledImage) -> ImageFacts | Finding:
        try:
            return inspect_image(raw / image.path)
        except DataError as error:
            return Finding("undecodable", 1.0, image.image_id, image.path, str(error))

    looked = list(track(in_threads(look, images), "images", len(images)))
    problems = [found for found in looked if isinstance(found, Finding)]
    if problems:
        raise BrokenFilesError(
            f"{len(problems)} of {len(images)} images cannot be used:\n{listed([found.reason for found in problems])}\n"
            "repair or remove them, or leave them out with --exclude undecodable",
            problems,
        )
    return [found for found in looked if isinstance(found, ImageFacts)]


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
        raise DataError(unreadable(file, "CSV", error)) from None


def read_csv(file: Path, **options: Any) -> pd.DataFrame:
    """A CSV as a table; row n stands in row n + 2 of the file. Raises DataError if it does not read."""
    try:
        table: pd.DataFrame = pd.read_csv(file, encoding="utf-8-sig", **options)
    except (ValueError, OSError) as error:
        raise DataError(unreadable(file, "CSV", error)) from None
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
    shapes: dict[int, list[bytes]] = {}
    for found in objects:
        if found.shape is not None:
            shapes.setdefault(found.image, []).append(found.shape)
    for image, outlines in shapes.items():
        pixels[image] = foreground_pixels(shapely.STRtree(shapely.from_wkb(outlines)), facts[image].hw)
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
