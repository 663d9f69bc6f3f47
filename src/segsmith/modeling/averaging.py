"""Weights of many steps -> one network: a running average (EMA), or an equal mean of chosen steps (SWA)."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Num
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, get_swa_multi_avg_fn

from segsmith import recipe
from segsmith.modeling.optim import cycle_ends


def running_average(network: nn.Module) -> AveragedModel:
    """An average of parameters and norms' statistics that has seen no step yet; `follow` takes one in."""
    return AveragedModel(network, use_buffers=True)


def follow(average: AveragedModel, network: nn.Module, decay: float) -> None:
    """Take a step's weights into a running average. A young one forgets faster, as in TensorFlow's
    ExponentialMovingAverage: the decay is (1 + n) / (10 + n) after n steps, and `decay` at most."""
    updates = int(average.n_averaged)
    ema = get_ema_multi_avg_fn(min(decay, (1 + updates) / (10 + updates)))  # type: ignore[no-untyped-call]
    average.multi_avg_fn = _of_shares(ema)
    average.update_parameters(network)


def equal_mean(network: nn.Module) -> AveragedModel:
    """A mean of parameters, all counting alike, that has seen none yet; `update_parameters` takes one in (stochastic
    weight averaging: Izmailov et al. 2018, arXiv 1803.05407). Its norms' statistics are still to be measured."""
    return AveragedModel(network, multi_avg_fn=_of_shares(get_swa_multi_avg_fn()))  # type: ignore[no-untyped-call]


def _of_shares(mean: Callable[[Any, Any, Any], None]) -> Callable[[Any, Any, Any], None]:
    """The same of the shares of parameters that this process holds: torch takes no list of these and buffers."""

    def here(tensors: Sequence[Tensor]) -> list[Tensor]:
        return [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]

    return lambda averaged, current, count: mean(here(averaged), here(current), count)


def averaged_after(stage: recipe.Stage, steps: int) -> list[int]:
    """How many of a stage's steps are over when its weights go into the mean of `swa`, ascending.

    The ends of the last `swa` of its epochs, rounded up; or of its cycles, where the schedule has more than one: in
    between, the rate is high and the weights are on their way.
    """
    if stage.swa is None:
        return []
    ends = cycle_ends(stage.schedule, steps)
    if len(ends) < 2:
        ends = [steps // stage.epochs * epoch for epoch in range(1, stage.epochs + 1)]
    return ends[-math.ceil(stage.swa * len(ends) - 1e-9) :]


@torch.no_grad()
def measure_norms(
    network: nn.Module, images: Iterable[Num[Tensor, "batch bands height width"]], frozen: nn.Module | None = None
) -> None:
    """Measure the statistics of a network's batch norms anew, as the mean over batches of training images; those in
    `frozen` stay. As torch.optim.swa_utils.update_bn, but for that."""
    network.train()
    if frozen is not None:
        frozen.eval()
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.training]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's word for a plain mean over all batches
    if norms:
        for batch in images:
            network(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
