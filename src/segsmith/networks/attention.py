"""A decoder or an encoder -> the same with attention in its blocks, or on its features."""

from collections.abc import Sequence
from typing import Any

from timm.layers import GlobalContext
from timm.layers.cbam import CbamModule
from torch import Tensor, nn

LEAST_SQUEEZED = 8


def use_cbam(decoder: nn.Module) -> None:
    """Put a Convolutional Block Attention Module (arXiv 1807.06521) wherever a block of the decoder has room for
    attention: on what it is given, and on what it makes. Channels, then pixels, are multiplied by gates of 0..1."""
    for block in _blocks(decoder):
        block.attention1 = CbamModule(block.conv1[0].in_channels)
        block.attention2 = CbamModule(block.conv2[0].out_channels)


def drop_idle(decoder: nn.Module) -> None:
    """Take away the attention on what the last block is given: with no skip connection, it is never asked."""
    *_, last = _blocks(decoder)
    last.attention1 = nn.Identity()


class ContextBlocks(nn.Module):
    """Global context (GCNet, arXiv 1904.11492) on the features of each stage of an encoder: one vector, made from the
    mean of all pixels by learnt weights, is added at every pixel.

    `widths` are the channels of the features after the first, which is the image and stays as it is. Such a block
    begins by adding the same to every image: the last weights of its branch are 0 at first.
    """

    def __init__(self, widths: Sequence[int]):
        super().__init__()
        blocks = [
            # it normalises over the squeezed channels: of one, nothing would be left
            GlobalContext(width, fuse_add=True, fuse_scale=False, rd_channels=max(LEAST_SQUEEZED, width // 16))
            for width in widths
            if width
        ]
        self.blocks = nn.ModuleList(blocks)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        image, *stages = features
        blocks = iter(self.blocks)  # transformers have a placeholder without channels
        return [image, *(next(blocks)(stage) if stage.shape[1] else stage for stage in stages)]


def _blocks(decoder: nn.Module) -> list[Any]:
    return [module for module in decoder.modules() if getattr(module, "attention1", None) is not None]
