"""Images and masks -> how well each mask fits its image, judged by a small model trained on the other images.

A model learns what foreground looks like, pixel by pixel, from one half of the images and judges the other half
(cross-fitting, as in Northcutt et al., Confident Learning, 2021). What it cannot see in the image on either side of a
mask's outline, and sees better when the mask is transposed or flipped, is worth a look.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from segsmith.data.audit_images import small_grey
from segsmith.data.audit_masks import TURNS
from segsmith.types import ClassMask, Image

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingClassifier

GRID = 24
"""Pixels a side at which images are judged."""
TRAINED_ON = 1000
"""Images each half is trained on, at most."""
PIXELS_EACH = 64
"""Pixels drawn from each of them."""
THUMB = 2 * GRID
"""Pixels a side of the small pictures that are kept of the images, one byte a pixel."""
FEW_CELLS = 20
"""Cells below which a difference between two masks counts little."""
LEAST = 200
"""Images with masks below which nothing is learnt: the model would know single images by heart."""
BATCH = 500

LogOdds = Float32[np.ndarray, "grid grid"]
GridMask = Bool[np.ndarray, "grid grid"]


class Agreement(NamedTuple):
    """Log odds are those of a model that thinks foreground as frequent as background."""

    gap: float
    """Mean log odds of foreground inside the mask minus outside; nan for a mask without inside or outside."""
    inside: float
    """Mean log odds inside; nan for an empty mask."""
    outside: float
    """Mean log odds outside; nan where the mask is everywhere."""
    turned: tuple[float, ...]
    """How much more likely each mask that TURNS makes of it is, in their order: the log odds of the cells it gains less
    those of the cells it loses, over the root of their number (at least FEW_CELLS); 0 where gap is nan."""


class Thumbnail(NamedTuple):
    """What is kept of one image and its mask: some three kilobytes."""

    grey: UInt8[np.ndarray, "thumb thumb"]
    mask: GridMask


def thumbnail(image: Image, mask: ClassMask) -> Thumbnail:
    """An image and its mask, shrunk or stretched to squares; a cell of the mask is foreground when at least half of it
    is."""
    grey = cv2.resize(small_grey(image, THUMB), (THUMB, THUMB), interpolation=cv2.INTER_AREA)
    cells = cv2.resize(mask.astype(np.float32), (GRID, GRID), interpolation=cv2.INTER_AREA)
    return Thumbnail(np.rint(grey).astype(np.uint8), np.asarray(cells >= 0.5))


def features(thumb: UInt8[np.ndarray, "thumb thumb"]) -> Float32[np.ndarray, "grid grid features"]:
    """What the model sees of each cell: grey, its mean and deviation nearby and farther away, slopes, place."""
    side, grey = THUMB, thumb.astype(np.float32)
    down, across = np.abs(np.diff(grey, axis=0, append=grey[-1:])), np.abs(np.diff(grey, axis=1, append=grey[:, -1:]))
    planes: list[np.ndarray] = [grey]
    for reach in (3, 7, 19, 31):
        mean = cv2.blur(grey, (reach, reach), borderType=cv2.BORDER_REFLECT)
        square = cv2.blur(grey * grey, (reach, reach), borderType=cv2.BORDER_REFLECT)
        planes += [mean, np.sqrt(np.maximum(square - mean * mean, 0))]
        planes += [cv2.blur(slope, (reach, reach), borderType=cv2.BORDER_REFLECT) for slope in (down, across)]
    column = grey.cumsum(axis=0)
    rows = np.arange(1, side + 1, dtype=np.float32)[:, None]
    above, below = column / rows, (column[-1:] - column + grey) / (side + 1 - rows)
    planes += [
        above,
        below,
        np.broadcast_to(rows, grey.shape),
        np.full_like(grey, grey.mean()),
        np.full_like(grey, grey.std()),
    ]
    return np.stack([plane[1::2, 1::2] for plane in planes], axis=2).astype(np.float32)


def agreements(thumbnails: Mapping[int, Thumbnail]) -> Iterator[tuple[int, Agreement]]:
    """(number, agreement) of each image, judged by a model of the others. Nothing where there are fewer than LEAST
    images, or too little foreground to learn from. Memory: the features of TRAINED_ON * PIXELS_EACH and of BATCH
    pictures."""
    if len(thumbnails) < LEAST:
        return
    numbers = list(thumbnails)
    halves = [numbers[0::2], numbers[1::2]]
    models = [_fit([(number, thumbnails[number]) for number in _spread(half)]) for half in halves]
    if models[0] is None or models[1] is None:
        return
    for half, model in zip(halves, reversed(models), strict=True):
        assert model is not None
        for start in range(0, len(half), BATCH):
            batch = half[start : start + BATCH]
            seen = np.concatenate([features(thumbnails[n].grey).reshape(GRID * GRID, -1) for n in batch])
            odds = model.decision_function(seen).astype(np.float32).reshape(-1, GRID, GRID)
            for number, here in zip(batch, odds, strict=True):
                yield number, agreement(here, thumbnails[number].mask)


def agreement(odds: LogOdds, mask: GridMask) -> Agreement:
    """How a mask fits the log odds of its image."""
    inside = float(odds[mask].mean()) if mask.any() else float("nan")
    outside = float(odds[~mask].mean()) if not mask.all() else float("nan")
    if not mask.any() or mask.all():
        return Agreement(float("nan"), inside, outside, (0.0,) * len(TURNS))
    gains = []
    for turned in (turn(mask) for turn in TURNS.values()):
        won, lost = turned & ~mask, mask & ~turned
        changed = max(FEW_CELLS, int(won.sum() + lost.sum()))
        gains.append(float((odds[won].sum() - odds[lost].sum()) / changed**0.5))
    return Agreement(inside - outside, inside, outside, tuple(gains))


def _spread(numbers: Sequence[int]) -> list[int]:
    """TRAINED_ON of the numbers at most, evenly spread."""
    return [numbers[n] for n in np.unique(np.linspace(0, len(numbers) - 1, TRAINED_ON).astype(int))]


def _fit(pictures: Sequence[tuple[int, Thumbnail]]) -> "HistGradientBoostingClassifier | None":
    """A model of these images; None if they hold too little of either class."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    seen_of, truth_of = [], []
    for number, picture in pictures:
        order = np.random.default_rng([0, number]).permutation(GRID * GRID)
        cells = picture.mask.ravel()
        truth = cells[order]
        # half of them foreground where there is so much, so that rare things are learnt too
        taken = np.concatenate([order[truth][: PIXELS_EACH // 2], order[~truth][: PIXELS_EACH // 2]])
        seen_of.append(features(picture.grey).reshape(GRID * GRID, -1)[taken])
        truth_of.append(cells[taken])
    seen, truth = np.concatenate(seen_of), np.concatenate(truth_of)
    if min(truth.sum(), (~truth).sum()) < 500:
        return None
    model = HistGradientBoostingClassifier(
        max_iter=50,
        max_leaf_nodes=31,
        min_samples_leaf=100,
        class_weight="balanced",
        early_stopping=False,
        random_state=0,
    )
    return model.fit(seen, truth)
