"""Images and masks -> how sure it is that each mask belongs to its image, and not to another or turned.

What is asked is learnt from the dataset itself: masks on their own images are told from the same masks laid on other
images, or transposed and flipped, which are known to be wrong (noise-contrastive estimation, Gutmann and Hyvarinen,
2010). The evidence is what a model of the other images says of the cells inside and outside (foreground_odds.py), and
what the image shows on the outline and on its two sides. All of it is cross-fitted: no mask is judged by what was
learnt from it. Masks that look wrong are taken out of what is learnt from, twice over.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import log
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from segsmith.audit.audit_masks import TURNS, outline_contrast
from segsmith.audit.foreground_odds import (
    THUMB,
    TRAINED_ON,
    ForegroundModel,
    GridMask,
    Thumbnail,
    cells_of,
    learn_foreground,
    spread,
)

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingClassifier

LEAST = 200
"""Images with masks, of which half hold an outline, below which nothing is learnt: the model would know single images
by heart."""
SWAPS = 4
"""Masks of other images that are laid on each."""
_COMPARED_WITH = 400
"""Masks that each is compared with."""
_DROPPED = 0.1
"""Share of the masks that are taken out of what is learnt from, as they look least like their images' own."""
_ROUNDS = 3
_FEW_CELLS = 20
"""Cells below which a difference between two masks counts little."""
_BAND = 2
"""Width, in pixels, of either side of an outline."""
_LOOKED_AT_ONCE = 200

Mask = Bool[np.ndarray, "thumb thumb"]
Evidence = Float32[np.ndarray, " evidence"]


class Agreement(NamedTuple):
    likelihood: float
    """Mean log likelihood of the mask's cells, inside and outside; at most 0."""
    belongs: float
    """Log odds that the mask is the image's own, as if own masks were as frequent as changed ones; nan for a mask
    without inside or outside."""
    turned: tuple[float, ...]
    """The same of each mask that TURNS makes of it, in their order."""
    better: float
    """Share of other images' masks that the model finds likelier here; nan where `belongs` is."""


class _Case(NamedTuple):
    """One image with its own mask, and that mask changed."""

    own: Evidence
    turned: Float32[np.ndarray, "turns evidence"]
    swapped: Float32[np.ndarray, "swaps evidence"]
    """None are laid on it where it is judged alone."""
    likelihood: float
    better: float


def agreements(thumbnails: Mapping[int, Thumbnail]) -> Iterator[tuple[int, Agreement]]:
    """(number, agreement) of each image, judged by models of the others. Nothing where there are fewer than LEAST
    images, or too few with something to learn from. Memory: some kilobytes for each of the 2 * TRAINED_ON images
    that are learnt from."""
    if len(thumbnails) < LEAST or (model := learn_foreground(thumbnails)) is None:
        return
    outlined = [[n for n in half if _has_outline(thumbnails[n].cells)] for half in model.halves]
    if min(map(len, outlined)) < LEAST // 4:
        return
    known = [
        dict(_cases(thumbnails, model, half, spread(outlined[half], TRAINED_ON), outlined[half], SWAPS))
        for half in (0, 1)
    ]
    judges = _learn([list(cases.values()) for cases in known])
    for half in (0, 1):
        has_outline = set(outlined[half])
        for number, case in _cases(thumbnails, model, half, model.halves[half], outlined[half], 0):
            if number not in has_outline:
                yield number, Agreement(case.likelihood, float("nan"), (float("nan"),) * len(TURNS), float("nan"))
                continue
            odds = judges[1 - half].decision_function(np.vstack([case.own, case.turned]))
            own, *turned = (odds + log(len(TURNS) + SWAPS)).tolist()
            yield number, Agreement(case.likelihood, own, tuple(turned), case.better)


def _has_outline(cells: GridMask) -> bool:
    return bool(cells.any() and not cells.all())


