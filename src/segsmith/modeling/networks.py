"""Architecture + encoder -> a network from 8-bit images to logits of the same size."""

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import huggingface_hub
import safetensors
import safetensors.torch
import segmentation_models_pytorch as smp
import timm
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from segsmith import recipe
from segsmith.errors import ModelError
from segsmith.modeling.fcnn import FCNN

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ATTENTIVE = frozenset({"Unet", "UnetPlusPlus"})
CUSTOM_DECODER = frozenset({"Unet", "UnetPlusPlus", "MAnet"})


Outputs = dict[str, Tensor]
"""What a network makes of images, by head: 'mask', and by their names those of `network.heads`. Of masks, logits of
(batch, channels, height, width), one channel per class, or background and classes where these exclude each other; of
kind deep, (batch, levels, channels, height, width); of kind presence, logits of (batch, classes); of kind scale, the
log2 of the enlargement, (batch)."""


class Network(nn.Module):
    """A segmentation network that takes 8-bit images as they are; scaling, mean and deviation are part of it."""

    mean: Tensor
    std: Tensor
    mean_image: Tensor | None

    def __init__(
        self,
        body: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        dropout: float,
        mean_image: Float[Tensor, "bands height width"] | None = None,
    ):
        super().__init__()
        if dropout:
            head = body.get_submodule("segmentation_head")
            body.segmentation_head = nn.Sequential(nn.Dropout2d(dropout), head)
        self.body = body
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(std).view(1, -1, 1, 1))
        self.register_buffer("mean_image", None if mean_image is None else 255 * mean_image[None])

    def forward(self, images: UInt8[Tensor, "batch bands height width"]) -> Outputs:
        centred = images.float() - self.mean
        if self.mean_image is not None:
            centred = centred - self.mean_image
        pixels = (centred / self.std).contiguous(memory_format=torch.channels_last)
        return {"mask": self.body(pixels)}


def build_network(
    options: recipe.Network,
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    exclusive: bool = False,
    weights: bool = True,
    mean_image: Float[Tensor, "bands height width"] | None = None,
) -> Network:
    """A network for as many bands as `mean` and `std` have (of images scaled to 0..1), with its weights in
    channels_last. The mask has one channel per class, or background and classes where these are `exclusive`.
    `mean_image`, on the same scale, is taken off as well, pixel by pixel.

    `weights=False` leaves out the encoder weights, for a network whose weights are loaded right after. Raises
    ModelError for an encoder that does not exist or does not go with the architecture, and for weights that do not
    load.
    """
    channels = classes + exclusive
    if options.architecture in ("FCNN", "FCNN2"):
        body = FCNN(options.architecture, len(mean), channels)
        return Network(body, mean, std, options.dropout, mean_image).to(memory_format=torch.channels_last)
    check_encoder(options.encoder)
    settings: dict[str, Any] = {}
    if options.encoder_depth is not None:
        settings["encoder_depth"] = options.encoder_depth
    if options.decoder_channels is not None:
        if options.architecture not in CUSTOM_DECODER:
            raise ModelError(
                f"network.decoder_channels goes with {_either(CUSTOM_DECODER)}, not {options.architecture}"
            )
        settings["decoder_channels"] = options.decoder_channels
    if options.attention is not None:
        if options.architecture not in ATTENTIVE:
            raise ModelError(f"network.attention goes with {_either(ATTENTIVE)}, not {options.architecture}")
        settings["decoder_attention_type"] = options.attention
    download = weights and options.encoder_weights == "imagenet"
    if options.architecture == "DPT":
        settings["dynamic_img_size"] = True  # its encoders take one size alone otherwise
    pretrained = True if options.encoder.startswith("tu-") else "imagenet"
    try:
        with _hub_asked_once() if download else nullcontext():
            body = getattr(smp, options.architecture)(
                options.encoder,
                encoder_weights=pretrained if download else None,
                in_channels=len(mean),
                classes=channels,
                **settings,
            )
    except OSError as error:
        if not download:
            raise
        raise ModelError(
            f"network.encoder_weights: ImageNet weights of {options.encoder} could not be downloaded "
            f"({type(error).__name__}); without network set network.encoder_weights=null to start from random weights, "
            "or give a local .safetensors or .pth file"
        ) from error
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        raise ModelError(f"network: {options.architecture} with {options.encoder} does not build: {error}") from error
    if weights and options.encoder_weights not in (None, "imagenet"):
        _load_encoder(body.encoder, Path(options.encoder_weights))
    network = Network(body, mean, std, options.dropout, mean_image)
    return network.to(memory_format=torch.channels_last)


