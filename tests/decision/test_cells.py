"""Sums over images, the noise between two cells, and the cell that is taken, against sums one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segsmith.decision.cells import GROUPS, CellScores, centre, found_together
from segsmith.modeling.bundle import Cell
from segsmith.modeling.metrics import Counts, score

AREAS, GATES = np.array([0, 3]), np.array([0, 50, 200])
NOTHING = np.zeros((3, 256, 4))


def images(count: int, seed: int = 0) -> list[tuple]:
    """Gate value, tp, predicted, true and usable pixels of each."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        true = int(rng.integers(0, 3)) * 20
        tp = np.sort(rng.integers(0, true + 1, (256, 2)), axis=0)[::-1]
        made.append(
            (int(rng.integers(0, 256)), tp, tp + np.sort(rng.integers(0, 30, (256, 2)), axis=0)[::-1], true, 100)
        )
    return made


def counted_of(metric: str, of: list[tuple], parts: int = 2) -> CellScores:
    one = CellScores(metric, AREAS, GATES, parts)
    for place, image in enumerate(of):
        one.add(place, *image)
    return one


def by_hand(metric: str, of: list[tuple], gate: int) -> np.ndarray:
    opened = np.array([value >= gate for value, *_ in of])
    tp, predicted = (np.stack([image[n] for image in of], axis=-1) * opened for n in (1, 2))
    true, pixels = (np.array([image[n] for image in of]) for n in (3, 4))
    return score(metric, Counts(tp, predicted, true, pixels))


@pytest.mark.parametrize("metric", ["mean_dice", "mean_iou_map", "global_iou", "global_accuracy"])
def test_each_gate_level_and_area_alone(metric):
    of = images(45)
    one = counted_of(metric, of)
    surface = one.surface(one.used)
    for number, gate in enumerate(GATES):
        assert surface[number] == pytest.approx(by_hand(metric, of, gate), abs=1e-12)
    groups = one.of_part(1)
    of_part = [image for place, image in enumerate(of) if place % 2]
    assert one.surface(groups)[1] == pytest.approx(by_hand(metric, of_part, 50), abs=1e-12)


@pytest.mark.parametrize("metric", ["mean_dice", "global_dice"])
def test_the_score_of_all_and_of_the_parts(metric):
    of = images(45)
    one = counted_of(metric, of, parts=3)
    found = found_together([one])
    gate, level, area = found.places[0]
    assert found.score == pytest.approx(by_hand(metric, of, GATES[gate])[level, area])
    assert len(found.parts) == 3
    for part, (cell,) in enumerate(found.parts):
        others = np.concatenate([one.of_part(other) for other in range(3) if other != part])
        assert cell == one.cell(one.chosen(np.sort(others)))


def test_classes_are_decided_alone_and_scored_together():
    first, second = (counted_of("mean_dice", images(30, seed)) for seed in (1, 2))
    both = found_together([first, second])
    alone = [found_together([one]) for one in (first, second)]
    assert both.places == (*alone[0].places, *alone[1].places)
    assert both.score == pytest.approx(np.mean([one.score for one in alone]))
    assert both.cross_fitted_score == pytest.approx(np.mean([one.cross_fitted_score for one in alone]))


def test_the_noise_between_two_cells_is_that_of_their_difference():
    """Of as many groups as images, the jackknife of a mean is the standard error of the mean."""
    rng = np.random.default_rng(0)
    one = CellScores("mean_dice", np.array([0]), np.array([0]), parts=2)
    scores = np.zeros((GROUPS, 256, 1))
    scores[:, 100, 0] = rng.normal(0.6, 0.2, GROUPS)
    difference = rng.normal(0.02, 0.05, GROUPS)
    scores[:, 101, 0] = scores[:, 100, 0] - difference
    for place in range(GROUPS):
        one.add_scores(place, 0, scores[place], 0.0)
    error = difference.std(ddof=1) / np.sqrt(GROUPS)
    assert difference.mean() < 3 * error, "or the test would be too easy"
    within = difference.mean() <= error
    _, level, _ = one.chosen(one.used)
    assert level == (101 if within else 100)


@given(st.integers(1, 400))
def test_memory_does_not_grow_with_the_number_of_images(count):
    one = CellScores("mean_iou_map", AREAS, GATES, 5)
    held = sum(value.nbytes for value in vars(one).values() if isinstance(value, np.ndarray))
    assert held == GROUPS * (3 * 256 * 2 + 1 + 2 + 1) * 8 + AREAS.nbytes + GATES.nbytes + 256 * 8
    one.add_scores(count, 0, np.ones((256, 2)), 0.0)
    assert not any(isinstance(value, list | dict | set) for value in vars(one).values())


# The centre


def plateau(*cells: tuple) -> np.ndarray:
    surface = NOTHING.copy()
    for gate, levels, area, value in cells:
        surface[gate, levels, area] = value
    return surface


def test_a_lucky_peak_is_left_for_the_middle_of_what_is_as_good():
    surface = plateau((0, slice(100, 141), 1, 0.80), (0, 103, 1, 0.805))
    assert centre(surface, NOTHING) == (0, 103, 1), "beyond doubt the best"
    assert centre(surface, NOTHING + 0.01) == (0, 120, 1)


def test_what_does_not_hang_together_with_the_best_does_not_move_it():
    surface = plateau((0, slice(100, 111), 1, 0.80), (0, 105, 1, 0.805), (0, slice(200, 250), 3, 0.80))
    assert centre(surface, NOTHING + 0.01) == (0, 105, 1)


def test_the_area_at_which_the_plateau_spans_most_levels():
    surface = plateau((0, slice(100, 111), 0, 0.8), (0, slice(90, 131), 1, 0.8), (0, slice(95, 121), 2, 0.81))
    assert centre(surface, NOTHING + 0.02) == (0, 110, 1)


def test_no_gate_is_the_simplest():
    surface = plateau((0, slice(100, 111), 0, 0.80), (1, slice(50, 61), 0, 0.805))
    assert centre(surface, NOTHING) == (1, 55, 0)
    assert centre(surface, NOTHING + 0.01) == (0, 105, 0)


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.floats(0, 0.5))
def test_what_is_taken_is_as_good_as_the_best(seed, error):
    surface = np.random.default_rng(seed).random((3, 256, 4)).round(2)
    place = centre(surface, np.full_like(surface, error))
    assert surface[place] >= surface.max() - error - 1e-9


def test_a_cell_is_what_its_numbers_stand_for():
    assert counted_of("mean_dice", images(3)).cell((2, 128, 1)) == Cell(128, 3, 200)
