"""Optimisers and learning-rate schedules. A schedule is a function of the step; only plateau remembers anything."""

import math

import torch
from torch import nn

from segsmith import recipe

WARMUP_START = 1 / 25
"""Where one-cycle begins, relative to its peak (Smith & Topin 2017, arXiv 1708.07120, as torch's OneCycleLR has it)."""


def build_optimizer(network: nn.Module, options: recipe.Optimizer) -> torch.optim.Optimizer:
    """The optimiser over all parameters; biases and norms (one-dimensional parameters) are not decayed."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if options.name == "sgd":
        return torch.optim.SGD(groups, lr=options.lr, momentum=options.momentum)
    kind = torch.optim.AdamW if options.name == "adamw" else torch.optim.Adam
    return kind(groups, lr=options.lr)


def learning_rate(stage: recipe.Stage, step: int, steps: int) -> float:
    """The learning rate of step 0 .. steps - 1 of a stage; plateau's own reductions come on top."""
    schedule, peak = stage.schedule, stage.optimizer.lr
    if schedule.name in ("constant", "plateau"):
        return peak
    warmup = schedule.warmup * steps
    if step < warmup:
        if schedule.name == "cosine":
            return peak * (step + 1) / (warmup + 1)
        return _cosine(peak * WARMUP_START, peak, step / warmup)
    return _cosine(peak, peak * schedule.final, (step - warmup) / max(1.0, steps - 1 - warmup))


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


def plateau_factor(schedule: recipe.Schedule, scores: list[float]) -> float:
    """What plateau multiplies the learning rate by, from the stage's validation scores so far: factor for each time
    that `patience` epochs and one more passed without a better one."""
    if schedule.name != "plateau":
        return 1.0
    factor, best, waited = 1.0, -math.inf, 0
    for score in scores:
        if score > best:
            best, waited = score, 0
        else:
            waited += 1
        if waited > schedule.patience:
            factor, waited = factor * schedule.factor, 0
    return factor


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(1.0, progress))) / 2
