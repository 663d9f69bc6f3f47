"""Heads: what each is made from, and that none stands in another's way."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segsmith import recipe
from segsmith.networks.heads import LEVELLED, hypercolumn
from segsmith.networks.networks import Network, build_network

HEADS = {
    "second": {"kind": "mask"},
    "levels": {"kind": "deep"},
    "any": {"kind": "presence"},
    "zoom": {"kind": "scale"},
    "edge": {"kind": "border"},
}
IMAGES = torch.randint(0, 256, (2, 3, 64, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def built(architecture: str = "Unet", *, classes: int = 2, exclusive: bool = False, **options: Any) -> Network:
    torch.manual_seed(0)
    small = {"encoder": "tu-test_resnet", "encoder_weights": None, "heads": HEADS}
    settings = recipe.Network(architecture=architecture, **(small | options))
    return build_network(settings, classes, (0.5,) * 3, (0.2,) * 3, exclusive=exclusive).eval()


def outputs(network: Network) -> dict[str, Tensor]:
    with torch.inference_mode():
        return network(IMAGES)


@pytest.mark.parametrize("architecture", sorted(LEVELLED))
@pytest.mark.parametrize("exclusive", [False, True])
def test_shapes(architecture, exclusive):
    """Exclusive classes have a background beside them, in masks; whether one is there at all, a class tells alone."""
    levels, channels = 4 if architecture == "FPN" else 5, 3 if exclusive else 2
    shapes = {name: tuple(output.shape) for name, output in outputs(built(architecture, exclusive=exclusive)).items()}
    assert shapes == {
        "mask": (2, channels, 64, 32),
        "second": (2, channels, 64, 32),
        "levels": (2, levels, channels, 64, 32),
        "any": (2, 2),
        "zoom": (2,),
        "edge": (2, 2, 64, 32),
    }


def test_heads_are_computed_in_training_and_use_alike():
    network = built()
    assert network.train()(IMAGES).keys() == network.eval()(IMAGES).keys() == {"mask", *HEADS}


def test_masks_share_the_decoder_and_nothing_after_it():
    network = built()
    before = outputs(network)
    with torch.no_grad():
        network.body.get_submodule("segmentation_head.0").weight.zero_()
    after = outputs(network)
    assert after["mask"].flatten(2).std(dim=2).max() < 1e-6
    assert all(torch.equal(after[name], before[name]) for name in HEADS)


def test_presence_and_scale_are_of_the_encoder_alone():
    network = built()
    before = outputs(network)
    with torch.no_grad():
        for parameter in network.body.get_submodule("decoder").parameters():
            parameter.add_(1)
    after = outputs(network)
    assert torch.equal(after["any"], before["any"])
    assert torch.equal(after["zoom"], before["zoom"])
    assert not torch.equal(after["mask"], before["mask"])
    assert not torch.equal(before["any"][0], before["any"][1])


@pytest.mark.parametrize("architecture", sorted(LEVELLED))
def test_deep_masks_are_of_one_block_each_coarse_to_fine(architecture):
    """A coarse block makes few pixels: enlarged, neighbours differ by less of the whole range."""
    network = built(architecture)
    convolutions = network.heads["head_levels"].convolutions
    masks = outputs(network)["levels"]
    for level, convolution in enumerate(convolutions):
        with torch.no_grad():
            convolution.weight.zero_()
        now = outputs(network)["levels"]
        assert now[:, level].flatten(2).std(dim=2).max() < 1e-6
        rest = [other for other in range(len(convolutions)) if other > level]
        assert torch.equal(now[:, rest], masks[:, rest])
    rough = (masks[..., 1:] - masks[..., :-1]).abs().mean(dim=(0, 2, 3, 4)) / masks.std(dim=(0, 2, 3, 4))
    assert rough[0] < rough[-1]


def test_a_hypercolumn_is_all_levels_at_the_finest_size():
    coarse, fine = torch.arange(4.0).view(1, 1, 2, 2), torch.rand(1, 3, 8, 8)
    column = hypercolumn([coarse, fine])
    assert column.shape == (1, 4, 8, 8)
    assert torch.equal(column[:, 1:], fine)
    corners = column[0, 0, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert torch.equal(corners, coarse.flatten())


@pytest.mark.parametrize("architecture", sorted(LEVELLED))
def test_a_hypercolumn_reaches_the_mask_from_every_block(architecture):
    network = built(architecture, hypercolumn=True)
    last = network.body.get_submodule("segmentation_head.0")
    assert isinstance(last, nn.Conv2d)
    widths = [convolution.in_channels for convolution in network.heads["head_levels"].convolutions]
    assert last.in_channels == sum(widths)
    with torch.no_grad():
        last.weight.zero_()
        last.weight[:, : widths[0]] = 1  # the coarsest alone
    assert outputs(network)["mask"].std() > 0


def test_a_forward_pass_leaves_no_trace():
    """What it caught of the decoder is let go, and a copy does not catch it again."""
    network = built(hypercolumn=True)
    outputs(network)
    other = copy.deepcopy(network)
    assert not [module for module in other.modules() if module._forward_hooks]
    assert torch.equal(outputs(other)["mask"], outputs(network)["mask"])


def test_a_network_of_a_few_convolutions_has_heads():
    network = built(
        "FCNN2", encoder="resnet18", heads={name: HEADS[name] for name in ("second", "any", "zoom", "edge")}
    )
    assert {name: tuple(output.shape) for name, output in outputs(network).items()} == {
        "mask": (2, 2, 64, 32),
        "second": (2, 2, 64, 32),
        "any": (2, 2),
        "zoom": (2,),
        "edge": (2, 2, 64, 32),
    }
