"""Probabilities of the validation fold -> threshold and smallest area, tuned together for the metric the recipe
names."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from segsmith.errors import RunError
from segsmith.files import write_text
from segsmith.modeling.bundle import Bundle, Decision
from segsmith.modeling.metrics import Counts, image_scores
from segsmith.modeling.objective import most_probable
from segsmith.modeling.run import Run
from segsmith.prediction.masks import count_areas
from segsmith.prediction.probabilities import Predictor, ProbabilityFiles, predict_chips
from segsmith.recipe import Metric
from segsmith.types import HW

Grid = Float[np.ndarray, "levels areas"]

AREAS_TRIED = 20
LARGEST_AREA_TRIED = 0.05
"""As a share of the image."""


def decide(run: Path, *, metric: Metric | None = None) -> Decision:
    """Tune the decision of a trained run on its validation fold, store it in the bundle and as decision.json, return
    it.

    `metric` stands in for the recipe's decide.metric. The validation fold is cut into parts, image by image in turn;
    each part is also scored with the decision tuned on the other parts, and that cross-fitted score is the one to
    believe. Memory does not grow with the number of images. Raises RunError if the folder holds no finished run.
    """
    opened = Run(run)
    recipe = opened.recipe()
    chips = opened.chips()
    if not opened.bundle.exists():
        raise RunError(f"{run}: its training is not finished; the same train command continues it")
    metric = metric or recipe.decide.metric
    with opened.locked():
        bundle = Bundle.read(opened.bundle)
        validation = opened.part(chips, "validation")
        files = ProbabilityFiles(opened.probabilities, bundle.classes)
        predict_chips(Predictor(bundle), chips, validation, files, "validation images")
        levels = np.unique(np.rint(np.linspace(1, 255, recipe.decide.thresholds)).astype(np.int64))
        areas = np.array(sorted(recipe.decide.areas or areas_to_try(chips.hw(validation[0]))))
        search = Search(metric, levels, areas, recipe.decide.parts)
        for place, index in enumerate(validation):
            chip, planes = chips.read(index), files.read(chips.id(index))
            if recipe.data.exclusive:
                planes = most_probable(planes)  # as masks.decided does, at whatever level
            for plane, truth in zip(planes, chip.mask & chip.valid, strict=True):
                tp, predicted = count_areas(plane, truth, levels, areas)
                search.add(place, tp, predicted, int(truth.sum()), int(chip.valid.sum()))
        decision = search.decision()
        replace(bundle, decision=decision).write(opened.bundle)
        write_text(opened.folder / "decision.json", json.dumps(asdict(decision), indent=2))
    return decision


def areas_to_try(hw: HW) -> list[int]:
    """Twenty smallest areas, in pixels: 0, then evenly by ratio up to 5 % of an image."""
    largest = max(2.0, LARGEST_AREA_TRIED * hw[0] * hw[1])
    return sorted({0, *np.rint(np.geomspace(2, largest, AREAS_TRIED - 1)).astype(int).tolist()})


def validation_part(place: int, parts: int) -> int:
    """The part of the cross-fit that the image at `place` of the validation fold belongs to."""
    return place % parts


class Search:
    """Sums of a metric over images, per part of the cross-fit, for every level and area; from them the decision."""

    def __init__(
        self, metric: Metric, levels: Int[np.ndarray, " levels"], areas: Int[np.ndarray, " areas"], parts: int
    ):
        self.metric, self.levels, self.areas = metric, levels, areas
        shape = (parts, len(levels), len(areas))
        self._scores = np.zeros(shape)
        self._pixels = np.zeros((4, *shape), np.int64)
        self._images = np.zeros(parts, np.int64)

    def add(
        self,
        place: int,
        tp: Int[np.ndarray, "levels areas"],
        predicted: Int[np.ndarray, "levels areas"],
        truth: int,
        pixels: int,
    ) -> None:
        """Count one class of the image at `place` of the validation fold: `truth` is its foreground pixels, `pixels`
        all that are usable."""
        part = validation_part(place, len(self._images))
        counts = Counts(tp, predicted, np.array(truth), np.array(pixels))
        self._scores[part] += image_scores(self.metric, counts)
        self._pixels[:, part] += np.stack(np.broadcast_arrays(tp, predicted, truth, pixels))
        self._images[part] += 1

    def surface(self, parts: Int[np.ndarray, " some"]) -> Grid:
        """The metric over the images of some parts, at each level and area."""
        if self.metric.startswith("global_"):
            return image_scores(self.metric, Counts(*self._pixels[:, parts].sum(axis=1)))
        return np.asarray(self._scores[parts].sum(axis=0) / self._images[parts].sum())

    def decision(self) -> Decision:
        """The best cell over all images; for every part, the best over the others, and the score those reach
        together."""
        used = np.flatnonzero(self._images)
        surface = self.surface(used)
        level, area = _best(surface)
        tuned = {
            part: _best(self.surface(used[used != part])) if len(used) > 1 else (level, area) for part in used.tolist()
        }
        return Decision(
            level=int(self.levels[level]),
            smallest_area=int(self.areas[area]),
            metric=self.metric,
            score=float(surface[level, area]),
            cross_fitted_score=self._scored_with(tuned) if len(used) > 1 else None,
            levels=tuple(self.levels.tolist()),
            areas=tuple(self.areas.tolist()),
            surface=tuple(tuple(round(value, 6) for value in row) for row in surface.tolist()),
            parts=tuple((int(self.levels[row]), int(self.areas[column])) for row, column in tuned.values()),
        )

    def _scored_with(self, tuned: dict[int, tuple[int, int]]) -> float:
        if self.metric.startswith("global_"):
            pixels = sum(self._pixels[:, part, row, column] for part, (row, column) in tuned.items())
            return float(image_scores(self.metric, Counts(*np.asarray(pixels))))
        return float(sum(self._scores[part][cell] for part, cell in tuned.items()) / self._images.sum())


def _best(surface: Grid) -> tuple[int, int]:
    """Row and column of the largest value; of equal ones the middle, since a decision at an edge is the first to
    break."""
    rows, columns = np.nonzero(surface >= surface.max() - 1e-12)
    middle = len(rows) // 2
    return int(rows[middle]), int(columns[middle])
