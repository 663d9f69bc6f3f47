"""Logits and truth -> one number. Each loss says what it does when an image, or a whole batch, has no foreground.

All are computed in float32 whatever the network ran in, and mean over the batch, so that weights keep their meaning
when the batch size changes.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Num
from torch import Tensor

from segsmith import recipe

Logits = Float[Tensor, "batch classes height width"]
Truth = Float[Tensor, "batch classes height width"]
Weight = Float[Tensor, "batch 1 height width"]
Scalar = Float[Tensor, ""]

LEFT_OUT = 1e4
TINY = 1e-6


def weighted_loss(
    options: recipe.Loss,
    logits: Logits,
    truth: Num[Tensor, "batch classes height width"],
    weight: Weight | None = None,
) -> Scalar:
    """The weighted sum the recipe names. Truth holds 0..1 (0 background); `weight` says how much each pixel counts, 0
    where it is not usable, and None that all count 1."""
    logits, truth = logits.float(), truth.float()
    total = logits.new_zeros(())
    if options.bce:
        total = total + options.bce * binary_cross_entropy(logits, truth, options.positive_weight, weight)
    if options.dice:
        total = total + options.dice * dice_loss(logits, truth, weight=weight)
    if options.focal:
        total = total + options.focal * focal_loss(logits, truth, options.focal_gamma, options.positive_weight, weight)
    if options.lovasz:
        total = total + options.lovasz * lovasz_hinge(logits, truth, weight)
    return total


def image_losses(
    probabilities: Float[Tensor, "batch classes height width"],
    truth: Num[Tensor, "batch classes height width"],
    weight: Weight | None = None,
) -> Float[Tensor, " batch"]:
    """How hard each image is: its mean cross-entropy over the pixels that count, without gradient; 0 where none do."""
    losses = F.binary_cross_entropy(probabilities.detach().float(), truth.float(), reduction="none")
    counted = torch.ones_like(losses) if weight is None else (weight > 0).expand_as(losses).float()
    return (losses * counted).sum((1, 2, 3)) / counted.sum((1, 2, 3)).clamp_min(TINY)


def pixel_weight(
    valid: Num[Tensor, "batch height width"] | None, trust: Float[Tensor, " batch"], like: Logits
) -> Weight | None:
    """How much each pixel of a batch counts: the trust in its image, 0 where it is not usable; None if all count 1."""
    if valid is None and bool((trust == 1).all()):
        return None
    weight = trust.to(like.device).view(-1, 1, 1, 1).expand(-1, 1, *like.shape[2:])
    return weight if valid is None else weight * valid.to(like.device)[:, None]


def binary_cross_entropy(
    logits: Logits, truth: Truth, positive_weight: float = 1.0, weight: Weight | None = None
) -> Scalar:
    """Mean over pixels. An empty image counts as any other: each of its pixels is pushed towards background."""
    positive = logits.new_tensor(positive_weight)
    if weight is None:
        return F.binary_cross_entropy_with_logits(logits, truth, pos_weight=positive)
    return _mean(F.binary_cross_entropy_with_logits(logits, truth, pos_weight=positive, reduction="none"), weight)


def focal_loss(
    logits: Logits, truth: Truth, gamma: float = 2.0, positive_weight: float = 1.0, weight: Weight | None = None
) -> Scalar:
    """Cross-entropy times (1 - probability of the truth) ** gamma, mean over pixels (Lin et al. 2017, arXiv
    1708.02002).

    An empty image counts as any other; once its pixels are easy they weigh almost nothing.
    """
    cross_entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    miss = torch.sigmoid(logits) * (1 - truth) + torch.sigmoid(-logits) * truth
    miss = miss.clamp_min(torch.finfo(miss.dtype).tiny)  # the slope of 0 ** gamma is infinite for a gamma under 1
    return _mean((1 + (positive_weight - 1) * truth) * miss**gamma * cross_entropy, weight)


def dice_loss(logits: Logits, truth: Truth, smooth: float = 1.0, weight: Weight | None = None) -> Scalar:
    """1 - soft Dice per class over the pixels of the whole batch, mean over classes (Milletari et al. 2016, arXiv
    1606.04797).

    Foreground predicted on an empty image is punished, since its pixels stand in the batch's denominator; in a batch
    without any foreground the loss is sum(p) / (sum(p) + smooth), so false positives are punished there too. 0 when
    both are empty.
    """
    probability = torch.sigmoid(logits)
    axes = (0, 2, 3)
    counted = 1.0 if weight is None else weight
    overlap, total = (counted * probability * truth).sum(axes), (counted * (probability + truth)).sum(axes)
    return (1 - (2 * overlap + smooth) / (total + smooth)).mean()


def lovasz_hinge(logits: Logits, truth: Truth, weight: Weight | None = None) -> Scalar:
    """Lovasz extension of the Jaccard loss per image and class, on elu(hinge) + 1 in place of relu(hinge), mean over
    both.

    Berman et al. 2018, arXiv 1705.08790; elu + 1 as the salt contest's teams used it: the gradient does not vanish on
    pixels that are right. On an empty image it is elu(1 + largest logit) + 1: the most confident false positive is
    punished, alone. A pixel of weight 0 is left out; an image counts as much as the heaviest of its pixels.
    """
    batch, classes = logits.shape[:2]
    if weight is not None:
        unusable = weight.expand_as(logits) == 0
        logits = logits.masked_fill(unusable, -LEFT_OUT)  # background beyond doubt adds nothing
        truth = truth.masked_fill(unusable, 0)
    scores, labels = logits.reshape(batch * classes, -1), truth.reshape(batch * classes, -1)
    errors = 1 - scores * (2 * labels - 1)
    ordered, order = errors.sort(dim=1, descending=True)
    labels = labels.gather(1, order)
    foreground = labels.sum(1, keepdim=True)
    intersection = foreground - labels.cumsum(1)
    union = foreground + (1 - labels).cumsum(1)
    jaccard = 1 - intersection / union
    steps = torch.cat([jaccard[:, :1], jaccard[:, 1:] - jaccard[:, :-1]], dim=1)
    losses = ((F.elu(ordered) + 1) * steps).sum(1)
    if weight is None:
        return losses.mean()
    of_image = weight.amax(dim=(1, 2, 3)).repeat_interleave(classes)
    return (losses * of_image).sum() / of_image.sum().clamp_min(TINY)


def _mean(losses: Logits, weight: Weight | None) -> Scalar:
    if weight is None:
        return losses.mean()
    counted = weight.expand_as(losses)
    return (losses * counted).sum() / counted.sum().clamp_min(TINY)
