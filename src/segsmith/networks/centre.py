"""The deepest features of an encoder -> features of the same shape that know more of the whole image."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from segmentation_models_pytorch.base.modules import Conv2dReLU
from segmentation_models_pytorch.decoders.pan.decoder import FPABlock
from segmentation_models_pytorch.decoders.pspnet.decoder import PSPModule
from torch import Tensor, nn

Features = Float[Tensor, "batch channels height width"]


class FeaturePyramidAttention(FPABlock):  # type: ignore[misc]
    """Pyramid Attention Network, arXiv 1805.10180: features times the output of a small pyramid of 7x7, 5x5 and 3x3
    convolutions on a half, a quarter and an eighth of the size, plus their global mean.

    Sides of any size: halves are rounded up, where those of segmentation_models.pytorch end at nothing below 8.
    """

    def __init__(self, channels: int):
        super().__init__(channels, channels)
        self.branch1[1].bn = nn.Identity()  # one value per channel has no deviation, in a batch of one
        for level in (self.down1, self.down2, self.down3):
            level[0].ceil_mode = True

    def forward(self, x: Features) -> Features:
        half = self.down1(x)
        quarter = self.down2(half)
        attention = _resized(self.down3(quarter), like=quarter) + self.conv2(quarter)
        attention = _resized(attention, like=half) + self.conv1(half)
        attended: Tensor = _resized(attention, like=x) * self.mid(x) + self.branch1(x)
        return attended


class GlobalConvolution(nn.Module):
    """Large Kernel Matters, arXiv 1703.02719: a dense connection of size x size pixels, as the sum of a column after a
    row and a row after a column. `size` is odd."""

    def __init__(self, channels: int, size: int = 15):
        super().__init__()
        inner = max(1, channels // 4)
        tall: dict[str, Any] = {"kernel_size": (size, 1), "padding": (size // 2, 0)}
        wide: dict[str, Any] = {"kernel_size": (1, size), "padding": (0, size // 2)}
        self.tall_first = nn.Sequential(nn.Conv2d(channels, inner, **tall), nn.Conv2d(inner, channels, **wide))
        self.wide_first = nn.Sequential(nn.Conv2d(channels, inner, **wide), nn.Conv2d(inner, channels, **tall))

    def forward(self, x: Features) -> Features:
        convolved: Tensor = self.tall_first(x) + self.wide_first(x)
        return convolved


class ObjectContext(nn.Module):
    """OCNet's object context, arXiv 1809.00916: beside its own features, each pixel gets the mean of all pixels'
    values, weighted by how similar they are to it."""

    def __init__(self, channels: int):
        super().__init__()
        inner = max(1, channels // 2)
        self.query = Conv2dReLU(channels, inner, kernel_size=1)
        self.key = Conv2dReLU(channels, inner, kernel_size=1)
        self.value = nn.Conv2d(channels, inner, kernel_size=1)
        self.merged = Conv2dReLU(channels + inner, channels, kernel_size=1)

    def forward(self, x: Features) -> Features:
        query, key, value = (make(x).flatten(2).transpose(1, 2) for make in (self.query, self.key, self.value))
        context = F.scaled_dot_product_attention(query, key, value).transpose(1, 2)
        merged: Tensor = self.merged(torch.cat([x, context.reshape(*context.shape[:2], *x.shape[2:])], dim=1))
        return merged


class PyramidPooling(nn.Module):
    """PSPNet's pyramid pooling, arXiv 1612.01105: beside its own features, each pixel gets the means of the cells of
    1x1, 2x2, 3x3 and 6x6 grids that it lies in."""

    def __init__(self, channels: int):
        super().__init__()
        self.pyramid = PSPModule(channels)
        inner = channels // len(self.pyramid.blocks) * len(self.pyramid.blocks)
        self.merged = Conv2dReLU(channels + inner, channels, kernel_size=1)

    def forward(self, x: Features) -> Features:
        merged: Tensor = self.merged(self.pyramid(x))
        return merged


CENTRES: dict[str, type[nn.Module]] = {
    "fpa": FeaturePyramidAttention,
    "gcn": GlobalConvolution,
    "ocr": ObjectContext,
    "ppm": PyramidPooling,
}
"""The centres of network.centre, each made from the number of channels."""


def _resized(features: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(features, like.shape[2:], mode="bilinear", align_corners=True)
