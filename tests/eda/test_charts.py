import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from segsmith.eda.charts import (
    Interval,
    Line,
    bar_chart,
    binned,
    heat_map,
    histogram,
    interval_chart,
    line_chart,
)
from segsmith.eda.svg import text_width

NAN, INF = math.nan, math.inf
HOSTILE = "<script>x</script>\"&'.jpg"


def parsed(svg: str) -> ET.Element:
    """The SVG's root without its namespace, after checks that hold for every chart."""
    root = ET.fromstring(svg.replace(' xmlns="http://www.w3.org/2000/svg"', "", 1))
    assert isinstance(svg, Markup)
    assert root.tag == "svg"
    assert root.get("role") == "img"
    assert root.get("aria-label")
    width, height = (float(part) for part in root.get("viewBox", "").split()[2:])
    assert "nan" not in re.sub(r">[^<]*<", "><", svg.split(">", 1)[1]), "a shape without a place"
    for text in root.iter("text"):
        assert -1 <= left_of(text) <= left_of(text) + text_width(text.text or "") <= width + 1, text.text
        assert 0 < float(text.get("y", "")) <= height, text.text
    return root


def left_of(text: ET.Element) -> float:
    if text.get("transform"):  # turned upwards: it is as wide as it was high
        return float(text.get("x", "")) - 10
    share = {"start": 0.0, "middle": 0.5, "end": 1.0}[text.get("text-anchor", "start")]
    size = float(text.get("font-size", 12))
    return float(text.get("x", "")) - share * text_width(text.text or "", size)


def number(element: ET.Element, name: str) -> float:
    return float(element.get(name, ""))


def texts(root: ET.Element) -> list[str]:
    return [text.text or "" for text in root.iter("text")]


def place(root: ET.Element, label: str) -> tuple[float, float]:
    """x and y of the only text that reads `label`."""
    (text,) = [text for text in root.iter("text") if text.text == label]
    return number(text, "x"), number(text, "y")


def tip(element: ET.Element) -> str:
    return element.findtext("title", "")


def lines(*series: Line, **options: object) -> Markup:
    return line_chart(series, title="Loss", x_label="epoch", y_label="loss", **options)  # type: ignore[arg-type]


