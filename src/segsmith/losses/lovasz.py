"""Logits or probabilities and truth -> Lovasz extension of the Jaccard loss (Berman et al. 2018, arXiv 1705.08790).

Pixels are put in order of their errors, the largest first; each error counts as much as the Jaccard loss grows when
its pixel goes wrong after those before it. A pixel of weight 0 never makes it grow, so it is as good as absent. Truth
above 1/2 is foreground: the Jaccard loss knows sets alone.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from segsmith.losses.targets import TINY, Logits, Scalar, Truth, Weight, image_weight


def lovasz_hinge(
    logits: Logits,
    truth: Truth,
    weight: Weight | None = None,
    *,
    slope: Literal["relu", "elu"] = "elu",
    symmetric: bool = False,
    class_weights: Sequence[float] | None = None,
) -> Scalar:
    """Of each image and class that may overlap, on relu(1 - margin) or elu(1 - margin) + 1; the mean over both.

    Relu is as published; elu + 1, of the salt contest's teams, goes on moving pixels that are right by more than the
    margin. On an empty target the most confident false positive is punished, alone: 1 + its logit with relu (0 once
    all are below -1), 1 more with elu, which falls towards 0 as predictions empty. An empty prediction of logits -x
    costs 1 + x or more. Symmetric is the mean of the loss and of that for the background, under which each false
    positive on an empty target is punished, by 1 / pixels. An image counts as the heaviest of its pixels.
    """
    if symmetric:
        both = [
            lovasz_hinge(sign * logits, target, weight, slope=slope, class_weights=class_weights)
            for sign, target in ((1, truth), (-1, 1 - truth))
        ]
        return (both[0] + both[1]) / 2
    batch, classes = logits.shape[:2]
    foreground = truth > 0.5
    errors = 1 - torch.where(foreground, logits, -logits)
    rows = (batch * classes, -1)
    measure = None if weight is None else weight.expand_as(logits).reshape(rows)
    ordered, steps = _ordered(errors.reshape(rows), foreground.reshape(rows), measure)
    losses = ((F.elu(ordered) + 1 if slope == "elu" else F.relu(ordered)) * steps).sum(1).view(batch, classes)
    counted = torch.ones_like(losses)
    if weight is not None:
        counted = counted * image_weight(weight)[:, None]
    if class_weights is not None:
        counted = counted * losses.new_tensor(class_weights)
    return (losses * counted).sum() / counted.sum().clamp_min(TINY)


def lovasz_softmax(
    probabilities: Logits, truth: Truth, weight: Weight | None = None, *, class_weights: Sequence[float] | None = None
) -> Scalar:
    """Of channels that exclude each other, background first, over the pixels of the whole batch: the mean over the
    classes present in it, background among them, as published.

    What is seen of a class that the batch does not hold is punished through the classes it takes its probability from;
    on an empty target thus through the background, by the mean of 1 - its probability, 0 once prediction is empty as
    well. So a background of class weight 0 leaves false positives on an empty batch unpunished. An empty prediction
    costs 1 for each class it misses.
    """
    channels = _by_channel(truth) > 0.5
    measure = None if weight is None else _by_channel(weight.expand_as(truth))
    ordered, steps = _ordered((channels.to(probabilities) - _by_channel(probabilities)).abs(), channels, measure)
    present = (channels if measure is None else channels & (measure > 0)).any(1).to(ordered)
    counted = present if class_weights is None else present * ordered.new_tensor(class_weights)
    return ((ordered * steps).sum(1) * counted).sum() / counted.sum().clamp_min(TINY)


def _by_channel(planes: Logits) -> Float[Tensor, "channels pixels"]:
    """One row a channel, of the pixels of all images."""
    return planes.transpose(0, 1).flatten(1)


def _ordered(
    errors: Float[Tensor, "rows pixels"],
    foreground: Bool[Tensor, "rows pixels"],
    measure: Float[Tensor, "rows pixels"] | None,
) -> tuple[Float[Tensor, "rows pixels"], Float[Tensor, "rows pixels"]]:
    """Errors, the largest first, and by how much each lets the Jaccard loss of its row grow.

    In float64: the growth is a difference of numbers near 1. Of 768 x 768 pixels, one in a hundred foreground, float32
    rounds it to 0 for 43 % of all, which then have no gradient.
    """
    ordered, order = errors.sort(dim=1, descending=True)
    with torch.no_grad():
        inside = foreground.gather(1, order).double()
        outside = 1 - inside
        if measure is not None:
            sizes = measure.gather(1, order)
            inside, outside = inside * sizes, outside * sizes
        true = inside.sum(1, keepdim=True)
        union = true + outside.cumsum(1)
        lost = torch.where(union > 0, 1 - (true - inside.cumsum(1)) / union, 0.0)
        steps = lost.diff(dim=1, prepend=torch.zeros_like(true))
    return ordered, steps.to(ordered.dtype)
