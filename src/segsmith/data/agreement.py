"""Images and masks -> how well each mask fits its image, judged by a small model trained on the other images.

A model learns what foreground looks like, pixel by pixel, from one half of the images and judges the other half
(cross-fitting, as in Northcutt et al., Confident Learning, 2021). What it cannot see in the image on either side of a
mask's outline, and sees better when the mask is transposed or flipped, is worth a look.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float32

from segsmith.data.audit_images import small_grey
from segsmith.data.audit_masks import TURNS
from segsmith.data.index import in_threads
from segsmith.types import ClassMask, Image

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingClassifier

GRID = 24
"""Pixels a side at which images are judged."""
TRAINED_ON = 1000
"""Images each half is trained on, at most."""
PIXELS_EACH = 64
"""Pixels drawn from each of them."""
LEAST = 200
"""Images with masks below which nothing is learnt: the model would know single images by heart."""
BATCH = 500

LogOdds = Float32[np.ndarray, "grid grid"]
Features = Float32[np.ndarray, "pixels features"]
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
    """The gap of each mask that TURNS makes of it, in their order; nan where there is none."""


def features(image: Image) -> Float32[np.ndarray, "grid grid features"]:
    """What the model sees of each pixel: grey, its mean and deviation nearby and farther away, slopes, place."""
    side = 2 * GRID
    grey = cv2.resize(small_grey(image, 2 * GRID), (side, side), interpolation=cv2.INTER_AREA)
    down, across = np.abs(np.diff(grey, axis=0, append=grey[-1:])), np.abs(np.diff(grey, axis=1, append=grey[:, -1:]))
    planes = [grey]
    for reach in (3, 7, 19):
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


def grid_mask(mask: ClassMask) -> GridMask:
    """A mask at the size of the grid; a cell is foreground when at least half of it is."""
    return np.asarray(cv2.resize(mask.astype(np.float32), (GRID, GRID), interpolation=cv2.INTER_AREA) >= 0.5)


def agreements(
    numbers: Sequence[int], read: Callable[[int], tuple[Image, ClassMask]]
) -> Iterator[tuple[int, Agreement]]:
    """(number, agreement) of each image; `read` gives an image and its mask. Nothing where there are too few images,
    fewer than LEAST, or too little foreground to learn from. At most
    2 * TRAINED_ON images are read twice, the others once."""
    if len(numbers) < LEAST:
        return
    halves = [list(numbers[0::2]), list(numbers[1::2])]
    models = [_fit(half, read) for half in halves]
    if models[0] is None or models[1] is None:
        return
    for half, model in zip(halves, reversed(models), strict=True):
        assert model is not None
        remaining = iter(half)

        def look(number: int) -> tuple[np.ndarray, GridMask]:
            image, mask = read(number)
            return features(image), grid_mask(mask)

        while batch := list(islice(remaining, BATCH)):
            looked = list(in_threads(look, batch))
            seen = np.concatenate([found.reshape(GRID * GRID, -1) for found, _ in looked])
            odds = model.decision_function(seen).astype(np.float32).reshape(-1, GRID, GRID)
            for number, (_, mask), here in zip(batch, looked, odds, strict=True):
                yield number, agreement(here, mask)


def agreement(odds: LogOdds, mask: GridMask) -> Agreement:
    """How a mask fits the log odds of its image."""
    inside = float(odds[mask].mean()) if mask.any() else float("nan")
    outside = float(odds[~mask].mean()) if not mask.all() else float("nan")
    if not mask.any() or mask.all():
        return Agreement(float("nan"), inside, outside, (float("nan"),) * len(TURNS))
    gaps = (float(odds[turned].mean() - odds[~turned].mean()) for turned in (turn(mask) for turn in TURNS.values()))
    return Agreement(inside - outside, inside, outside, tuple(gaps))


def _fit(
    numbers: Sequence[int], read: Callable[[int], tuple[Image, ClassMask]]
) -> "HistGradientBoostingClassifier | None":
    """A model of images spread evenly over those given; None if they hold too little of either class."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    chosen = (
        [numbers[n] for n in np.unique(np.linspace(0, len(numbers) - 1, TRAINED_ON).astype(int))] if numbers else []
    )

    def draw(number: int) -> tuple[Features, np.ndarray]:
        image, mask = read(number)
        order = np.random.default_rng([0, number]).permutation(GRID * GRID)
        truth = grid_mask(mask).ravel()[order]
        # half of them foreground where there is so much, so that rare things are learnt too
        taken = np.concatenate([order[truth][: PIXELS_EACH // 2], order[~truth][: PIXELS_EACH // 2]])
        return features(image).reshape(GRID * GRID, -1)[taken], grid_mask(mask).ravel()[taken]

    drawn = list(in_threads(draw, chosen))
    if not drawn:
        return None
    seen, truth = np.concatenate([found for found, _ in drawn]), np.concatenate([known for _, known in drawn])
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