def heat(values: list[list[float]], **options: object) -> Markup:
    cells = np.array(values, dtype=float).reshape(len(values), -1)
    rows, columns = cells.shape
    names = {"title": "Score", "x_label": "threshold", "y_label": "area", "value_label": "F2"}
    x_ticks, y_ticks = [f"0.{i}" for i in range(columns)], [f"{10 * i} px" for i in range(rows)]
    return heat_map(cells, x_ticks, y_ticks, **names, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("values", [[], [NAN], [NAN, INF, -INF]])
@pytest.mark.parametrize(
    "draw",
    [
        lambda values: lines(Line("a", values, values)),
        lambda values: lines(*[Line("a", [n], [value]) for n, value in enumerate(values)], verticals=[(1, "stage")]),
        lambda values: histogram(*binned(values), title="t", x_label="x", verticals=[(1, "median")]),
        lambda values: histogram(*binned(values, log=True), title="t", x_label="x", log_x=True),
        lambda values: histogram([0] * len(values), range(len(values) + 1), title="t", x_label="x"),
        lambda values: bar_chart([str(value) for value in values], values, title="t", x_label="x"),
        lambda values: interval_chart([Interval("a", value) for value in values], title="t", x_label="x"),
        lambda values: heat([values]),
    ],
)
def test_a_chart_without_a_finite_number_says_so(draw: Callable[[list[float]], str], values: list[float]) -> None:
    root = parsed(draw(values))
    assert "no data" in texts(root)
    assert root.get("aria-label", "").endswith("No data.")


@pytest.mark.parametrize("values", [[3], [0], [0.5, 0.5, 0.5], [NAN, 2.5, INF], [-1, 1], [1e-9, 1e9], [1e30, NAN, 0]])
@pytest.mark.parametrize(
    "draw",
    [
        lambda values: lines(Line("a", range(len(values)), values), Line("b", values, values)),
        lambda values: lines(Line("", values, values), verticals=[(2, "stage"), (NAN, "never")], y_range=(0, 1)),
        lambda values: histogram(*binned(values), title="t", x_label="x", verticals=[(7, "median")]),
        lambda values: histogram(*binned([7, *values], log=True), title="t", x_label="x", log_x=True),
        lambda values: bar_chart(["a"] * len(values), values, title="t", x_label="x", value_format=".1%"),
        lambda values: interval_chart(
            [Interval("a", 1, 0.5, value, value) for value in values], title="t", x_label="x"
        ),
        lambda values: heat([values, values], chosen=(1, 0)),
    ],
)
def test_missing_constant_and_single_numbers_are_drawn(draw: Callable[[list[float]], str], values: list[float]) -> None:
    assert "no data" not in texts(parsed(draw(values)))


@pytest.mark.parametrize(
    "svg",
    [
        line_chart(
            [Line(HOSTILE, [1], [1])], title=HOSTILE, x_label=HOSTILE, y_label=HOSTILE, verticals=[(1, HOSTILE)]
        ),
        histogram([1], [0, 1], title=HOSTILE, x_label=HOSTILE, y_label=HOSTILE),
        bar_chart([HOSTILE], [1], title=HOSTILE, x_label=HOSTILE),
        interval_chart([Interval(HOSTILE, 1)], title=HOSTILE, x_label=HOSTILE),
        heat_map(np.ones((1, 1)), ["1"], ["1"], title=HOSTILE, x_label=HOSTILE, y_label=HOSTILE, value_label="v"),
    ],
)
def test_names_are_text_never_code(svg: str) -> None:
    assert "<script" not in svg
    root = ET.fromstring(svg)
    assert HOSTILE in "".join(root.itertext())
    assert HOSTILE in root.get("aria-label", "")


def test_points_lie_at_their_ticks() -> None:
    root = parsed(lines(Line("a", [1, 2, 3], [0, 1, 0.5])))
    dots = [(number(dot, "cx"), number(dot, "cy")) for dot in root.iter("circle")]
    for (x, y), x_label, y_label in zip(dots, ["1", "2", "3"], ["0.0", "1.0", None], strict=True):
        assert x == pytest.approx(place(root, x_label)[0], abs=0.1)
        if y_label:
            assert y == pytest.approx(place(root, y_label)[1] - 4, abs=0.1)
    assert dots[2][1] == pytest.approx((dots[0][1] + dots[1][1]) / 2, abs=0.1)
    assert [tip(dot) for dot in root.iter("circle")][1] == "a 1 at epoch 2"


def test_a_missing_value_breaks_the_line_and_a_lone_point_is_still_seen() -> None:
    x, y = np.arange(300), np.ones(300)
    y[[10, 12]] = NAN
    root = parsed(lines(Line("a", x, y)))
    (path,) = [path for path in root.iter("path") if (path.get("d") or "").count("L") > 1]
    assert (path.get("d") or "").count("M") == 3
    assert [tip(dot) for dot in root.iter("circle")] == ["a 1 at epoch 11"]


def test_every_line_has_its_own_look_and_name() -> None:
    root = parsed(lines(*[Line(f"fold {n}", [0, 1], [n, n]) for n in range(5)]))
    looks = [(path.get("stroke"), path.get("stroke-dasharray")) for path in root.iter("path") if path.get("transform")]
    assert len(set(looks)) == 5
    assert {f"fold {n}" for n in range(5)} <= set(texts(root))
    drawn = [(path.get("stroke"), path.get("stroke-dasharray")) for path in root.findall("svg/path")]
    assert drawn == looks


def test_a_given_range_cuts_off_what_lies_outside() -> None:
    root = parsed(lines(Line("a", [1, 2, 3], [0.5, 40, 0.5]), y_range=(0, 1)))
    (window,) = root.findall("svg")
    top, bottom = place(root, "1.0")[1] - 4, place(root, "0.0")[1] - 4
    assert number(window, "y") == pytest.approx(top - 4, abs=0.2)
    assert number(window, "height") == pytest.approx(bottom - top + 8, abs=0.2)
    view = [float(part) for part in window.get("viewBox", "").split()]
    assert view == [number(window, name) for name in ("x", "y", "width", "height")]
    assert number(window.findall("circle")[1], "cy") < number(window, "y")


def test_labels_of_vertical_lines_neither_touch_each_other_nor_cross_a_line() -> None:
    stages = [(1, "1 warm-up"), (3, "2 small crops"), (4, "3 large crops"), (20, "4 full size"), (38, "5 last")]
    root = parsed(lines(Line("a", np.arange(1, 61), np.ones(60)), verticals=stages[::-1]))
    (front,) = root.findall("g")
    labels = [
        (left_of(text), left_of(text) + text_width(text.text or ""), number(text, "y")) for text in front.iter("text")
    ]
    assert [text.text for text in front.iter("text")] == [label for _, label in stages]
    for index, (left, right, y) in enumerate(labels):
        for other_left, other_right, other_y in labels[index + 1 :]:
            assert right <= other_left or other_right <= left or abs(y - other_y) >= 12
        for path in front.iter("path"):
            x, line_top, bottom = map(float, re.findall(r"[\d.]+", path.get("d", "")))
            assert not (left < x < right and line_top < y), "a line runs through a label"
            assert bottom == pytest.approx(place(root, "epoch")[1] - 36)


def test_a_line_needs_as_many_x_as_y() -> None:
    with pytest.raises(ValueError, match=r"'a' needs as many x as y. Received: 2 and 1"):
        Line("a", [1, 2], [1])


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), max_size=60), st.booleans())
def test_bins_hold_every_number_once(values: list[float], log: bool) -> None:
    counts, edges = binned(values, bins=10, log=log)
    assert counts.sum() == sum(math.isfinite(value) and (value > 0 or not log) for value in values)
    assert len(counts) <= 10
    assert np.all(np.diff(edges) > 0)


