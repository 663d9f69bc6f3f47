"""Folder or dataset -> images that a run looks at, to learn from those among them that it chooses."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from os import walk
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from segsmith.data.dataset import Dataset
from segsmith.data.extra import extra_levels
from segsmith.data.images import inspect_image, is_image, read_image
from segsmith.errors import DataError, ModelError, listed
from segsmith.modeling.bundle import Bundle
from segsmith.prediction.probabilities import Levels
from segsmith.types import Image


@dataclass(frozen=True)
class Candidate:
    """An image to look at."""

    image_id: str
    path: Path
    known_by: str
    """'labels' or 'person', who say that it is empty; 'model' where nobody does."""
    row: int | None
    """In the run's own dataset."""


Seen = list[tuple[Candidate, Levels]]
"""Images, and what a network is to know of each beside its pixels."""


def of_folder(folder: Path, dataset: Dataset, *, known_empty: bool = False) -> list[Candidate]:
    """The images below a folder, in the order of their paths. Raises DataError where there are none, and for ids that
    are there twice or in the run's dataset already."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of images")
    paths = sorted(
        Path(top, name).resolve() for top, _, names in walk(folder) for name in names if is_image(Path(name))
    )
    if not paths:
        raise DataError(f"{folder}: no image files")
    known_by = "person" if known_empty else "model"
    found = [Candidate(dataset.layout.image_id(path), path, known_by, None) for path in paths]
    _check_new([candidate.image_id for candidate in found], dataset, folder)
    return found


def of_dataset(given: Dataset, dataset: Dataset, rows: Sequence[int], what: str) -> list[Candidate]:
    """The images of rows of a dataset, the run's own or another; `what` does the looking. Raises DataError for rasters,
    and like of_folder."""
    if any(given.is_raster(row) for row in rows):
        raise DataError(
            f"{given.raw}: holds rasters, and {what} takes whole images; cut them first: segsmith chips, then give the "
            "folder of chips"
        )
    own = given.fingerprint == dataset.fingerprint
    ids, labelled = list(given.images["image_id"]), given.images["labelled"].to_numpy(bool) & ~given.taught
    found = [
        Candidate(
            str(ids[row]), given.path(row).resolve(), "labels" if labelled[row] else "model", row if own else None
        )
        for row in rows
    ]
    if not own:
        _check_new([candidate.image_id for candidate in found], dataset, given.raw)
    return found


def seen_with(candidates: Sequence[Candidate], dataset: Dataset, bundle: Bundle) -> Seen:
    """Each with the levels of its further channels. Raises DataError for such channels of images that are not of the
    run's dataset."""
    columns = bundle.recipe.data.extra
    if columns and any(candidate.row is None for candidate in candidates):
        raise DataError("the run was trained with numbers of each image (data.extra), which these images do not have")
    extra = extra_levels(dataset.images, columns, bundle.extra) if columns else None
    return [(of, np.empty(0, np.uint8) if extra is None else extra[of.row]) for of in candidates]


def read(images: Seen, bands: int) -> Iterator[tuple[Candidate, Image, Levels]]:
    """The pixels of each as well. Raises DataError for a file that broke, ModelError for another number of bands."""
    for candidate, levels in images:
        image = read_image(candidate.path)
        if image.shape[2] != bands:
            raise ModelError(f"{candidate.path}: number of bands is {image.shape[2]}, the model was trained on {bands}")
        yield candidate, image, levels


def with_images(dataset: Dataset, candidates: Sequence[Candidate]) -> Dataset:
    """The dataset with the candidates that are not of it behind its own images, unlabelled, each a group of its own."""
    new: list[dict[str, Any]] = []
    last = int(dataset.images["group"].max())
    for candidate in candidates:
        if candidate.row is None:
            facts = inspect_image(candidate.path)
            new.append(
                {
                    "image_id": candidate.image_id,
                    "path": str(candidate.path),
                    "labelled": False,
                    "source": "all",
                    "group": last + 1 + len(new),
                    "height": facts.hw[0],
                    "width": facts.hw[1],
                    "bands": facts.bands,
                    "file_bytes": facts.file_bytes,
                    "objects": 0,
                    "foreground": 0,
                    "band_mean": list(facts.band_mean),
                    "band_std": list(facts.band_std),
                    "gsd_m": facts.gsd_m,
                    "band_low": [],
                    "band_high": [],
                    "ignored_runs": [],
                    "mined": False,
                    "soft": "",
                    "known": 0,
                }
            )
    if not new:
        return dataset
    table = dataset.images
    added = pd.DataFrame(new).reindex(columns=table.columns)
    plain = {name: kind for name, kind in table.dtypes.items() if name in new[0] and is_numeric_dtype(kind)}
    return replace(dataset, images=pd.concat([table, added], ignore_index=True).astype(plain))


def _check_new(ids: list[str], dataset: Dataset, where: Path) -> None:
    there = set(dataset.images["image_id"])
    twice = sorted({image_id for image_id in ids if image_id in there or ids.count(image_id) > 1})
    if twice:
        raise DataError(
            f"{where}: {len(twice)} ids are there twice, or in the run's dataset already:\n{listed(twice)}\n"
            "to take images of that dataset itself, give its dataset folder"
        )
