"""What training told of its epochs and steps -> sections of the run report."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Int
from markupsafe import Markup

from segsmith.eda.charts import SERIES, Line, line_chart
from segsmith.eda.page import Section, chart_grid
from segsmith.modeling.next_hour import of_epochs
from segsmith.modeling.run import Run
from segsmith.recipe import Metric, Recipe

STEPS_DRAWN, MEANS_DRAWN = 240, 40
"""Runs of steps whose lowest and highest loss are drawn, and whose mean is, at the most."""
PALE = "var(--rule, #c9ced6)"


@dataclass(frozen=True)
class Learnt:
    """What one training told."""

    name: str
    """Its fold, where folds validate in turn."""
    epochs: pd.DataFrame
    steps: pd.DataFrame


def learnt_by(run: Run) -> list[Learnt]:
    """Of a run, or of the run of each fold where folds validate in turn; none for a combined run."""
    folds = run.recipe().folds
    each = [(f"fold {fold}", run.of_fold(fold).folder) for fold in folds.validated] if folds.validation == "all" else []
    told = [(name, folder) for name, folder in each or [("", run.folder)] if (folder / "metrics.csv").exists()]
    return [Learnt(name, *_tables(folder)) for name, folder in told]


def learning_sections(learnt: list[Learnt], recipe: Recipe, names: dict[str, str]) -> list[Section]:
    """Charts of one training, or of the scores of several beside one another; nothing where there is none.
    `names` says what metrics are called."""
    if not learnt:
        return []
    if len(learnt) == 1:
        return [Section("Learning", _learning(learnt[0].epochs, learnt[0].steps, recipe, names))]
    metric: Metric = recipe.selected_by
    charts = [
        line_chart(
            [Line(of.name, np.arange(1, len(of.epochs) + 1), of.epochs[column].to_numpy()) for of in learnt],
            title=title,
            x_label="epoch",
            y_label=y_label,
            verticals=_stage_starts(learnt[0].epochs),
        )
        for title, y_label, column in (
            ("Validation score at its best threshold", names[metric], metric),
            ("Validation loss", "loss", "validation_loss"),
            ("Training loss", "loss", "loss"),
        )
    ]
    return [Section("Learning", ["Of each fold, with the networks that were not trained on it.", chart_grid(charts)])]


def _tables(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    return pd.read_csv(folder / "metrics.csv"), pd.read_csv(folder / "losses.csv")


def _learning(epochs: pd.DataFrame, steps: pd.DataFrame, recipe: Recipe, names: dict[str, str]) -> list[str]:
    metric: Metric = recipe.selected_by
    classes = [str(column).removeprefix("dice:") for column in epochs if str(column).startswith("dice:")]

    def chart(title: str, y_label: str, **columns: str) -> Markup:
        x = np.arange(1, len(epochs) + 1)
        lines = [Line(name.replace("_", " "), x, epochs[column].to_numpy()) for name, column in columns.items()]
        return line_chart(lines, title=title, x_label="epoch", y_label=y_label, verticals=_stage_starts(epochs))

    charts = [
        _step_chart(steps),
        chart("Loss, training and validation", "loss", training="loss", validation="validation_loss"),
        chart("Validation score at its best threshold", names[metric], validation=metric),
        chart("Precision, recall, F1 over all pixels", "share", precision="precision", recall="recall", F1="f1"),
        chart("Accuracy over all pixels", "accuracy", accuracy="accuracy"),
        chart("Validation Dice", "Dice", with_foreground="dice_foreground", without="dice_empty"),
    ]
    for title, column in (("with it", "dice_foreground"), ("without it", "dice_empty")) if classes else ():
        of_each = {of_class: f"{column}:{of_class}" for of_class in classes}
        charts.append(chart(f"Validation Dice by class, images {title}", "Dice", **of_each))
    judged = "all images, which it is trained on" if recipe.folds.by_heart else "the validation fold"
    charts.append(chart("Learning rate", "learning rate", last_step="lr"))
    return [
        f"All but the training loss is of {judged}, with the weights that would be kept; scores are at the threshold "
        f"that was best in each epoch for: {names[metric]}.",
        f"By the epochs so far, {of_epochs(metric, epochs)}.",
        chart_grid(charts),
    ]


def _step_chart(steps: pd.DataFrame) -> Markup:
    """The loss of every step; of many, the lowest and highest of each few, and the mean of more."""
    loss, x = steps["loss"].to_numpy(), np.arange(1, len(steps) + 1)
    few, more = -(-len(steps) // STEPS_DRAWN), max(2, -(-len(steps) // MEANS_DRAWN))
    drawn = np.unique(
        [place for run in _runs(x - 1, few) for place in (run[loss[run].argmin()], run[loss[run].argmax()])]
    )
    middles, means = zip(*((x[run].mean(), loss[run].mean()) for run in _runs(x - 1, more)), strict=True)
    lines = [
        Line("each step", x[drawn], loss[drawn], colour=PALE),
        Line(f"mean of {more} steps", middles, means, colour=SERIES[0]),
    ]
    marks = _stage_starts(steps)
    return line_chart(lines, title="Loss of each step", x_label="step", y_label="loss", verticals=marks)


def _stage_starts(table: pd.DataFrame) -> list[tuple[float, str]]:
    """Where the rows of each stage but the first begin, counted from 1."""
    starts = np.flatnonzero(np.diff(table["stage"])) + 1
    return [(float(row + 1), f"stage {table['stage'].iloc[row]}") for row in starts]


def _runs(values: Int[np.ndarray, " _"], length: int) -> list[Int[np.ndarray, " _"]]:
    """Cut into runs of so many, the last of them maybe shorter."""
    return np.split(values, range(length, len(values), length))