def test_bins_of_whole_numbers_hold_equally_many() -> None:
    counts, edges = binned([1, 1, 2, 4])
    assert counts.tolist() == [2, 1, 0, 1]
    assert edges.tolist() == [0.5, 1.5, 2.5, 3.5, 4.5]
    assert binned(range(100), bins=30)[0].tolist() == [4] * 25
    assert binned([1, 2, 3, 1000], bins=30, log=True)[1][:4].tolist() == [0.5, 1.5, 2.5, 3.5]


def test_bars_of_a_histogram_stand_between_their_edges() -> None:
    root = parsed(histogram([1, 0, 4], [0, 10, 20, 30], title="t", x_label="x", verticals=[(20, "median")]))
    low, high = root.findall("rect")
    assert number(high, "height") == pytest.approx(4 * number(low, "height"), abs=0.1)
    assert number(high, "x") == pytest.approx(place(root, "20")[0], abs=0.1)
    assert number(high, "x") + number(high, "width") == pytest.approx(place(root, "30")[0] - 1, abs=0.1)
    assert number(high, "y") + number(high, "height") == pytest.approx(number(low, "y") + number(low, "height"))
    assert number(high, "y") == pytest.approx(place(root, "4")[1] - 4, abs=0.1)
    assert tip(high) == "20 to 30: 4"
    (median,) = root.findall("g/path")
    assert f"M{place(root, '20')[0]:.1f}," in median.get("d", "")


def test_logarithmic_bars_are_equally_wide() -> None:
    root = parsed(histogram([1, 2, 3], [1, 10, 100, 1000], title="t", x_label="x", log_x=True))
    widths = [number(bar, "width") for bar in root.findall("rect")]
    assert widths == pytest.approx([widths[0]] * 3, abs=0.02)


