"""An encoder -> the same without what it never uses, with residual blocks that are skipped, without its first max-pool,
with another activation."""

import difflib
import re
from functools import partial
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from segmentation_models_pytorch.encoders._senet import Bottleneck as SEBottleneck
from segmentation_models_pytorch.encoders.efficientnet import EfficientNetEncoder
from timm.layers import DropPath, drop_path
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.models.resnet import BasicBlock, Bottleneck

from segsmith import recipe
from segsmith.errors import ModelError

REPLACED = (nn.ReLU, nn.ReLU6, nn.SiLU, timm.layers.Swish)
"""Activations that give way to Mish."""
PROBE_PX = 64
"""Side of the blank image that shows what an encoder does; a small one, as encoders have a stride of 32 at most."""
BRANCH_ENDS: dict[type[nn.Module], str] = {
    BasicBlock: "bn2",
    Bottleneck: "bn3",
    SEBottleneck: "se_module",
    InvertedResidual: "conv",
}
"""Residual blocks that know no drop-path, and the last module before the shortcut is added."""
SLOTS = ("drop_path", "drop_path1", "drop_path2")
"""Where timm's residual blocks, and those made like them, keep theirs."""


def check_encoder(name: str) -> None:
    """Raise ModelError, with the nearest name, when neither segmentation_models.pytorch nor timm knows the encoder."""
    own, of_timm = smp.encoders.get_encoder_names(), [f"tu-{model}" for model in timm.list_models()]
    if name in own or name.split(".")[0] in of_timm:
        return
    likely = [*of_timm, *own] if name.startswith("tu-") else own
    near = [f"tu-{name}"] if f"tu-{name}" in of_timm else difflib.get_close_matches(name, likely, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "timm's models are named tu-NAME"
    raise ModelError(f"network.encoder: no encoder '{name}'; {hint}")


def lighter_encoders(name: str, *, pretrained: bool) -> list[str]:
    """Encoders of segmentation_models.pytorch of the same family with a smaller number, the nearest first: of resnet50
    resnet34 and resnet18, of efficientnet-b2 b1 and b0. `pretrained` leaves out those without weights of ImageNet."""
    family = re.compile(r"(\D+)(\d+)(.*)")
    of_name = family.fullmatch(name)
    if not of_name:
        return []
    found = {}
    for other, known in smp.encoders.encoders.items():
        of_other = family.fullmatch(other)
        if not of_other or of_other.group(1, 3) != of_name.group(1, 3):
            continue
        if int(of_other[2]) < int(of_name[2]) and (
            not pretrained or "imagenet" in (known["pretrained_settings"] or {})
        ):
            found[int(of_other[2])] = other
    return [found[number] for number in sorted(found, reverse=True)]


@torch.enable_grad()
def drop_unused(encoder: nn.Module, bands: int) -> None:
    """Take away the modules whose weights none of the encoder's features depends on: stages beyond its depth, layers
    that lead to a classifier. Its features stay the same, bit for bit.

    An encoder that takes one size alone, which is not the blank image's, stays as it is.
    """
    learning = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    try:
        features, tokens = _probed(encoder, bands)
    except (RuntimeError, ValueError, AssertionError):
        return
    made = [feature.sum() for feature in (*features, *tokens) if feature.requires_grad]
    gradients = torch.autograd.grad(made, learning, allow_unused=True)
    unused = {parameter for parameter, gradient in zip(learning, gradients, strict=True) if gradient is None}
    gone: list[str] = []
    for path, module in list(encoder.named_modules()):
        parameters = set(module.parameters())
        if parameters and parameters <= unused and not path.startswith(tuple(f"{outer}." for outer in gone)):
            encoder.set_submodule(path, _Unused())  # not removed: encoders count their blocks
            gone.append(path)


def set_drop_path(encoder: nn.Module, name: str, rate: float) -> None:
    """Skip residual blocks of whole samples while training: the last with probability `rate`, the first never, those
    between in even steps (stochastic depth, arXiv 1603.09382). What is kept is enlarged so that the mean stays.

    Rate 0 takes away what an encoder skips of its own accord. Raises ModelError if it has no residual block.
    """
    if isinstance(encoder, EfficientNetEncoder):
        encoder._drop_connect_rate = rate  # its own machinery, with a rate that rises likewise
        return
    blocks = [module for module in encoder.modules() if _slots(module) or _branch_end(module)]
    if rate and not blocks:
        raise ModelError(
            f"network.drop_path: {name} has no residual blocks to skip; set 0, or take resnet34 or another"
        )
    for block, probability in zip(blocks, torch.linspace(0, rate, len(blocks)).tolist(), strict=True):
        for slot in _slots(block):
            setattr(block, slot, DropPath(probability) if probability else nn.Identity())
        end = _branch_end(block)
        if end and probability:
            block.get_submodule(end).register_forward_hook(partial(_skip_samples, probability))


def remove_first_pool(encoder: nn.Module, name: str) -> None:
    """Take away the max-pool after an encoder's first layer, so that all later features are twice as large.

    Raises ModelError if there is none. Whether the features came out so is for check_strides to say.
    """
    pools = [path for path, module in encoder.named_modules() if isinstance(module, nn.MaxPool2d)]
    if not pools:
        raise _no_first_pool(name)
    encoder.set_submodule(pools[0], nn.Identity())


def check_strides(encoder: Any, bands: int, options: recipe.Network) -> None:
    """Raise ModelError unless the features have the strides that network.dilated and first_pool make of 1, 2 .. 32."""
    halved = 1 if options.first_pool else 2
    halvings = range(2, encoder._depth + 1)
    expected = [1, 2, *(min(2**halving, encoder._output_stride) // halved for halving in halvings)]
    try:
        found = [PROBE_PX // feature.shape[-1] for feature in _features(encoder, bands)]
    except (RuntimeError, ValueError, AssertionError):
        found = []
    if found != expected:
        raise _no_first_pool(options.encoder) if not options.first_pool else cannot_dilate(options)


def cannot_dilate(options: recipe.Network) -> ModelError:
    """What to tell of an encoder that halves in ways no dilation makes up for."""
    return ModelError(
        f"network.dilated={options.dilated}: {options.encoder} cannot dilate; set null, or take resnet34 or another"
    )


def use_mish(network: nn.Module) -> None:
    """Replace every ReLU and SiLU by Mish (arXiv 1908.08681)."""
    paths = [path for path, module in network.named_modules(remove_duplicate=False) if isinstance(module, REPLACED)]
    for path in paths:
        network.set_submodule(path, nn.Mish())


def check_no_relu(encoder: nn.Module, bands: int, name: str) -> None:
    """Raise ModelError if the encoder still computes a ReLU or SiLU, as a function that no module stands for."""
    with _Seen() as seen:
        try:
            _features(encoder, bands)
        except (RuntimeError, ValueError, AssertionError):
            return  # transformers that take one size alone have neither
    if seen.names & {"relu", "relu_", "silu", "silu_", "hardtanh", "hardtanh_"}:
        raise ModelError(
            f"network.activation=mish: {name} computes activations that cannot be replaced; set null, or take resnet34 "
            "or another"
        )


class _Unused(nn.Module):
    """Stands where a module was whose output no feature depends on; some encoders compute it nevertheless."""

    def forward(self, features: Tensor, *_: Any) -> Tensor:
        return features


class _Seen(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes which operations are computed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def _features(encoder: nn.Module, bands: int) -> list[Tensor]:
    """What the encoder makes of a blank image, at each size; its mode and its statistics stay."""
    features, _ = _probed(encoder, bands)
    return features


def _probed(encoder: nn.Module, bands: int) -> tuple[list[Tensor], list[Tensor]]:
    """Features of a blank image, and the tokens that plain transformers make beside them."""
    training = encoder.training
    try:
        made: Any = encoder.eval()(torch.zeros(1, bands, PROBE_PX, PROBE_PX))
    finally:
        encoder.train(training)
    features, tokens = made if isinstance(made, tuple) else (made, [])
    return features, [token for token in tokens if token is not None]


def _slots(module: nn.Module) -> list[str]:
    if not getattr(module, "has_skip", True):  # as of EfficientNet's blocks that change the size
        return []
    return [slot for slot in SLOTS if isinstance(getattr(module, slot, False), nn.Module | None)]


def _branch_end(module: nn.Module) -> str | None:
    if isinstance(module, InvertedResidual) and not module.use_res_connect:
        return None
    return next((end for kind, end in BRANCH_ENDS.items() if isinstance(module, kind)), None)


def _skip_samples(rate: float, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    skipped: Tensor = drop_path(output, rate, module.training)
    return skipped


def _no_first_pool(name: str) -> ModelError:
    return ModelError(
        f"network.first_pool=false: {name} has no max-pool after its first layer; set true, or take resnet34 or another"
    )
