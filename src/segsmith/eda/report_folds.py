"""Dataset with its groups -> the report's section on folds: what each would hold, and whether the split leaks."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from segsmith.audit.duplicates import SIMILAR, Descriptions
from segsmith.audit.folds import make_folds
from segsmith.audit.leaks import Leaks, Nearest, Telling, find_leaks
from segsmith.data.dataset import Dataset
from segsmith.eda.charts import bar_chart, binned, heat_map, histogram
from segsmith.eda.page import Section, chart_grid, figure_grid, table
from segsmith.eda.profile import classes_present
from segsmith.eda.report_duplicates import side_by_side
from segsmith.errors import DataError
from segsmith.recipe import Folds

MOST_CHECKED = 20_000
"""Labelled images up to which the split is checked for leaks."""
PAIRS_SHOWN = 6
SEED = 0


def folds_section(dataset: Dataset, described: Descriptions | None) -> Section:
    """The folds of whole images that a recipe's defaults give; with `described`, what validation fold 0 has in common
    with the others. Raises DataError when an image that is to be shown has broken."""
    options = Folds()
    try:
        folds = make_folds(dataset, options, SEED)
    except DataError as error:
        advice = " A recipe with data.fit=chip deals blocks of each image instead." if _large(dataset) else ""
        return Section("Folds", [f"There is no split by whole images: {error}.{advice}"])
    parts = [
        f"The labelled images in {options.count} folds, as a recipe deals them that says nothing else: a group stays "
        "whole, and every fold has about as many empty images, objects, classes and foreground as the others.",
        *(["A recipe with data.fit=chip deals square blocks of each image instead."] if _large(dataset) else []),
        *_side_by_side(dataset, folds, options.count),
        *_leak_check(dataset, folds, options.validated[0], described),
    ]
    return Section("Folds", parts)


def _large(dataset: Dataset) -> bool:
    return any(dataset.is_raster(index) for index in dataset.labelled[:1].tolist()) or len(dataset.labelled) < 5


def _side_by_side(dataset: Dataset, folds: Int[np.ndarray, " images"], count: int) -> list[str]:
    present = classes_present(dataset)
    table_of = dataset.images
    pixels = dataset.known_pixels
    foreground, objects = table_of["foreground"].to_numpy(), table_of["objects"].to_numpy()
    rows, coverage, classes = [], [], []
    for fold in range(count):
        inside = folds == fold
        empty = inside & (foreground == 0)
        coverage.append(float(foreground[inside].sum() / max(1, pixels[inside].sum())))
        classes.append(present[inside].sum(axis=0))
        rows.append(
            [
                str(fold),
                f"{inside.sum():,}",
                f"{empty.sum():,} ({empty.sum() / max(1, inside.sum()):.1%})",
                f"{objects[inside].sum():,}",
                f"{coverage[-1]:.2%}",
            ]
        )
    per_class = np.stack(classes)
    headers = ["fold", "images", "empty", "objects", "foreground"]
    parts: list[str] = [table(headers, rows, numeric=range(5)), *_missing(dataset, per_class)]
    names = [f"fold {fold}" for fold in range(count)]
    charts = [
        bar_chart(names, coverage, title="Foreground pixels", x_label="share of the fold's pixels", value_format=".2%")
    ]
    if 1 < len(dataset.classes) <= 30:
        charts.append(
            heat_map(
                per_class.T,
                [str(fold) for fold in range(count)],
                dataset.classes,
                title="Images of each class",
                x_label="fold",
                y_label="class",
                value_label="images",
                value_format=",.0f",
                written=True,
            )
        )
    return [*parts, chart_grid(charts)]


def _missing(dataset: Dataset, per_class: Int[np.ndarray, "folds classes"]) -> list[str]:
    """A sentence for each class that some fold lacks."""
    said = []
    for class_id, name in enumerate(dataset.classes):
        without = np.flatnonzero(per_class[:, class_id] == 0)
        if len(without):
            folds = "s " if len(without) > 1 else " "
            numbers = ", ".join(map(str, without.tolist()))
            said.append(f"Class {name} is missing in fold{folds}{numbers}: no score of it can be had there.")
    return said


def _leak_check(
    dataset: Dataset, folds: Int[np.ndarray, " images"], validation: int, described: Descriptions | None
) -> list[str]:
    if described is None:
        return ["Whether the split leaks was not checked: images were not compared."]
    if len(dataset.labelled) > MOST_CHECKED:
        return [
            f"Whether the split leaks was not checked: {len(dataset.labelled):,} labelled images, more than "
            f"{MOST_CHECKED:,}. Duplicates and mosaics are in one fold all the same."
        ]
    leaks = find_leaks(dataset, folds, validation, described)
    parts = [f"Leak check of fold {validation} against the others. {_leaking(leaks)}"]
    if leaks.too_large:
        parts.append(f"Images too large to be read whole, which were not compared: {leaks.too_large:,}.")
    parts.append(_telling(leaks.train_or_validation, "validation", "training"))
    if len(dataset.labelled) < len(dataset):
        parts.append(_telling(leaks.train_or_test, "unlabelled", "training"))
    if leaks.nearest:
        parts += _nearest(dataset, leaks.nearest)
    return parts


def _leaking(leaks: Leaks) -> str:
    checked = len(leaks.nearest)
    if not checked:
        return "No image could be compared."
    if not leaks.leaking and not leaks.groups_split:
        return f"None of its {checked:,} images shows the pixels of a training image, and no group is split."
    return (
        f"{leaks.leaking:,} of its {checked:,} images show the pixels of a training image, and "
        f"{leaks.groups_split:,} groups are split: scores will flatter. Name their groups with --groups FILE."
    )


def _telling(found: Telling | None, one: str, other: str) -> str:
    if found is None:
        return f"Too few images to ask whether {one} and {other} images can be told apart (ten of each are needed)."
    measured = (
        f"AUC {found.auc:.2f}, give or take {2 * found.deviation:.2f}; 0.5 is what guessing gives, 1 is never wrong; "
        f"{found.images[1]:,} and {found.images[0]:,} images"
    )
    if found.tells:
        return (
            f"A classifier tells {one} images from {other} images ({measured}). They differ in size, brightness or "
            f"what they show, so a score on one may not hold for the other."
        )
    return f"A classifier cannot tell {one} images from {other} images ({measured}): they are of one kind."


def _nearest(dataset: Dataset, nearest: Sequence[Nearest]) -> list[str]:
    ids = dataset.images["image_id"]
    items = [
        (
            side_by_side(dataset, near.validation, near.training),
            f"{ids[near.validation]} (validation), {ids[near.training]} (training): similarity {near.similarity:.2f}",
        )
        for near in nearest[:PAIRS_SHOWN]
    ]
    chart = histogram(
        *binned([near.similarity for near in nearest]),
        title="Likeness of each validation image's nearest training image",
        x_label="similarity (1: the same pixels)",
        y_label="validation images",
        verticals=[(SIMILAR, "the same pixels from here on")],
    )
    return [chart_grid([chart]), "The closest pairs:", figure_grid(items, min_px=330)]
