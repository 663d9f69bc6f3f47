import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segsmith.eda.svg import linear_axis, log_axis, shortened, text_width

numbers = st.floats(-1e6, 1e6).map(lambda number: round(number, 4))


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0.0, 1.0, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (0.0, 0.004, ["0.000", "0.001", "0.002", "0.003", "0.004"]),
        (0.0, 20_000.0, ["0", "5,000", "10,000", "15,000", "20,000"]),
        (-3.0, 2.0, ["-3", "-2", "-1", "0", "1", "2"]),
        (0.0, 3e6, ["0", "1e+06", "2e+06", "3e+06"]),
        (-1e6, -999_768.0, ["-1e+06", "-9.9995e+05", "-9.999e+05", "-9.9985e+05", "-9.998e+05"]),
    ],
)
def test_ticks_are_nice_numbers_with_just_the_decimals_they_need(low: float, high: float, labels: list[str]) -> None:
    assert list(linear_axis(low, high, 160, 0).labels) == labels


@given(numbers, numbers, st.booleans(), st.booleans())
def test_ticks_lie_on_the_axis_and_their_labels_apart(one: float, other: float, whole: bool, to_ticks: bool) -> None:
    low, high = min(one, other), max(one, other)
    axis = linear_axis(low, high, 50, 450, whole=whole, to_ticks=to_ticks)
    rounding = 1e-8 * (high - low)
    assert axis.low <= low + rounding
    assert axis.high >= high - rounding
    places = [axis(tick) for tick in axis.ticks]
    assert all(50 - 1e-3 <= place <= 450 + 1e-3 for place in places)
    assert len(set(axis.labels)) == len(axis.ticks) or high - low < 1e-3
    if len(places) > 2:
        assert places[1] - places[0] >= max(map(text_width, axis.labels)) + 8
    if whole:
        assert all(math.isclose(tick, round(tick)) for tick in axis.ticks)
    if to_ticks:
        assert len(places) >= 2
        assert places[0] == pytest.approx(50)
        assert places[-1] == pytest.approx(450)


def test_percent_labels() -> None:
    assert list(linear_axis(0.0, 0.8, 0, 300, percent=True).labels) == ["0%", "20%", "40%", "60%", "80%"]
    assert list(linear_axis(0.0, 0.01, 0, 300, percent=True).labels)[1] == "0.2%"


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0.5, 20_000.0, ["1", "10", "100", "1,000", "10,000"]),
        (1.0, 50.0, ["1", "2", "5", "10", "20", "50"]),
        (3.0, 4.0, ["2", "5"]),
        (7.0, 7.0, ["5", "10"]),
        (10.0, 10.0, ["10", "20"]),
    ],
)
def test_logarithmic_ticks(low: float, high: float, labels: list[str]) -> None:
    axis = log_axis(low, high, 0, 400)
    assert list(axis.labels) == labels
    assert 0 <= axis(low) <= axis(high) <= 400


@given(st.floats(1e-3, 1e6), st.floats(1.0, 1e8))
def test_logarithmic_ticks_lie_on_the_axis_and_their_labels_apart(low: float, ratio: float) -> None:
    axis = log_axis(low, low * ratio, 50, 450)
    places = [axis(tick) for tick in axis.ticks]
    assert places
    assert all(50 - 1e-6 <= place <= 450 + 1e-6 for place in places)
    assert all(right - left >= max(map(text_width, axis.labels)) for left, right in pairwise(places))


def test_a_text_too_long_ends_in_an_ellipsis_within_its_room() -> None:
    assert shortened("steel", 100) == "steel"
    short = shortened("a very long name of a class", 100)
    assert short.endswith("…")
    assert short.startswith("a very")
    assert text_width(short) <= 100
