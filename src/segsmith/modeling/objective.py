"""Outputs of all heads + truth -> one number to be made small, and what the outputs mean as probabilities."""

import numpy as np
import torch
from jaxtyping import Float, Num, UInt8
from torch import Tensor

from segsmith import recipe
from segsmith.modeling.losses import Scalar, Weight, weighted_loss
from segsmith.modeling.networks import Outputs


def objective(
    options: recipe.Recipe,
    stage: recipe.Stage,
    outputs: Outputs,
    truth: Num[Tensor, "batch classes height width"],
    weight: Weight | None = None,
) -> Scalar:
    """The loss of a batch in a stage: that of the mask, and of every head its loss times its weight. Truth and weight
    as in weighted_loss."""
    return weighted_loss(stage.loss, outputs["mask"], truth, weight)


def class_probabilities(options: recipe.Recipe, outputs: Outputs) -> Float[Tensor, "batch classes height width"]:
    """Of each class, 0..1: the mean over the mask heads by their shares."""
    return torch.sigmoid(outputs["mask"].float())


def quantised(probabilities: Tensor) -> UInt8[np.ndarray, "..."]:
    """Probabilities of 0..1 as 0..255, rounded, on the CPU."""
    return np.asarray((probabilities * 255).round().to(torch.uint8).cpu().numpy())
