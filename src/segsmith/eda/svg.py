"""Numbers -> axes with nice ticks, and shapes and text -> one `<svg>`: what every chart is drawn with.

Colours are CSS variables with the light theme as fallback: a chart follows the light, dark and print themes of the
page around it, and looks right in a notebook, which has none of them.
"""

import itertools
import math
import textwrap
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

INK = "var(--ink, #1b1f24)"
MUTED = "var(--muted, #57606a)"
RULE = "var(--rule, #d8dde3)"
PAPER = "var(--paper, #ffffff)"


class Html(Markup):
    """Markup that a notebook shows as what it is."""

    def _repr_html_(self) -> str:
        return str(self)


Px = float | int  # in full: the test suite's type checker takes an int for no float
Style = Mapping[str, str | Px]  # SVG attributes
QUIET: Style = {"fill": MUTED}
LOUD: Style = {"fill": INK}
ON_LINES: Style = {**LOUD, "paint-order": "stroke", "stroke": PAPER, "stroke-width": 4, "stroke-linejoin": "round"}
TITLE: Style = {"fill": INK, "font-size": 14, "font-weight": "600"}

TEXT_PX = 12
MARGIN_PX = 2
X_TICK_PX, Y_TICK_PX = 30, 28  # between ticks, at least
BELOW_PX = 46  # tick labels and the name of the axis
SMALLEST_SCALE = 0.75  # on a narrow screen; what is still too wide scrolls, and text keeps 9 px


@dataclass(frozen=True)
class Axis:
    """Numbers from `low` to `high` -> px from `start` to `end`; `labels` belong to `ticks`."""

    low: float
    high: float
    start: Px
    end: Px
    ticks: Sequence[float]
    labels: Sequence[str]
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def linear_axis(
    low: float,
    high: float,
    start: Px,
    end: Px,
    *,
    whole: bool = False,
    to_ticks: bool = False,
    percent: bool = False,
) -> Axis:
    """An axis with as many ticks, at multiples of 1, 2 or 5 times a power of ten, as leave room for each label.

    `whole` keeps fractions out of the ticks, `to_ticks` widens the axis until both ends are ticks, `percent` labels 0.5
    as 50%. A single number, `low` = `high`, gets room around it.
    """
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        room = abs(low) / 10 or 1.0
        low, high = low - room, high + room
    smallest = math.floor(math.log10((high - low) * Y_TICK_PX / abs(end - start)))
    for step in (factor * 10.0**exponent for exponent in itertools.count(smallest) for factor in (1, 2, 5)):
        if whole and step < 1:
            continue
        # A billionth of a step forgives rounding errors: 0.3 / 0.1 is a little less than 3.
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        axis = Axis(low, high, start, end, (), ())
        if to_ticks:
            first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
            axis = replace(axis, low=first * step, high=last * step)
        ticks = [number * step for number in range(first, last + 1)]
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        plain = decimals <= 4 and max(abs(low), abs(high)) < 1e6
        digits = max(4, 1 + math.floor(math.log10(max(abs(first), abs(last), 1)) + 1e-9))  # that tell ticks apart
        spec = f".{max(0, decimals - 2)}%" if percent else f",.{decimals}f" if plain else f".{digits}g"
        labels = [format(tick, spec) for tick in ticks]
        if len(ticks) <= 2 or abs(axis(step) - axis(0.0)) >= _label_room(axis, labels):
            break
    return replace(axis, ticks=ticks, labels=labels)


