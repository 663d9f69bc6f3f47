"""Run -> scores of its validation or held-out images, each beside what predicting all empty would score."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int, UInt8

from segsmith.decision.decide import decided_bundle, true_objects, validation_part
from segsmith.decision.masks import Labels, decided_by, label_runs
from segsmith.decision.object_scores import best_overlaps, f2_of_image
from segsmith.decision.separation import objects_by
from segsmith.errors import RunError
from segsmith.files import write_text
from segsmith.modeling.bundle import Decision
from segsmith.modeling.metrics import FIGURES, Counts, Figure, image_scores, score
from segsmith.modeling.run import Run
from segsmith.prediction.out_of_fold import Part, predict_part
from segsmith.prediction.probabilities import ProbabilityFiles
from segsmith.recipe import DecideMetric
from segsmith.samples.chips import Chips
from segsmith.types import ClassMask, Mask

RESAMPLES = 1000
COUNTED = ["right_pixels", "predicted_pixels", "true_pixels", "usable_pixels"]
"""Columns of a table of images, in the order of Counts."""
OBJECT_COLUMNS = ["image_id", "class", "side", "pixels", "iou"]


@dataclass(frozen=True)
class Score:
    """One number over a set of images, its 95 % bootstrap interval over images, and what all empty would score."""

    name: str
    value: float
    low: float
    high: float
    all_empty: float


@dataclass(frozen=True)
class Evaluation:
    """Scores of a set of images, and one row per image and class, worst Dice first.

    A mean per image is a mean over images and classes: each class of each image counts once.
    """

    part: Part
    cross_fitted: bool
    by_heart: bool
    """Whether these images were trained on."""
    decision: Decision
    scores: tuple[Score, ...]
    images: pd.DataFrame
    objects: pd.DataFrame
    """A row for each true and each predicted object, as `object_rows` tells."""

    @property
    def tuned_on_these(self) -> bool:
        """Whether the decision was tuned on the very images it is scored on, too few to cross-fit."""
        return self.part == "validation" and not self.cross_fitted

    @property
    def count(self) -> int:
        """Images scored, however many classes they have."""
        return int(self.images["row"].nunique())

    def score(self, name: str) -> Score:
        return next(found for found in self.scores if found.name == name)


def evaluate(run: Path, *, on: Part | None = None) -> Evaluation:
    """Score a decided run; write scores.json, images.csv and objects.csv into it. `on` defaults to the held-out fold
    if there is one.

    On the validation fold, which the decision was tuned on, every image is scored with the decision of the cross-fit
    that was tuned on other images; a fold of one image, with the one that was tuned on it (`tuned_on_these`). Raises
    RunError for a run that is not decided, or has no held-out fold.
    """
    opened = Run(run)
    recipe = opened.recipe()
    chips = opened.chips()
    part: Part = on or ("validation" if recipe.folds.held_out is None else "held_out")
    if part == "held_out" and recipe.folds.held_out is None:
        raise RunError(f"{run}: has no held-out fold; train with folds.held_out=N, or evaluate on validation")
    opened.check_trained()
    with opened.locked():
        bundle = decided_bundle(opened)
        indices, files = predict_part(opened, bundle, chips, part)
        cross_fitted = part == "validation" and len(bundle.decision.parts) > 1
        table, objects = _score_images(chips, indices, files, bundle.decision, cross_fitted)
        scores = scores_of(table, bundle.classes, recipe.seed)
        evaluation = Evaluation(part, cross_fitted, recipe.folds.by_heart, bundle.decision, scores, table, objects)
        write_text(opened.folder / "scores.json", json.dumps(_plain(evaluation), indent=2))
        write_text(opened.folder / "images.csv", table.to_csv(index=False))
        write_text(opened.folder / "objects.csv", objects.to_csv(index=False))
    return evaluation


def _score_images(
    chips: Chips, indices: list[int], files: ProbabilityFiles, decision: Decision, cross_fitted: bool
) -> tuple[pd.DataFrame, pd.DataFrame]:
    rows, objects = [], []
    for place, index in enumerate(indices):
        image_id = chips.id(index)
        part = validation_part(place, len(decision.parts)) if cross_fitted else None
        judged = judge(chips, index, files.read(image_id), files.presence(image_id), decision, part)
        rows += image_rows(judged)
        objects += object_rows(judged)
    table = pd.DataFrame(rows)
    wrong = table["true_pixels"] + table["predicted_pixels"] - 2 * table["right_pixels"]
    order = np.lexsort([table["image_id"], -wrong, table["dice"]])
    return table.iloc[order].reset_index(drop=True), pd.DataFrame(objects, columns=OBJECT_COLUMNS)


@dataclass(frozen=True)
class Judged:
    """A chip's truth beside what a decision, or that of one part of its cross-fit, makes of its probabilities."""

    chips: Chips
    index: int
    decision: Decision
    part: int | None
    valid: ClassMask
    true: Mask
    """Where pixels are usable."""
    predicted: Mask
    planes: UInt8[np.ndarray, "planes height width"]
    """What was decided, as it is kept."""

    @cached_property
    def found(self) -> list[Labels]:
        """The objects of each class that are predicted."""
        return objects_by(self.decision, self.predicted, self.planes, part=self.part)

    @cached_property
    def labelled(self) -> list[Labels]:
        """The true objects of each class."""
        return [true_objects(self.chips, self.index, number, true) for number, true in enumerate(self.true)]


def judge(
    chips: Chips,
    index: int,
    planes: UInt8[np.ndarray, "planes height width"],
    presence: UInt8[np.ndarray, " classes"] | None,
    decision: Decision,
    part: int | None = None,
) -> Judged:
    """What a decision makes of a chip; `planes` are its levels as they are kept, those of classes first."""
    mask, valid = chips.labels(index)
    predicted = decided_by(
        decision, planes[: len(mask)], exclusive=chips.options.exclusive, part=part, presence=presence
    )
    return Judged(chips, index, decision, part, valid, mask & valid, predicted, planes)


