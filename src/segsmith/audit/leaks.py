"""Dataset and folds -> does the split leak: the nearest training image of every validation image, and whether a
classifier can tell the parts from one another.

A validation image that training has seen in another form flatters the score; a validation part or a test part unlike
training makes it mean little.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int

from segsmith.audit.duplicates import PROMISING, SIMILAR, Descriptions, describe, nearest, same_pixels
from segsmith.audit.fitting import looker, promises, register
from segsmith.data.dataset import Dataset
from segsmith.data.images import resized_image
from segsmith.data.index import in_threads
from segsmith.progress import track

MOST_COMPARED = 2000
"""Images of each part, at most, that the classifier is trained and tested on."""

_SIDE = 8
_PARTS = 5

Statistics = Float32[np.ndarray, " statistics"]


class Nearest(NamedTuple):
    """A validation image and the training image most like it, by row number in `Dataset.images`."""

    validation: int
    training: int
    similarity: float
    """Correlation after registration, as for duplicates; 0 if no overlap was promising."""


@dataclass(frozen=True)
class Telling:
    """How well a classifier tells two parts from one another on images it was not trained on."""

    auc: float
    """0.5: not at all, 1: always."""
    deviation: float
    """Standard error of the auc."""
    images: tuple[int, int]
    """How many of each part it saw."""

    @property
    def tells(self) -> bool:
        """Whether the auc lies more than three standard errors above 0.5."""
        return self.auc > 0.5 + 3 * self.deviation


@dataclass(frozen=True)
class Leaks:
    nearest: tuple[Nearest, ...]
    """One per validation image, most similar first."""
    leaking: int
    """Validation images whose nearest training image shows the same pixels."""
    groups_split: int
    """Groups with images both in validation and in training."""
    train_or_validation: Telling | None
    train_or_test: Telling | None
    """Test images are the unlabelled ones; None where a part has fewer than ten images."""
    too_large: int
    """Images left out because they were too large to be read whole."""


def find_leaks(
    dataset: Dataset,
    folds: Int[np.ndarray, " images"],
    validation: int,
    described: Descriptions | None = None,
    *,
    candidates: int = 4,
) -> Leaks:
    """What validation fold number `validation` has in common with the images of all other folds.

    Each validation image is laid upon the likely ones, at least one, of the `candidates` training images of nearest
    description. `folds` is -1 for unlabelled images. Time: that of describing, 10 ms per validation image, and 3 ms
    for each of up to 6000 images that the classifier is given. Raises DataError when an image cannot
    be read.
    """
    described = describe(dataset) if described is None else described
    read = np.ones(len(dataset), bool)
    read[described.too_large] = False
    training = np.flatnonzero((folds >= 0) & (folds != validation) & read)
    held = np.flatnonzero((folds == validation) & read)
    test = np.flatnonzero((folds < 0) & ~dataset.images["labelled"].to_numpy() & read)
    group = dataset.images["group"].to_numpy()
    statistics = lru_cache(None)(partial(image_statistics, dataset))
    found = _nearest(dataset, described, held, training, candidates)
    return Leaks(
        nearest=found,
        leaking=sum(near.similarity >= SIMILAR for near in found),
        groups_split=len(np.intersect1d(group[held], group[training])),
        train_or_validation=tell_apart(dataset, training, held, statistics=statistics),
        train_or_test=tell_apart(dataset, training, test, statistics=statistics),
        too_large=len(described.too_large),
    )


def tell_apart(
    dataset: Dataset,
    first: Int[np.ndarray, " first"],
    second: Int[np.ndarray, " second"],
    seed: int = 0,
    *,
    statistics: Callable[[int], Statistics] | None = None,
) -> Telling | None:
    """How well size, mean, deviation and an 8 x 8 thumbnail tell images `first` from `second`; None for fewer than
    ten of either. `statistics` gives these numbers of an image, where they are kept for other calls.

    A forest of extremely randomised trees, cross-fitted over five parts that keep groups whole. The standard error is
    that of Hanley and McNeil ("The meaning and use of the area under a ROC curve", 1982).
    """
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    if min(len(first), len(second)) < 10:
        return None
    chosen = [_some(dataset, part, seed) for part in (first, second)]
    images = np.concatenate(chosen)
    is_second = np.repeat([False, True], [len(part) for part in chosen])
    looked = in_threads(statistics or partial(image_statistics, dataset), images.tolist())
    numbers = np.stack(list(track(looked, "statistics", len(images))))
    likely = np.full(len(images), 0.5)
    groups = dataset.images["group"].to_numpy()[images]
    several = len(np.unique(groups)) < len(groups)  # keeping groups whole takes longer than the forest
    parts = (StratifiedGroupKFold if several else StratifiedKFold)(_PARTS, shuffle=True, random_state=seed)
    for fit, score in parts.split(numbers, is_second, groups if several else None):
        if len(score) and len(set(is_second[fit])) == 2:
            forest = ExtraTreesClassifier(50, min_samples_leaf=3, class_weight="balanced", random_state=seed)
            likely[score] = forest.fit(numbers[fit], is_second[fit]).predict_proba(numbers[score])[:, 1]
    auc = float(roc_auc_score(is_second, likely))
    return Telling(auc, _deviation(auc, len(chosen[0]), len(chosen[1])), (len(chosen[0]), len(chosen[1])))


def _nearest(
    dataset: Dataset,
    described: Descriptions,
    held: Int[np.ndarray, " held"],
    training: Int[np.ndarray, " training"],
    candidates: int,
) -> tuple[Nearest, ...]:
    if not len(training):
        return ()
    look = looker(dataset, described.side)
    others, _ = nearest(described.vectors[held], described.vectors[training], candidates)
    same: dict[int, int] = {}
    for image in training[::-1].tolist():
        same[int(described.pixel_counts[image])] = image

    def one(row: int) -> Nearest:
        image = int(held[row])
        twin = same.get(int(described.pixel_counts[image]))
        if twin is not None and same_pixels(dataset, image, twin) is not None:
            return Nearest(image, twin, 1.0)
        near = training[others[row]].tolist()
        promise = promises(described.tiny[image], [described.tiny[other] for other in near])
        least = min(PROMISING, float(promise.max()))  # the likeliest is always looked at
        tried = []
        for other, of_symmetries in zip(near, promise, strict=True):
            if of_symmetries.max() >= least:
                fit = register(look, image, other, of_symmetries)
                tried.append(Nearest(image, other, max(0.0, fit.similarity) if fit else 0.0))
        return max(tried, key=lambda found: found.similarity)

    looked = track(in_threads(one, range(len(held))), "nearest", len(held))
    return tuple(sorted(looked, key=lambda near: (-near.similarity, near.validation)))


def _some(dataset: Dataset, part: Int[np.ndarray, " part"], seed: int) -> Int[np.ndarray, " some"]:
    """At most MOST_COMPARED of the images, by a hash of seed and id."""
    ids = dataset.images["image_id"].to_numpy()

    def key(image: int) -> bytes:
        return hashlib.blake2b(f"{seed}:{ids[image]}".encode(), digest_size=8).digest()

    return np.array(sorted(part.tolist(), key=key)[:MOST_COMPARED], np.int64)


def image_statistics(dataset: Dataset, index: int) -> Statistics:
    """What a classifier is given of an image."""
    image = dataset.image(index)
    thumbnail = resized_image(image, (_SIDE, _SIDE)).mean(axis=2, dtype=np.float32).ravel()
    size = np.array([*image.shape, image.mean(), image.std(), np.abs(np.diff(image.astype(np.int16), axis=0)).mean()])
    return np.concatenate([size, thumbnail]).astype(np.float32)


def _deviation(auc: float, first: int, second: int) -> float:
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc) + (second - 1) * (q1 - auc**2) + (first - 1) * (q2 - auc**2)
    return float(np.sqrt(max(variance, 0.0) / (first * second)))