def log_axis(low: float, high: float, start: Px, end: Px) -> Axis:
    """A logarithmic axis from `low` > 0 to `high`, with ticks at powers of ten, on a short one at 2, 5 times such.

    Where fewer than two of them lie between, the axis is widened to end on ticks.
    """
    factors = (1, 2, 5) if high / low < 100 else (1,)
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    ticks = [factor * 10.0**decade for decade in decades for factor in factors]
    if sum(low <= tick <= high for tick in ticks) < 2:
        low = max(tick for tick in ticks if tick <= low)
        high = min(tick for tick in ticks if tick >= high and tick > low)
    axis = Axis(low, high, start, end, (), (), log=True)
    ticks = [tick for tick in ticks if low <= tick <= high]
    labels = [format(tick, ",g") for tick in ticks]
    every = math.ceil(_label_room(axis, labels) * (len(ticks) - 1) / abs(axis(ticks[-1]) - axis(ticks[0])))
    return replace(axis, ticks=ticks[::every], labels=labels[::every])


def _label_room(axis: Axis, labels: Sequence[str]) -> Px:
    """The px that each tick needs along an axis: on one that runs to the right, enough for the widest label."""
    return max(X_TICK_PX, *map(text_width, labels)) + 14 if axis.start < axis.end else Y_TICK_PX


