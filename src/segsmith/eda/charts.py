"""Arrays -> inline SVG charts.

Each chart fills its column, keeps its text readable on a phone, and describes itself to a screen reader. Numbers that
are not finite are missing; a chart of nothing else says "no data". `width` and `height` are px at full scale.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import SupportsFloat, SupportsIndex

import numpy as np
from jaxtyping import Float64, Int, Num
from markupsafe import Markup

from segsmith.eda.svg import (
    BELOW_PX,
    LOUD,
    MARGIN_PX,
    ON_LINES,
    RULE,
    TEXT_PX,
    Axis,
    Drawing,
    Style,
    linear_axis,
    log_axis,
    shortened,
    text_width,
)

Numbers = Sequence[SupportsFloat] | Num[np.ndarray, " _"]
Verticals = Sequence[tuple[SupportsFloat, str]]  # where on the x axis, and what it is

# Okabe and Ito's colours, darkened where they would be too pale on white; page.css has those for a dark page.
SERIES = (
    "var(--series-1, #0072b2)",
    "var(--series-2, #d55e00)",
    "var(--series-3, #00805c)",
    "var(--series-4, #a8487f)",
    "var(--series-5, #6b6f76)",
)
DASHES = ("none", "7 3", "2 3", "9 3 2 3")

# Nine samples of matplotlib's viridis: even steps to the eye, for every kind of colour vision and in grey.
VIRIDIS = np.frombuffer(
    bytes.fromhex("440154 472d7b 3b528b 2c728e 21908c 27ad81 5dc863 aadc32 fde725"), np.uint8
).reshape(-1, 3)

RIGHT_PX = 26  # half of the last tick's label reaches into it
BAR_ROW_PX = 26
INTERVAL_ROW_PX = 42
INTERVAL_SIDE_PX = 20
NO_ROWS_PX = 120
MOST_DOTS = 30  # of a line; more would only make it thicker
MOST_TIPS = 200


@dataclass(frozen=True)
class Line:
    """A named curve. `x` and `y` are equally long, else ValueError; a missing number breaks the curve."""

    name: str
    x: Numbers
    y: Numbers
    colour: str = ""
    """A CSS colour, such as one of SERIES; by its place among the curves where empty."""

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise ValueError(f"line {self.name!r} needs as many x as y. Received: {len(self.x)} and {len(self.y)}")


@dataclass(frozen=True)
class Interval:
    """A value, its confidence interval, and what a trivial answer would score; NaN leaves a part out."""

    name: str
    value: SupportsFloat
    low: SupportsFloat = math.nan
    high: SupportsFloat = math.nan
    baseline: SupportsFloat = math.nan


def line_chart(
    series: Sequence[Line],
    *,
    title: str,
    x_label: str,
    y_label: str,
    verticals: Verticals = (),
    y_range: tuple[SupportsFloat, SupportsFloat] | None = None,
    width: int = 460,
    height: int = 290,
) -> Markup:
    """Curves told apart by colour and dash, with labelled vertical lines such as the beginnings of stages.

    `y_range` (lowest, highest) fixes the y axis and cuts off what lies outside.
    """
    curves = []
    for line in series:
        x, y = _floats(line.x), _floats(line.y)
        known = ~np.isnan(x + y)
        curves.append((line.name, x, y, known))
    all_x = np.concatenate([x[known] for _, x, _, known in curves] or [[]])
    all_y = np.concatenate([y[known] for _, _, y, known in curves] or [[]])
    styles: list[Style] = [
        {
            "stroke": line.colour or SERIES[n % len(SERIES)],
            "stroke-dasharray": DASHES[n % len(DASHES)],
            "stroke-width": 2,
        }
        for n, line in enumerate(series)
    ]

    ends = [f"{name} ends at {y[known][-1]:.4g}" for name, _, y, known in curves if known.any()]
    drawing = Drawing(title, f"Line chart of {y_label} over {x_label}: {', '.join(ends)}.", width)
    drawing.legend([(line.name, "M0,0H20", style) for line, style in zip(series, styles, strict=True) if line.name])
    if not all_x.size:
        return drawing.no_data(height)

    low, high = y_range or (all_y.min(), all_y.max())
    y_axis = linear_axis(float(low), float(high), height - BELOW_PX, drawing.top, to_ticks=y_range is None)
    marks = _finite_marks(verticals)
    places = np.append(all_x, [place for place, _ in marks])
    x_axis = linear_axis(places.min(), places.max(), _left(y_axis), width - RIGHT_PX, whole=_whole(all_x))
    y_axis = _with_frame(drawing, x_axis, y_axis, x_label, y_label, marks)

    plot = drawing.window(x_axis, y_axis)
    for (name, x, y, known), style in zip(curves, styles, strict=True):
        path, pen = [], "M"
        for place, value, drawn in zip(x, y, known, strict=True):
            if drawn:
                path.append(f"{pen}{x_axis(place):.1f},{y_axis(value):.1f}")
            pen = "L" if drawn else "M"
        line_style = {**style, "fill": "none", "stroke-linejoin": "round"}
        drawing.shape("path", {"d": "".join(path), **line_style}, inside=plot)

        alone = known & ~np.append(False, known[:-1]) & ~np.append(known[1:], False)
        for index in np.flatnonzero(known if len(x) <= MOST_TIPS else alone):
            seen = len(x) <= MOST_DOTS or alone[index]
            dot: Style = {"r": 2.5, "fill": style["stroke"]} if seen else {"r": 5, "fill": "transparent"}
            tip = f"{name or y_label} {y[index]:.4g} at {x_label} {x[index]:.4g}"
            drawing.shape("circle", {"cx": x_axis(x[index]), "cy": y_axis(y[index]), **dot}, tip=tip, inside=plot)
    return drawing.markup(height)


def binned(
    values: Numbers, *, bins: int | None = None, log: bool = False
) -> tuple[Int[np.ndarray, " bins"], Float64[np.ndarray, " bins+1"]]:
    """Counts within at most `bins` bins and their edges, for `histogram`. Nothing to count gives no bins: [], [0.0].

    Without `bins` twice the third root of how many values there are (Rice's rule), 8 to 40.

    Missing values are left out, and with `log`, whose bins have equal ratios, those <= 0. Whole numbers get bins that
    hold equally many of them, where they fit one each: no bin looks low only because fewer numbers can fall into it.
    """
    numbers = _floats(values)
    numbers = numbers[numbers > 0] if log else numbers[~np.isnan(numbers)]
    if not numbers.size:
        return np.zeros(0, np.int64), np.zeros(1)
    low, high = float(numbers.min()), float(numbers.max())
    bins = min(40, max(8, math.ceil(2 * numbers.size ** (1 / 3)))) if bins is None else bins
    edges: Float64[np.ndarray, " edges"]
    if _whole(numbers) and log:
        edges = np.unique(np.rint(np.geomspace(low, high + 1, bins + 1))) - 0.5
    elif _whole(numbers):
        step = math.ceil((high - low + 1) / bins)
        edges = low - 0.5 + step * np.arange(math.ceil((high - low + 1) / step) + 1)
    elif low == high:
        edges = low + abs(low) / 10 * np.array([-1, 1])
    else:
        edges = np.unique(np.geomspace(low, high, bins + 1) if log else np.linspace(low, high, bins + 1))
    return np.histogram(numbers, edges)[0], edges


def histogram(
    counts: Numbers,
    edges: Numbers,
    *,
    title: str,
    x_label: str,
    y_label: str = "count",
    log_x: bool = False,
    verticals: Verticals = (),
    width: int = 460,
    height: int = 290,
) -> Markup:
    """Counts (>= 0) as bars between ascending edges, with labelled vertical lines.

    Raises ValueError unless there is one more edge than counts, and all that lies on a logarithmic x axis is > 0.
    """
    heights, cuts = _floats(counts), _floats(edges)
    if len(cuts) != len(heights) + 1 or not np.all(np.diff(cuts) > 0):
        raise ValueError(f"{len(heights)} counts need one more edge than counts, ascending. Received: {cuts}")
    marks = _finite_marks(verticals)
    places = np.append(cuts, [place for place, _ in marks])
    if log_x and len(heights) and places.min() <= 0:
        raise ValueError(f"edges and lines on a logarithmic axis must be > 0. Received: {places.min()}")
    filled = np.flatnonzero(heights > 0)
    extent = f"{cuts[filled[0]]:.4g} to {cuts[filled[-1] + 1]:.4g}" if filled.size else ""
    drawing = Drawing(title, f"Histogram of {x_label}: {extent}.", width)
    if not filled.size:
        return drawing.no_data(height)

    whole = _whole(heights[filled])
    y_axis = linear_axis(0.0, heights[filled].max(), height - BELOW_PX, drawing.top, whole=whole, to_ticks=True)
    low, high, left, right = places.min(), places.max(), _left(y_axis), width - RIGHT_PX
    if log_x:
        x_axis = log_axis(low, high, left, right)
    else:
        x_axis = linear_axis(low, high, left, right, whole=_whole(cuts + 0.5))
    y_axis = _with_frame(drawing, x_axis, y_axis, x_label, y_label, marks)

    for index in filled:
        x, top = x_axis(cuts[index]), y_axis(heights[index])
        wide = x_axis(cuts[index + 1]) - x
        bar: Style = {"x": x, "y": top, "width": wide - 1 if wide > 4 else wide, "height": y_axis.start - top}
        tip = f"{cuts[index]:.4g} to {cuts[index + 1]:.4g}: {heights[index]:,.5g}"
        drawing.shape("rect", {**bar, "fill": SERIES[0]}, tip=tip)
    return drawing.markup(height)


def bar_chart(
    labels: Sequence[str],
    values: Numbers,
    *,
    title: str,
    x_label: str,
    value_format: str = ",.4g",
    width: int = 460,
) -> Markup:
    """Horizontal bars from 0 in the order given, each with its value; the number of bars makes the height.

    `value_format` is a format spec such as ".1%". Raises ValueError unless there are as many labels as values.
    """
    numbers = _floats(values)
    if len(labels) != len(numbers):
        raise ValueError(f"each bar needs a label and a value. Received: {len(labels)} and {len(numbers)}")
    texts = [_text(number, value_format) for number in numbers]
    summary = ", ".join(f"{label} {text}" for label, text in zip(labels, texts, strict=True))
    drawing = Drawing(title, f"Bar chart of {x_label}: {summary}.", width)
    if np.isnan(numbers).all():
        return drawing.no_data(NO_ROWS_PX)

    name_px = min(max(map(text_width, labels)), width * 0.4)
    low, high = min(0.0, np.nanmin(numbers)), max(0.0, np.nanmax(numbers))
    left, right = name_px + 10, width - max(map(text_width, texts)) - 8
    axis = linear_axis(low, high, left, right, to_ticks=True, percent=value_format.endswith("%"))
    bottom = _row_frame(drawing, axis, len(labels), BAR_ROW_PX, x_label)
    for row, (label, number, text) in enumerate(zip(labels, numbers, texts, strict=True)):
        middle = drawing.top + (row + 0.5) * BAR_ROW_PX
        zero, end = axis(0.0), axis(0.0 if math.isnan(number) else number)
        bar: Style = {"x": min(zero, end), "y": middle - 8, "width": abs(end - zero), "height": 16, "fill": SERIES[0]}
        drawing.shape("rect", bar, tip=f"{label}: {text}")
        drawing.text(name_px, middle + 4, shortened(label, name_px), anchor="end", style=LOUD)
        drawing.text(max(zero, end) + 5, middle + 4, text, anchor="start", style=LOUD)
    return drawing.markup(bottom + BELOW_PX)


def interval_chart(
    rows: Sequence[Interval],
    *,
    title: str,
    x_label: str,
    baseline_name: str = "all empty",
    value_format: str = ".3f",
    width: int = 460,
) -> Markup:
    """A dot with its confidence interval per row and a tick at the baseline; the number of rows makes the height."""
    numbers = [_floats([row.value, row.low, row.high, row.baseline]) for row in rows]
    texts = []
    for value, low, high, _ in numbers:
        span = "" if math.isnan(low + high) else f" [{_text(low, value_format)}, {_text(high, value_format)}]"
        texts.append(_text(value, value_format) + span)
    summary = ", ".join(f"{row.name} {text}" for row, text in zip(rows, texts, strict=True))
    drawing = Drawing(title, f"Values with intervals of {x_label}: {summary}.", width)
    if not numbers or np.isnan(numbers).all():
        return drawing.no_data(NO_ROWS_PX)

    line: Style = {"stroke": SERIES[0], "stroke-width": 2, "fill": "none"}
    tick: Style = {"stroke": SERIES[1], "stroke-width": 3}
    if not all(math.isnan(baseline) for _, _, _, baseline in numbers):
        dot_on_line = "M0,-1H20V1H0ZM10,-4.5a4.5,4.5 0 1 1 -0.01,0Z"
        drawing.legend([("value, interval", dot_on_line, {"fill": SERIES[0]}), (baseline_name, "M10,-7v14", tick)])
    percent = value_format.endswith("%")
    low, high = np.nanmin(numbers), np.nanmax(numbers)
    axis = linear_axis(low, high, INTERVAL_SIDE_PX, width - INTERVAL_SIDE_PX, to_ticks=True, percent=percent)
    bottom = _row_frame(drawing, axis, len(rows), INTERVAL_ROW_PX, x_label)
    for index, (row, (value, low, high, baseline), text) in enumerate(zip(rows, numbers, texts, strict=True)):
        y = drawing.top + (index + 0.65) * INTERVAL_ROW_PX
        name_px = width - text_width(text) - 3 * MARGIN_PX
        drawing.text(MARGIN_PX, y - 11, shortened(row.name, name_px), anchor="start", style=ON_LINES)
        drawing.text(width - MARGIN_PX, y - 11, text, anchor="end", style=ON_LINES)
        if not math.isnan(low + high):
            ends = "".join(f"M{axis(end):.1f},{y - 4:.1f}v8" for end in (low, high))
            drawing.shape("path", {"d": f"M{axis(low):.1f},{y:.1f}H{axis(high):.1f}{ends}", **line})
        if not math.isnan(baseline):
            tip = f"{baseline_name}: {_text(baseline, value_format)}"
            drawing.shape("path", {"d": f"M{axis(baseline):.1f},{y - 7:.1f}v14", **tick}, tip=tip)
        if not math.isnan(value):
            dot: Style = {"cx": axis(value), "cy": y, "r": 4.5, "fill": SERIES[0]}
            drawing.shape("circle", dot, tip=f"{row.name}: {text}")
    return drawing.markup(bottom + BELOW_PX)


def heat_map(
    values: Num[np.ndarray, "rows columns"],
    x_ticks: Sequence[str],
    y_ticks: Sequence[str],
    *,
    title: str,
    x_label: str,
    y_label: str,
    value_label: str,
    chosen: tuple[SupportsIndex, SupportsIndex] | None = None,
    value_format: str = ".3f",
    written: bool = False,
    width: int = 460,
    height: int = 330,
) -> Markup:
    """A matrix as coloured cells, row 0 at the top, with a colour bar; the `chosen` (row, column) is framed and named.

    `written` writes each value into its cell, where all of them find room.

    A cell costs some 150 bytes: meant for tens of rows and columns. Raises ValueError unless there is one tick for each
    row and column and the chosen cell exists.
    """
    cells = _floats(values)
    if cells.shape != (len(y_ticks), len(x_ticks)):
        raise ValueError(f"rows and columns need a tick each: {cells.shape}. Received: {len(y_ticks), len(x_ticks)}")
    tips = {
        (row, column): f"{x_label} {x_ticks[column]}, {y_label} {y_ticks[row]}: {_text(cell, value_format)}"
        for (row, column), cell in np.ndenumerate(cells)
    }
    chosen_cell = (int(chosen[0]), int(chosen[1])) if chosen else None
    if chosen_cell and chosen_cell not in tips:
        raise ValueError(f"the chosen cell must be one of {cells.shape}. Received: {chosen_cell}")
    choice = f"chosen: {tips[chosen_cell]}" if chosen_cell else ""
    drawing = Drawing(title, f"Heat map of {value_label} over {x_label} and {y_label}. {choice}".strip(), width)
    if np.isnan(cells).all():
        return drawing.no_data(height)

    low, high = np.nanmin(cells), np.nanmax(cells)
    ends = [_text(end, value_format) for end in (low, high)]
    left = MARGIN_PX + 22 + max(map(text_width, y_ticks)) + 7
    right = width - MARGIN_PX - max(map(text_width, ends)) - 32
    top, bottom = drawing.top + 20, height - BELOW_PX - (20 if chosen else 0)
    cell_w, cell_h = (right - left) / len(x_ticks), (bottom - top) / len(y_ticks)
    crisp: Style = {"shape-rendering": "crispEdges"}  # else the page shines through the seams between cells
    for (row, column), cell in np.ndenumerate(cells):
        # each reaches a little below the next ones: rounded to the pixels of a small screen, a gap would stay
        reach: Style = {
            "width": cell_w + 0.5 * (column + 1 < len(x_ticks)),
            "height": cell_h + 0.5 * (row + 1 < len(y_ticks)),
        }
        place: Style = {"x": left + column * cell_w, "y": top + row * cell_h}
        drawing.shape("rect", {**place, **reach, "fill": _colour(cell, low, high), **crisp}, tip=tips[row, column])

    widest = max(text_width(_text(cell, value_format)) for cell in cells.flat)
    if written and widest + 6 <= cell_w and cell_h >= TEXT_PX + 6:
        for (row, column), cell in np.ndenumerate(cells):
            x, y = left + (column + 0.5) * cell_w, top + (row + 0.5) * cell_h + 4
            drawing.text(x, y, _text(cell, value_format), style=ON_LINES)

    for column in range(0, len(x_ticks), math.ceil((max(map(text_width, x_ticks)) + 10) / cell_w)):
        drawing.text(left + (column + 0.5) * cell_w, bottom + 17, x_ticks[column])
    for row in range(0, len(y_ticks), math.ceil((TEXT_PX + 4) / cell_h)):
        drawing.text(left - 7, top + (row + 0.5) * cell_h + 4, y_ticks[row], anchor="end")
    drawing.axis_names(left, right, bottom, top, x_label, y_label)

    steps = 50
    for step in range(steps):
        step_h = (bottom - top) / steps
        box: Style = {"x": right + 14, "y": bottom - (step + 1) * step_h, "width": 12, "height": step_h}
        drawing.shape("rect", {**box, "fill": _colour((step + 0.5) / steps, 0.0, 1.0), **crisp})
    drawing.text(width - MARGIN_PX, top - 8, value_label, anchor="end")
    for y, end in zip((bottom, top + 10), ends, strict=True):
        drawing.text(right + 32, y, end, anchor="start")

    if chosen_cell:
        row, column = chosen_cell
        box = {"x": left + column * cell_w, "y": top + row * cell_h, "width": cell_w, "height": cell_h}
        for colour, stroke_px in (("#000000", 5), ("#ffffff", 2)):  # white within black is seen on every colour
            frame: Style = {"fill": "none", "stroke": colour, "stroke-width": stroke_px}
            drawing.shape("rect", {**box, **frame, "class": "chosen"}, tip=choice)
        drawing.text(MARGIN_PX, height - 4, shortened(choice, width - 2 * MARGIN_PX), anchor="start", style=LOUD)
    return drawing.markup(height)


def _floats(values: object) -> Float64[np.ndarray, "..."]:
    numbers = np.array(values, dtype=np.float64)
    numbers[~np.isfinite(numbers)] = np.nan
    return numbers


def _whole(numbers: Float64[np.ndarray, " numbers"]) -> bool:
    """Whether there are only whole numbers, of a size at which halves still exist."""
    return bool(np.all((numbers % 1 == 0) & (np.abs(numbers) < 2**52)))


def _text(number: float, value_format: str) -> str:
    return "-" if math.isnan(number) else format(number, value_format)


def _finite_marks(verticals: Verticals) -> list[tuple[float, str]]:
    return [(float(place), label) for place, label in verticals if math.isfinite(place)]


def _left(y_axis: Axis) -> float:
    """Where the plot begins: right of the y axis' name and labels."""
    return MARGIN_PX + 22 + max(map(text_width, y_axis.labels)) + 7


def _with_frame(
    drawing: Drawing, x_axis: Axis, y_axis: Axis, x_label: str, y_label: str, marks: Sequence[tuple[float, str]]
) -> Axis:
    """Draw axes and vertical lines; returns the y axis, now ending below the labels of the lines."""
    drawing.verticals(x_axis, marks, y_axis.start)
    y_axis = replace(y_axis, end=drawing.top)
    drawing.axes(x_axis, y_axis, x_label, y_label)
    return y_axis


def _row_frame(drawing: Drawing, axis: Axis, rows: int, row_px: int, x_label: str) -> float:
    """Draw the grid and x axis of a chart made of rows; returns the bottom of the plot."""
    bottom = drawing.top + rows * row_px + 4
    grid = "".join(f"M{axis(tick):.1f},{drawing.top:.1f}V{bottom:.1f}" for tick in axis.ticks)
    drawing.shape("path", {"d": grid, "stroke": RULE})
    drawing.x_axis(axis, bottom)
    drawing.text((axis.start + axis.end) / 2, bottom + 36, x_label)
    return bottom


def _colour(value: float, low: float, high: float) -> str:
    """The viridis colour of a value between low and high; that of the middle where both are equal, none for NaN."""
    if math.isnan(value):
        return RULE
    place = (value - low) / (high - low) if high > low else 0.5
    places = np.linspace(0, 1, len(VIRIDIS))
    return "#" + bytes(round(np.interp(place, places, channel)) for channel in VIRIDIS.T).hex()
