"""What a decoder makes -> the outputs of heads."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from jaxtyping import Float
from segmentation_models_pytorch.base import ClassificationHead
from torch import Tensor, nn

LEVELLED = frozenset({"Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN"})
"""Architectures whose decoder has blocks that each make features on the way to the mask."""


@dataclass(frozen=True)
class Decoded:
    """What heads are given: of one batch, all that may be made into an output."""

    deepest: Float[Tensor, "batch deepest_channels deepest_height deepest_width"]
    """The last features of the encoder."""
    levels: list[Tensor]
    """Features of (batch, channels, height, width) from each block of the decoder, coarse to fine."""
    last: Float[Tensor, "batch channels height width"]
    """What masks are made from."""
    hw: tuple[int, int]
    """The size of the images."""


class MaskHead(nn.Module):
    """Logits of (batch, channels, height, width) at the images' size, by the given layers."""

    def __init__(self, layers: nn.Module):
        super().__init__()
        self.layers = layers

    def forward(self, decoded: Decoded) -> Tensor:
        return resized(self.layers(decoded.last), decoded.hw)


class DeepHead(nn.Module):
    """Deep supervision, arXiv 1409.5185: logits of (batch, levels, channels, height, width), from each block of the
    decoder by a convolution of its own, enlarged to the images' size."""

    def __init__(self, widths: Sequence[int], channels: int):
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv2d(width, channels, 3, padding=1) for width in widths)

    def forward(self, decoded: Decoded) -> Tensor:
        levels = zip(self.convolutions, decoded.levels, strict=True)
        masks = (convolution(level) for convolution, level in levels)
        return torch.stack([_enlarged(mask, decoded.hw) for mask in masks], dim=1)


class PresenceHead(nn.Module):
    """Logits of (batch, classes) for whether a class is in the image at all, from the mean of the deepest features."""

    def __init__(self, width: int, classes: int):
        super().__init__()
        self.layers = ClassificationHead(width, classes, dropout=0)

    def forward(self, decoded: Decoded) -> Tensor:
        logits: Tensor = self.layers(decoded.deepest)
        return logits


class ScaleHead(nn.Module):
    """One number of any sign per image, of (batch), from the mean of the deepest features."""

    def __init__(self, width: int):
        super().__init__()
        self.layers = ClassificationHead(width, 1, dropout=0)

    def forward(self, decoded: Decoded) -> Tensor:
        numbers: Tensor = self.layers(decoded.deepest)[:, 0]
        return numbers


def decoder_blocks(body: Any) -> list[nn.Module]:
    """Blocks of the decoder of a LEVELLED architecture, coarse to fine; of others, none."""
    if isinstance(body, smp.UnetPlusPlus):  # those that lead from the deepest features straight to the mask
        return [body.decoder.blocks[f"x_0_{level}"] for level in range(body.decoder.depth + 1)]
    if isinstance(body, smp.Unet | smp.MAnet | smp.Linknet):
        return list(body.decoder.blocks)
    return list(body.decoder.seg_blocks) if isinstance(body, smp.FPN) else []


def block_width(block: Any) -> int:
    """Channels of what a block of a decoder makes."""
    if hasattr(block, "conv2"):
        return int(block.conv2[0].out_channels)
    last = block.block[-1]  # of Linknet, a convolution; of FPN, a block around one
    return int((last.block if hasattr(last, "block") else last)[0].out_channels)


@contextmanager
def made_by(blocks: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """A list that fills with what the blocks make, in the order in which they run."""
    made: list[Tensor] = []
    # only for this pass: a hook that stayed would go on filling this list from every copy of the network
    handles = [block.register_forward_hook(lambda _, __, output: made.append(output)) for block in blocks]
    try:
        yield made
    finally:
        for handle in handles:
            handle.remove()


def hypercolumn(levels: Sequence[Tensor]) -> Tensor:
    """Features of all levels at the size of the last one, one after the other (arXiv 1411.5752)."""
    height, width = levels[-1].shape[2:]
    return torch.cat([_enlarged(level, (height, width)) for level in levels], dim=1)


def resized(logits: Tensor, hw: tuple[int, int]) -> Tensor:
    """Logits at the size `hw`, corner on corner, as the architectures of segmentation_models.pytorch enlarge theirs."""
    if logits.shape[2:] == hw:
        return logits
    return F.interpolate(logits, hw, mode="bilinear", align_corners=True)


def _enlarged(features: Tensor, hw: tuple[int, int]) -> Tensor:
    if features.shape[2:] == hw:
        return features
    return F.interpolate(features, hw, mode="bilinear", align_corners=False)
