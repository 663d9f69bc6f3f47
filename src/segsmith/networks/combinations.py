"""Options of a network -> nothing, or what does not go together."""

import inspect
import json
from collections.abc import Collection
from typing import get_args

import segmentation_models_pytorch as smp

from segsmith import recipe
from segsmith.errors import ModelError
from segsmith.networks.encoders import check_encoder
from segsmith.networks.heads import LEVELLED

WITHOUT_ENCODER = frozenset({"FCNN", "FCNN2"})
ALL = frozenset(get_args(recipe.Network.model_fields["architecture"].annotation)) - WITHOUT_ENCODER
FREE_SIZES = frozenset({"Unet", "PSPNet", "DeepLabV3", "DeepLabV3Plus", "PAN", "UPerNet", "Segformer"})
"""Architectures whose decoder does not depend on every feature being twice as large as the next."""
GOES_WITH = {
    "decoder_channels": frozenset({"Unet", "UnetPlusPlus", "MAnet"}),
    "attention": frozenset({"Unet", "UnetPlusPlus"}),
    "first_pool": FREE_SIZES,
    "dilated": FREE_SIZES,
    "context": ALL - {"DPT"},
    "centre": ALL - {"DPT"},
    "hypercolumn": LEVELLED,
}
"""Options that not every architecture has, and those that have them."""
OF_ENCODERS = ("encoder", "encoder_weights", "encoder_depth", "drop_path", *GOES_WITH)
LEAST_SCSE_CHANNELS = 16  # it squeezes them sixteenfold


def check_options(options: recipe.Network) -> None:
    """Raise ModelError, with what comes nearest, for options of a network that do not go together, and for an encoder
    that does not exist. What only the built encoder can tell, build_network says."""
    if options.architecture in WITHOUT_ENCODER:
        _check_without_encoder(options)
    else:
        check_encoder(options.encoder)
        for name, architectures in GOES_WITH.items():
            given = getattr(options, name)
            if given != _default(name) and options.architecture not in architectures:
                raise ModelError(
                    f"network.{name}={json.dumps(given)} goes with {_either(architectures)}, not {options.architecture}"
                )
    for name, head in options.heads.items():
        if head.kind == "deep" and options.architecture not in LEVELLED:
            raise ModelError(
                f"network.heads.{name}.kind=deep goes with {_either(LEVELLED)}, not {options.architecture}; "
                "take kind=mask, or another architecture"
            )
    channels = options.decoder_channels
    if channels is not None and len(channels) != (blocks := depth(options)):
        raise ModelError(
            f"network.decoder_channels={json.dumps(channels)} is for {len(channels)} decoder blocks, but a network "
            f"that halves {blocks} times has as many; give {blocks} numbers, or set network.encoder_depth"
        )
    if options.attention == "scse" and (narrow := min(options.decoder_channels or (LEAST_SCSE_CHANNELS,))) < 16:
        raise ModelError(
            f"network.attention=scse needs {LEAST_SCSE_CHANNELS} channels or more in each decoder block, but "
            f"network.decoder_channels has {narrow}; set attention=cbam, or more channels"
        )
    if options.dilated is not None:
        _check_dilated(options, options.dilated)


def depth(options: recipe.Network) -> int:
    """Halvings of the size: those asked for, or the architecture's own."""
    own = inspect.signature(getattr(smp, options.architecture)).parameters["encoder_depth"].default
    return options.encoder_depth or int(own)


def _check_without_encoder(options: recipe.Network) -> None:
    for name in OF_ENCODERS:
        given = getattr(options, name)
        if given != _default(name) and not (name == "encoder_weights" and given is None):
            raise ModelError(
                f"network.{name}={json.dumps(given)} is for networks with an encoder, not {options.architecture}; "
                f"leave it at {json.dumps(_default(name))}, or set network.architecture=Unet"
            )


def _check_dilated(options: recipe.Network, dilated: int) -> None:
    if options.architecture == "PAN" and dilated == 8:
        raise ModelError("network.dilated=8 does not go with PAN, whose decoder starts at stride 16; set 16 or null")
    stride = 2 ** depth(options)
    if dilated >= stride:
        nearest = "8 or null" if stride > 8 else "null"
        raise ModelError(
            f"network.dilated={dilated} changes nothing in {options.architecture} of depth {depth(options)}, "
            f"whose stride is {stride}; set {nearest}, or a larger network.encoder_depth"
        )


def _default(name: str) -> object:
    return recipe.Network.model_fields[name].default


def _either(names: Collection[str]) -> str:
    return " or ".join(sorted(names))
