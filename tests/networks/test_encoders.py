"""What is changed in an encoder: unused stages, skipped residual blocks, sizes of features, activations; and what
cannot be."""

from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from timm.layers import DropPath
from torch import Tensor, nn

from segsmith import recipe
from segsmith.errors import ModelError
from segsmith.networks.encoders import drop_unused, set_drop_path
from segsmith.networks.networks import Network, build_network

Made = list[Tensor]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def built(encoder: str, **options: Any) -> Network:
    settings = recipe.Network(**({"encoder": encoder, "encoder_weights": None} | options))
    return build_network(settings, 1, (0.5,) * 3, (0.2,) * 3).eval()


def features(network: Network, side: int = 64) -> Made:
    with torch.inference_mode():
        made: Made = network.body.get_submodule("encoder")(torch.rand(2, 3, side, side))
    return made


class Halves(nn.Module):
    """An encoder of two residual blocks like timm's."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = (self._block() for _ in range(2))

    def _block(self) -> nn.Module:
        block = nn.Identity()
        block.drop_path = None
        return block


# what is never used


@pytest.mark.parametrize("depth", [3, 4, 5])
@pytest.mark.parametrize(
    "encoder",
    ["resnet18", "efficientnet-b0", "mobilenet_v2", "mit_b0", "vgg11", "tu-resnet18", "tu-mobilenetv3_small_050"],
)
def test_what_is_left_makes_the_same_and_all_of_it_learns(encoder, depth):
    whole = smp.encoders.get_encoder(encoder, depth=depth, weights=None).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = whole(images)
    drop_unused(whole, 3)
    found = whole(images)
    assert all(torch.equal(left, right) for left, right in zip(expected, found, strict=True))
    sum(feature.sum() for feature in found if feature.requires_grad).backward()
    assert [name for name, parameter in whole.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize(
    ("architecture", "encoder", "depth"),
    [
        ("Unet", "resnet18", 4),
        ("Unet", "tu-test_efficientnet", 3),
        ("FPN", "efficientnet-b0", 5),
        ("FPN", "mit_b0", 5),
        ("DeepLabV3Plus", "resnet18", 4),
    ],
)
def test_every_parameter_of_a_network_gets_a_gradient(architecture, encoder, depth):
    channels = {"decoder_channels": (8,) * depth} if architecture == "Unet" else {}
    network = built(encoder, architecture=architecture, encoder_depth=depth, **channels).train()
    network(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8))["mask"].square().mean().backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


def test_a_shallow_resnet_holds_no_deepest_stage():
    def weights(depth: int) -> int:
        network = built("resnet18", encoder_depth=depth, decoder_channels=(8,) * depth)
        return sum(parameter.numel() for parameter in network.body.get_submodule("encoder").parameters())

    assert weights(5) - weights(4) == 8_393_728, "of layer4"


# stochastic depth


def test_whole_samples_skip_a_block_and_the_mean_stays():
    """The residual branch of the last block of a ResNet, as it is added to the shortcut."""
    network = built("resnet18", drop_path=0.4)
    branch = network.body.get_submodule("encoder.layer4.1.bn2")
    image = torch.rand(1, 512, 2, 2).expand(2000, -1, -1, -1)
    plain = branch(image)
    assert torch.equal(plain, branch(image)), "not when it is used"
    assert plain[0].any()
    network.train()
    branch.weight.data.zero_()
    branch.bias.data.fill_(3.0)  # so that what the norm makes is known: 3 everywhere
    with torch.no_grad():
        dropped = branch(image)
    skipped = (dropped == 0).flatten(1).all(dim=1)
    kept = torch.isclose(dropped, torch.tensor(3 / 0.6)).flatten(1).all(dim=1)
    assert (skipped | kept).all(), "a sample is skipped or enlarged as a whole"
    assert 0.36 < skipped.float().mean() < 0.44
    assert float(dropped.mean()) == pytest.approx(3, rel=0.1)


def test_blocks_are_skipped_more_often_with_depth():
    network = built("tu-resnet18", drop_path=0.35)
    rates = [module.drop_prob for module in network.modules() if isinstance(module, DropPath)]
    assert rates == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35]), "of eight blocks, the first never"


@pytest.mark.parametrize(
    "encoder",
    ["resnet18", "se_resnext50_32x4d", "efficientnet-b0", "mobilenet_v2", "mit_b0", "tu-mobilenetv3_small_050"],
)
def test_training_skips_in_encoders_of_every_make(encoder):
    """Nothing else is random in it, so without skipping it makes the same twice."""
    images = torch.rand(16, 3, 32, 32)

    def twice(rate: float) -> list[Tensor]:
        network = built(encoder, drop_path=rate)
        for module in network.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        for name, parameter in network.named_parameters():
            if not parameter.any() and name.endswith("weight"):
                nn.init.ones_(parameter)  # branches that begin as nothing
        inner = network.body.get_submodule("encoder").train()
        with torch.no_grad():
            return [inner(images)[-1] for _ in range(2)]

    first, second = twice(0.0)
    assert torch.equal(first, second)
    first, second = twice(0.6)
    assert not torch.allclose(first, second, rtol=0.01)


def test_what_an_encoder_skips_of_its_own_accord_is_taken_away():
    network = built("mit_b0")
    assert not [module for module in network.modules() if isinstance(module, DropPath) and module.drop_prob]
    assert built("efficientnet-b0").body.get_submodule("encoder")._drop_connect_rate == 0


def test_slots_without_a_module_are_filled():
    encoder = Halves()
    set_drop_path(encoder, "two blocks", 0.5)
    assert isinstance(encoder.first.drop_path, nn.Identity)
    assert encoder.last.drop_path.drop_prob == 0.5


# sizes of features


@pytest.mark.parametrize("encoder", ["resnet18", "tu-test_resnet", "densenet121"])
def test_without_the_first_pool_features_are_twice_as_large(encoder):
    plain, fine = built(encoder), built(encoder, first_pool=False)
    before, after = ([feature.shape for feature in features(network)] for network in (plain, fine))
    assert [shape[1] for shape in after] == [shape[1] for shape in before]
    assert [shape[-1] for shape in before] == [64, 32, 16, 8, 4, 2]
    assert [shape[-1] for shape in after] == [64, 32, 32, 16, 8, 4]
    assert (plain.stride, fine.stride) == (32, 16)
    assert fine.state_dict().keys() == plain.state_dict().keys(), "the same weights fit"


@pytest.mark.parametrize("encoder", ["resnet18", "tu-test_resnet"])
@pytest.mark.parametrize(("dilated", "sides"), [(16, [64, 32, 16, 8, 4, 4]), (8, [64, 32, 16, 8, 8, 8])])
def test_a_dilated_encoder_stops_halving(encoder, dilated, sides):
    network = built(encoder, dilated=dilated)
    assert [feature.shape[-1] for feature in features(network)] == sides
    assert network.stride == dilated


@pytest.mark.parametrize("encoder", ["resnet18", "tu-test_resnet"])
def test_a_dilated_encoder_sees_as_far(encoder):
    """Pixels around the middle that one deepest feature depends on."""

    def reach(**options: Any) -> int:
        network = built(encoder, encoder_depth=4, decoder_channels=(8, 8, 8, 8), **options)
        for name, parameter in network.named_parameters():
            if not parameter.any() and name.endswith("weight"):
                nn.init.ones_(parameter)
        image = torch.rand(1, 3, 256, 256, requires_grad=True)
        deepest = network.body.get_submodule("encoder")(image)[-1]
        middle = deepest.shape[-1] // 2
        deepest[0, :, middle, middle].sum().backward()
        seen = image.grad.abs().sum(dim=(0, 1, 2)).nonzero()
        return int(seen.max() - seen.min())

    plain, dilated = reach(), reach(dilated=8)
    assert plain < 250, "it ends within the image"
    assert dilated >= plain - 16, "but for the grid on which features lie"


# what cannot be


@pytest.mark.parametrize(
    ("encoder", "options", "said"),
    [
        ("densenet121", {"drop_path": 0.2}, "network.drop_path: densenet121 has no residual blocks to skip; set 0"),
        ("tu-test_efficientnet", {"drop_path": 0.2}, "network.drop_path: tu-test_efficientnet has no residual blocks"),
        ("efficientnet-b0", {"first_pool": False}, "network.first_pool=false: efficientnet-b0 has no max-pool"),
        ("densenet121", {"dilated": 16}, "network.dilated=16: densenet121 cannot dilate; set null"),
        ("tu-test_vit", {"dilated": 16}, "network: Unet with tu-test_vit"),
        ("dpn68", {"activation": "mish"}, "network.activation=mish: dpn68 computes activations that cannot be"),
    ],
)
def test_encoders_that_an_option_cannot_change(encoder, options, said):
    with pytest.raises(ModelError) as caught:
        built(encoder, **options)
    assert str(caught.value).startswith(said)
