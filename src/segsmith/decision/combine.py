"""Runs, of whatever networks and input sizes -> one run whose probabilities are the average of theirs."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pandas as pd

from segsmith.decision.decide import validation_part
from segsmith.decision.fit_weights import FittingPixels
from segsmith.errors import RunError, listed
from segsmith.files import replacing_folder, write_bytes, write_text
from segsmith.modeling.bundle import Bundle, Decision, Part
from segsmith.modeling.run import Run
from segsmith.prediction.average import averaged_levels
from segsmith.prediction.out_of_fold import predict_part
from segsmith.prediction.probabilities import ProbabilityFiles
from segsmith.progress import track
from segsmith.recipe import Averaging, Recipe
from segsmith.recipe_files import to_yaml
from segsmith.samples.chips import Chips

Weights = tuple[float, ...]


@dataclass(frozen=True)
class Combination:
    """What was combined into a run."""

    run: Path
    weights: Weights
    """Of each run, in the order they were given; they sum to 1."""
    validation: int
    """Images in the validation fold of all, by which the run is decided."""
    held_out: int
    """Images that all held out."""


def combine(
    runs: Sequence[Path],
    to: Path,
    *,
    weights: Sequence[float] | Literal["fit"] | None = None,
    average: Averaging = "mean",
) -> Combination:
    """Combine trained runs into a new run folder, whole or not at all, that every later command takes like any other.

    Its bundle holds the bundles of all, each with its own input size, and averages what they say as `average` says
    (see Average), by `weights`, or equally. Its validation images are those that are in the validation fold of each of
    the runs, so that none was trained on by any network that their probabilities come from; its held-out images
    likewise.

    With "fit" the weights are those of the least log loss on the validation images (see FittingPixels). Then the
    probabilities of each part of the cross-fit are made with weights fitted on the other parts, so that no score of
    these images is of weights that saw their truth.

    Raises RunError for fewer than two runs, an unfinished one, runs that differ in what has to agree, or have no
    validation image in common, weights that are none, or a folder that is not free.
    """
    if len(runs) < 2:
        raise RunError(f"two runs or more can be combined. Received: {', '.join(map(str, runs)) or 'none'}")
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise RunError(f"{to}: is there already; choose a new folder for the combined run")
    given = None if weights == "fit" else _checked_weights(weights, len(runs), average)
    if weights == "fit" and average == "median":
        raise RunError("a median has no weights to be fitted; leave --weights out, or choose --average mean")
    opened = [Run(run) for run in runs]
    recipe = opened[0].recipe()
    bundles = [_bundle(run) for run in opened]
    chips = opened[0].chips()
    _check_agree(opened, bundles, chips)
    validation, held_out = (_common(opened, chips, part) for part in ("validation", "held_out"))
    if not validation:
        raise RunError(
            "no image is in the validation fold of each of the runs, so nothing can be decided on; train them with the "
            "same seed and folds.count, and the same folds.validation or all"
        )
    files = []
    for run, bundle in zip(opened, bundles, strict=True):
        with run.locked():
            files.append(predict_part(run, bundle, chips, "validation")[1])
    recipe = _recipe(recipe, average, held_out=bool(held_out))
    parts, exclusive = recipe.decide.parts, len(chips.dataset.classes) if recipe.data.exclusive else 0
    if given is None:
        pixels = FittingPixels.of(chips, validation, files, recipe.seed)
        of_part = [
            pixels.weights(average, exclusive=exclusive, without_part=part, parts=parts) for part in range(parts)
        ]
        given = pixels.weights(average, exclusive=exclusive)
    else:
        of_part = [given] * parts
    with replacing_folder(to) as folder:
        new = ProbabilityFiles(Run(folder).probabilities, bundles[0].planes)
        by_weights = [(chip, of_part[validation_part(place, parts)]) for place, chip in enumerate(validation)]
        by_weights += [(chip, given) for chip in held_out if all(of.has(chips.id(chip)) for of in files)]
        for chip, own in track(by_weights, "images", len(by_weights)):
            _write_average(new, files, chips.id(chip), own, average, exclusive=exclusive)
        _write_run(folder, opened, recipe, chips, {"validation": validation, "held_out": held_out}, given)
        first = bundles[0]
        members = [
            Part(weight, replace(bundle, decision=Decision()))
            for weight, bundle in zip(given, bundles, strict=True)
            if weight
        ]
        Bundle(
            members=(),
            recipe=recipe,
            mean=first.mean,
            std=first.std,
            classes=first.classes,
            layout=first.layout,
            fingerprint=first.fingerprint,
            extra=first.extra,
            sight=first.sight,
            parts=tuple(members),
        ).write(Run(folder).bundle)
    return Combination(to, given, len(validation), len(held_out))


def _checked_weights(weights: Sequence[float] | None, runs: int, average: Averaging) -> Weights:
    if weights is None:
        return (1 / runs,) * runs
    said = ",".join(f"{weight:g}" for weight in weights)
    if average == "median":
        raise RunError(f"a median has no weights; leave --weights {said} out, or choose --average mean")
    if len(weights) != runs:
        raise RunError(f"--weights {said}: {len(weights)} weights for {runs} runs; say one for each")
    if not (all(0 <= weight < float("inf") for weight in weights) and sum(weights) > 0):
        raise RunError(f"--weights {said}: weights are numbers from 0 on, and not all 0")
    return tuple(weight / sum(weights) for weight in weights)


def _bundle(run: Run) -> Bundle:
    run.recipe()  # tells of a folder that is no run
    run.check_trained()
    return Bundle.read(run.bundle)


def _check_agree(runs: list[Run], bundles: list[Bundle], chips: Chips) -> None:
    """Raise RunError naming what differs from the first run, of all that probabilities must agree in to be averaged."""
    expected, differing = _facts(bundles[0]), []
    for run, bundle in zip(runs[1:], bundles[1:], strict=True):
        found = _facts(bundle)
        differing += [
            f"{run.folder}: {key} {found[key]}, not {expected[key]}" for key in found if found[key] != expected[key]
        ]
        if not differing and not chips.whole and not run.chips().table().equals(chips.table()):
            differing.append(
                f"{run.folder}: cuts other chips; train with the same data.input_hw, stride, scales, gsd_m, blank_most"
            )
    if differing:
        raise RunError(f"runs that differ from {runs[0].folder} cannot be combined with it:\n{listed(differing)}")
    if bundles[0].recipe.gate == "presence":
        without = [str(run.folder) for run, bundle in zip(runs, bundles, strict=True) if not _has_presence(bundle)]
        if without:
            raise RunError(
                f"{runs[0].folder}: decides by its presence head, and these have none:\n{listed(without)}\n"
                "name a run first whose recipe has decide.gate=top_k"
            )


def _facts(bundle: Bundle) -> dict[str, object]:
    """What has to agree, by the words it is told in."""
    recipe = bundle.recipe
    return {
        "dataset of fingerprint": bundle.fingerprint,
        "classes": ", ".join(bundle.classes),
        "layout": bundle.layout.name,
        "data.exclusive": recipe.data.exclusive,
        "network.heads of kind border": recipe.network.border_px or "none",
        "data.extra": ", ".join(recipe.data.extra) or "none",
        "data.fit of": "chips" if recipe.data.fit == "chip" else "whole images",
        "folds.by_heart": recipe.folds.by_heart,
    }


def _has_presence(bundle: Bundle) -> bool:
    if bundle.parts:
        return all(_has_presence(part.bundle) for part in bundle.parts)
    return any(head.kind == "presence" for head in bundle.recipe.network.heads.values())


def _common(runs: list[Run], chips: Chips, part: str) -> list[int]:
    """Chips that are in a part of all of the runs, ascending."""
    return sorted(set.intersection(*(set(run.part(chips, part)) for run in runs)))


def _recipe(first: Recipe, average: Averaging, *, held_out: bool) -> Recipe:
    """That of the first run, as far as it is for what comes after the probabilities of each."""
    predict = first.predict.model_copy(update={"average": average, "scales": (1.0,)})
    folds = first.folds if held_out else first.folds.model_copy(update={"held_out": None})
    return first.model_copy(update={"predict": predict, "folds": folds})


def _write_average(
    new: ProbabilityFiles,
    files: list[ProbabilityFiles],
    image_id: str,
    weights: Weights,
    average: Averaging,
    *,
    exclusive: int,
) -> None:
    used = [(of, weight) for of, weight in zip(files, weights, strict=True) if weight]
    own = [weight for _, weight in used]
    presences = [presence for of, _ in used if (presence := of.presence(image_id)) is not None]
    new.write(
        image_id,
        averaged_levels([of.read(image_id) for of, _ in used], own, average, exclusive=exclusive),
        averaged_levels(presences, own, average) if len(presences) == len(used) else None,
    )


def _write_run(
    folder: Path, runs: list[Run], recipe: Recipe, chips: Chips, parts: dict[str, list[int]], weights: Weights
) -> None:
    """What makes the folder a run, but for its bundle and probabilities."""
    first = runs[0]
    table = pd.read_csv(first.folder / "folds.csv", dtype={"chip": str})
    part_of = {chips.id(chip): part for part, of_part in parts.items() for chip in of_part}
    table["part"] = [part_of.get(chip, "unused") for chip in table["chip"]]
    write_text(folder / "folds.csv", table.to_csv(index=False))
    write_bytes(folder / "chips.parquet", (first.folder / "chips.parquet").read_bytes())
    combined = [{"run": str(run.folder.resolve()), "weight": weight} for run, weight in zip(runs, weights, strict=True)]
    write_text(folder / "run.json", json.dumps({**first.facts(), "combined": combined}, indent=2))
    write_text(folder / "recipe.yaml", to_yaml(recipe, explained=True))
