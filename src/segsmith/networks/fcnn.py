"""Bands and channels -> a fully convolutional network of four convolutions, as given with the houses."""

from itertools import pairwise
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn


class FCNN(nn.Module):
    """conv 3x3 to 16, ReLU, conv 3x3 to 32, ReLU, max-pool | conv 3x3 to 16, ReLU, twice the size | conv 5x5.

    The parts go by the names of segmentation_models.pytorch: `encoder` and `decoder`, around which the bars stand, and
    `segmentation_head`. The size is doubled by repeating pixels ("FCNN") or by a transposed convolution of 3x3
    ("FCNN2"). All kernels begin He-normal (arXiv 1502.01852), all biases at 0. Sides of images are even.
    """

    def __init__(self, kind: Literal["FCNN", "FCNN2"], bands: int, channels: int):
        super().__init__()
        self.encoder = _Encoder(bands)
        self.decoder = _Decoder(kind)
        self.segmentation_head = nn.Sequential(nn.Conv2d(16, channels, 5, padding=2))
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.bias is not None:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)


class _Encoder(nn.Module):
    output_stride = 2

    def __init__(self, bands: int):
        super().__init__()
        widths = pairwise((bands, 16, 32))
        layers = [layer for width in widths for layer in (nn.Conv2d(*width, 3, padding=1), nn.ReLU())]
        self.layers = nn.Sequential(*layers, nn.MaxPool2d(2))
        self.out_channels = (bands, 32)

    def forward(self, image: Float[Tensor, "batch bands height width"]) -> list[Tensor]:
        return [image, self.layers(image)]


class _Decoder(nn.Module):
    def __init__(self, kind: str):
        super().__init__()
        doubled = (
            nn.Upsample(scale_factor=2, mode="nearest")
            if kind == "FCNN"
            else nn.ConvTranspose2d(16, 16, 3, stride=2, padding=1, output_padding=1)
        )
        self.layers = nn.Sequential(nn.Conv2d(32, 16, 3, padding=1), nn.ReLU(), doubled)

    def forward(self, features: list[Tensor]) -> Float[Tensor, "batch 16 height width"]:
        decoded: Tensor = self.layers(features[-1])
        return decoded
