"""Logits and truth -> losses taken pixel by pixel: cross-entropies, focal loss, divergence from soft labels.

Each is a weighted mean over pixels (and over classes, where these may overlap), so an empty image counts as any other:
foreground seen on it is punished pixel by pixel, and the loss is 0 where truth and prediction are both empty and
certain. A pixel of weight 0 is as good as absent; where none counts, the loss is 0 and so is its gradient. Weights of
pixels and classes are relative: their scale falls out of the mean. Truth may be soft, 0..1.

`top_k` keeps that share of the pixels that count, over the whole batch, those of the largest weighted loss (Wu et al.
2016, arXiv 1605.06885); easy pixels, most of an empty image's, then have no gradient at all.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from segsmith.losses.targets import TINY, Logits, Scalar, Truth

PixelWeight = Float[Tensor, "batch #channels height width"]
"""How much each pixel counts, for all channels alike or each by itself."""


def binary_cross_entropy(
    logits: Logits,
    truth: Truth,
    weight: PixelWeight | None = None,
    *,
    positive_weight: float = 1.0,
    class_weights: Sequence[float] | None = None,
    top_k: float = 1.0,
) -> Scalar:
    """Of classes that may overlap. `positive_weight` multiplies the loss of foreground, and does not fall out."""
    positive = logits.new_tensor(positive_weight)
    losses = F.binary_cross_entropy_with_logits(logits, truth, pos_weight=positive, reduction="none")
    return _mean_of_hardest(losses, _by_class(weight, class_weights, logits), top_k)


def binary_focal_loss(
    logits: Logits,
    truth: Truth,
    weight: PixelWeight | None = None,
    *,
    gamma: float = 2.0,
    positive_weight: float = 1.0,
    class_weights: Sequence[float] | None = None,
    top_k: float = 1.0,
) -> Scalar:
    """Binary cross-entropy times (1 - probability of the truth) ** gamma (Lin et al. 2017, arXiv 1708.02002).

    Once the pixels of an empty image are easy they weigh almost nothing.
    """
    cross_entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    miss = torch.sigmoid(logits) * (1 - truth) + torch.sigmoid(-logits) * truth
    losses = (1 + (positive_weight - 1) * truth) * _power(miss, gamma) * cross_entropy
    return _mean_of_hardest(losses, _by_class(weight, class_weights, logits), top_k)


def cross_entropy(
    logits: Logits,
    truth: Truth,
    weight: PixelWeight | None = None,
    *,
    class_weights: Sequence[float] | None = None,
    top_k: float = 1.0,
) -> Scalar:
    """Of channels that exclude each other; truth sums to 1 at each pixel. A pixel counts as much as its class, as in
    torch.nn.CrossEntropyLoss: a background of weight 0 makes empty images, and false positives on them, count nothing.
    """
    return _exclusive(-F.log_softmax(logits, dim=1), truth, weight, class_weights, top_k)


def focal_loss(
    logits: Logits,
    truth: Truth,
    weight: PixelWeight | None = None,
    *,
    gamma: float = 2.0,
    positive_weight: float = 1.0,
    class_weights: Sequence[float] | None = None,
    top_k: float = 1.0,
) -> Scalar:
    """Cross-entropy over channels that exclude each other, each term times (1 - its probability) ** gamma (Lin et al.
    2017, arXiv 1708.02002); `positive_weight` multiplies the loss of every class but the first, the background."""
    logarithms = F.log_softmax(logits, dim=1)
    losses = -logarithms * _power(-torch.expm1(logarithms), gamma)
    foreground = torch.full((logits.shape[1], 1, 1), positive_weight, dtype=logits.dtype, device=logits.device)
    foreground[0] = 1
    return _exclusive(foreground * losses, truth, weight, class_weights, top_k)


def binary_divergence(
    logits: Logits,
    truth: Truth,
    weight: PixelWeight | None = None,
    *,
    class_weights: Sequence[float] | None = None,
) -> Scalar:
    """Kullback-Leibler divergence of the probabilities from soft labels of classes that may overlap: 0 where they are
    the same, and binary cross-entropy where the labels are 0 and 1."""
    losses = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    losses = losses + torch.xlogy(truth, truth) + torch.xlogy(1 - truth, 1 - truth)
    return _mean_of_hardest(losses, _by_class(weight, class_weights, logits))


def divergence(
    logits: Logits,
    truth: Truth,
    weight: PixelWeight | None = None,
    *,
    class_weights: Sequence[float] | None = None,
) -> Scalar:
    """Kullback-Leibler divergence of the probabilities from soft labels that sum to 1 at each pixel: 0 where they are
    the same, and cross-entropy where the labels are 0 and 1. A pixel counts as much as its classes do on the mean."""
    losses = (torch.xlogy(truth, truth) - truth * F.log_softmax(logits, dim=1)).sum(1, keepdim=True)
    counted = torch.ones_like(losses) if weight is None else weight
    return _mean_of_hardest(losses, counted * _weighted(truth, class_weights).sum(1, keepdim=True))


def _exclusive(
    losses: Logits, truth: Truth, weight: PixelWeight | None, class_weights: Sequence[float] | None, top_k: float
) -> Scalar:
    """The mean over pixels of each channel's loss, by how much of the pixel and of the weight is that channel's."""
    shares = _weighted(truth, class_weights)
    of_pixel = shares.sum(1, keepdim=True)
    counted = of_pixel if weight is None else of_pixel * weight
    return _mean_of_hardest((shares * losses).sum(1, keepdim=True) / of_pixel.clamp_min(TINY), counted, top_k)


def _weighted(truth: Truth, class_weights: Sequence[float] | None) -> Truth:
    return truth if class_weights is None else truth * truth.new_tensor(class_weights).view(-1, 1, 1)


def _by_class(weight: PixelWeight | None, class_weights: Sequence[float] | None, logits: Logits) -> PixelWeight | None:
    """The weight of each pixel and class; None if all count 1."""
    if class_weights is None:
        return weight
    return _weighted(torch.ones_like(logits) if weight is None else weight.expand_as(logits), class_weights)


def _power(miss: Logits, gamma: float) -> Logits:
    return miss.clamp_min(torch.finfo(miss.dtype).tiny) ** gamma  # the slope of 0 ** gamma is infinite for gamma < 1


def _mean_of_hardest(losses: Logits, weight: PixelWeight | None, top_k: float = 1.0) -> Scalar:
    if weight is None and top_k == 1:
        return losses.mean()
    counted = torch.ones_like(losses) if weight is None else weight.expand_as(losses)
    if top_k < 1:
        hardness = (losses * counted).detach().masked_fill(counted == 0, -1).flatten()
        hardest = hardness.topk(math.ceil(top_k * int((counted > 0).sum()))).indices
        losses, counted = losses.flatten()[hardest], counted.flatten()[hardest]
    return (losses * counted).sum() / counted.sum().clamp_min(TINY)
