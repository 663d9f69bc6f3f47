"""Probabilities of an image -> one number by which it may be taken to be empty."""

import numpy as np
from jaxtyping import UInt8

from segsmith.errors import ModelError
from segsmith.recipe import Gate
from segsmith.types import ClassProbabilities, Probabilities


def gate_values(
    planes: Probabilities, gate: Gate, top_k: int, presence: UInt8[np.ndarray, " classes"] | None = None
) -> list[int]:
    """Of each class, 0..255; 255 where there is no gate. Raises ModelError where the gate goes by what a presence head
    says, and none said anything."""
    if gate == "presence":
        if presence is None:
            raise ModelError(
                "the decision asks the presence head, and of this image there is only the mask; predict it anew, or "
                "decide with decide.gate=top_k"
            )
        return [int(level) for level in presence]
    return [255 if gate == "none" else top_k_mean(plane, top_k) for plane in planes]


def top_k_mean(plane: ClassProbabilities, count: int) -> int:
    """The mean of the `count` highest levels, 0..255, rounded; of all where there are fewer. Few sure pixels weigh more
    in it than many unsure ones, as in multiple-instance learning (Li and Vasconcelos 2015)."""
    pixels = np.bincount(plane.ravel(), minlength=256)[::-1]
    count = min(count, plane.size)
    taken = np.diff(np.minimum(pixels.cumsum(), count), prepend=0)
    return round(float(taken @ np.arange(255, -1, -1)) / max(1, count))


def gates_to_try(values: list[int], most: int) -> list[int]:
    """0, which empties nothing, and of the gate values of all images each one, or quantiles where these are more than
    `most`; images below a gate become empty."""
    distinct = np.unique([value for value in values if value > 0])
    if len(distinct) > most - 1:
        shares = np.linspace(0, 1, most - 1)
        distinct = np.unique(np.quantile(np.array([value for value in values if value > 0]), shares, method="nearest"))
    return [0, *distinct.astype(int).tolist()]
