"""Dataset, and what was found in it -> groups of images that folds must not separate, and why.

Images belong together when they show the same pixels, were cut from one larger picture, or the user says so; two
reasons chain: a copy of a copy, or a copy of a neighbour, is in the group too.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Int32

from segsmith.audit.duplicates import Duplicates
from segsmith.audit.mosaics import Mosaics
from segsmith.data.dataset import Dataset
from segsmith.data.index import read_csv, read_header
from segsmith.errors import DataError, listed


@dataclass(frozen=True)
class Groups:
    group: Int32[np.ndarray, " images"]
    """The same number for images that must stay together: the lowest row number among them. For the column `group`."""
    joined: dict[str, int]
    """How many images each reason alone puts together with another: index, duplicates, mosaics, user."""
    together: int
    """Images in groups of two or more."""
    largest: int
    """Images in the largest group."""


def make_groups(
    dataset: Dataset,
    duplicates: Duplicates | None = None,
    mosaics: Mosaics | None = None,
    of_user: pd.Series | None = None,
) -> Groups:
    """The union of the groups in the index, of duplicates, of mosaics and of the user's own.

    `of_user` has one value per image, in the order of the index; images without one (NaN, None) are free.
    """
    count = len(dataset)
    reasons = {"index": _alike(dataset.images["group"])}
    if duplicates is not None:
        reasons["duplicates"] = [(pair.first, pair.second) for pair in duplicates.pairs]
    if mosaics is not None:
        reasons["mosaics"] = [(mosaic.images[0], image) for mosaic in mosaics.mosaics for image in mosaic.images[1:]]
    if of_user is not None:
        reasons["user"] = _alike(of_user)
    group = connected(count, (pair for pairs in reasons.values() for pair in pairs))
    sizes = np.bincount(group, minlength=1)
    return Groups(
        group,
        {reason: len({image for pair in pairs for image in pair}) for reason, pairs in reasons.items() if pairs},
        int(sizes[sizes > 1].sum()),
        int(sizes.max()),
    )


def read_groups(dataset: Dataset, file: Path) -> pd.Series:
    """The group a CSV gives each image, for `make_groups`: image ids in the first column, any text in the second.

    Images the file does not name, or gives no group, are free. Raises DataError for ids that are twice in it or not in
    the dataset.
    """
    header = read_header(file) if file.is_file() else []
    if len(header) != 2:
        raise DataError(f"{file}: {'two columns are needed' if header else 'no such table'}: image id, group")
    table = read_csv(file, dtype=str)
    ids = table[header[0]]
    known = set(dataset.images["image_id"])
    problems = [f"row {row}: {name} is not in the dataset" for row, name in enumerate(ids, 2) if name not in known]
    problems += [f"row {int(row) + 2}: {ids[row]} stands there twice" for row in np.flatnonzero(ids.duplicated())]
    if problems:
        raise DataError(f"{file}: {len(problems)} rows are wrong:\n{listed(problems)}\ncorrect or remove them")
    return dataset.images["image_id"].map(dict(zip(ids, table[header[1]], strict=True)))


def connected(count: int, pairs: Iterable[tuple[int, int]]) -> Int32[np.ndarray, " items"]:
    """For each of `count` items the lowest of those it hangs together with by pairs. Memory: the items alone."""
    above = list(range(count))

    def top(item: int) -> int:
        while above[item] != item:
            above[item] = above[above[item]]
            item = above[item]
        return item

    for pair in pairs:
        low, high = sorted(map(top, pair))
        above[high] = low
    return np.array([top(item) for item in range(count)], np.int32)


def _alike(values: pd.Series) -> list[tuple[int, int]]:
    """Each image with the first of the same value."""
    codes, _ = pd.factorize(values)
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    rows = np.flatnonzero((first[inverse] != np.arange(len(codes))) & (codes >= 0))
    return [(int(first[inverse[row]]), int(row)) for row in rows]
