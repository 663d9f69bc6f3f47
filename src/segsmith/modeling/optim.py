"""Optimisers, which parameters learn how fast, and learning-rate schedules.

A schedule is a function of the step alone; plateau's reductions are a function of the scores so far as well.
"""

import math
from itertools import accumulate
from typing import Any

import torch
from torch import nn

from segsmith import recipe
from segsmith.errors import ModelError

WARMUP_START = 1 / 25
"""Where one-cycle begins, relative to its peak (Smith & Topin 2017, arXiv 1708.07120, as torch's OneCycleLR has it)."""

OPTIMIZERS = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
}


def build_optimizer(network: nn.Module, options: recipe.Optimizer, input_hw: tuple[int, int]) -> torch.optim.Optimizer:
    """The optimiser over all parameters that learn; biases and norms (one-dimensional parameters) are not decayed.

    Parameters of the encoder get `encoder_lr` times the rate of the others, and each of its stages `layer_decay` times
    that of the next deeper one; those of a frozen encoder (encoder_lr 0) get no gradient any more. `input_hw` is a
    size that the network takes. Raises ModelError where encoder_lr or layer_decay is set for a network without encoder.
    """
    encoder = encoder_of(network)
    if encoder is None and (options.encoder_lr, options.layer_decay) != (1, 1):
        raise ModelError("optimizer.encoder_lr and layer_decay are for networks with an encoder; leave them at 1")
    rates = {} if encoder is None else _encoder_rates(network, encoder, options, input_hw)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for parameter in network.parameters():
        rate = rates.get(parameter, 1.0)
        if not rate:
            parameter.requires_grad_(False)
        elif parameter.requires_grad:
            groups.setdefault((rate, parameter.ndim > 1), []).append(parameter)
    settings: dict[str, Any] = {}
    if options.name in ("sgd", "rmsprop"):
        settings["momentum"] = options.momentum
    if options.name == "sgd":
        settings["nesterov"] = options.nesterov
    optimizer: torch.optim.Optimizer = OPTIMIZERS[options.name](
        [
            {"params": parameters, "weight_decay": options.weight_decay if decayed else 0.0, "relative_lr": rate}
            for (rate, decayed), parameters in groups.items()
        ],
        lr=options.lr,
        **settings,
    )
    set_learning_rate(optimizer, options.lr)
    return optimizer


def encoder_of(network: nn.Module) -> nn.Module | None:
    """The encoder of a segmentation network; None where it has none."""
    encoder = getattr(getattr(network, "body", None), "encoder", None)
    return encoder if isinstance(encoder, nn.Module) else None


def encoder_stages(network: nn.Module, encoder: nn.Module, input_hw: tuple[int, int]) -> dict[nn.Parameter, int]:
    """The stage of each of an encoder's parameters that learn, 0 for the first.

    An encoder gives a feature map per stage, fine to coarse. A parameter belongs to the first of them that depends on
    it, which autograd knows of any encoder, however its modules are named; what none depends on belongs to the last.
    """
    parameters = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    training = [module for module in encoder.modules() if module.training]
    found = encoder.eval()(network.get_buffer("mean").expand(1, -1, *input_hw).contiguous())
    for module in training:
        module.training = True
    features = found[0] if isinstance(found, tuple) else found  # transformers of DPT give their tokens as well
    learned = [feature for feature in features if feature.requires_grad]
    stages = dict.fromkeys(parameters, len(learned) - 1)
    for stage, feature in reversed(list(enumerate(learned))):
        gradients = torch.autograd.grad(feature.sum(), parameters, retain_graph=True, allow_unused=True)
        stages |= {p: stage for p, gradient in zip(parameters, gradients, strict=True) if gradient is not None}
    return stages


def _encoder_rates(
    network: nn.Module, encoder: nn.Module, options: recipe.Optimizer, input_hw: tuple[int, int]
) -> dict[nn.Parameter, float]:
    """The learning rate of each parameter of the encoder, relative to that of the rest of the network."""
    if options.layer_decay == 1 or options.encoder_lr == 0:
        return dict.fromkeys(encoder.parameters(), options.encoder_lr)
    stages = encoder_stages(network, encoder, input_hw)
    last = max(stages.values())
    return {p: options.encoder_lr * options.layer_decay ** (last - stage) for p, stage in stages.items()}


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the rate of the parameters outside the encoder; the others follow in proportion."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["relative_lr"]


def learning_rate(stage: recipe.Stage, step: int, steps: int) -> float:
    """The learning rate of step 0 .. steps - 1 of a stage; plateau's own reductions come on top.

    onecycle   from lr / 25 up to lr and down to final * lr, along cosines (arXiv 1708.07120)
    cosine     in a straight line up to lr, then `cycles` times from lr down to final * lr along a cosine, each time
               `growth` times as long (warm restarts: Loshchilov & Hutter 2017, arXiv 1608.03983)
    cyclic     `cycles` triangles between final * lr and lr (Smith 2017, arXiv 1506.01186)
    noam       in a straight line up to lr, then with the inverse square root of the step (Vaswani et al. 2017, arXiv
               1706.03762), scaled so that its peak is lr
    step       multiplied by factor after every `every` epochs
    """
    schedule, peak = stage.schedule, stage.optimizer.lr
    lowest, warmup = peak * schedule.final, schedule.warmup * steps
    match schedule.name:
        case "onecycle":
            if step < warmup:
                return _cosine(peak * WARMUP_START, peak, step / warmup)
            return _cosine(peak, lowest, (step - warmup) / max(1.0, steps - 1 - warmup))
        case "cosine":
            if step < warmup:
                return peak * (step + 1) / (warmup + 1)
            first, end = _cycle(schedule, step, steps)
            return _cosine(peak, lowest, (step - first) / max(1.0, end - 1 - first))
        case "cyclic":
            first, end = _cycle(schedule, step, steps)
            return lowest + (peak - lowest) * (1 - abs(2 * (step + 1 - first) / (end - first) - 1))
        case "noam":
            climb = max(1.0, warmup)
            return peak * min((step + 1) / climb, math.sqrt(climb / (step + 1)))
        case "step":
            return peak * schedule.factor ** (step * stage.epochs // steps // schedule.every)
        case _:
            return peak


def cycle_ends(schedule: recipe.Schedule, steps: int) -> list[int]:
    """How many steps of a stage are over when each cycle of its schedule is, ascending; the last is `steps`.

    Empty for a schedule without cycles.
    """
    if schedule.name not in ("cosine", "cyclic"):
        return []
    before, growth = (schedule.warmup * steps, schedule.growth) if schedule.name == "cosine" else (0.0, 1.0)
    lengths = list(accumulate(growth**cycle for cycle in range(schedule.cycles)))
    return [round(before + (steps - before) * length / lengths[-1]) for length in lengths]


def _cycle(schedule: recipe.Schedule, step: int, steps: int) -> tuple[float, int]:
    """First step of the cycle that a step is in, and the first after it."""
    first = schedule.warmup * steps if schedule.name == "cosine" else 0.0
    for end in cycle_ends(schedule, steps):
        if step < end:
            return first, end
        first = float(end)
    return first, steps


def plateau_factor(schedule: recipe.Schedule, scores: list[float]) -> float:
    """What plateau multiplies the learning rate by, from the stage's validation scores so far (or its losses with
    their signs changed: more is better): factor for each time that `patience` epochs and one more passed without a
    better one."""
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
