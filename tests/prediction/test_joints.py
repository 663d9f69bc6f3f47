"""Images that meet agree at their joint, and only there."""

import numpy as np
import pytest

from segsmith.audit.mosaics import Joint
from segsmith.prediction.joints import REACH_PX, agreed

SHAPE = (2, 40, 40)


@pytest.mark.parametrize("below", [False, True])
def test_both_meet_halfway_at_their_joint_and_stay_as_they_are_far_from_it(below):
    draw = np.random.default_rng(0)
    levels = {number: draw.integers(30, 226, SHAPE, np.uint8) for number in (3, 7, 9)}
    found = agreed(levels, [Joint(3, 7, below, 0.9)])
    one, other = (found[number] if below else found[number].swapaxes(1, 2) for number in (3, 7))
    assert np.abs(one[:, -1].astype(int) - other[:, 0]).max() <= 1
    odds = [np.log(levels[number] / (255.0 - levels[number])) for number in (3, 7)]
    odds = odds if below else [of.swapaxes(1, 2) for of in odds]
    halfway = 255 / (1 + np.exp(-(odds[0][:, -1] + odds[1][:, 0]) / 2))
    assert np.abs(one[:, -1] - halfway).max() <= 1
    moved = np.abs(found[3].astype(int) - levels[3])
    moved = moved if below else moved.swapaxes(1, 2)
    assert moved[:, : int(-3 * REACH_PX)].max() < moved[:, -1].max() / 8
    assert np.array_equal(found[9], levels[9])


def test_several_joints_of_an_image_add_up_and_one_with_an_unknown_image_is_passed_over():
    levels = {number: np.full(SHAPE, level, np.uint8) for number, level in enumerate((60, 128, 200))}
    alone = agreed(levels, [Joint(0, 1, False, 0.9)])
    both = agreed(levels, [Joint(0, 1, False, 0.9), Joint(1, 2, True, 0.9), Joint(2, 5, False, 0.9)])
    assert alone[1][0, 0, 0] < 128
    assert both[1][0, -1, -1] > 128
    assert both[1][0, 0, 0] < 128
    assert np.array_equal(agreed(levels, [Joint(2, 5, False, 0.9)])[2], levels[2])