def _cases(
    thumbnails: Mapping[int, Thumbnail],
    model: ForegroundModel,
    half: int,
    numbers: Sequence[int],
    outlined: Sequence[int],
    swaps: int,
) -> Iterator[tuple[int, _Case]]:
    """Of images of one half, in their order; swapped masks come from `outlined`."""
    others = np.stack([thumbnails[n].cells.ravel() for n in spread(outlined, _COMPARED_WITH)]).astype(np.float32)
    for start in range(0, len(numbers), _LOOKED_AT_ONCE):
        some = numbers[start : start + _LOOKED_AT_ONCE]
        for number, odds in zip(some, model.log_odds(half, [thumbnails[n] for n in some]), strict=True):
            picture = thumbnails[number]
            cells = picture.cells
            likelihood = float(-np.logaddexp(0, np.where(cells, -odds, odds)).mean())
            if not _has_outline(cells):
                nothing = np.zeros(0, np.float32)
                yield number, _Case(nothing, nothing[None], nothing[None], likelihood, float("nan"))
                continue
            view = _View(picture, odds, np.sort(others @ odds.ravel()))
            turned = np.stack([view.evidence(np.ascontiguousarray(turn(picture.mask))) for turn in TURNS.values()])
            drawn = np.random.default_rng([1, number]).choice(len(outlined), swaps)
            swapped = [view.evidence(thumbnails[outlined[n]].mask) for n in drawn.tolist() if outlined[n] != number]
            own = view.evidence(picture.mask)
            yield number, _Case(own, turned, np.array(swapped, np.float32), likelihood, view.better(cells))


class _View:
    """One image, as evidence for and against any mask is taken from it."""

    def __init__(self, picture: Thumbnail, odds: Float32[np.ndarray, "grid grid"], others: Float[np.ndarray, " masks"]):
        """`others` are the sums of log odds inside other images' masks, ascending."""
        grey = picture.grey.astype(np.float32)
        self.odds, self.others = odds, others
        self.fine_odds = cv2.resize(odds, (THUMB, THUMB), interpolation=cv2.INTER_LINEAR)
        # near 0 and 1 a probability says more than the model knows
        self.probability = np.clip(1 / (1 + np.exp(-odds)), 1e-6, 1 - 1e-6)
        p = self.probability
        self.none = float(np.log(1 - p).sum())
        self.expected = float((p * np.log(p) + (1 - p) * np.log(1 - p)).sum())
        self.deviation = float(np.sqrt((p * (1 - p) * odds**2).sum() + 10))
        self.greys = [grey, cv2.GaussianBlur(grey, (0, 0), 0.75), cv2.GaussianBlur(grey, (0, 0), 1.5)]
        self.slopes = [_slopes(smooth) for smooth in self.greys[1:]]
        detail = np.log1p(np.sqrt(cv2.blur((grey - cv2.GaussianBlur(grey, (0, 0), 1)) ** 2, (5, 5))))
        self.detail = (detail - detail.mean()) / (detail.std() + 0.01)
        self.level = (self.greys[2] - grey.mean()) / (grey.std() + 1)

    def better(self, cells: GridMask) -> float:
        """Share of the other masks that are likelier here."""
        return float(1 - np.searchsorted(self.others, self.odds[cells].sum(), "right") / len(self.others))

    def evidence(self, mask: Mask) -> Evidence:
        return np.array([*self._of_model(mask, cells_of(mask)), *self._of_image(mask)], np.float32)

    def _of_model(self, mask: Mask, cells: GridMask) -> list[float]:
        inside, count = float(self.odds[cells].sum()), int(cells.sum())
        rest = cells.size - count
        mean_in, mean_out = inside / max(1, count), (float(self.odds.sum()) - inside) / max(1, rest)
        overlap = 2 * float(self.probability[cells].sum()) / (float(self.probability.sum()) + count)
        flipped = [np.ascontiguousarray(turn(cells)) for turn in list(TURNS.values())[:3]]
        turned = [
            (float(self.odds[other].sum()) - inside) / max(_FEW_CELLS, int((other != cells).sum())) ** 0.5
            for other in flipped
        ]
        best = float(np.maximum(self.odds, 0).sum())
        return [
            float(mask.mean()),
            float(self.probability.mean()),
            mean_in,
            mean_out,
            mean_in - mean_out,
            (inside + self.none - self.expected) / self.deviation,
            (best - inside) / (count + _FEW_CELLS) ** 0.5,
            overlap,
            *turned,
            (inside - float(self.others.mean())) / (float(self.others.std()) + 1e-3),
            -float(np.log10(self.better(cells) + 1e-3)),
        ]

    def _of_image(self, mask: Mask) -> list[float]:
        bytes_of = mask.view(np.uint8)
        square = np.ones((2 * _BAND + 1, 2 * _BAND + 1), np.uint8)
        inner = mask & (cv2.erode(bytes_of, square, borderType=cv2.BORDER_REPLICATE) == 0)
        outer = ~mask & (cv2.dilate(bytes_of, square) > 0)
        sides = (
            [float(plane[inner].mean() - plane[outer].mean()) for plane in (self.fine_odds, self.detail, self.level)]
            if inner.any() and outer.any()
            else [0.0, 0.0, 0.0]
        )
        normal = _slopes(cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.75))
        length = float(normal.steepness.sum()) + 1e-6
        along = [
            float((np.abs(normal.dx * slope.dx + normal.dy * slope.dy) - normal.steepness * slope.mean).sum())
            / (slope.spread * length)
            for slope in self.slopes
        ]
        fine = self.slopes[0]
        here = self._steepness(normal.steepness, 0, 0)
        better_here = [
            (here - float(np.mean([self._steepness(normal.steepness, *to) for to in _four_ways(far)]))) / fine.spread
            for far in (2, 4)
        ]
        return [
            *(outline_contrast(grey, mask) for grey in self.greys[:2]),
            *along,
            sides[0],
            sides[1],
            abs(sides[2]),
            *better_here,
            length / THUMB,
        ]

    def _steepness(self, outline: Float32[np.ndarray, "thumb thumb"], dy: int, dx: int) -> float:
        """Mean steepness of the image under the outline, shifted down and right."""
        there = outline[max(0, -dy) : THUMB - max(0, dy), max(0, -dx) : THUMB - max(0, dx)]
        image = self.slopes[0].steepness[max(0, dy) : THUMB + min(0, dy), max(0, dx) : THUMB + min(0, dx)]
        return float((there * image).sum()) / (float(there.sum()) + 1e-6)


