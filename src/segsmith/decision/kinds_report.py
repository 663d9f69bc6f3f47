"""An evaluation -> sections of the run report: scores of each kind of image, and of objects by their size."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from jaxtyping import Bool
from scipy.stats import binomtest

from segsmith.decision.evaluate import Evaluation
from segsmith.eda.charts import Interval, interval_chart
from segsmith.eda.page import Section, chart_grid, table
from segsmith.samples.chips import Chips

FOUND = 0.5
"""IoU above which an object counts as found; at most one of the other side can have it."""
SIZES = 8
"""Sizes of objects told apart, at the most; each four times the one before."""
OBJECTS = (("no object", 0, 0), ("1 object", 1, 1), ("2 to 4 objects", 2, 4), ("5 objects or more", 5, np.inf))
COVERAGE = ((0, 0.01), (0.01, 0.1), (0.1, 0.5), (0.5, 1))
"""Shares of an image that are foreground, the higher one included."""


def kind_sections(chips: Chips, evaluation: Evaluation, names: dict[str, str]) -> list[Section]:
    """What the scores are made of: kinds of images that are easy and hard, and sizes of objects that are missed.
    `names` says what metrics are called."""
    return [
        Section("Scores by kind of image", _of_images(chips, evaluation, names)),
        *([Section("Objects by size", _of_objects(evaluation.objects))] if len(evaluation.objects) else []),
    ]


def _of_images(chips: Chips, evaluation: Evaluation, names: dict[str, str]) -> list[str]:
    images, metric = evaluation.images, evaluation.decision.metric
    scores = {"dice": "Dice", "iou": "IoU"}
    if metric in ("mean_iou_map", "f2_objects"):
        column = metric.removeprefix("mean_")
        scores = {column: names[metric], **scores}
    rows = []
    for kind, chosen in _kinds(chips, images):
        of_kind = images[chosen]
        filled, marked = of_kind["true_pixels"] > 0, of_kind["predicted_pixels"] > 0
        rows.append(
            [
                kind,
                f"{len(of_kind):,}",
                *(f"{of_kind[column].mean():.3f}" for column in scores),
                _counted(filled & ~marked, filled),
                _counted(~filled & marked, ~filled),
            ]
        )
    headers = ["images", "number", *scores.values(), "missed altogether", "false alarms"]
    return [
        "Means per image (and class, where there are several). Missed altogether: of the images with foreground, those "
        "in which nothing is marked. False alarms: of the images without, those in which something is.",
        table(headers, rows, numeric=range(1, len(headers))),
    ]


def _kinds(chips: Chips, images: pd.DataFrame) -> Iterator[tuple[str, Bool[np.ndarray, " rows"]]]:
    """Names of kinds that some images are of, but not all, and which."""
    strata = chips.strata()
    source = strata.source[images["row"].to_numpy()]
    share = (images["true_pixels"] / images["usable_pixels"].clip(lower=1)).to_numpy()
    objects = images["objects"].to_numpy()
    kinds = [("all", np.ones(len(images), bool))]
    kinds += [(f"class {name}", (images["class"] == name).to_numpy()) for name in chips.dataset.classes]
    kinds += [(f"source {name}", source == place) for place, name in enumerate(strata.sources)]
    kinds += [(name, (objects >= fewest) & (objects <= most)) for name, fewest, most in OBJECTS]
    kinds += [(f"{low:.0%} to {high:.0%} foreground", (share > low) & (share <= high)) for low, high in COVERAGE]
    for name, chosen in kinds:
        if name == "all" or 0 < chosen.sum() < len(images):
            yield name, chosen


def _of_objects(objects: pd.DataFrame) -> list[str]:
    true, predicted = (objects[objects["side"] == side] for side in ("true", "predicted"))
    rows, intervals = [], []
    for low, high in _sizes(objects["pixels"].to_numpy()):
        of_true, of_predicted = (
            side[side["pixels"].between(low, high or np.inf, "left")] for side in (true, predicted)
        )
        name = f"{low:,} to {high - 1:,} pixels" if high else f"{low:,} pixels and more"
        found, met = of_true["iou"] > FOUND, of_true["iou"] > 0
        rows.append(
            [
                name,
                f"{len(of_true):,}",
                *(_counted(chosen, found | True) for chosen in (found, met & ~found, ~met)),
                f"{len(of_predicted):,}",
                _counted(of_predicted["iou"] == 0, of_predicted["iou"] >= 0),
            ]
        )
        if len(of_true):
            share = binomtest(int(found.sum()), len(of_true)).proportion_ci(method="wilson")
            intervals.append(Interval(name, found.mean(), share.low, share.high))
    headers = ["size", "true objects", "found", "met", "missed", "predicted objects", "false"]
    return [
        f"A true object is found where its IoU with a predicted one is above {FOUND}, met where they only share "
        "pixels, and missed where nothing is marked on it; a predicted one is false where it shares no pixel with a "
        "true one. Intervals are Wilson's, of 95 %.",
        table(headers, rows, numeric=range(1, 7)),
        chart_grid([interval_chart(intervals, title="True objects found, by their size", x_label="share found")])
        if intervals
        else "",
    ]


def _sizes(pixels: np.ndarray) -> list[tuple[int, int | None]]:
    """Sizes from and below which there are objects: powers of four, the first and last of which take all beyond."""
    powers = np.floor(np.log2(pixels.clip(min=1)) / 2).astype(int)
    largest = int(powers.max())
    smallest = max(int(powers.min()), largest - SIZES + 1)
    starts = [4**power for power in range(smallest, largest + 1)]
    starts[0] = 1 if smallest > powers.min() else starts[0]
    return list(zip(starts, [*starts[1:], None], strict=True))


def _counted(chosen: "pd.Series[bool]", among: "pd.Series[bool]") -> str:
    """How many of some rows, and what share of them."""
    return f"{chosen.sum():,} ({chosen.sum() / among.sum():.0%})" if among.any() else "-"
