"""The two networks given with the houses, layer by layer."""

import math

import pytest
import torch
from torch import nn

from segsmith.networks.fcnn import FCNN

CONVOLUTIONS = [(3, 16, 3), (16, 32, 3), (32, 16, 3), (16, 2, 5)]
"""Channels in, channels out, side of the kernel."""


def layers(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if not list(module.children())]


def test_fcnn_is_as_given():
    found = layers(FCNN("FCNN", 3, 2))
    assert [type(layer).__name__ for layer in found] == [
        *("Conv2d", "ReLU", "Conv2d", "ReLU", "MaxPool2d"),
        *("Conv2d", "ReLU", "Upsample", "Conv2d"),
    ]
    convolutions = [layer for layer in found if isinstance(layer, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels, *c.kernel_size) for c in convolutions] == [
        (before, after, side, side) for before, after, side in CONVOLUTIONS
    ]
    assert (found[7].scale_factor, found[7].mode) == (2, "nearest")


def test_fcnn2_doubles_the_size_by_a_transposed_convolution():
    first, second = layers(FCNN("FCNN", 3, 2)), layers(FCNN("FCNN2", 3, 2))
    assert [str(layer) for layer in second[:7] + second[8:]] == [str(layer) for layer in first[:7] + first[8:]]
    transposed = second[7]
    assert isinstance(transposed, nn.ConvTranspose2d)
    assert (transposed.in_channels, transposed.out_channels) == (16, 16)
    assert (transposed.kernel_size, transposed.stride) == ((3, 3), (2, 2))


@pytest.mark.parametrize("kind", ["FCNN", "FCNN2"])
def test_kernels_begin_he_normal(kind):
    torch.manual_seed(0)
    network = FCNN(kind, 64, 2)
    for layer in layers(network):
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            inputs = layer.in_channels * math.prod(layer.kernel_size)
            assert float(layer.weight.std()) == pytest.approx(math.sqrt(2 / inputs), rel=0.1)
            assert not layer.bias.any()


@pytest.mark.parametrize("kind", ["FCNN", "FCNN2"])
@pytest.mark.parametrize(("bands", "channels"), [(1, 1), (3, 2), (5, 4)])
def test_sizes_and_gradients(kind, bands, channels):
    torch.manual_seed(0)
    network = FCNN(kind, bands, channels)
    image = torch.rand(2, bands, 10, 6)
    features = network.encoder(image)
    assert features[-1].shape == (2, 32, 5, 3)
    logits = network.segmentation_head(network.decoder(features))
    assert logits.shape == (2, channels, 10, 6)
    logits.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())
