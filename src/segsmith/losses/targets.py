"""Truth -> what a loss holds logits against: planes that exclude each other, and more weight near outlines."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Logits = Float[Tensor, "batch channels height width"]
Truth = Float[Tensor, "batch channels height width"]
Weight = Float[Tensor, "batch 1 height width"]
"""How much each pixel counts: 0 where it is not usable."""
Scalar = Float[Tensor, ""]

TINY = 1e-6
REACH = 3
"""Deviations of a Gaussian after which it is taken for nothing."""


def with_background(truth: Float[Tensor, "batch classes height width"]) -> Float[Tensor, "batch channels height width"]:
    """Shares of 0..1 that sum to 1 at each pixel, background first: what no class claims.

    Where classes claim more than the whole of a pixel, a later one takes its share before those before it; so where
    two planes of 0 and 1 claim one pixel, the later one wins.
    """
    claimed_later = truth.flip(1).cumsum(1).flip(1) - truth
    shares = torch.minimum(truth, (1 - claimed_later).clamp_min(0))
    return torch.cat([(1 - shares.sum(1, keepdim=True)).clamp_min(0), shares], dim=1)


def image_weight(weight: Weight) -> Float[Tensor, " batch"]:
    """How much an image counts as a whole: as the heaviest of its pixels."""
    return weight.amax(dim=(1, 2, 3))


def filled(truth: Truth, weight: Weight | None) -> Bool[Tensor, "batch channels"]:
    """Whether each class has any usable foreground (a truth above 1/2) in each image."""
    usable = truth > 0.5 if weight is None else (truth > 0.5) & (weight > 0)
    return usable.any(dim=3).any(dim=2)


def outline_weight(
    truth: Truth, weight: Weight | None, extra: float, width_px: float
) -> Float[Tensor, "batch channels height width"]:
    """1 + extra * exp(-d^2 / (2 width_px^2)), d the pixels to the nearest pixel at an outline of the same plane.

    Pixels at an outline are those on both sides of it, so d is 0 there; more than three times `width_px` down or
    across, nothing is added. The edge of the image, and that of what is not usable, is no outline. After U-Net's
    weight map (Ronneberger et al. 2015, arXiv 1505.04597), with one distance in the place of the sum of two.
    """
    hard = truth > 0.5
    usable = torch.ones_like(hard[:, :1]) if weight is None else weight > 0
    at_outline = torch.zeros_like(truth)
    for axis in (2, 3):
        length = truth.shape[axis] - 1
        one, other = hard.narrow(axis, 0, length), hard.narrow(axis, 1, length)
        differ = (one != other) & usable.narrow(axis, 0, length) & usable.narrow(axis, 1, length)
        for start in (0, 1):
            at_outline.narrow(axis, start, length).masked_fill_(differ, 1)
    return 1 + extra * _highest(_highest(at_outline, 2, width_px), 3, width_px)


def _highest(planes: Truth, axis: int, width_px: float) -> Truth:
    """The highest of a Gaussian put on every pixel, along one axis; along both, one after the other, it is that of the
    plane, since a Gaussian of the distance is the product of those along the axes."""
    found = planes.clone()
    for shift in range(1, min(math.ceil(REACH * width_px), planes.shape[axis] - 1) + 1):
        faded = planes * math.exp(-((shift / width_px) ** 2) / 2)
        length = planes.shape[axis] - shift
        for to, by in ((0, shift), (shift, 0)):
            part = found.narrow(axis, to, length)
            torch.maximum(part, faded.narrow(axis, by, length), out=part)
    return found
