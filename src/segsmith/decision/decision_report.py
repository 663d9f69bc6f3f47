"""What a decision was chosen from, and how far probabilities can be believed -> sections of report.html."""

import json
from pathlib import Path

import numpy as np
from jaxtyping import Int
from markupsafe import Markup

from segsmith.decision.calibration import Calibration
from segsmith.eda.charts import Line, heat_map, line_chart
from segsmith.eda.page import Section, chart_grid, table
from segsmith.modeling.bundle import Cell, Decision

ROWS_DRAWN, COLUMNS_DRAWN = 52, 24
"""Of a surface; a cell of a heat map costs some 150 bytes."""


def decision_section(decision: Decision, classes: tuple[str, ...], metric_names: dict[str, str]) -> list[str]:
    """For each class the score by threshold, smallest object and gate, and what was chosen."""
    name = metric_names[decision.metric or "mean_dice"]
    cross = "" if decision.cross_fitted_score is None else f", {decision.cross_fitted_score:.4f} when cross-fitted"
    several = len(classes) > 1
    rows, charts = [], []
    for number, cell in enumerate(decision.cells):
        of_class = f" of {classes[number]}" if several else ""
        best = max(max(row) for row in decision.surfaces[number])
        chosen = decision.surfaces[number][cell.level][decision.areas.index(cell.smallest_area)]
        gate = f"{cell.gate / 255:.3f}" if cell.gate else "none"
        rows.append(
            [classes[number], f"{cell.threshold:.3f}", f"{cell.smallest_area:,} px", gate, f"{chosen:.4f}",
             f"{best:.4f}"]
        )  # fmt: skip
        charts += _charts(decision, number, cell, name, of_class)
    headers = ["class", "threshold", "smallest object", "gate", "score", "best cell"]
    return [
        f"Tuned for {name} on the validation fold: {decision.score:.4f} there{cross}. All 256 levels were scored with "
        f"{len(decision.areas)} smallest objects and every gate tried. Chosen is the centre of what is as good as the "
        "best within one standard error, since the best itself is partly luck." + _told_of_touching(decision, classes),
        table(headers, rows, numeric=[1, 2, 3, 4, 5]),
        chart_grid(charts),
    ]


def _told_of_touching(decision: Decision, classes: tuple[str, ...]) -> str:
    """Whether objects that touch are taken apart; nothing where that was not tried."""
    if decision.separate_by == "none":
        return ""
    depths = [f"{name} at depth {cell.depth}" for name, cell in zip(classes, decision.cells, strict=True) if cell.depth]
    if not depths:
        return f" To take apart objects that touch ({decision.separate_by}) did not help, and is not done."
    return (
        f" Objects that touch are taken apart ({decision.separate_by}): {', '.join(depths)}; that was scored at every "
        "16th level, which stands for those beside it."
    )


def calibration_sections(file: Path, applied: float | None) -> list[Section]:
    """How often pixels of a probability are foreground, before and after the temperature; nothing without the file."""
    if not file.exists():
        return []
    found = json.loads(file.read_text())
    calibration, temperature = Calibration.from_plain(found), float(found["temperature"])
    before, after = calibration.bins(), calibration.bins(temperature)
    stored = "Rasters are written with it." if applied else "Rasters are written without it: decide.calibrate=false."
    lines = [
        Line("as the network says", before[:, 0], before[:, 1]),
        Line(f"temperature {temperature:.2f}", after[:, 0], after[:, 1]),
        Line("as it should be", [0, 1], [0, 1]),
    ]
    chart = line_chart(
        lines,
        title="Reliability",
        x_label="probability",
        y_label="share of foreground",
    )
    text = (
        f"On the validation fold a probability is off by {calibration.error():.4f} on average (expected calibration "
        f"error, 15 bins), and by {calibration.error(temperature):.4f} with logits divided by {temperature:.2f}. "
        f"{stored} No decision depends on it, since the order of pixels stays."
    )
    return [Section("Calibration", [text, chart_grid([chart])])]


def _charts(decision: Decision, number: int, cell: Cell, name: str, of_class: str) -> list[Markup]:
    surface = np.array(decision.surfaces[number])
    column = decision.areas.index(cell.smallest_area)
    thresholds = np.arange(len(surface)) / 255
    rows, columns = _drawn(cell.level, len(surface), ROWS_DRAWN), _drawn(column, len(decision.areas), COLUMNS_DRAWN)
    charts = [
        line_chart(
            [
                Line(f"smallest object {cell.smallest_area} px", thresholds, surface[:, column]),
                Line("best smallest object", thresholds, surface.max(axis=1)),
            ],
            title=f"Score by threshold{of_class}",
            x_label="threshold",
            y_label=name,
            verticals=[(cell.threshold, f"{cell.threshold:.3f}")],
        ),
        heat_map(
            surface[np.ix_(rows, columns)],
            [str(decision.areas[area]) for area in columns],
            [f"{thresholds[level]:.2f}" for level in rows],
            title=f"Score by threshold and smallest object{of_class}",
            x_label="smallest object, pixels",
            y_label="threshold",
            value_label=name,
            chosen=(rows.tolist().index(cell.level), columns.tolist().index(column)),
        ),
    ]
    if len(decision.gates[number]) > 1:
        gates, scores = np.array(decision.gates[number]).T
        charts.append(
            line_chart(
                [Line("score", gates / 255, scores)],
                title=f"Score by gate{of_class}",
                x_label="gate: images below it are empty",
                y_label=name,
                verticals=[(cell.gate / 255, f"{cell.gate / 255:.3f}")],
            )
        )
    return charts


def _drawn(chosen: int, count: int, most: int) -> Int[np.ndarray, " drawn"]:
    """At most so many of the numbers below `count`, in even steps, `chosen` among them."""
    step = -(-count // most)
    return np.arange(chosen % step, count, step)
