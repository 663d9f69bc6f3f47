"""Dataset -> stratified folds: one fold number per labelled image; images of one group share their fold."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int, Shaped

from segsmith import recipe
from segsmith.data.dataset import Dataset
from segsmith.errors import DataError

MOST_OBJECTS_APART = 5
"""Images with this many objects or more share one stratum."""


def make_folds(dataset: Dataset, options: recipe.Folds, seed: int) -> Int[np.ndarray, " images"]:
    """The fold of every image, 0 to count - 1, and -1 for unlabelled ones. Mined images change no other's fold: theirs
    is that of their group, and -1 where they are a group of their own.

    Images of one number in the column `group` are in one fold. Where no image shares its group, folds differ by at
    most one image in size and in images per stratum; groups are dealt so as to come near that. An image's fold depends
    on the ids, groups and strata of all, never on their order in the dataset. Raises DataError when there are fewer
    groups of labelled images than folds, or all are empty.
    """
    labelled = dataset.dealt
    table = dataset.images.iloc[labelled]
    if not table["foreground"].any():
        raise DataError(f"all {len(labelled)} labelled images are empty: there is nothing to learn; check the labels")
    images = "1 labelled image" if len(labelled) == 1 else f"{len(labelled)} labelled images"
    if len(labelled) < options.count:
        raise DataError(
            f"{images} cannot be split into {options.count} folds; add images or set folds.count lower (at least 2)"
        )
    groups = table["group"].to_numpy()
    if (apart := len(np.unique(groups))) < options.count:
        raise DataError(
            f"{images} in {apart} groups that must stay whole cannot be split into "
            f"{options.count} folds; add images, set folds.count lower (at least 2), or check the groups"
        )
    folds = np.full(len(dataset), -1, np.int8)
    strata = _strata(dataset, options)
    folds[labelled] = grouped_folds(list(table["image_id"]), strata, groups, options.count, seed)
    if dataset.mined.any():
        fold_of = dict(zip(groups.tolist(), folds[labelled].tolist(), strict=True))
        of_mined = dataset.images["group"].to_numpy()[dataset.mined]
        folds[dataset.mined] = [fold_of.get(group, -1) for group in of_mined.tolist()]
    return folds


def grouped_folds(
    ids: Sequence[str],
    strata: Int[np.ndarray, " ids"],
    groups: Shaped[np.ndarray, " ids"],
    count: int,
    seed: int,
) -> Int[np.ndarray, " ids"]:
    """Folds 0 to count - 1. Groups of two and more go first, the largest at once, each whole into the fold that is
    then nearest to an equal share of every stratum and of all; single images fill up what the folds are short of.

    Equal sized groups are taken in the order of a hash of seed and ids. Time: groups x folds x strata.
    """
    _, strata = np.unique(strata, return_inverse=True)
    _, group_of = np.unique(groups, return_inverse=True)
    sizes = np.bincount(group_of)
    alone = sizes[group_of] == 1
    if alone.all():
        return stratified_folds(ids, strata, count, seed)
    keys = [_hash(seed, image_id) for image_id in ids]
    members: dict[int, list[int]] = {}
    for n in np.flatnonzero(~alone).tolist():
        members.setdefault(int(group_of[n]), []).append(n)
    ordered = sorted(members.values(), key=lambda of_group: (-len(of_group), min(keys[n] for n in of_group)))
    folds = np.full(len(ids), -1, np.int8)
    per_stratum = np.bincount(strata)
    short = np.tile(per_stratum / count, (count, 1))  # images of each stratum that each fold is short of
    for of_group in ordered:
        adds = np.bincount(strata[of_group], minlength=len(per_stratum))
        # How much nearer the sums of squares of what is short come to 0, strata weighed by their size, and sizes too.
        gain = ((2 * short - adds) * adds / per_stratum).sum(axis=1)
        gain += (2 * short.sum(axis=1) - len(of_group)) * len(of_group) / len(ids)
        first = min(of_group, key=keys.__getitem__)
        start = int.from_bytes(keys[first], "big") % count  # so that even gains do not all fall to fold 0
        fold = max(range(count), key=lambda f: (round(float(gain[f]), 9), -((f - start) % count)))
        folds[of_group] = fold
        short[fold] -= adds
    _fill(folds, strata, keys, short)
    return folds


def stratified_folds(
    ids: Sequence[str], strata: Int[np.ndarray, " ids"], count: int, seed: int
) -> Int[np.ndarray, " ids"]:
    """Folds 0 to count - 1 dealt in turn to the ids, sorted by stratum and, within one, by a hash of seed and id."""
    keys = [_hash(seed, image_id) for image_id in ids]
    order = sorted(range(len(ids)), key=lambda n: (strata[n], keys[n]))
    folds = np.empty(len(ids), np.int8)
    folds[order] = np.arange(len(ids)) % count
    return folds


def _fill(
    folds: Int[np.ndarray, " ids"],
    strata: Int[np.ndarray, " ids"],
    keys: Sequence[bytes],
    short: Shaped[np.ndarray, "folds strata"],
) -> None:
    """Give every image without a fold the one that is shortest of its stratum, of two alike the smaller one."""
    total = short.sum(axis=1)
    for n in sorted(np.flatnonzero(folds < 0).tolist(), key=lambda n: (strata[n], keys[n])):
        stratum = strata[n]
        fold = max(range(len(short)), key=lambda f: (round(short[f, stratum], 9), round(total[f], 9), -f))
        folds[n] = fold
        short[fold, stratum] -= 1
        total[fold] -= 1


def _strata(dataset: Dataset, options: recipe.Folds) -> Int[np.ndarray, " dealt"]:
    """A number per dealt image: the same where classes present, objects and coverage, as far as asked, are."""
    table = dataset.images.iloc[dataset.dealt]
    columns: list[Int[np.ndarray, " dealt"]] = []
    asked = (options.stratify_by,) if isinstance(options.stratify_by, str) else options.stratify_by
    if "coverage" in asked:
        coverage = table["foreground"] / np.maximum(1, dataset.known_pixels[dataset.dealt])
        columns.append(np.ceil(coverage.to_numpy() * 10).astype(np.int64))
    if "objects" in asked:
        columns.append(np.minimum(table["objects"].to_numpy(), MOST_OBJECTS_APART).astype(np.int64))
    if "classes" in asked:
        present: Bool[np.ndarray, "images classes"] = np.zeros((len(dataset), len(dataset.classes)), bool)
        present[dataset.objects["image"].to_numpy(), dataset.objects["class"].to_numpy()] = True
        columns.append(np.unique(present[dataset.dealt], axis=0, return_inverse=True)[1].ravel().astype(np.int64))
    # Numbered in the order of their values, so that strata which follow one another are alike.
    numbers = pd.DataFrame(dict(enumerate(columns))).groupby(list(range(len(columns))), sort=True).ngroup()
    return numbers.to_numpy().astype(np.int64)


def _hash(seed: int, image_id: str) -> bytes:
    return hashlib.blake2b(f"{seed}:{image_id}".encode(), digest_size=8).digest()
