"""How far the edges of chips are to be seen."""

import cv2
import numpy as np
import pytest

from segsmith.prediction.chip_rows import ChipRows
from segsmith.prediction.seams import SeamMeter

SEEN = (640, 800)
ROWS = ChipRows(SEEN, (64, 64), (32, 32))


def smooth(seed: int = 0) -> np.ndarray:
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=SEEN), (0, 0), 1.5)
    return np.clip(noise / noise.std() * 30 + 128, 0, 255)


def measured(planes: np.ndarray, hw=SEEN, rows=ROWS, valid=None, at_a_time: int = 50) -> float | None:
    shrinks = hw < SEEN
    seen = cv2.resize(planes, hw[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    levels = np.rint(np.clip(seen, 0, 255)).astype(np.uint8)[None]
    valid = np.ones(hw, bool) if valid is None else valid
    meter = SeamMeter(rows, hw)
    for top in range(0, hw[0], at_a_time):
        meter.add(top, levels[:, top : top + at_a_time], valid[top : top + at_a_time])
    return meter.ratio()


def seamed(by: float) -> np.ndarray:
    """Every other chip is brighter."""
    chips = np.add.outer(np.arange(SEEN[0]) // 32, np.arange(SEEN[1]) // 32) % 2
    return smooth() + by * chips


@pytest.mark.parametrize("hw", [SEEN, (1290, 1610), (330, 410)])
def test_seams_raise_it_and_their_absence_leaves_it_at_one(hw):
    assert measured(seamed(0), hw) == pytest.approx(1, abs=0.1)
    assert measured(seamed(10), hw) > 1.15
    assert measured(seamed(30), hw) > measured(seamed(10), hw) + 0.5


@pytest.mark.parametrize("at_a_time", [1, 7, 31, 32, 640])
def test_it_does_not_matter_how_many_rows_come_at_a_time(at_a_time):
    assert measured(seamed(10), at_a_time=at_a_time) == measured(seamed(10))


def test_by_its_definition():
    levels = np.rint(np.clip(seamed(10), 0, 255)).astype(int)
    down, across = np.diff(levels, axis=0) ** 2, np.diff(levels, axis=1) ** 2
    lines = [down[31::32].ravel(), across[:, 31::32].ravel()]
    others = [down[15::32].ravel(), across[:, 15::32].ravel()]  # the multiples of 16 between them
    expected = np.concatenate(lines).mean() / np.concatenate(others).mean()
    assert measured(seamed(10)) == pytest.approx(expected)


def test_steps_that_a_network_makes_of_itself_are_no_seams():
    blocks = np.kron(smooth()[::4, ::4], np.ones((4, 4)))
    assert measured(blocks) == pytest.approx(1, abs=0.1)


def test_pixels_that_are_not_valid_do_not_count():
    valid = np.zeros(SEEN, bool)
    valid[:, :400] = True
    half = smooth()
    half[:, 400:] = seamed(90)[:, 400:]
    assert measured(half, valid=valid) == pytest.approx(1, abs=0.1)


def test_without_lines_there_is_nothing_to_say():
    assert measured(smooth(), rows=ChipRows(SEEN, (1024, 1024), (512, 512))) is None, "one chip"
    assert measured(np.zeros(SEEN)) is None, "nothing but flat"
