"""A network -> the share of its weights that each process of a training holds; and whole weights -> shares, and back.

By PyTorch's FSDP2 (Zhao et al. 2023, arXiv 2304.11277; ZeRO's third stage: Rajbhandari et al. 2020, arXiv 1910.02054):
every parameter is cut along its first axis. A block's are gathered while it computes, forwards and backwards, and its
gradients summed over the processes as they are cut. So parameters, gradients and what an optimiser keeps of them take a
share of their memory, and a block at a time all of it.
"""

import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from segsmith import recipe
from segsmith.errors import ModelError, RecipeError
from segsmith.modeling.processes import Processes

SMALLEST_BLOCK, LARGEST_BLOCK = 1 / 1000, 1 / 8
"""Of a network's parameters, what is gathered by itself, unless a single layer has more."""


def check_sharding(options: recipe.Train, processes: Processes) -> None:
    """Raise RecipeError where `train.shard` is set and cannot be."""
    if not options.shard:
        return
    if processes.count == 1:
        raise RecipeError(
            "train.shard: one process has no other to share weights with; start several (segsmith train --processes, "
            "or torchrun), or set train.shard=false, with which a run that was begun goes on as well"
        )
    for number, stage in enumerate(options.stages):
        if stage.optimizer.layer_decay != 1:
            raise RecipeError(
                f"train.stages.{number}.optimizer.layer_decay: {stage.optimizer.layer_decay:g} needs whole parameters, "
                "to see which stage of the encoder each belongs to; set it to 1, or train.shard=false"
            )


def shard(network: nn.Module, images: UInt8[Tensor, "batch bands height width"], mesh: DeviceMesh) -> None:
    """Leave this process its share of a network's parameters, which all of them have alike, on the mesh's device.

    `images` are any that the network takes: it is tried on them, first whole, to see what its blocks are, then in
    shares. Gradients are sums over the processes. Raises ModelError for a network that cannot be taken apart.
    """
    blocks = list(_blocks(network, _able(network, images)))
    for parameter in network.parameters():
        parameter.data = parameter.data.contiguous()  # FSDP takes no other; activations stay in channels_last
    warnings.filterwarnings("ignore", ".*returned a view tensor")  # the network may, which nobody changes in place
    try:
        for module in (*blocks, network):
            held = fully_shard(module, mesh=mesh, reshard_after_forward=True)
            held.set_gradient_divide_factor(1.0)
            held.set_force_sum_reduction_for_comms(True)  # gloo knows no other
        with torch.no_grad():
            network.eval()(images.to(mesh.device_type))
    except (RuntimeError, ValueError, NotImplementedError, AssertionError) as error:
        raise ModelError(
            f"train.shard: this network cannot be cut into shares ({str(error).splitlines()[0]}); set train.shard=false"
        ) from error


def whole(state: Any, *, kept: bool = True) -> Any:
    """A tensor or state dict, as deep as it may be, with whole tensors on the CPU in the place of shares; what is none
    stays as it is. Called by all processes; one that does not keep them gets empty ones, to spare its memory."""
    if isinstance(state, DTensor):
        found = state.full_tensor()
        return found.cpu() if kept else found.new_empty(0)
    if isinstance(state, dict):
        return {key: whole(value, kept=kept) for key, value in state.items()}
    return state


def load_weights(module: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load a whole state dict into a network or an average, of which this process holds shares or all."""
    here = module.state_dict()
    module.load_state_dict({name: _cut(tensor, here.get(name)) for name, tensor in weights.items()})


def optimizer_shares(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Of an optimiser's whole state dict, what this process's optimiser is to load."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    of_each = {
        number: {name: _cut(value, parameters[number]) for name, value in values.items()}
        for number, values in state["state"].items()
    }
    return {**state, "state": of_each}


def _cut(value: Any, like: Tensor | None) -> Any:
    """This process's share of what belongs to a parameter; all of what does not, such as a number of steps."""
    if not isinstance(like, DTensor) or value.shape != like.shape:
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def _able(network: nn.Module, images: Tensor) -> set[nn.Module]:
    """The modules that FSDP can gather by themselves, as a batch shows: those that are called, once, for tensors which
    are no views of others. It gathers where a module is called, not where another one uses its parameters or goes
    through its children, and again where gradients reach what it returned, of which a change of a view takes no note.
    """
    calls: Counter[nn.Module] = Counter()

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        tensors = [output] if isinstance(output, Tensor) else output if isinstance(output, list | tuple) else [None]
        able = all(isinstance(tensor, Tensor) and tensor._base is None for tensor in tensors)
        calls[module] += 1 if able else 2

    hooks = [module.register_forward_hook(note) for module in network.modules()]
    try:
        with torch.no_grad():
            network.eval()(images)
    finally:
        for hook in hooks:
            hook.remove()
    return {module for module, count in calls.items() if count == 1}


def _blocks(network: nn.Module, able: set[nn.Module]) -> Iterator[nn.Module]:
    """The largest modules that can be gathered by themselves and are not too large for it, or are single layers; what
    is small or left over is gathered with the network."""
    parameters = _size(network)

    def within(module: nn.Module) -> Iterator[nn.Module]:
        for child in module.children():
            share = _size(child) / parameters
            if share < SMALLEST_BLOCK:
                continue
            if child in able and (share <= LARGEST_BLOCK or not list(child.children())):
                yield child
            else:
                yield from within(child)

    return within(network)


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
