"""Logits and truth -> one number: the sum a recipe names; how hard each image is, and how much each pixel counts.

cross_entropies, overlaps and lovasz say what each loss does when truth, prediction or both are empty. All are computed
in float32 whatever the network ran in, and mean over the batch, so that weights keep their meaning when the batch size
changes.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Num
from torch import Tensor

from segsmith import recipe
from segsmith.errors import ModelError
from segsmith.losses.cross_entropies import (
    PixelWeight,
    binary_cross_entropy,
    binary_divergence,
    binary_focal_loss,
    cross_entropy,
    divergence,
    focal_loss,
)
from segsmith.losses.lovasz import lovasz_hinge, lovasz_softmax
from segsmith.losses.overlaps import dice_loss, jaccard_loss, tversky_loss
from segsmith.losses.targets import TINY, Logits, Scalar, Truth, Weight, filled, outline_weight, with_background


def weighted_loss(
    options: recipe.Loss,
    logits: Logits,
    truth: Num[Tensor, "batch classes height width"],
    weight: Weight | None = None,
    *,
    exclusive: bool = False,
) -> Scalar:
    """The weighted sum the recipe names. Truth holds 0..1 (0 background); `weight` says how much each pixel counts, 0
    where it is not usable, and None that all count 1.

    Logits have one channel per class, or, where classes are `exclusive`, one more, the background, first; of two
    classes that claim one pixel the later one then has it. Dice, Jaccard and Tversky leave the background out, unless
    the recipe's class_weights give it a weight.
    """
    logits, truth = logits.float(), truth.float()
    target = with_background(truth) if exclusive else truth
    total = _of_pixels(options, logits, target, weight, exclusive)
    if options.dice or options.jaccard or options.tversky or options.lovasz_softmax:
        probabilities = logits.softmax(1) if exclusive else logits.sigmoid()
        total = total + _of_overlaps(options, probabilities, target, weight, exclusive)
    if options.lovasz:
        total = total + options.lovasz * lovasz_hinge(
            logits,
            target,
            weight,
            slope=options.lovasz_slope,
            symmetric=options.lovasz_symmetric,
            class_weights=options.class_weights,
        )
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


def check_losses(options: recipe.Recipe, classes: Sequence[str]) -> None:
    """Raise ModelError unless every class_weights of the recipe has a number for each class, background first where
    they exclude each other, and not only zeros."""
    of_masks = ["background", *classes] if options.data.exclusive else list(classes)
    named = [(f"train.stages.{number}.loss", stage.loss, of_masks) for number, stage in enumerate(options.train.stages)]
    named += [
        (f"network.heads.{name}.loss", head.loss, list(classes) if head.kind == "border" else of_masks)
        for name, head in options.network.heads.items()
        if head.loss
    ]
    for where, loss, expected in named:
        weights = loss.class_weights
        if weights is not None and len(weights) != len(expected):
            raise ModelError(
                f"{where}.class_weights: {len(weights)} numbers {list(weights)}, but there are {len(expected)} to "
                f"weigh: {', '.join(expected)}; give one for each, in this order"
            )
        if weights is not None and not any(weights):
            raise ModelError(f"{where}.class_weights: all are 0; give one of {', '.join(expected)} a weight")


def _of_pixels(options: recipe.Loss, logits: Logits, target: Truth, weight: Weight | None, exclusive: bool) -> Scalar:
    """The losses taken pixel by pixel, of those the sum has."""
    total, of_class = logits.new_zeros(()), options.class_weights
    outlined: PixelWeight | None = weight
    if options.boundary and (options.bce or options.cross_entropy or options.focal):
        near = outline_weight(target, weight, options.boundary, options.boundary_px)
        near = near.amax(1, keepdim=True) if exclusive else near
        outlined = near if weight is None else near * weight
    if options.bce:
        total = total + options.bce * binary_cross_entropy(
            logits,
            target,
            _on_images(options.bce_images, target, weight, outlined),
            positive_weight=options.positive_weight,
            class_weights=of_class,
            top_k=options.top_k,
        )
    if options.cross_entropy:
        total = total + options.cross_entropy * cross_entropy(
            logits, target, outlined, class_weights=of_class, top_k=options.top_k
        )
    if options.focal:
        total = total + options.focal * (focal_loss if exclusive else binary_focal_loss)(
            logits,
            target,
            outlined,
            gamma=options.focal_gamma,
            positive_weight=options.positive_weight,
            class_weights=of_class,
            top_k=options.top_k,
        )
    if options.kl:
        total = total + options.kl * (divergence if exclusive else binary_divergence)(
            logits, target, weight, class_weights=of_class
        )
    return total


def _of_overlaps(
    options: recipe.Loss, probabilities: Logits, target: Truth, weight: Weight | None, exclusive: bool
) -> Scalar:
    """The losses taken of areas, of those the sum has; but for the Lovasz hinge, which is one of logits."""
    total, of_class = probabilities.new_zeros(()), options.class_weights
    if options.lovasz_softmax:
        total = total + options.lovasz_softmax * lovasz_softmax(probabilities, target, weight, class_weights=of_class)
    if exclusive and of_class is None:
        probabilities, target = probabilities[:, 1:], target[:, 1:]
    if options.dice:
        total = total + options.dice * dice_loss(
            probabilities, target, weight, over=options.over, class_weights=of_class
        )
    if options.jaccard:
        total = total + options.jaccard * jaccard_loss(
            probabilities, target, weight, over=options.over, class_weights=of_class
        )
    if options.tversky:
        total = total + options.tversky * tversky_loss(
            probabilities,
            target,
            weight,
            alpha=options.tversky_alpha,
            beta=options.tversky_beta,
            over=options.over,
            class_weights=of_class,
        )
    return total


def _on_images(which: str, truth: Truth, weight: Weight | None, counted: PixelWeight | None) -> PixelWeight | None:
    """What pixels count, `counted`, with those of images that are not `which` (all, empty, filled) left out."""
    if which == "all":
        return counted
    chosen = (filled(truth, weight).any(1) == (which == "filled")).to(truth).view(-1, 1, 1, 1)
    return chosen.expand(-1, 1, *truth.shape[2:]) if counted is None else counted * chosen