def image_rows(judged: Judged) -> list[dict[str, Any]]:
    """What is counted and scored of a chip, a row for each class."""
    chips, index, decision = judged.chips, judged.index, judged.decision
    classes = chips.dataset.classes
    rows = []
    for number, (predicted, true) in enumerate(zip(judged.predicted, judged.true, strict=True)):
        cell = decision.cells_of(len(classes), judged.part)[number]
        counts = Counts(*(np.array(mask.sum()) for mask in (predicted & true, predicted, true, judged.valid)))
        by_objects = {}
        if decision.metric == "f2_objects":
            found, labelled = (label_runs(of[number]) for of in (judged.found, judged.labelled))
            by_objects["f2_objects"] = f2_of_image(found, labelled, true.shape)
        rows.append(
            {
                "image_id": chips.id(index),
                "class": classes[number],
                "row": index,
                "objects": int(chips.objects[index]),
                "usable_pixels": int(counts.pixels),
                "true_pixels": int(counts.truth),
                "predicted_pixels": int(counts.predicted),
                "right_pixels": int(counts.tp),
                "level": cell.level,
                "smallest_area": cell.smallest_area,
                "gate": cell.gate,
                "depth": cell.depth,
                "part": -1 if judged.part is None else judged.part,
                "dice": float(image_scores("mean_dice", counts)),
                "iou": float(image_scores("mean_iou", counts)),
                "iou_map": float(image_scores("mean_iou_map", counts)),
                **by_objects,
            }
        )
    return rows


def object_rows(judged: Judged) -> list[tuple[str, str, str, int, float]]:
    """Of each true object, and then of each predicted one, the pixels and the highest IoU with one of the other side,
    in the order of OBJECT_COLUMNS."""
    rows: list[tuple[str, str, str, int, float]] = []
    image_id, classes = judged.chips.id(judged.index), judged.chips.dataset.classes
    for name, labelled, found in zip(classes, judged.labelled, judged.found, strict=True):
        true, predicted = best_overlaps(labelled, found)
        for side, objects in (("true", true), ("predicted", predicted)):
            rows += [(image_id, name, side, area, round(iou, 4)) for area, iou in objects]
    return rows


def score_of(rows: Sequence[dict[str, Any]], metric: DecideMetric) -> float:
    """The metric over all rows of `image_rows`."""
    if metric == "f2_objects":
        return float(np.mean([row["f2_objects"] for row in rows]))
    return _score(metric, np.array([[row[name] for row in rows] for name in COUNTED], np.int64))


def scores_of(table: pd.DataFrame, classes: tuple[str, ...], seed: int) -> tuple[Score, ...]:
    """Every figure, and Dice of what has foreground and what is empty, for each class as well where there are several;
    the bootstrap, over images, is counted from the seed.

    `table` has a row per image and class: `row` (shared by the rows of an image, each of which has as many), `class`,
    and the counts named in COUNTED; where it has `f2_objects`, that of each row, its mean comes first.
    """
    counts = table[COUNTED].to_numpy(np.int64).T
    rows_of_image = list(table.groupby("row", sort=False).indices.values())  # resampled together
    # which rows of the table a score is made of, by its name
    named: list[tuple[str, Figure, Bool[np.ndarray, " rows"]]] = [
        (figure, figure, np.ones(len(table), bool)) for figure in FIGURES
    ]
    has_foreground = counts[2] > 0
    for suffix, chosen in [("", np.ones(len(table), bool))] + [
        (f":{name}", (table["class"] == name).to_numpy()) for name in classes if len(classes) > 1
    ]:
        named += [
            (f"dice_foreground{suffix}", "mean_dice", chosen & has_foreground),
            (f"dice_empty{suffix}", "mean_dice", chosen & ~has_foreground),
        ]
    rng = np.random.default_rng([seed, 0xB007])
    rows_of = np.array(sorted(rows_of_image, key=min))
    drawn = [rows_of[rng.integers(0, len(rows_of), len(rows_of))].ravel() for _ in range(RESAMPLES)]
    scores = []
    for name, figure, chosen in named:
        if not chosen.any():
            continue
        spread = np.array([_score(figure, counts[:, rows[chosen[rows]]]) for rows in drawn])
        low, high = np.nanpercentile(spread, [2.5, 97.5])
        kept = counts[:, chosen]
        all_empty = _score(figure, kept * np.array([[0], [0], [1], [1]]))
        scores.append(Score(name, _score(figure, kept), float(low), float(high), all_empty))
    if "f2_objects" in table:
        of_rows = table["f2_objects"].to_numpy()
        low, high = np.percentile([of_rows[rows].mean() for rows in drawn], [2.5, 97.5])
        all_empty = float((~has_foreground).mean())
        scores.insert(0, Score("f2_objects", float(of_rows.mean()), float(low), float(high), all_empty))
    return tuple(scores)


def _score(figure: Figure, counts: Int[np.ndarray, "4 _"]) -> float:
    """NaN for no images."""
    return float(score(figure, Counts(*counts))) if counts.shape[1] else float("nan")


def _plain(evaluation: Evaluation) -> dict[str, object]:
    return {
        "part": evaluation.part,
        "images": evaluation.count,
        "cross_fitted": evaluation.cross_fitted,
        "cells": [cell._asdict() for cell in evaluation.decision.cells],
        "scores": {
            found.name: {
                "value": round(found.value, 6),
                "low": round(found.low, 6),
                "high": round(found.high, 6),
                "all_empty": round(found.all_empty, 6),
            }
            for found in evaluation.scores
        },
    }
