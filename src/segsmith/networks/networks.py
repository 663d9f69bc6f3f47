"""Architecture + encoder -> a network from 8-bit images to the outputs of its heads."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch
from jaxtyping import Float, UInt8
from segmentation_models_pytorch.base.heads import SegmentationHead
from segmentation_models_pytorch.base.initialization import initialize_head
from torch import Tensor, nn

from segsmith import recipe
from segsmith.errors import ModelError
from segsmith.networks.attention import ContextBlocks, drop_idle, use_cbam
from segsmith.networks.centre import CENTRES
from segsmith.networks.combinations import WITHOUT_ENCODER, check_options
from segsmith.networks.encoders import (
    cannot_dilate,
    check_no_relu,
    check_strides,
    drop_unused,
    remove_first_pool,
    set_drop_path,
    use_mish,
)
from segsmith.networks.fcnn import FCNN
from segsmith.networks.heads import (
    Decoded,
    DeepHead,
    MaskHead,
    PresenceHead,
    ScaleHead,
    block_width,
    decoder_blocks,
    hypercolumn,
    made_by,
    resized,
)
from segsmith.networks.weights import hub_asked_once, load_encoder, load_network, read_weights

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZES_TRIED = 16

Outputs = dict[str, Tensor]
"""What a network makes of images, by head: 'mask', and by their names those of `network.heads`. Of masks, logits of
(batch, channels, height, width), one channel per class, or background and classes where these exclude each other; of
kind deep, (batch, levels, channels, height, width); of kind border, one channel per class in any case; of kind
presence, logits of (batch, classes); of kind scale, the log2 of the enlargement, (batch)."""


class Network(nn.Module):
    """A segmentation network that takes 8-bit images as they are; scaling, mean and deviation are part of it.

    `body` has an `encoder`, a `decoder` and a `segmentation_head`. Its encoder's features go through `context` and the
    deepest of them through `centre`, on the way to the decoder. With `columns`, masks are made from all blocks of the
    decoder. `stride` is what sides of images are multiples of.
    """

    mean: Tensor
    std: Tensor
    mean_image: Tensor | None

    def __init__(
        self,
        body: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        stride: int = 1,
        context: nn.Module | None = None,
        centre: nn.Module | None = None,
        columns: bool = False,
        heads: dict[str, nn.Module] | None = None,
        dropout: float = 0.0,
        mean_image: Float[Tensor, "bands height width"] | None = None,
    ):
        super().__init__()
        self.body = body
        self.stride = stride
        self.context, self.centre, self.columns = context, centre, columns
        self.dropout = nn.Dropout2d(dropout)
        self.levelled = columns or any(isinstance(head, DeepHead) for head in (heads or {}).values())
        # a head may be called what a ModuleDict already has, such as keys
        self.heads = nn.ModuleDict({f"head_{name}": head for name, head in (heads or {}).items()})
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(std).view(1, -1, 1, 1))
        self.register_buffer("mean_image", None if mean_image is None else 255 * mean_image[None])

    def forward(self, images: UInt8[Tensor, "batch bands height width"]) -> Outputs:
        decoded = self._decoded(self._pixels(images))
        mask: Tensor = self.body.get_submodule("segmentation_head")(decoded.last)
        outputs = {name.removeprefix("head_"): head(decoded) for name, head in self.heads.items()}
        return {"mask": resized(mask, decoded.hw)} | outputs

    def _pixels(self, images: UInt8[Tensor, "batch bands height width"]) -> Float[Tensor, "batch bands height width"]:
        centred = images.float() - self.mean
        if self.mean_image is not None:
            centred = centred - self.mean_image
        return (centred / self.std).contiguous(memory_format=torch.channels_last)

    def _decoded(self, pixels: Float[Tensor, "batch bands height width"]) -> Decoded:
        body: Any = self.body
        encoded = body.encoder(pixels)
        features, *tokens = encoded if isinstance(encoded, tuple) else (encoded,)  # of a plain transformer, tokens too
        if self.context is not None:
            features = self.context(features)
        deepest = features[-1]
        if self.centre is not None:
            features = [*features[:-1], self.centre(deepest)]
        with made_by(decoder_blocks(body) if self.levelled else []) as levels:
            last = body.decoder(features, *tokens)
        column = hypercolumn(levels) if self.columns else last
        height, width = pixels.shape[2:]
        return Decoded(deepest, levels, self.dropout(column), (height, width))


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
    channels_last. Masks have one channel per class, or background and classes where these are `exclusive`.
    `mean_image`, on the same scale, is taken off as well, pixel by pixel.

    `weights=False` leaves out those of files, for a network whose weights are loaded right after. Raises
    ModelError for options that do not go together, for an encoder that does not exist or does not go with them, and for
    weights that do not load.
    """
    check_options(options)
    channels = classes + exclusive
    pretrained = options.encoder_weights if weights and options.weights is None else None
    body, whole = _body(options, len(mean), channels, pretrained)
    if options.architecture in WITHOUT_ENCODER:
        context, centre, stride = None, None, body.encoder.output_stride
    else:
        _change_encoder(body.encoder, options, len(mean))
        _change_decoder(body.decoder, options)
        stride = body.encoder.output_stride // (1 if options.first_pool else 2)
        context = ContextBlocks(body.encoder.out_channels[1:]) if options.context else None
        centre = CENTRES[options.centre](body.encoder.out_channels[-1]) if options.centre else None
    head = body.segmentation_head
    if isinstance(head, SegmentationHead):
        head[1] = nn.Identity()  # it enlarges by a fixed factor, but features may be finer; forward enlarges to size
    widths = [block_width(block) for block in decoder_blocks(body)]
    if options.hypercolumn:
        body.segmentation_head = SegmentationHead(sum(widths), channels, head[0].kernel_size[0])
        initialize_head(body.segmentation_head)
    network = Network(
        body,
        mean,
        std,
        stride=int(stride),
        context=context,
        centre=centre,
        columns=options.hypercolumn,
        heads={name: _head(kind.kind, body, widths, classes, channels) for name, kind in options.heads.items()},
        dropout=options.dropout,
        mean_image=mean_image,
    )
    if options.activation == "mish":
        use_mish(network)
        if options.architecture not in WITHOUT_ENCODER:
            check_no_relu(body.encoder, len(mean), options.encoder)
    if weights and options.weights is not None:
        load_network(network, read_weights(Path(options.weights)), options.weights, whole)
    return network.to(memory_format=torch.channels_last)


