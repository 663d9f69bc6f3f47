"""Probabilities of images cut from one picture -> the same, made to agree where the images meet."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from segsmith.data.mosaics import Joint
from segsmith.types import Probabilities

REACH_PX = 10.0
"""How far from a joint a correction falls to a third (1/e)."""
_SURE = 0.5 / 255


def agreed(levels: Mapping[int, Probabilities], joints: Sequence[Joint]) -> dict[int, Probabilities]:
    """Levels 0..255 of images, by number, of which those that `joints` name meet halfway: at a joint both have the mean
    of their log odds, pixel by pixel, and farther in each is as much corrected as it was at its edge, falling off over
    REACH_PX. What is corrected at one joint is not looked at again for the next. Joints with an image that has no
    levels are passed over.
    """
    odds = {image: _log_odds(of_image) for image, of_image in levels.items()}
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
    corrected = {image: _levels(odds[image] + added[image]) for image in touched}
    return {**levels, **corrected}


def _log_odds(levels: Probabilities) -> Float[np.ndarray, "planes height width"]:
    probabilities = np.clip(levels / 255, _SURE, 1 - _SURE)
    return np.asarray(np.log(probabilities / (1 - probabilities)))


def _levels(odds: Float[np.ndarray, "planes height width"]) -> Probabilities:
    return np.asarray(np.rint(255 / (1 + np.exp(-odds))), np.uint8)
