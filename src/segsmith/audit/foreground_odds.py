"""Small pictures of images and masks -> log odds of foreground in each, by a model trained on the other images.

Cross-fitting, as in Northcutt et al., Confident Learning, 2021: one half of the images is judged by what was learnt
from the other half. A second model sees what the first said of the cells around (auto-context, Tu and Bai, 2010), so
that form counts, not texture alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from segsmith.audit.audit_images import small_grey
from segsmith.types import ClassMask, Image

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingClassifier

GRID = 24
"""Cells a side at which images are judged."""
THUMB = 2 * GRID
"""Pixels a side of the small pictures that are kept of images and masks."""
TRAINED_ON = 1600
"""Images each half is trained on, at most."""
_CELLS_EACH = 64
"""Cells drawn from each of them."""
_LEAST_CELLS = 500
"""Cells of either class below which nothing is learnt."""
_LOOKED_AT_ONCE = 400

LogOdds = Float32[np.ndarray, "images grid grid"]
GridMask = Bool[np.ndarray, "grid grid"]
Seen = Float32[np.ndarray, "images grid grid _features"]


@dataclass(frozen=True)
class Thumbnail:
    """What is kept of one image and its mask: some three kilobytes."""

    grey: UInt8[np.ndarray, "thumb thumb"]
    packed: UInt8[np.ndarray, " eighth_of_pixels"]

    @property
    def mask(self) -> Bool[np.ndarray, "thumb thumb"]:
        return np.unpackbits(self.packed).reshape(THUMB, THUMB).astype(bool)

    @property
    def cells(self) -> GridMask:
        return cells_of(self.mask)


def thumbnail(image: Image, mask: ClassMask) -> Thumbnail:
    """An image and its mask, shrunk or stretched to squares; a pixel is foreground when at least half of it is."""
    grey = cv2.resize(small_grey(image, THUMB), (THUMB, THUMB), interpolation=cv2.INTER_AREA)
    share = cv2.resize(mask.astype(np.float32), (THUMB, THUMB), interpolation=cv2.INTER_AREA)
    return Thumbnail(np.rint(grey).astype(np.uint8), np.packbits(share >= 0.5))


def cells_of(mask: Bool[np.ndarray, "thumb thumb"]) -> GridMask:
    """A cell is foreground when at least half of it is."""
    return np.asarray(mask.reshape(GRID, 2, GRID, 2).sum(axis=(1, 3)) >= 2)


@dataclass(frozen=True)
class ForegroundModel:
    """Two models for each half of the images, trained on that half; each judges the other."""

    halves: tuple[tuple[int, ...], tuple[int, ...]]
    first: "tuple[HistGradientBoostingClassifier, HistGradientBoostingClassifier]"
    second: "tuple[HistGradientBoostingClassifier, HistGradientBoostingClassifier]"

    @cached_property
    def half_of(self) -> dict[int, int]:
        return {number: half for half, numbers in enumerate(self.halves) for number in numbers}

    def log_odds(self, half: int, pictures: Sequence[Thumbnail]) -> LogOdds:
        """Of images of this half, as the models of the other half see them."""
        seen = _seen(pictures)
        around = context(_decide(self.first[1 - half], seen))
        return _decide(self.second[1 - half], np.concatenate([seen, around], axis=3))


def learn_foreground(thumbnails: Mapping[int, Thumbnail]) -> ForegroundModel | None:
    """A model of the images by number; None if they hold too little of foreground or background to learn from.

    Memory: the features of TRAINED_ON * 64 cells and of 400 pictures.
    """
    numbers = tuple(thumbnails)
    halves = (numbers[0::2], numbers[1::2])
    trained_on = [[(number, thumbnails[number]) for number in spread(half, TRAINED_ON)] for half in halves]
    first = [_fit(pictures, None) for pictures in trained_on]
    if first[0] is None or first[1] is None:
        return None
    second = [_fit(pictures, judge) for pictures, judge in zip(trained_on, reversed(first), strict=True)]
    assert second[0] is not None
    assert second[1] is not None
    return ForegroundModel(halves, (first[0], first[1]), (second[0], second[1]))


def spread(numbers: Sequence[int], most: int) -> list[int]:
    """So many of the numbers at most, evenly spread."""
    return [numbers[n] for n in np.unique(np.linspace(0, len(numbers) - 1, most).astype(int))]


def features(thumb: UInt8[np.ndarray, "thumb thumb"]) -> Float32[np.ndarray, "grid grid features"]:
    """What the first model sees of each cell: grey, its mean and deviation nearby and farther away, how steep and in
    which direction it slopes, its detail at two scales, place."""
    side, grey = THUMB, thumb.astype(np.float32)

    def near(plane: np.ndarray, reach: int) -> np.ndarray:
        return np.asarray(cv2.blur(plane, (reach, reach), borderType=cv2.BORDER_REFLECT))

    down, across = np.abs(np.diff(grey, axis=0, append=grey[-1:])), np.abs(np.diff(grey, axis=1, append=grey[:, -1:]))
    planes: list[np.ndarray] = [grey]
    for reach in (3, 7, 19, 31):
        mean = near(grey, reach)
        planes += [mean, np.sqrt(np.maximum(near(grey * grey, reach) - mean * mean, 0))]
        planes += [near(slope, reach) for slope in (down, across)]
    along_x, along_y = (cv2.Sobel(grey, cv2.CV_32F, dx, 1 - dx) / 8 for dx in (1, 0))
    for reach in (7, 15):  # the structure tensor: how much of one direction, and which
        xx, yy, xy = (near(product, reach) for product in (along_x * along_x, along_y * along_y, along_x * along_y))
        length = xx + yy + 1e-3
        planes += [np.hypot(xx - yy, 2 * xy) / length, (xx - yy) / length, 2 * np.abs(xy) / length]
    finer, coarser = cv2.GaussianBlur(grey, (0, 0), 1), cv2.GaussianBlur(grey, (0, 0), 3)
    planes += [np.sqrt(near((grey - finer) ** 2, 9)), np.sqrt(near((finer - coarser) ** 2, 11))]
    column = grey.cumsum(axis=0)
    rows = np.arange(1, side + 1, dtype=np.float32)[:, None]
    above, below = column / rows, (column[-1:] - column + grey) / (side + 1 - rows)
    middle = np.abs(np.arange(side, dtype=np.float32) - (side - 1) / 2)
    planes += [above, below, np.broadcast_to(rows, grey.shape), np.broadcast_to(middle, grey.shape)]
    planes += [np.full_like(grey, grey.mean()), np.full_like(grey, grey.std())]
    return np.stack([plane[1::2, 1::2] for plane in planes], axis=2).astype(np.float32)


def context(odds: LogOdds) -> Seen:
    """What the second model sees besides: what the first said here, nearby, at eight places around, and of the whole
    row, column and image."""
    every = []
    for here in odds:
        near = cv2.blur(here, (3, 3), borderType=cv2.BORDER_REPLICATE)
        padded = np.pad(near, 7, mode="edge")
        planes = [here, near, *(cv2.blur(here, (reach, reach), borderType=cv2.BORDER_REPLICATE) for reach in (7, 13))]
        for far in (3, 7):
            for dy, dx in ((0, far), (0, -far), (far, 0), (-far, 0)):
                planes.append(padded[7 + dy : 7 + dy + GRID, 7 + dx : 7 + dx + GRID])
        planes += [
            np.broadcast_to(here.mean(axis=0), here.shape),
            np.broadcast_to(here.mean(axis=1)[:, None], here.shape),
        ]
        planes += [np.full_like(here, value) for value in (here.mean(), *np.percentile(here, [10, 90]))]
        every.append(np.stack(planes, axis=2))
    return np.stack(every).astype(np.float32)


def _seen(pictures: Sequence[Thumbnail]) -> Seen:
    return np.stack([features(picture.grey) for picture in pictures])


def _decide(model: "HistGradientBoostingClassifier", seen: Seen) -> LogOdds:
    flat = model.decision_function(seen.reshape(-1, seen.shape[3]))
    return np.asarray(flat, np.float32).reshape(seen.shape[:3])


def _fit(
    pictures: Sequence[tuple[int, Thumbnail]], judge: "HistGradientBoostingClassifier | None"
) -> "HistGradientBoostingClassifier | None":
    """A model of these images, which also sees what `judge` says of them; None if they hold too little of either
    class."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    seen_of, truth_of, weight_of = [], [], []
    for start in range(0, len(pictures), _LOOKED_AT_ONCE):
        some = pictures[start : start + _LOOKED_AT_ONCE]
        seen = _seen([picture for _, picture in some])
        if judge is not None:
            seen = np.concatenate([seen, context(_decide(judge, seen))], axis=3)
        for (number, picture), here in zip(some, seen, strict=True):
            cells = picture.cells.ravel()
            order = np.random.default_rng([0, number]).permutation(cells.size)
            # half of them foreground where there is so much, so that rare things are learnt, each weighed as it occurs
            inside = order[cells[order]][: _CELLS_EACH // 2]
            outside = order[~cells[order]][: _CELLS_EACH - len(inside)]
            for taken, count in ((inside, cells.sum()), (outside, (~cells).sum())):
                seen_of.append(here.reshape(cells.size, -1)[taken])
                truth_of.append(cells[taken])
                weight_of.append(np.full(len(taken), count / max(1, len(taken)) * _CELLS_EACH / cells.size))
    truth = np.concatenate(truth_of)
    if min(truth.sum(), (~truth).sum()) < _LEAST_CELLS:
        return None
    model = HistGradientBoostingClassifier(
        max_iter=60, max_leaf_nodes=31, min_samples_leaf=100, early_stopping=False, random_state=0
    )
    return model.fit(np.concatenate(seen_of), truth, np.concatenate(weight_of))
