"""Outputs of all heads + truth -> one number to be made small, and what the outputs mean as probabilities."""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Num, UInt8
from torch import Tensor

from segsmith import recipe
from segsmith.errors import ModelError
from segsmith.losses.losses import weighted_loss
from segsmith.losses.targets import TINY, Scalar, Truth, Weight, filled, image_weight
from segsmith.networks.networks import Outputs
from segsmith.types import Probabilities

BORDER_LOSS = recipe.Loss(bce=1, dice=1)
"""Of a head of kind border that names none: borders are thin, which Dice makes up for."""


def objective(
    options: recipe.Recipe,
    stage: recipe.Stage,
    outputs: Outputs,
    truth: Num[Tensor, "batch classes height width"],
    weight: Weight | None = None,
    scale: Float[Tensor, " batch"] | None = None,
    borders: Num[Tensor, "batch classes height width"] | None = None,
) -> Scalar:
    """The loss of a batch in a stage: that of the mask, and of every head its loss times its weight, which the stage
    may replace; a head of weight 0 is left out. Truth and weight as in weighted_loss.

    mask       its own losses, or the stage's; on images with foreground only, if it says so: 0 in a batch without
    deep       likewise, the mean over its levels
    presence   binary cross-entropy on whether an image holds any usable foreground of a class, mean over both
    scale      smooth L1 (a quadratic up to 1, Girshick 2015, arXiv 1504.08083) of the log2 of `scale`, how much each
               image is enlarged
    border     its own losses against `borders`, 1 where two objects of a class touch, each class by itself

    presence and scale take an image as much as the heaviest of its pixels, so one without a usable pixel not at all.
    Raises ModelError for a head of kind scale where `scale` is None, and of kind border where `borders` is.
    """
    exclusive = options.data.exclusive
    total = weighted_loss(stage.loss, outputs["mask"], truth, weight, exclusive=exclusive)
    for name, head in options.network.heads.items():
        factor = stage.heads.get(name, head.weight)
        if not factor:
            continue
        output = outputs[name].float()
        if head.kind == "presence":
            loss = _presence_loss(output, truth.float(), weight)
        elif head.kind == "scale":
            if scale is None:
                raise ModelError(
                    f"network.heads.{name}: kind scale needs to know how much each image is enlarged, and the batch "
                    "does not say; set data.fit=chip, or leave the head out"
                )
            loss = _mean(F.smooth_l1_loss(output, scale.to(output).log2(), reduction="none"), weight)
        elif head.kind == "border":
            if borders is None:
                raise ModelError(
                    f"network.heads.{name}: kind border needs to know where objects touch, and the batch does not say"
                )
            loss = weighted_loss(head.loss or BORDER_LOSS, output, borders, weight)
        else:
            levels = output.unbind(1) if head.kind == "deep" else (output,)
            counted = weight if head.images == "all" else _on_filled(truth.float(), weight)
            each = [
                weighted_loss(head.loss or stage.loss, level, truth, counted, exclusive=exclusive) for level in levels
            ]
            loss = torch.stack(each).mean()
        total = total + factor * loss
    return total


def class_probabilities(options: recipe.Recipe, outputs: Outputs) -> Float[Tensor, "batch classes height width"]:
    """Of each class, 0..1: the mean over the mask heads by their shares, 1 that of the first mask. Where classes
    exclude each other they sum to 1 less the background's, which is left out."""
    shares = {"mask": 1.0} | {name: head.share for name, head in options.network.heads.items() if head.kind == "mask"}
    total = sum(share * _probabilities(outputs[name].float(), options) for name, share in shares.items() if share)
    return torch.as_tensor(total / sum(shares.values()))


def plane_probabilities(options: recipe.Recipe, outputs: Outputs) -> Float[Tensor, "batch planes height width"]:
    """What is predicted of each pixel, 0..1: the probability of each class, and behind these, where the network has a
    head of kind border, that of a border in each class."""
    planes = [class_probabilities(options, outputs)]
    heads = options.network.heads.items()
    planes += [outputs[name].float().sigmoid() for name, head in heads if head.kind == "border"]
    return torch.cat(planes, dim=1)


def presence_probabilities(options: recipe.Recipe, outputs: Outputs) -> Float[Tensor, "batch classes"] | None:
    """Of each class, 0..1, to be in the image at all: the mean over the heads of kind presence; None without one."""
    heads = [name for name, head in options.network.heads.items() if head.kind == "presence"]
    return torch.stack([outputs[name].float().sigmoid() for name in heads]).mean(0) if heads else None


def quantised(probabilities: Tensor | Float32[np.ndarray, "..."]) -> UInt8[np.ndarray, "..."]:
    """Probabilities of 0..1 as 0..255, rounded, on the CPU."""
    return np.asarray((torch.as_tensor(probabilities) * 255).round().to(torch.uint8).cpu().numpy())


def most_probable(probabilities: Probabilities) -> Probabilities:
    """Each pixel's probability of its most probable class, 0 for the others; of equal ones the later has it, as in the
    truth. At one level for all classes, a threshold then gives each pixel to one class at most."""
    last = len(probabilities) - 1 - probabilities[::-1].argmax(axis=0)
    return np.where(np.arange(len(probabilities))[:, None, None] == last, probabilities, np.uint8(0))


def _probabilities(logits: Float[Tensor, "batch channels height width"], options: recipe.Recipe) -> Tensor:
    return logits.softmax(1)[:, 1:] if options.data.exclusive else logits.sigmoid()


def _presence_loss(
    logits: Float[Tensor, "batch classes"], truth: Float[Tensor, "batch classes height width"], weight: Weight | None
) -> Scalar:
    present = filled(truth, weight).to(logits)
    return _mean(F.binary_cross_entropy_with_logits(logits, present, reduction="none").mean(1), weight)


def _mean(losses: Float[Tensor, " batch"], weight: Weight | None) -> Scalar:
    if weight is None:
        return losses.mean()
    of_image = image_weight(weight)
    return (losses * of_image).sum() / of_image.sum().clamp_min(TINY)


def _on_filled(truth: Truth, weight: Weight | None) -> Weight:
    """The weight of each pixel, 0 in images without usable foreground."""
    chosen = filled(truth, weight).any(1).to(truth).view(-1, 1, 1, 1)
    return chosen.expand(-1, 1, *truth.shape[2:]) if weight is None else weight * chosen
