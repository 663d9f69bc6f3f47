"""Attention: gates lie between 0 and 1, and a context is one vector for all pixels."""

from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.base.modules import SCSEModule
from timm.layers.cbam import CbamModule
from torch import Tensor, nn

from segsmith import recipe
from segsmith.networks.attention import ContextBlocks
from segsmith.networks.networks import Network, build_network


def built(**options: Any) -> Network:
    small = {"encoder": "tu-test_resnet", "encoder_weights": None, "encoder_depth": 3}
    settings = recipe.Network(**(small | {"decoder_channels": (32, 16, 16)} | options))
    return build_network(settings, 1, (0.5,) * 3, (0.2,) * 3).eval()


def changes(network: Network, kind: type[nn.Module]) -> list[tuple[Tensor, Tensor]]:
    """What each module of this kind was given and made, for noise."""
    seen: list[tuple[Tensor, Tensor]] = []
    for module in network.modules():
        if isinstance(module, kind):
            module.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
    with torch.inference_mode():
        network(torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8))
    return seen


@pytest.mark.parametrize("architecture", ["Unet", "UnetPlusPlus"])
@pytest.mark.parametrize(("attention", "kind", "most"), [("scse", SCSEModule, 2), ("cbam", CbamModule, 1)])
def test_attention_in_every_decoder_block_lessens(architecture, attention, kind, most):
    """CBAM multiplies by two gates of 0..1; scSE adds up two gated copies. The last block has no skip to attend to."""
    torch.manual_seed(0)
    network = built(architecture=architecture, attention=attention)
    blocks = [
        module for module in network.body.modules() if getattr(module, "conv1", None) and hasattr(module, "conv2")
    ]
    blocks = [block for block in blocks if hasattr(block, "attention1")]
    seen = changes(network, kind)
    assert len(seen) == 2 * len(blocks) - 1
    for before, after in seen:
        assert (after.abs() <= most * before.abs()).all()
        assert (after * before >= 0).all()
        assert not torch.allclose(after, before)


def test_without_attention_there_is_none():
    network = built()
    assert isinstance(network.body, smp.Unet)
    assert not changes(network, SCSEModule)
    assert not changes(network, CbamModule)


def context_of(*widths: int) -> ContextBlocks:
    context = ContextBlocks(widths)
    for parameter in context.parameters():
        if not parameter.any():
            nn.init.normal_(parameter)  # what is 0 at first
    return context


def test_context_adds_one_vector_at_every_pixel():
    torch.manual_seed(0)
    features = [torch.rand(2, 3, 16, 16), torch.rand(2, 8, 8, 8), torch.rand(2, 24, 4, 4)]
    made = context_of(8, 24)(features)
    assert made[0] is features[0], "the image stays"
    for before, after in zip(features[1:], made[1:], strict=True):
        added = after - before
        assert torch.allclose(added, added[:, :, :1, :1].expand_as(added), atol=1e-6)
        assert not torch.allclose(added[0], added[1], atol=1e-4), "it is of each image"


def test_context_is_of_all_pixels_wherever_they_lie():
    torch.manual_seed(0)
    context, features = context_of(8), torch.rand(1, 8, 4, 4)
    image = torch.rand(1, 3, 8, 8)
    turned = context([image, features.flip(2)])[1].flip(2)
    assert torch.allclose(turned, context([image, features])[1], atol=1e-6)


def test_context_steps_over_a_stage_without_channels():
    features = [torch.rand(1, 3, 8, 8), torch.rand(1, 0, 4, 4), torch.rand(1, 8, 2, 2)]
    assert [feature.shape for feature in context_of(0, 8)(features)] == [feature.shape for feature in features]
