"""Probabilities of several runs + truth -> the weights by which they are best averaged."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from scipy.optimize import minimize

from segsmith.decision.decide import validation_part
from segsmith.prediction.average import FLOOR, Average
from segsmith.prediction.probabilities import ProbabilityFiles
from segsmith.progress import track
from segsmith.recipe import Averaging
from segsmith.samples.chips import Chips

PIXELS = 1_000_000
"""Looked at, at the most, of all images together; as many of each."""
OF_AN_IMAGE = 1000
LEAST = 1e-3
"""A weight below counts as 0: the run need not be asked."""


@dataclass(frozen=True)
class FittingPixels:
    """What runs said of some pixels of each validation image, and what is true there."""

    levels: UInt8[np.ndarray, "runs classes pixels"]
    truth: Bool[np.ndarray, "classes pixels"]
    place: Int[np.ndarray, " pixels"]
    """Of the image among those of validation."""

    @staticmethod
    def of(chips: Chips, validation: list[int], files: list[ProbabilityFiles], seed: int) -> "FittingPixels":
        """Of usable pixels, drawn by (seed, place)."""
        count = max(1, min(OF_AN_IMAGE, PIXELS // len(validation)))
        levels, truths, places = [], [], []
        for place, index in enumerate(track(validation, "pixels", len(validation))):
            (mask, valid), image_id = chips.labels(index), chips.id(index)
            usable = np.flatnonzero(valid)
            drawn = np.random.default_rng([seed, 0xF17, place]).permutation(usable)[:count]
            said = np.stack([of.read(image_id)[: len(mask)] for of in files])
            levels.append(said.reshape(*said.shape[:2], -1)[..., drawn])
            truths.append(mask.reshape(len(mask), -1)[:, drawn])
            places.append(np.full(len(drawn), place))
        return FittingPixels(np.concatenate(levels, 2), np.concatenate(truths, 1), np.concatenate(places))

    def weights(
        self, how: Averaging, *, exclusive: int = 0, without_part: int | None = None, parts: int = 1
    ) -> tuple[float, ...]:
        """The weights, from 0 on and of sum 1, whose average has the least log loss; of images that are not in one
        part of the cross-fit, if that is named.

        Sequential least squares (Kraft 1988, scipy's SLSQP); for the mean the loss is convex in the weights, so what
        it finds is the least there is. Equal weights where no pixel is left.
        """
        chosen = np.ones(len(self.place), bool)
        if without_part is not None:
            chosen = np.array([validation_part(place, parts) != without_part for place in self.place.tolist()])
        runs = len(self.levels)
        equal = np.full(runs, 1 / runs)
        if not chosen.any():
            return tuple(equal.tolist())
        said = torch.from_numpy(self.levels[:, :, chosen, None]).double() / 255
        truth = torch.from_numpy(self.truth[:, chosen, None]).double()

        def loss(at: np.ndarray) -> tuple[float, np.ndarray]:
            weights = torch.tensor(at, dtype=torch.float64, requires_grad=True)
            average = Average(how, exclusive=exclusive)
            for of_run, weight in zip(said, weights, strict=True):
                average.add(of_run, weight)
            found = torch.nn.functional.binary_cross_entropy(average.result().clamp(FLOOR, 1 - FLOOR), truth)
            found.backward()  # type: ignore[no-untyped-call]
            assert weights.grad is not None
            return float(found.detach()), weights.grad.numpy()

        sums_to_one = {"type": "eq", "fun": lambda at: at.sum() - 1, "jac": np.ones_like}
        found = minimize(loss, equal, jac=True, method="SLSQP", bounds=[(0, 1)] * runs, constraints=sums_to_one).x
        kept = np.where(found < LEAST, 0, found)
        return tuple((kept / kept.sum()).tolist())
