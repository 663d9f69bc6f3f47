"""F2 over objects against its definition, counted pair by pair."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segsmith.decision.object_scores import best_overlaps, f2_of_image

HW = (6, 7)
PIXELS = HW[0] * HW[1]


def runs_of(numbers: list[int]) -> list[np.ndarray]:
    """The runs of each object of an image that says which object every pixel belongs to, 0 for none."""
    found = []
    for number in sorted(set(numbers) - {0}):
        places = [place for place, of in enumerate(numbers) if of == number]
        found.append(np.array([[place, 1] for place in places], np.int32))
    return found


def by_definition(predicted: list[int], truth: list[int]) -> Fraction:
    ours = [{p for p in range(PIXELS) if predicted[p] == n} for n in sorted(set(predicted) - {0})]
    theirs = [{p for p in range(PIXELS) if truth[p] == n} for n in sorted(set(truth) - {0})]
    if not ours and not theirs:
        return Fraction(1)
    total = Fraction(0)
    for threshold in range(50, 100, 5):
        left, hits = list(theirs), 0
        for mine in ours:
            match = next((each for each in left if 100 * len(mine & each) > threshold * len(mine | each)), None)
            if match is not None:
                left.remove(match)
                hits += 1
        total += Fraction(5 * hits, 5 * hits + 4 * (len(theirs) - hits) + len(ours) - hits)
    return total / 10


painted = st.lists(st.sampled_from([0, 0, 1, 2, 3]), min_size=PIXELS, max_size=PIXELS)


@settings(max_examples=150)
@given(truth=painted, changed=st.lists(st.tuples(st.integers(0, PIXELS - 1), st.integers(0, 3)), max_size=14))
def test_f2_is_as_defined(truth, changed):
    predicted = list(truth)
    for place, number in changed:
        predicted[place] = number
    assert f2_of_image(runs_of(predicted), runs_of(truth), HW) == pytest.approx(float(by_definition(predicted, truth)))


def test_empty_sides():
    ship = [np.array([[3, 4]], np.int32)]
    assert f2_of_image([], [], HW) == 1
    assert f2_of_image(ship, [], HW) == 0
    assert f2_of_image([], ship, HW) == 0
    assert f2_of_image(ship, ship, HW) == 1


def test_a_threshold_that_is_met_is_not_exceeded():
    """IoU of 15 / 20 exceeds 0.50 to 0.70, five of ten, and not 0.75."""
    truth, predicted = [np.array([[0, 20]], np.int32)], [np.array([[0, 15]], np.int32)]
    assert f2_of_image(predicted, truth, HW) == pytest.approx(0.5)


def test_a_missed_ship_weighs_four_times_a_false_one():
    ships = [np.array([[start, 5]], np.int32) for start in (0, 10, 20)]
    assert f2_of_image(ships[:2], ships, HW) == pytest.approx(10 / 14)
    assert f2_of_image(ships, ships[:2], HW) == pytest.approx(10 / 11)


@given(*(st.lists(st.integers(0, 3), min_size=PIXELS, max_size=PIXELS) for _ in range(2)))
def test_the_best_overlap_of_every_object_is_found(one, other):
    def best(of, with_):
        sets = [[{p for p in range(PIXELS) if side[p] == n} for n in sorted(set(side) - {0})] for side in (of, with_)]
        return [(len(a), max([len(a & b) / len(a | b) for b in sets[1]], default=0.0)) for a in sets[0]]

    found = best_overlaps(*(np.array(side).reshape(HW) for side in (one, other)))
    for of_side, expected in zip(found, (best(one, other), best(other, one)), strict=True):
        assert of_side == [(area, pytest.approx(iou)) for area, iou in expected]