def check_input_hw(network: Network, input_hw: tuple[int, int], option: str = "data.input_hw") -> None:
    """Raise ModelError, with the nearest legal size, unless both sides are multiples of the network's stride.

    And unless it takes one image of that size: some architectures are pickier than their stride. `option` is
    what the size is called in the message.
    """
    stride = network.stride
    legal = tuple(max(stride, -(-side // stride) * stride) for side in input_hw)
    if legal != tuple(input_hw):
        raise ModelError(
            f"{option}: {list(input_hw)} is not a multiple of {stride}, the network's stride; "
            f"the next larger is {list(legal)}"
        )
    problem = _problem(network, input_hw)
    if problem is None:
        return
    larger = ((input_hw[0] + more * stride, input_hw[1] + more * stride) for more in range(1, SIZES_TRIED))
    works = next((size for size in larger if _problem(network, size) is None), None)
    hint = "set network.encoder_depth=null" if works is None else f"the next larger that does is {list(works)}"
    raise ModelError(f"{option}: the network does not work on images of {list(input_hw)} ({problem}); {hint}")


def _problem(network: Network, hw: tuple[int, int]) -> str | None:
    blank = network.mean.new_zeros((1, network.mean.shape[1], *hw), dtype=torch.uint8)
    try:
        with torch.inference_mode():
            network.eval()(blank)
    except (RuntimeError, ValueError, AssertionError) as error:
        return str(error)
    return None


def _body(options: recipe.Network, bands: int, channels: int, pretrained: str | None) -> tuple[Any, list[str]]:
    """Encoder, decoder and mask head, with the encoder's weights; and the names of all weights that there were before
    what is of no use was dropped."""
    if options.architecture in ("FCNN", "FCNN2"):
        return FCNN(options.architecture, bands, channels), []
    imagenet = pretrained == "imagenet"
    body = _downloaded(options, channels) if imagenet and bands == 3 else _built(options, bands, channels)
    whole, of_encoder = list(body.state_dict()), list(body.encoder.state_dict())
    drop_unused(body.encoder, bands)
    if imagenet and bands != 3:
        of_three = _downloaded(options, channels).encoder.state_dict()
        load_encoder(body.encoder, of_three, f"ImageNet weights of {options.encoder}", of_encoder)
    elif pretrained is not None and not imagenet:
        load_encoder(body.encoder, read_weights(Path(pretrained)), pretrained, of_encoder)
    return body, whole


def _downloaded(options: recipe.Network, channels: int) -> Any:
    """The body for three bands, with ImageNet weights."""
    pretrained = True if options.encoder.startswith("tu-") else "imagenet"
    try:
        with hub_asked_once():
            return _built(options, 3, channels, pretrained)
    except OSError as error:
        raise ModelError(
            f"network.encoder_weights: ImageNet weights of {options.encoder} could not be downloaded "
            f"({type(error).__name__}); without network set network.encoder_weights=null to start from random weights, "
            "or give a local .safetensors or .pth file"
        ) from error


def _built(options: recipe.Network, bands: int, channels: int, pretrained: bool | str | None = None) -> Any:
    settings: dict[str, Any] = {}
    if options.encoder_depth is not None:
        settings["encoder_depth"] = options.encoder_depth
    if options.decoder_channels is not None:
        settings["decoder_channels"] = options.decoder_channels
    if options.attention == "scse":
        settings["decoder_attention_type"] = "scse"
    if options.architecture == "DPT":
        settings["dynamic_img_size"] = True  # its encoders take one size alone otherwise
    if options.dilated is not None:
        own = options.architecture in ("DeepLabV3", "DeepLabV3Plus", "PAN")
        settings["encoder_output_stride" if own else "output_stride"] = options.dilated
    try:
        return getattr(smp, options.architecture)(
            options.encoder, encoder_weights=pretrained, in_channels=bands, classes=channels, **settings
        )
    except (RuntimeError, ValueError, TypeError, KeyError, AssertionError) as error:
        if options.dilated is not None and ("output_stride" in str(error) or "dilat" in str(error)):
            raise cannot_dilate(options) from error
        raise ModelError(f"network: {options.architecture} with {options.encoder} does not build: {error}") from error


def _change_encoder(encoder: Any, options: recipe.Network, bands: int) -> None:
    set_drop_path(encoder, options.encoder, options.drop_path)
    if not options.first_pool:
        remove_first_pool(encoder, options.encoder)
    if options.dilated or not options.first_pool:
        check_strides(encoder, bands, options)


def _change_decoder(decoder: nn.Module, options: recipe.Network) -> None:
    if options.attention == "cbam":
        use_cbam(decoder)
    if options.attention is not None:
        drop_idle(decoder)


def _head(kind: str, body: Any, widths: Sequence[int], classes: int, channels: int) -> nn.Module:
    if kind == "mask":
        own = copy.deepcopy(body.segmentation_head)
        initialize_head(own)
        return MaskHead(own)
    if kind == "border":
        last = body.segmentation_head[0]
        own = SegmentationHead(last.in_channels, classes, last.kernel_size[0])
        initialize_head(own)
        return MaskHead(own)
    if kind == "deep":
        return DeepHead(widths, channels)
    deepest = body.encoder.out_channels[-1]
    return PresenceHead(deepest, classes) if kind == "presence" else ScaleHead(deepest)