def _four_ways(far: int) -> list[tuple[int, int]]:
    return [(far, 0), (-far, 0), (0, far), (0, -far)]


class _Slopes(NamedTuple):
    dx: Float32[np.ndarray, "thumb thumb"]
    dy: Float32[np.ndarray, "thumb thumb"]
    steepness: Float32[np.ndarray, "thumb thumb"]
    mean: float
    spread: float


def _slopes(plane: Float32[np.ndarray, "thumb thumb"]) -> _Slopes:
    dx, dy = cv2.Sobel(plane, cv2.CV_32F, 1, 0), cv2.Sobel(plane, cv2.CV_32F, 0, 1)
    steepness = np.hypot(dx, dy)
    return _Slopes(dx, dy, steepness, float(steepness.mean()), float(steepness.std()) + 1e-3)


def _learn(
    known: Sequence[Sequence[_Case]],
) -> "tuple[HistGradientBoostingClassifier, HistGradientBoostingClassifier]":
    """What tells own masks from changed ones, learnt from each half."""
    kept = [np.arange(len(cases)) for cases in known]
    judges = _fit(known[0], kept[0]), _fit(known[1], kept[1])
    for _ in range(_ROUNDS - 1):
        for half, cases in enumerate(known):
            belongs = judges[1 - half].decision_function(np.stack([case.own for case in cases]))
            kept[half] = np.flatnonzero(belongs > np.quantile(belongs, _DROPPED))
        judges = _fit(known[0], kept[0]), _fit(known[1], kept[1])
    return judges


def _fit(cases: Sequence[_Case], kept: Int[np.ndarray, " kept"]) -> "HistGradientBoostingClassifier":
    from sklearn.ensemble import HistGradientBoostingClassifier

    own = np.stack([cases[n].own for n in kept])
    changed = np.concatenate([part for n in kept for part in (cases[n].turned, cases[n].swapped) if len(part)])
    judge = HistGradientBoostingClassifier(
        max_iter=80,
        learning_rate=0.08,
        max_leaf_nodes=15,
        min_samples_leaf=min(40, max(5, len(own) // 20)),
        early_stopping=False,
        random_state=0,
    )
    truth = np.repeat([True, False], [len(own), len(changed)])
    return judge.fit(np.concatenate([own, changed]), truth)
