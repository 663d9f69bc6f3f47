"""Dataset -> stratified folds: one fold number per labelled image."""

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from segsmith import recipe
from segsmith.data.dataset import Dataset
from segsmith.errors import DataError

MOST_OBJECTS_APART = 5
"""Images with this many objects or more share one stratum."""


def make_folds(dataset: Dataset, options: recipe.Folds, seed: int) -> Int[np.ndarray, " images"]:
    """The fold of every image, 0 to count - 1, and -1 for unlabelled ones.

    Folds differ by at most one image in size and in images per stratum. An image's fold depends on the ids and strata
    of all, never on their order in the dataset. Raises DataError when there are fewer labelled images than folds, or
    all are empty.
    """
    labelled = dataset.labelled
    table = dataset.images.iloc[labelled]
    if not table["foreground"].any():
        raise DataError(f"all {len(labelled)} labelled images are empty: there is nothing to learn; check the labels")
    if len(labelled) < options.count:
        raise DataError(
            f"{len(labelled)} labelled images cannot be split into {options.count} folds; "
            "add images or set folds.count lower (at least 2)"
        )
    if options.stratify_by == "objects":
        strata = np.minimum(table["objects"].to_numpy(), MOST_OBJECTS_APART)
    else:
        coverage = table["foreground"] / (table["height"].astype(np.int64) * table["width"])
        strata = np.ceil(coverage.to_numpy() * 10).astype(int)
    folds = np.full(len(dataset), -1, np.int8)
    folds[labelled] = stratified_folds(list(table["image_id"]), strata, options.count, seed)
    return folds


def stratified_folds(
    ids: Sequence[str], strata: Int[np.ndarray, " ids"], count: int, seed: int
) -> Int[np.ndarray, " ids"]:
    """Folds 0 to count - 1 dealt in turn to the ids, sorted by stratum and, within one, by a hash of seed and id."""
    keys = [hashlib.blake2b(f"{seed}:{image_id}".encode(), digest_size=8).digest() for image_id in ids]
    order = sorted(range(len(ids)), key=lambda n: (strata[n], keys[n]))
    folds = np.empty(len(ids), np.int8)
    folds[order] = np.arange(len(ids)) % count
    return folds