@pytest.mark.parametrize(
    ("counts", "edges", "options", "message"),
    [
        ([1], [0, 1, 2], {}, "1 counts need one more edge"),
        ([1, 1], [0, 2, 1], {}, "ascending"),
        ([1], [0, NAN], {}, "ascending"),
        ([1], [0, 1], {"log_x": True}, r"must be > 0. Received: 0.0"),
        ([1], [1, 2], {"log_x": True, "verticals": [(-1, "a")]}, r"must be > 0. Received: -1.0"),
    ],
)
def test_a_histogram_refuses(counts: list[float], edges: list[float], options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        histogram(counts, edges, title="t", x_label="x", **options)  # type: ignore[arg-type]


def test_bars_are_as_long_as_their_values() -> None:
    root = parsed(bar_chart(["a", "b", "c", "d"], [10, 5, -5, NAN], title="t", x_label="images", value_format=".2f"))
    a, b, c, d = root.findall("rect")
    zero, ten = place(root, "0")[0], place(root, "10")[0]
    assert number(a, "x") == pytest.approx(zero, abs=0.1)
    assert number(a, "x") + number(a, "width") == pytest.approx(ten, abs=0.1)
    assert number(b, "width") == pytest.approx(number(a, "width") / 2, abs=0.1)
    assert number(c, "x") + number(c, "width") == pytest.approx(zero, abs=0.1)
    assert number(d, "width") == 0
    assert "-" in texts(root)


def test_shares_are_shown_in_percent_and_long_names_shortened() -> None:
    long = "a name much too long to stand beside a bar of the chart"
    root = parsed(bar_chart([long], [0.125], title="t", x_label="share", value_format=".1%"))
    assert "12.5%" in texts(root)
    assert "0%" in texts(root)
    assert any(text.endswith("…") and long.startswith(text[:-1]) for text in texts(root))
    assert tip(root.findall("rect")[0]) == f"{long}: 12.5%"


def test_each_bar_needs_a_label() -> None:
    with pytest.raises(ValueError, match="Received: 1 and 2"):
        bar_chart(["a"], [1, 2], title="t", x_label="x")


def test_intervals_hold_their_dot_and_baselines_have_a_tick() -> None:
    rows = [
        Interval("fold 0", 0.8, 0.7, 0.85, baseline=0.4),
        Interval("held out", np.float32(0.5)),
        Interval("none", NAN),
    ]
    root = parsed(interval_chart(rows, title="t", x_label="F2", baseline_name="all empty"))
    first, second = root.findall("circle")
    assert number(first, "cx") == pytest.approx(place(root, "0.80")[0], abs=0.1)
    assert number(second, "cx") == pytest.approx(place(root, "0.50")[0], abs=0.1)
    assert number(second, "cy") > number(first, "cy")
    (span,) = [path for path in root.iter("path") if path.get("fill") == "none"]
    left, y, right = map(float, re.findall(r"M([\d.]+),([\d.]+)H([\d.]+)", span.get("d", ""))[0])
    assert (left, y) == pytest.approx((place(root, "0.70")[0], number(first, "cy")), abs=0.1)
    assert left < number(first, "cx") < right
    (baseline,) = [path for path in root.iter("path") if tip(path)]
    assert tip(baseline) == "all empty: 0.400"
    assert baseline.get("d", "").startswith(f"M{place(root, '0.40')[0]:.1f},")
    assert {"0.800 [0.700, 0.850]", "0.500", "-", "all empty"} <= set(texts(root))


def test_the_chosen_cell_is_framed_and_named() -> None:
    scores = [[0.1, 0.2, 0.3], [0.4, 0.5, 0.9]]
    root = parsed(heat(scores, chosen=np.unravel_index(np.argmax(scores), (2, 3))))
    cells = {tip(cell): cell for cell in root.findall("rect") if tip(cell) and not cell.get("class")}
    assert len(cells) == 6
    best = cells["threshold 0.2, area 10 px: 0.900"]
    frames = [cell for cell in root.findall("rect") if cell.get("class") == "chosen"]
    assert {frame.get("stroke") for frame in frames} == {"#000000", "#ffffff"}
    for frame in frames:
        assert tip(frame) == "chosen: threshold 0.2, area 10 px: 0.900"
        assert all(frame.get(name) == best.get(name) for name in ("x", "y", "width", "height"))
    assert "chosen: threshold 0.2, area 10 px: 0.900" in texts(root)
    assert place(root, "0.2")[0] == pytest.approx(number(best, "x") + number(best, "width") / 2, abs=0.1)
    assert number(best, "y") < place(root, "10 px")[1] < number(best, "y") + number(best, "height")


def test_colours_run_from_the_lowest_to_the_highest_value() -> None:
    root = parsed(heat([[-1, 0, 1], [NAN, 0.5, -0.5]]))
    fills = [cell.get("fill") for cell in root.findall("rect") if tip(cell)]
    assert fills[:3] == ["#440154", "#21908c", "#fde725"]
    assert fills[3] == "var(--rule, #d8dde3)"
    bar = [cell.get("fill") for cell in root.findall("rect") if not tip(cell)]
    assert len(set(bar)) == len(bar) > 30
    assert {"-1.000", "1.000", "F2"} <= set(texts(root))


def test_ticks_of_a_large_map_are_thinned_out() -> None:
    root = parsed(heat([[float(x) for x in range(90)]] * 60))
    row = [text for text in root.iter("text") if (text.text or "").startswith("0.")]
    assert 3 < len(row) < 15
    assert all(left_of(b) >= left_of(a) + text_width(a.text or "") for a, b in pairwise(row))


@pytest.mark.parametrize("chosen", [(2, 0), (0, 3), (-1, 0)])
def test_a_heat_map_refuses_a_cell_that_is_not_there(chosen: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="chosen cell must be one of"):
        heat([[1, 2, 3], [4, 5, 6]], chosen=chosen)


def test_a_heat_map_needs_a_tick_for_each_row_and_column() -> None:
    with pytest.raises(ValueError, match=r"Received: \(2, 1\)"):
        heat_map(np.ones((1, 2)), ["a"], ["b", "c"], title="t", x_label="x", y_label="y", value_label="v")


def test_colours_and_lines_have_names_a_page_can_change_and_fallbacks_for_none() -> None:
    svg = lines(Line("a", [1, 2], [1, 2]), verticals=[(1, "stage")])
    assert set(re.findall(r"(?:fill|stroke)=\"([^\"]+)\"", svg)) <= {
        "none",
        *(f"var(--{name}, {colour})" for name, colour in re.findall(r"var\(--([\w-]+), (#[0-9a-f]{6})\)", svg)),
    }


def test_few_values_have_few_bins_and_many_more() -> None:
    values = np.random.default_rng(0).uniform(0, 1, 20_000)
    assert [len(binned(values[:count])[0]) for count in (20, 1000, 20_000)] == [8, 20, 40]


def test_a_curve_has_the_colour_it_is_given() -> None:
    chart = line_chart([Line("red", [0, 1], [0, 1], "#c00000")], title="t", x_label="x", y_label="y")
    assert 'stroke="#c00000"' in chart


@pytest.mark.parametrize("written", [True, False])
def test_values_are_written_into_the_cells_of_a_heat_map(written: bool) -> None:
    cells = np.array([[np.nan, 17.0], [23.0, 11.0]])
    chart = heat_map(
        cells, "ab", "cd", title="t", x_label="x", y_label="y", value_label="v", value_format=".0f", written=written
    )
    assert (">17</text>" in chart) == written


def test_a_notebook_shows_a_chart_as_a_picture() -> None:
    chart = bar_chart(["a"], [1], title="t", x_label="x")
    assert chart._repr_html_() == str(chart)
