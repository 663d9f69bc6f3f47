"""Probabilities of images cut from one picture -> the same, made to agree where the images meet."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import expit, logit

from segsmith.audit.mosaics import Joint
from segsmith.prediction.crf import SURE
from segsmith.types import Probabilities

REACH_PX = 10.0
"""How far from a joint a correction falls to a third (1/e)."""


def agreed(levels: Mapping[int, Probabilities], joints: Sequence[Joint]) -> dict[int, Probabilities]:
    """Levels 0..255 of images, by number, of which those that `joints` name meet halfway: at a joint both have the mean
    of their log odds, pixel by pixel, and farther in each is as much corrected as it was at its edge, falling off over
    REACH_PX. What is corrected at one joint is not looked at again for the next. Joints with an image that has no
    levels are passed over.
    """
    odds = {image: logit(np.clip(of_image / 255, SURE, 1 - SURE)) for image, of_image in levels.items()}
    added = {image: np.zeros_like(of_image) for image, of_image in odds.items()}
    touched = set()
    for joint in joints:
        if joint.first not in odds or joint.second not in odds:
            continue
        touched |= {joint.first, joint.second}
        axis = 1 if joint.below else 2
        last, first = odds[joint.first].take([-1], axis), odds[joint.second].take([0], axis)
        length = odds[joint.first].shape[axis]
        fall = np.exp(-np.arange(length) / REACH_PX).reshape((1, -1, 1) if joint.below else (1, 1, -1))
        added[joint.first] += (first - last) / 2 * np.flip(fall)
        added[joint.second] += (last - first) / 2 * fall
    corrected = {image: np.rint(255 * expit(odds[image] + added[image])).astype(np.uint8) for image in touched}
    return {**levels, **corrected}
