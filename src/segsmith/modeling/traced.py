"""A network with its weights -> what exporters trace: a module from 8-bit images to probabilities, and an example."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from segsmith.losses.objective import plane_probabilities, presence_probabilities
from segsmith.networks.networks import Network
from segsmith.recipe import Recipe


class Probabilities(nn.Module):
    """A network whose outputs are what they mean: planes, then presence where it has a head of that kind."""

    def __init__(self, network: Network, recipe: Recipe):
        super().__init__()
        self.network, self.recipe = network, recipe

    def forward(self, images: UInt8[Tensor, "batch channels height width"]) -> tuple[Float[Tensor, "..."], ...]:
        outputs = self.network(images)
        planes = plane_probabilities(self.recipe, outputs)
        presence = presence_probabilities(self.recipe, outputs)
        return (planes,) if presence is None else (planes, presence)


def traced(network: Network, recipe: Recipe) -> Probabilities:
    """The network on the CPU, as it predicts."""
    return Probabilities(network.cpu().eval(), recipe).eval()


def example(network: Network) -> tuple[UInt8[Tensor, "2 channels height width"], dict[int, Any]]:
    """Images to trace a network with, and which of their dimensions are free: the batch, and both sides as multiples of
    its stride, but for a network that takes off the mean image, which has that size alone."""
    height, width = (max(2, -(-64 // network.stride)) * network.stride for _ in "hw")
    sizes: dict[int, Any] = {0: torch.export.Dim("batch")}
    if network.mean_image is None:  # written as so many strides, since decoders lay features of several sizes together
        sizes |= {2: network.stride * torch.export.Dim("rows"), 3: network.stride * torch.export.Dim("columns")}
    else:
        height, width = network.mean_image.shape[2:]
    return torch.zeros((2, network.mean.shape[1], height, width), dtype=torch.uint8), sizes


def reason(error: Exception) -> str:
    """The first line of why a network did not go through; exporters raise kinds of a dozen modules of torch."""
    return (str(error.__cause__ or error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def quiet() -> Iterator[None]:
    """Without what exporters tell those who wrote the network."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
