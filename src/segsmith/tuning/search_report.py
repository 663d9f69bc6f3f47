"""The trials of a search -> report.html: which was best, how they went, and which keys it depended on."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from segsmith.eda.charts import SERIES, Line, bar_chart, line_chart
from segsmith.eda.page import Section, chart_grid, code_block, render_page, table
from segsmith.files import write_text
from segsmith.recipe import Recipe

LISTED = 50
"""Trials in the table, at the most."""


@dataclass(frozen=True)
class Trial:
    """One training of a search. `state` is complete, pruned, fail or running; `score` is NaN unless complete."""

    number: int
    state: str
    score: float
    values: dict[str, Any]
    """What it tries for each key."""
    scores: tuple[float, ...]
    """Of each epoch so far."""
    why: str
    """What made it fail."""


@dataclass(frozen=True)
class Study:
    """All trials of a search so far, by number."""

    recipe: Recipe
    trials: list[Trial]
    importance: dict[str, float] = field(default_factory=dict)
    """Of each key, the share of what tells good trials from others that is its own (PED-ANOVA, arXiv 2304.10255)."""

    @property
    def metric(self) -> str:
        return self.recipe.selected_by

    @property
    def finished(self) -> list[Trial]:
        """Trials with a score, the best first."""
        return sorted((t for t in self.trials if not math.isnan(t.score)), key=lambda trial: -trial.score)

    @property
    def best(self) -> Trial:
        """The first of those with the highest score."""
        return self.finished[0]


def label(value: Any) -> str:
    """What a value is called in the study, which keeps texts and numbers alone; an override understands it."""
    return value if isinstance(value, str) else json.dumps(value)


def write_report(study: Study, file: Path) -> None:
    """Write the report of a study with a finished trial, whole or not at all. Raises WriteError."""
    keys = list(study.trials[0].values)
    charts = [_scores_by_trial(study), _learning(study)]
    if study.importance:
        names, shares = zip(*study.importance.items(), strict=True)
        charts.append(bar_chart(names, shares, title="What the score depended on", x_label="share", value_format=".0%"))
    page = render_page(
        f"Search: {study.recipe.name}",
        f"{len(study.trials)} trials, scored on the validation fold; the best of many is partly luck, so judge the "
        "winner on images that chose nothing",
        [(study.metric, f"{study.best.score:.4f}"), ("best trial", str(study.best.number))],
        [
            Section(
                "The best", [code_block("\n".join(f"{key}={label(value)}" for key, value in study.best.values.items()))]
            ),
            Section("How it went", [chart_grid(charts)]),
            Section("Score by value", [chart_grid([_by_value(study, key) for key in keys])]),
            Section("Trials", _trials(study, keys)),
        ],
    )
    write_text(file, page)


def _scores_by_trial(study: Study) -> Markup:
    scores = np.array([trial.score for trial in study.trials])
    best = np.fmax.accumulate(np.where(np.isnan(scores), -np.inf, scores))
    numbers = [trial.number for trial in study.trials]
    lines = [
        _dots("a trial", numbers, scores.tolist(), SERIES[0]),
        Line("best so far", numbers, np.where(np.isinf(best), np.nan, best), SERIES[1]),
    ]
    return line_chart(lines, title="Score of each trial", x_label="trial", y_label=study.metric)


def _learning(study: Study) -> Markup:
    lines = [Line("", range(1, 1 + len(t.scores)), t.scores, SERIES[4]) for t in study.trials if t is not study.best]
    best = study.best.scores
    lines.append(Line("the best", range(1, 1 + len(best)), best, SERIES[1]))
    return line_chart(lines, title="Score of each trial by epoch", x_label="epoch", y_label=study.metric)


def _by_value(study: Study, key: str) -> Markup:
    """The scores over the values of a key; over their places in the recipe where they are a list, over their powers of
    ten where they are spread over logarithms."""
    assert study.recipe.search is not None
    of_key = study.recipe.search.over[key]
    done = [trial for trial in study.finished if key in trial.values]
    if of_key.choices is not None:
        x = [1.0 + list(of_key.choices).index(trial.values[key]) for trial in done]
        name = ", ".join(f"{number} {label(value)}" for number, value in enumerate(of_key.choices, start=1))
    else:
        x = [math.log10(trial.values[key]) if of_key.log else float(trial.values[key]) for trial in done]
        name = f"log10 of {key}" if of_key.log else key
    dots = _dots("", x, [trial.score for trial in done], SERIES[0])
    return line_chart([dots], title=key, x_label=name[:60], y_label=study.metric)


def _dots(name: str, x: Any, y: list[float], colour: str) -> Line:
    """Points without a line between them: a missing number stands behind each."""
    spread = [value for value in x for _ in range(2)]
    return Line(name, spread, [number for value in y for number in (value, math.nan)], colour)


def _trials(study: Study, keys: list[str]) -> list[str]:
    unfinished = [trial for trial in study.trials if math.isnan(trial.score)]
    rows = [
        [
            trial.number,
            "-" if math.isnan(trial.score) else f"{trial.score:.4f}",
            *(label(trial.values.get(key, "")) for key in keys),
            len(trial.scores),
            trial.state + (f": {trial.why.splitlines()[0]}" if trial.why else ""),
        ]
        for trial in [*study.finished, *unfinished][:LISTED]
    ]
    left = len(study.trials) - len(rows)
    more = [f"{left} more stand in trials.csv."] if left else []
    return [table(["trial", study.metric, *keys, "epochs", "state"], rows, numeric=[0, 1, len(keys) + 2]), *more]
