"""Scores of one class of many images at every level, smallest area and gate -> the cell to decide by."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int

from segsmith.modeling.bundle import Cell
from segsmith.modeling.metrics import Counts, image_scores
from segsmith.recipe import DecideMetric, Metric

LEVELS = 256
GROUPS = 20
"""Groups of images at the least, where there are so many images, from which the noise of a score is told."""

ALL_LEVELS = np.arange(LEVELS)

Surface = Float[np.ndarray, "gates 256 areas"]
Place = tuple[int, int, int]
"""Of a surface: gate, level, area, by their numbers."""
Choose = Callable[[int, Int[np.ndarray, " some"]], Place]
"""Of the number of a class, and the groups of images to decide on."""


class CellScores:
    """Sums of a metric over images of one class, for every gate, level and smallest area; from them the decision.

    Memory is that of `GROUPS` surfaces, however many images are added. Parts, as of a cross-fit, are groups in turn.
    """

    def __init__(
        self,
        metric: DecideMetric,
        areas: Int[np.ndarray, " areas"],
        gates: Int[np.ndarray, " gates"],
        parts: int,
        depth: int = 0,
        stands_for: Int[np.ndarray, " 256"] = ALL_LEVELS,
    ):
        """`gates` ascend from 0, which empties no image. Objects that touch are taken apart at `depth`; of each level,
        `stands_for` is the one that was scored in its place, and is decided by."""
        self.metric, self.areas, self.gates, self.parts = metric, areas, gates, parts
        self.depth, self.stands_for = depth, stands_for
        groups = parts * -(-GROUPS // parts)
        self._global = metric.startswith("global_")
        shape = (groups, len(gates), LEVELS, len(areas))
        self._sums = np.zeros((2, *shape), np.int64) if self._global else np.zeros((1, *shape))
        self._emptied = self._sums[:, :, 0, 0, 0].copy()  # of every image made empty
        self._known = np.zeros((2, groups), np.int64)  # true and usable pixels
        self._images = np.zeros(groups, np.int64)

    def add_scores(self, place: int, gate: int, scores: Float[np.ndarray, "256 areas"], empty: float) -> None:
        """Add the image at `place` of the validation fold, of gate value `gate` (0..255), for a metric that is a mean
        over images: its score in each cell, and where it is made empty."""
        self._add(place, gate, scores[None], np.array([empty]), (0, 0))

    def add(
        self,
        place: int,
        gate: int,
        tp: Int[np.ndarray, "256 areas"],
        predicted: Int[np.ndarray, "256 areas"],
        truth: int,
        pixels: int,
    ) -> None:
        """Likewise from counts of pixels, for any metric that is made of these: `truth` is its foreground pixels,
        `pixels` all that are usable."""
        if self._global:
            self._add(place, gate, np.stack([tp, predicted]), np.zeros(2, np.int64), (truth, pixels))
            return
        of_cells = Counts(tp, predicted, np.array(truth), np.array(pixels))
        of_nothing = Counts(np.array(0), np.array(0), np.array(truth), np.array(pixels))
        scores, empty = (image_scores(_of_pixels(self.metric), counts) for counts in (of_cells, of_nothing))
        self.add_scores(place, gate, scores, float(empty))

    def surface(self, groups: Int[np.ndarray, " some"]) -> Surface:
        """The metric over the images of some groups, in each cell."""
        sums = self._sums[:, groups].sum(axis=1)
        return self._finished(sums, groups)

    def group(self, place: int) -> int:
        """The group of the image at `place` of the validation fold."""
        return place % len(self._images)

    @property
    def used(self) -> Int[np.ndarray, " used"]:
        """Groups that hold an image."""
        return np.flatnonzero(self._images)

    def of_part(self, part: int) -> Int[np.ndarray, " some"]:
        """The used groups of a part of the cross-fit."""
        return np.asarray(self.used[self.used % self.parts == part])

    def chosen(self, groups: Int[np.ndarray, " some"]) -> Place:
        """The centre of the plateau of the images of some groups: see `centre`."""
        sums = self._sums[:, groups].sum(axis=1)
        surface = self._finished(sums, groups)
        best = np.unravel_index(surface.argmax(), surface.shape)
        without = (self._finished(sums - self._sums[:, group], groups[groups != group]) for group in groups)
        return centre(surface, _error((of - of[best] for of in without), surface.shape, len(groups)))

    def cell(self, place: Place) -> Cell:
        gate, level, area = place
        return Cell(int(self.stands_for[level]), int(self.areas[area]), int(self.gates[gate]), self.depth)

    def scores(self, place: Place, groups: Int[np.ndarray, " some"]) -> Float[np.ndarray, " some_and_one"]:
        """Of a metric that is a mean over images, the score in a cell over the images of some groups without each of
        these in turn, and last over all of them."""
        own, images = self._sums[0, groups, *place], self._images[groups]
        less = np.append(own, 0), np.append(images, 0)
        return np.asarray((own.sum() - less[0]) / np.maximum(1, images.sum() - less[1]))

    def sums(self, place: Place, groups: Int[np.ndarray, " some"]) -> Float[np.ndarray, " six"]:
        """What scores of several classes or parts together are made of: see `together`."""
        return self._six(self._sums[:, groups, *place].sum(axis=1), groups)

    def emptied(self) -> Float[np.ndarray, " six"]:
        """Likewise of all images, each made empty."""
        return self._six(self._emptied.sum(axis=1), self.used)

    def _add(
        self,
        place: int,
        gate: int,
        values: Float[np.ndarray, "sums 256 areas"] | Int[np.ndarray, "sums 256 areas"],
        empty: Float[np.ndarray, " sums"] | Int[np.ndarray, " sums"],
        known: tuple[int, int],
    ) -> None:
        group = self.group(place)
        open_gates = int(np.searchsorted(self.gates, gate, side="right"))
        self._sums[:, group, :open_gates] += values[:, None]
        self._sums[:, group, open_gates:] += empty[:, None, None, None]
        self._emptied[:, group] += empty
        self._known[:, group] += known
        self._images[group] += 1

    def _six(self, own: np.ndarray, groups: Int[np.ndarray, " some"]) -> Float[np.ndarray, " six"]:
        tp, predicted = own if self._global else (0, 0)
        score = 0.0 if self._global else own[0]
        known = self._known[:, groups].sum(axis=1)
        return np.array([score, self._images[groups].sum(), tp, predicted, *known], float)

    def _finished(self, sums: np.ndarray, groups: Int[np.ndarray, " some"]) -> Surface:
        if not self._global:
            return np.asarray(sums[0] / self._images[groups].sum())
        true, pixels = self._known[:, groups].sum(axis=1)
        return image_scores(_of_pixels(self.metric), Counts(sums[0], sums[1], true, pixels))


def together(metric: DecideMetric, sums: list[Float[np.ndarray, " six"]]) -> float:
    """The metric over all the images whose `CellScores.sums` are given, classes and parts alike."""
    score, images, *pixels = np.sum(sums, axis=0)
    if metric.startswith("global_"):
        counts = (np.asarray(round(number)) for number in pixels)
        return float(image_scores(_of_pixels(metric), Counts(*counts)))
    return float(score / images)


def centre(surface: Surface, error: Surface) -> Place:
    """The cell to decide by: not the best, which on other images is best by luck, but the middle of all that are as
    good as it for all one can tell.

    These are the cells whose score is within one standard error (`error`, of the difference) of the best: the rule of
    one standard error of Breiman, Friedman, Olshen and Stone (1984, 3.4.3). Where cells without a gate are among them,
    no gate is taken, as the simpler; else the middle one of those next to the best. At that gate, of the cells that
    hang together with its best, the smallest area at which they span the most levels, and the middle of these; of
    equal ones the middle again.
    """
    plateau = surface >= surface.max() - error - 1e-12
    gates = np.flatnonzero(plateau.any(axis=(1, 2)))
    if gates[0] == 0:
        gate = 0
    else:
        best = np.flatnonzero(gates == np.unravel_index(surface.argmax(), surface.shape)[0])[0]
        beside = gates - np.arange(len(gates))  # the same along a run of neighbours
        run = gates[beside == beside[best]]
        gate = int(run[len(run) // 2])
    level, area = _middle(plateau[gate], np.where(plateau[gate], surface[gate], -np.inf))
    return gate, level, area


def _middle(plateau: Bool[np.ndarray, "256 areas"], scores: Float[np.ndarray, "256 areas"]) -> tuple[int, int]:
    _, regions = cv2.connectedComponents(plateau.astype(np.uint8), connectivity=8)
    best = np.argwhere((scores >= scores.max() - 1e-12) & plateau)
    region = regions == regions[tuple(best[len(best) // 2])]
    spans = region.sum(axis=0)
    widest = np.flatnonzero(spans == spans.max())
    area = int(widest[len(widest) // 2])
    levels = np.flatnonzero(region[:, area])
    return int(levels[len(levels) // 2]), area


def _error(differences: Iterator[np.ndarray], shape: tuple[int, ...], count: int) -> np.ndarray:
    """The standard error of a difference, from what it is without each of `count` groups in turn: the delete-a-group
    jackknife (Kott 2001), which takes means and ratios alike. 0 for a single group."""
    total, squares = np.zeros(shape), np.zeros(shape)
    for difference in differences if count > 1 else ():
        total += difference
        squares += difference**2
    count = max(1, count)
    return np.asarray(np.sqrt(np.maximum(0, squares - total**2 / count) * (count - 1) / count))


def least_separating(counted: Sequence[CellScores], groups: Int[np.ndarray, " some"]) -> tuple[CellScores, Place]:
    """Of counts over the same images, the first of which takes nothing apart, the one to decide by, and its place.

    It is the first unless others are better by more than a standard error of the difference; then of all that are as
    good as the best for all one can tell, the middle one.
    """
    chosen = [(scored, scored.chosen(groups)) for scored in counted]
    if len(chosen) == 1:
        return chosen[0]
    scores = np.stack([scored.scores(place, groups) for scored, place in chosen])
    differences = scores - scores[scores[:, -1].argmax()]
    errors = _error(iter(differences[:, :-1].T), (len(counted),), len(groups))
    as_good = np.flatnonzero(differences[:, -1] >= -errors - 1e-12)
    return chosen[0] if as_good[0] == 0 else chosen[as_good[len(as_good) // 2]]


@dataclass(frozen=True)
class Found:
    """What the counts of all classes found together."""

    counted: tuple[CellScores, ...]
    """Of each class, the one decided by."""
    places: tuple[Place, ...]
    """Of each class, tuned on all images."""
    parts: tuple[tuple[Cell, ...], ...]
    """Of each part that holds an image, the cell of each class tuned on the other parts."""
    score: float
    cross_fitted_score: float | None
    """None where all images are of one part."""
    all_empty: float
    """What the images score where nothing is found in any."""


Chosen = list[tuple[CellScores, Place]]
"""Of each class."""


def found_together(
    counted: Sequence[CellScores], choose: Choose | None = None, separating: Sequence[Sequence[CellScores]] = ()
) -> Found:
    """Each class decided by itself, on all images and on all parts but one; the scores are of all classes. `choose`
    stands in for `CellScores.chosen`. `separating` are, for each class, counts with objects taken apart, which
    are decided by where that helps."""
    metric, first = counted[0].metric, counted[0]

    def places(groups: Int[np.ndarray, " some"]) -> Chosen:
        if choose:
            return [(scored, choose(number, groups)) for number, scored in enumerate(counted)]
        others = separating or [()] * len(counted)
        return [least_separating([scored, *more], groups) for scored, more in zip(counted, others, strict=True)]

    def cells(chosen: Chosen) -> tuple[Cell, ...]:
        return tuple(scored.cell(place) for scored, place in chosen)

    def sums(chosen: Chosen, groups: Int[np.ndarray, " some"]) -> list[Float[np.ndarray, " six"]]:
        return [scored.sums(place, groups) for scored, place in chosen]

    on_all = places(first.used)
    found_by, at = zip(*on_all, strict=True)
    score = together(metric, sums(on_all, first.used))
    all_empty = together(metric, [scored.emptied() for scored in counted])
    parts = [part for part in range(first.parts) if len(first.of_part(part))]
    if len(parts) == 1:
        return Found(found_by, at, (cells(on_all),), score, None, all_empty)
    tuned = [places(np.setdiff1d(first.used, first.of_part(part))) for part in parts]
    crossed = [of for part, chosen in zip(parts, tuned, strict=True) for of in sums(chosen, first.of_part(part))]
    return Found(found_by, at, tuple(map(cells, tuned)), score, together(metric, crossed), all_empty)


def _of_pixels(metric: DecideMetric) -> Metric:
    if metric == "f2_objects":
        raise ValueError("f2_objects is made of objects, not of pixels: use add_scores")
    return metric
