"""Probabilities of the validation fold -> for each class threshold, smallest area and empty gate, tuned together for
the metric the recipe names."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from segsmith.data import rle
from segsmith.decision.calibration import Calibration
from segsmith.decision.cells import CellScores, Place, found_together
from segsmith.decision.component_tree import filled
from segsmith.decision.gates import gate_values, gates_to_try
from segsmith.decision.masks import Labels, connected_objects, count_areas
from segsmith.decision.object_levels import NEAREST_SEPARATED, f2_scores, separated_f2_scores
from segsmith.decision.risk import MissRates, dial
from segsmith.decision.separation import DEPTHS, relief_of
from segsmith.decision.skipping import skipping
from segsmith.errors import RunError, listed
from segsmith.files import write_text
from segsmith.losses.objective import most_probable
from segsmith.modeling.bundle import Bundle, Decision, Dial
from segsmith.modeling.run import Run
from segsmith.prediction.out_of_fold import predict_part
from segsmith.prediction.probabilities import ProbabilityFiles
from segsmith.recipe import DecideMetric, Recipe, Separate
from segsmith.samples.chips import Chips
from segsmith.samples.split import unjudged
from segsmith.types import HW, ClassMask, Mask, Probabilities

AREAS_TRIED = 48
LARGEST_AREA_TRIED = 0.05
"""As a share of the image."""
GATES_TRIED = 16
"""At most, for each class."""


def decide(
    run: Path,
    *,
    metric: DecideMetric | None = None,
    miss_rate: float | None = None,
    separate: Separate | None = None,
    skip_loss: float | None = None,
    look: float = 0.5,
    say: Callable[[str], None] = lambda line: None,
) -> Decision:
    """Tune the decision of a trained run on its validation fold, store it in the bundle and as decision.json, return
    it.

    Each class is decided by itself: all 256 levels, the areas of `areas_to_try` or of the recipe, and the gates of
    `gates_to_try`, every combination of them, each scored exactly. For f2_objects, objects that touch are taken apart
    as the recipe's decide.separate says, or `separate` in its stead: at the depth that suits best, or not at all unless
    that helps; it is scored at fewer levels (`object_levels`). `metric` stands in for the recipe's decide.metric.
    The validation fold is cut into parts, image by image in turn; each part is also scored with the decision tuned on
    the other parts, and that cross-fitted score is the one to believe. Of each image one gate value is kept per class;
    else memory does not grow with their number.

    With a `miss_rate`, between 0 and 1, the level of each class is the highest that is sure to miss no larger share of
    the foreground (see `risk`); no object is dropped then and no image emptied, which could miss more.

    With a `skip_loss`, from 0 to below 1, the decision also tells which images, or chips, predictions may skip after a
    first look at them, shrunk to `look` of their sides, so that no larger share of the foreground is lost (see
    `skipping`). Scores are those without.

    `say` is told a line for each class that the validation fold holds nothing of: what is decided of it means nothing.

    Raises RunError if the folder holds no finished run, or the validation fold nothing of any class, for a miss rate, a
    skip loss or a look that is none, for a `separate` that goes with another metric, with no miss rate, or with a head
    of kind border that the run lacks, and like `skipping`.
    """
    if miss_rate is not None and not 0 < miss_rate < 1:
        raise RunError(f"the miss rate lies between 0 and 1, and {miss_rate:g} does not; try 0.05")
    if skip_loss is not None and not 0 <= skip_loss < 1:
        raise RunError(f"the share that skipping may lose lies from 0 to below 1, and {skip_loss:g} does not; try 0.01")
    if not 0 < look <= 1:
        raise RunError(f"a first look sees sides of more than 0 and up to 1 of theirs, and {look:g} is not; try 0.5")
    opened = Run(run)
    recipe = opened.recipe()
    chips = opened.chips()
    opened.check_trained()
    _check_judged(opened, chips, say)
    metric = metric or recipe.decide.metric
    of_objects = metric == "f2_objects" and not miss_rate
    if separate not in (None, "none") and not of_objects:
        raise RunError(
            f"objects are taken apart (separate={separate}) where it is decided by f2_objects without a miss rate; "
            f"the metric is {metric}; leave the one or the other out"
        )
    if separate == "border" and not recipe.network.border_px:
        raise RunError(f"{run}: learnt no borders; train with a head of kind border, or try distance")
    separate = (separate or recipe.decide.separate) if of_objects else "none"
    with opened.locked():
        bundle = Bundle.read(opened.bundle)
        validation, files = predict_part(opened, bundle, chips, "validation")
        decision, calibration = _tuned(recipe, metric, chips, validation, files, miss_rate, separate)
        if skip_loss is not None:
            decision = replace(decision, skip=skipping(opened, bundle, chips, skip_loss, look))
        replace(bundle, decision=decision).write(opened.bundle)
        write_text(opened.folder / "decision.json", json.dumps(asdict(decision), indent=2))
        write_text(opened.folder / "calibration.json", json.dumps(calibration.plain(), indent=2))
    return decision


def _check_judged(run: Run, chips: Chips, say: Callable[[str], None]) -> None:
    fold_of = run.folds(chips)
    fold = np.array([fold_of.get(chip, -1) for chip in range(len(chips))], np.int64)
    told = unjudged(chips, run.part(chips, "validation"), fold, run.recipe().folds)
    if len(told) == len(chips.dataset.classes):
        raise RunError(f"{run.folder}: nothing can be decided\n{listed(list(told.values()))}\nthen train a new run")
    for line in told.values():
        say(line)


def decided_bundle(run: Run) -> Bundle:
    """The bundle of a run that is trained to its end. Raises RunError where it is not decided yet."""
    bundle = Bundle.read(run.bundle)
    if bundle.decision.metric is None:
        raise RunError(f"{run.folder}: not decided yet; first: segsmith decide {run.folder}")
    return bundle


def areas_to_try(hw: HW) -> list[int]:
    """Up to 48 smallest areas, in pixels: 0, then evenly by ratio up to 5 % of an image."""
    largest = max(2.0, LARGEST_AREA_TRIED * hw[0] * hw[1])
    return sorted({0, *np.rint(np.geomspace(2, largest, AREAS_TRIED - 1)).astype(int).tolist()})


def validation_part(place: int, parts: int) -> int:
    """The part of the cross-fit that the image at `place` of the validation fold belongs to."""
    return place % parts


@dataclass(frozen=True)
class Seen:
    """One image, as decisions see it."""

    planes: Probabilities
    """At any level, what `masks.decided_by` makes of the image but for small objects and the gate."""
    raw: UInt8[np.ndarray, "planes height width"]
    """As the network has them: of classes that exclude each other, of all of them; with holes; borders behind them."""
    gates: list[int]
    truth: Mask
    valid: ClassMask
    chip: int


def seen_images(options: Recipe, chips: Chips, indices: Iterable[int], files: ProbabilityFiles) -> Iterator[Seen]:
    """Chips whose probabilities are there, one by one. Raises DataError for files that are gone or broken."""
    for index in indices:
        (mask, valid), raw = chips.labels(index), files.read(chips.id(index))
        planes = raw[: len(chips.dataset.classes)]
        if options.data.exclusive:
            planes = most_probable(planes)  # as masks.decided does, at whatever level
        gates = gate_values(planes, options.gate, options.decide.top_k, files.presence(chips.id(index)))
        if options.decide.fill_holes:
            planes = np.stack([filled(plane) for plane in planes])
        yield Seen(planes, raw, gates, mask & valid, valid, index)


def _tuned(
    recipe: Recipe,
    metric: DecideMetric,
    chips: Chips,
    validation: list[int],
    files: ProbabilityFiles,
    miss_rate: float | None,
    separate_by: Separate,
) -> tuple[Decision, Calibration]:
    options = recipe.decide
    areas = np.array(sorted({*(options.areas or areas_to_try(chips.hw(validation[0]))), *([0] if miss_rate else [])}))
    tried = _gates_tried(recipe, chips, validation, files)
    depths = DEPTHS.get(separate_by, ())
    counted = [CellScores(metric, areas, np.array(gates), options.parts) for gates in tried]
    separating = [
        [CellScores(metric, areas, np.array(gates), options.parts, depth, NEAREST_SEPARATED) for depth in depths]
        for gates in tried
    ]
    rates = [defaultdict[int, MissRates](MissRates.of_none) for _ in counted]
    calibration = Calibration.of_no_pixel()
    for place, seen in enumerate(seen_images(recipe, chips, validation, files)):
        for class_id, (scored, plane, truth) in enumerate(zip(counted, seen.planes, seen.truth, strict=True)):
            gate = seen.gates[class_id]
            if metric == "f2_objects":
                labels = true_objects(chips, seen.chip, class_id, truth)
                empty = float(not labels.any())
                scored.add_scores(place, gate, f2_scores(plane, labels, areas), empty)
                if depths:
                    relief = partial(relief_of, separate_by, number=class_id, planes=seen.raw)
                    scores = separated_f2_scores(plane, labels, areas, relief, depths)
                    for other, of_depth in zip(separating[class_id], scores, strict=True):
                        other.add_scores(place, gate, of_depth, empty)
            else:
                tp, predicted = count_areas(plane, truth, areas)
                scored.add(place, gate, tp, predicted, int(truth.sum()), int(seen.valid.sum()))
            rates[class_id][scored.group(place)] += MissRates.of_image(plane, truth)
            calibration = calibration.with_pixels(seen.raw[class_id][seen.valid], truth[seen.valid])

    def of_groups(class_id: int, groups: Int[np.ndarray, " some"]) -> tuple[int, Dial]:
        of_class = sum((rates[class_id][group] for group in groups.tolist()), MissRates.of_none())
        return dial(of_class, miss_rate or 0)

    def by_dial(class_id: int, groups: Int[np.ndarray, " some"]) -> Place:
        return 0, of_groups(class_id, groups)[0], 0  # neither gate nor smallest area, which could miss more

    found = found_together(counted, by_dial if miss_rate else None, separating)
    surfaces = [scored.surface(scored.used) for scored in found.counted]
    decision = Decision(
        cells=tuple(scored.cell(place) for scored, place in zip(found.counted, found.places, strict=True)),
        gate_by=recipe.gate,
        gate_pixels=options.top_k,
        fill_holes=options.fill_holes,
        separate_by=separate_by,
        metric=metric,
        score=found.score,
        cross_fitted_score=found.cross_fitted_score,
        all_empty=found.all_empty,
        areas=tuple(areas.tolist()),
        surfaces=tuple(
            tuple(tuple(round(value, 6) for value in row) for row in surface[place[0]].tolist())
            for surface, place in zip(surfaces, found.places, strict=True)
        ),
        gates=tuple(
            tuple((gate, round(float(surface[number, place[1], place[2]]), 6)) for number, gate in enumerate(gates))
            for surface, place, gates in zip(surfaces, found.places, tried, strict=True)
        ),
        parts=found.parts,
        dials=tuple(of_groups(number, scored.used)[1] for number, scored in enumerate(counted)) if miss_rate else (),
        temperature=calibration.temperature() if options.calibrate else None,
    )
    return decision, calibration


def _gates_tried(recipe: Recipe, chips: Chips, validation: list[int], files: ProbabilityFiles) -> list[list[int]]:
    """Of each class; the gate values of all images are read first, since they say which gates matter."""
    gate, classes = recipe.gate, len(chips.dataset.classes)
    if gate == "none":
        return [[0] for _ in range(classes)]
    values = []
    for index in validation:
        planes = files.read(chips.id(index))[:classes]
        if recipe.data.exclusive:
            planes = most_probable(planes)
        values.append(gate_values(planes, gate, recipe.decide.top_k, files.presence(chips.id(index))))
    return [gates_to_try(list(of_class), GATES_TRIED) for of_class in zip(*values, strict=True)]


def true_objects(chips: Chips, chip: int, class_id: int, truth: ClassMask) -> Labels:
    """The labelled objects of a class of a chip, numbered from 1 without gaps; of windows of images whose labels are
    run lengths, the connected parts of its truth instead."""
    dataset = chips.dataset
    if dataset.of_polygons:
        return _without_gaps(chips.numbered(chip)[class_id] * truth)
    if not chips.whole:
        return connected_objects(truth)
    image = int(chips.image[chip])
    labels = np.zeros(truth.shape, np.int32)
    of_image = range(dataset.first_object[image], dataset.first_object[image + 1])
    of_class = dataset.objects["class"].to_numpy()
    for number, row in enumerate((row for row in of_image if of_class[row] == class_id), start=1):
        runs = dataset.runs[dataset.offsets[row] : dataset.offsets[row + 1]]
        labels[rle.decode(runs, truth.shape)] = number
    return _without_gaps(labels * truth)


def _without_gaps(labels: Labels) -> Labels:
    """The same objects numbered from 1 on: some are not in this chip, or not in what of it is usable."""
    present, places = np.unique(labels, return_inverse=True)
    return np.asarray(np.searchsorted(present[present > 0], present, side="right")[places].reshape(labels.shape))