class Drawing:
    """An SVG filled from the top down: title and legend first, then a plot in what is left below `top` (px).

    `summary` says to a screen reader what the picture shows.
    """

    def __init__(self, title: str, summary: str, width: int) -> None:
        self.width = width
        self.top = 0.0
        self._title = title
        self._root = ET.Element(
            "svg",
            {
                "xmlns": "http://www.w3.org/2000/svg",
                "class": "chart",
                "role": "img",
                "aria-label": f"{title}. {summary}",
                "style": f"width:100%;height:auto;max-width:{width}px;min-width:{SMALLEST_SCALE * width:.0f}px",
                "font-size": str(TEXT_PX),
            },
        )
        self._front = ET.Element("g")
        for line in textwrap.wrap(title, int((width - 2 * MARGIN_PX) / 8)):  # 8 px: a bold letter of 14 px
            self.top += 18
            self.text(MARGIN_PX, self.top, line, anchor="start", style=TITLE)
        self.top += 16

    def shape(self, tag: str, attributes: Style, *, tip: str = "", inside: ET.Element | None = None) -> ET.Element:
        """Add an element, in front of those before it; `tip` shows when the pointer rests on it."""
        written = {
            name: value if isinstance(value, str) else f"{value:.2f}".removesuffix(".00")
            for name, value in attributes.items()
        }
        element = ET.SubElement(self._root if inside is None else inside, tag, written)
        if tip:
            ET.SubElement(element, "title").text = tip
        return element

    def text(
        self,
        x: Px,
        y: Px,
        content: str,
        *,
        anchor: str = "middle",
        style: Style = QUIET,
        inside: ET.Element | None = None,
    ) -> None:
        """Write on the baseline `y`; `anchor` start, middle or end is the part of the text that lies at `x`."""
        self.shape("text", {"x": x, "y": y, "text-anchor": anchor, **style}, inside=inside).text = content

    def legend(self, entries: Sequence[tuple[str, str, Style]]) -> None:
        """Name marks, in rows: (name, path within 20 x 14 px around y = 0, the path's style)."""
        x: Px = MARGIN_PX
        for name, path, style in entries:
            needed = 26 + text_width(name)
            if x > MARGIN_PX and x + needed > self.width - MARGIN_PX:
                x, self.top = MARGIN_PX, self.top + 18
            self.shape("path", {"d": path, "transform": f"translate({x:.1f} {self.top + 4:.1f})", **style})
            self.text(x + 26, self.top + 8, name, anchor="start")
            x += needed + 18
        self.top += 24 if entries else 0

    def verticals(self, axis: Axis, marks: Sequence[tuple[float, str]], bottom: Px) -> None:
        """Draw lines from `bottom` up to above the plot, in front of all else, with labels right of their upper ends.

        A line that would meet the label of an earlier one begins in a row below it, and so does its own label.
        """
        labels: list[tuple[float, int]] = []  # where it ends, and its row
        for value, label in sorted(marks):
            x, width = axis(value), text_width(label)
            left = min(x + 4, self.width - width)
            row = max((row + 1 for end, row in labels if end + 4 > min(left, x)), default=0)
            labels.append((left + width, row))
            y = self.top + 15 * row + 6
            self.shape(
                "path",
                {"d": f"M{x:.1f},{y - 9:.1f}V{bottom:.1f}", "stroke": INK, "stroke-dasharray": "3 3"},
                inside=self._front,
            )
            self.text(left, y, label, anchor="start", style=ON_LINES, inside=self._front)
        self.top += 15 * (1 + max(row for _, row in labels)) if labels else 0

    def axes(self, x_axis: Axis, y_axis: Axis, x_label: str, y_label: str) -> None:
        """Draw horizontal grid lines, ticks and names around the plot that the two axes span."""
        left, right, bottom = x_axis.start, x_axis.end, y_axis.start
        for value, label in zip(y_axis.ticks, y_axis.labels, strict=True):
            y = y_axis(value)
            self.shape("path", {"d": f"M{left:.1f},{y:.1f}H{right:.1f}", "stroke": RULE})
            self.text(left - 7, y + 4, label, anchor="end")
        self.x_axis(x_axis, bottom)
        self.axis_names(left, right, bottom, y_axis.end, x_label, y_label)

    def x_axis(self, axis: Axis, bottom: Px) -> None:
        """Draw the line, ticks and tick labels of a horizontal axis."""
        ticks = "".join(f"M{axis(value):.1f},{bottom:.1f}v4" for value in axis.ticks)
        self.shape("path", {"d": f"M{axis.start:.1f},{bottom:.1f}H{axis.end:.1f}{ticks}", "stroke": MUTED})
        for value, label in zip(axis.ticks, axis.labels, strict=True):
            self.text(axis(value), bottom + 17, label)

    def axis_names(self, left: Px, right: Px, bottom: Px, top: Px, x_label: str, y_label: str) -> None:
        """Write the x axis' name below the tick labels, the y axis' name upwards along the left edge."""
        self.text((left + right) / 2, bottom + 36, x_label)
        x, y = MARGIN_PX + 10, (bottom + top) / 2
        self.text(x, y, y_label, style={**QUIET, "transform": f"rotate(-90 {x} {y:.1f})"})

    def window(self, x_axis: Axis, y_axis: Axis) -> ET.Element:
        """A part to draw `inside` that cuts off what lies outside the plot, but for the width of a mark."""
        # A nested svg clips without needing an id, which would have to be unique within the whole page.
        x, y = round(x_axis.start - 4, 1), round(y_axis.end - 4, 1)
        width, height = round(x_axis.end - x + 4, 1), round(y_axis.start - y + 4, 1)
        box = {"x": x, "y": y, "width": width, "height": height}
        return self.shape("svg", {**box, "viewBox": f"{x} {y} {width} {height}"})

    def markup(self, height: Px) -> Html:
        """The finished SVG, `height` px high at full scale."""
        self._root.set("viewBox", f"0 0 {self.width} {height:.0f}")
        self._root.append(self._front)
        return Html(ET.tostring(self._root, encoding="unicode"))

    def no_data(self, height: Px) -> Markup:
        """The finished SVG of a chart without anything to show."""
        box = {
            "x": MARGIN_PX,
            "y": self.top,
            "width": self.width - 2 * MARGIN_PX,
            "height": height - self.top - MARGIN_PX,
        }
        self.shape("rect", {**box, "fill": "none", "stroke": RULE, "stroke-dasharray": "4 4"})
        self.text(self.width / 2, (self.top + height) / 2 + 4, "no data")
        self._root.set("aria-label", f"{self._title}. No data.")
        return self.markup(height)


def text_width(text: str, size_px: Px = TEXT_PX) -> float:
    """About how many px a text takes; no font is at hand to ask, and a wide one is meant."""
    return 0.6 * size_px * len(text)


def shortened(text: str, room_px: Px) -> str:
    """The text, or as much of its beginning as fits, with an ellipsis."""
    return text if text_width(text) <= room_px else text[: max(1, int(room_px / text_width("x")) - 1)] + "…"