def check_encoder(name: str) -> None:
    """Raise ModelError, with the nearest name, when neither segmentation_models.pytorch nor timm knows the encoder."""
    own, of_timm = smp.encoders.get_encoder_names(), [f"tu-{model}" for model in timm.list_models()]
    if name in own or name.split(".")[0] in of_timm:
        return
    likely = [*of_timm, *own] if name.startswith("tu-") else own
    near = [f"tu-{name}"] if f"tu-{name}" in of_timm else difflib.get_close_matches(name, likely, n=3, cutoff=0.5)
    hint = f"did you mean {_either(near)}?" if near else "timm's models are named tu-NAME"
    raise ModelError(f"network.encoder: no encoder '{name}'; {hint}")


def check_input_hw(network: Network, input_hw: tuple[int, int], option: str = "data.input_hw") -> None:
    """Raise ModelError, with the nearest legal size, unless both sides are multiples of the network's stride.

    And unless it makes logits of that size from one image: some architectures are pickier than their stride. `option`
    is what the size is called in the message.
    """
    encoder: Any = network.body.get_submodule("encoder")
    stride = int(encoder.output_stride)
    if any(side % stride for side in input_hw):
        legal = [max(stride, -(-side // stride) * stride) for side in input_hw]
        raise ModelError(
            f"{option}: {list(input_hw)} is not a multiple of {stride}, the network's stride; "
            f"the next larger is {legal}"
        )
    blank = network.mean.expand(1, -1, *input_hw)
    try:
        with torch.inference_mode():
            given = list(network.eval().body(blank).shape[2:])
    except (RuntimeError, ValueError, AssertionError) as error:
        raise ModelError(f"network: does not work on images of {option} {list(input_hw)}: {error}") from error
    if given != list(input_hw):
        raise ModelError(
            f"network: makes logits of {given} from images of {option} {list(input_hw)}; set network.encoder_depth=null"
        )


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a .safetensors file, or of a .pth file read without running any code in it. Raises ModelError."""
    try:
        if path.suffix == ".safetensors":
            return dict(safetensors.torch.load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such weights file") from None
    except (OSError, RuntimeError, safetensors.SafetensorError, ValueError, EOFError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelError(f"{path}: does not read as weights ({reason})") from None
    except Exception as error:  # the unpickler's own error, for a file that wants to run code
        raise ModelError(f"{path}: holds more than tensors, which is not loaded ({type(error).__name__})") from None
    if not isinstance(state, dict):
        raise ModelError(f"{path}: holds a {type(state).__name__}, not weights by name")
    state = state.get("state_dict", state)
    return {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}


@contextmanager
def _hub_asked_once() -> Iterator[None]:
    """Look in the cache alone when the hub of models does not answer: its client would go on asking for a minute."""
    hub = huggingface_hub.constants
    offline = hub.HF_HUB_OFFLINE
    try:
        huggingface_hub.get_session().head(hub.ENDPOINT, timeout=10)
    except Exception:  # each version of the client has errors of its own
        hub.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        hub.HF_HUB_OFFLINE = offline


def _load_encoder(encoder: nn.Module, path: Path) -> None:
    state = {name.removeprefix("encoder."): tensor for name, tensor in read_weights(path).items()}
    own = encoder.state_dict()
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    shaped = [
        f"{name}: {tuple(state[name].shape)} in the file, {tuple(own[name].shape)} in the network"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    if missing or shaped:
        wrong = [*shaped, *(f"{name}: missing" for name in missing)]
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ModelError(f"{path}: not the weights of this encoder: {'; '.join(wrong[:3])}{more}")
    nn.Module.load_state_dict(encoder, {name: state[name] for name in own if name in state}, strict=False)


def _either(names: Sequence[str] | frozenset[str]) -> str:
    return " or ".join(names if isinstance(names, list) else sorted(names))
