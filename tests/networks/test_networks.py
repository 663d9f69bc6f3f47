"""Architecture + encoder -> outputs of the input's size; normalisation, sizes, names, all options together."""

import copy
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from segsmith import recipe
from segsmith.errors import ModelError
from segsmith.networks.encoders import check_encoder
from segsmith.networks.networks import Network, build_network, check_input_hw

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
ARCHITECTURES = get_args(recipe.Network.model_fields["architecture"].annotation)
SMALL = {"encoder": "tu-test_resnet", "encoder_depth": 3, "decoder_channels": (8, 8, 8)}


def built(*, bands: int = 3, classes: int = 1, exclusive: bool = False, **options: Any) -> Network:
    """A small U-Net in evaluation mode, unless `options` say otherwise."""
    settings = recipe.Network(**({"encoder_weights": None} | (options or SMALL)))
    return build_network(settings, classes, (MEAN * 2)[:bands], (STD * 2)[:bands], exclusive=exclusive).eval()


def pictures(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


# shapes


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_gives_outputs_of_the_input_size(architecture):
    """With every head that goes with all of them, and Mish all over."""
    options = {"encoder": "tu-vit_tiny_patch16_224"} if architecture == "DPT" else {}  # it is for transformers
    heads = {"second": {"kind": "mask"}, "any": {"kind": "presence"}, "zoom": {"kind": "scale"}}
    side = 128 if architecture == "PAN" else 64
    network = built(architecture=architecture, heads=heads, activation="mish", classes=2, exclusive=True, **options)
    check_input_hw(network, (side, 2 * side))
    with torch.inference_mode():
        outputs = network(pictures(1, 3, side, 2 * side))
    masks = (1, 3, side, 2 * side)
    assert {name: tuple(output.shape) for name, output in outputs.items()} == {
        "mask": masks,
        "second": masks,
        "any": (1, 2),
        "zoom": (1,),
    }
    assert all(output.isfinite().all() for output in outputs.values())
    assert outputs["mask"].std() > 0
    assert not torch.equal(outputs["mask"], outputs["second"])
    kinds = {type(module) for module in network.modules()}
    assert nn.Mish in kinds
    assert not kinds & {nn.ReLU, nn.ReLU6, nn.SiLU}


@pytest.mark.parametrize("bands", [1, 3, 4])
@pytest.mark.parametrize("encoder", ["resnet18", "tu-test_resnet"])
def test_one_three_and_four_bands(encoder, bands):
    network = built(**SMALL | {"encoder": encoder}, bands=bands)
    assert network(pictures(2, bands, 32, 32))["mask"].shape == (2, 1, 32, 32)


# all options together

ALL: dict[str, Any] = {
    "encoder": "tu-test_resnet",
    "encoder_depth": 4,
    "decoder_channels": (16, 16, 16, 16),
    "activation": "mish",
    "drop_path": 0.5,
    "first_pool": False,
    "dilated": 8,
    "context": True,
    "centre": "ppm",
    "attention": "cbam",
    "hypercolumn": True,
    "dropout": 0.3,
    "heads": {
        "keys": {"kind": "mask"},  # a name that ModuleDict has for itself
        "levels": {"kind": "deep"},
        "any": {"kind": "presence"},
        "zoom": {"kind": "scale"},
    },
}


@pytest.mark.parametrize("changes", [{}, {"centre": "fpa", "attention": "scse"}, {"centre": "gcn"}, {"centre": "ocr"}])
def test_every_parameter_learns(changes):
    """In evaluation mode: a batch norm in training takes off any bias before it."""
    torch.manual_seed(0)
    network = built(**ALL | changes)
    for parameter in network.parameters():
        if not parameter.any():  # as the last of a branch often begins, so that what lies before it learns later
            nn.init.normal_(parameter)
    sum(output.square().sum() for output in network(pictures(2, 3, 32, 32)).values()).backward()
    idle = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
        # weights of pixels add up to 1, whatever is added to all
        if not name.endswith("conv_attn.bias")
    ]
    assert not idle


def test_weights_load_into_a_network_built_anew():
    ours, images = built(**ALL), pictures(2, 3, 32, 32)
    ours.train()(images)  # its statistics move
    torch.manual_seed(9)
    other = build_network(recipe.Network(**ALL), 1, MEAN, STD, weights=False)
    other.load_state_dict(ours.state_dict())
    outputs = other.eval()(images)
    assert all(torch.equal(output, outputs[name]) for name, output in ours.eval()(images).items())


def test_a_copy_works_by_itself():
    """As averages of weights do."""
    ours, images = built(**ALL), pictures(1, 3, 32, 32)
    other = copy.deepcopy(ours)
    before = ours(images)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert all(not output.any() for output in other(images).values())
    assert all(torch.equal(output, before[name]) for name, output in ours(images).items())


def test_half_precision():
    network, images = built(**ALL), pictures(2, 3, 32, 32)
    with torch.inference_mode():
        expected = network(images)
        with torch.autocast("cpu", torch.bfloat16):
            halves = network(images)
    for name, output in expected.items():
        assert halves[name].shape == output.shape
        assert torch.allclose(halves[name].float(), output, atol=0.1 * float(output.abs().max()))


# normalisation, dropout


def test_normalisation_is_part_of_the_network():
    """8-bit images come as they are; mean and deviation are of images scaled to 0..1."""
    network, images = built(architecture="FCNN"), pictures(2, 3, 4, 4)
    seen: list[Tensor] = []
    network.body.get_submodule("encoder").register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(images)
    expected = (images.double() / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    assert torch.allclose(seen[0].double(), expected, atol=1e-5)


def test_normalisation_travels_with_the_weights():
    ours, other = built(), Network(built().body, (0.1,) * 3, (0.9,) * 3)
    other.load_state_dict(ours.state_dict())
    images = pictures(1, 3, 32, 32)
    assert torch.equal(other.eval()(images)["mask"], ours(images)["mask"])


def test_dropout_zeroes_channels_before_the_last_convolution_while_training():
    network, images = built(**SMALL, dropout=1.0), pictures(2, 3, 32, 32)
    assert network(images)["mask"].std() > 0, "not when it is used"
    logits = network.train()(images)["mask"]
    assert logits.unique().numel() == 1, "of the last convolution, only its bias is left"


def test_dropout_leaves_its_share():
    network = built(**SMALL, dropout=0.25).train()
    last = [module for module in network.modules() if isinstance(module, nn.Conv2d)][-1]
    seen: list[Tensor] = []
    last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = pictures(8, 3, 32, 32)
    for seed in range(4):
        torch.manual_seed(seed)
        network(images)
    dropped = (torch.cat(seen) == 0).all(dim=(2, 3)).float().mean()
    assert 0.15 < float(dropped) < 0.4, f"{dropped:.2f} of 256 channels"


def test_without_dropout_training_is_not_random():
    network, images = built().train(), pictures(2, 3, 32, 32)
    assert torch.equal(network(images)["mask"], network(images)["mask"])


def test_weights_lie_in_channels_last():
    kernels = [p for p in built().parameters() if p.ndim == 4 and p.shape[1] > 1 and p.shape[2] > 1]
    assert kernels
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)


# encoders and sizes that do not exist


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        ("resnet19", "resnet18"),
        ("ResNet34", "resnet34"),
        ("efficientnetb0", "efficientnet-b0"),
        ("tu-mobilenetv3_smal_050", "tu-mobilenetv3_small_050"),
        ("tu-resnet19", "tu-resnet18"),
        ("tu-efficientnet-b0", "tu-efficientnet_b0"),
        ("mobilenetv3_small_100", "tu-mobilenetv3_small_100"),
    ],
)
def test_an_encoder_that_does_not_exist_suggests_the_nearest(wrong, nearest):
    with pytest.raises(ModelError, match=f"network.encoder: no encoder '{wrong}'; did you mean .*{nearest}"):
        built(encoder=wrong)


def test_an_encoder_like_no_other():
    with pytest.raises(ModelError, match="no encoder '0000'; timm's models are named tu-NAME"):
        check_encoder("0000")


@pytest.mark.parametrize("name", ["resnet18", "mit_b0", "tu-resnet18", "tu-resnet18.a1_in1k"])
def test_encoders_that_exist(name):
    check_encoder(name)


@pytest.mark.parametrize(
    ("depth", "size", "legal"),
    [(5, (100, 96), (128, 96)), (5, (1, 33), (32, 64)), (3, (101, 101), (104, 104)), (3, (7, 8), (8, 8))],
)
def test_an_illegal_input_size_names_the_next_legal_one(depth, size, legal):
    network = built(encoder="tu-test_resnet", encoder_depth=depth, decoder_channels=(8,) * depth)
    with pytest.raises(ModelError) as caught:
        check_input_hw(network, size)
    assert f"{list(size)} is not a multiple of {2**depth}" in str(caught.value)
    assert f"the next larger is {list(legal)}" in str(caught.value)
    check_input_hw(network, legal)


@pytest.mark.parametrize(
    ("options", "size", "legal"),
    [
        ({"first_pool": False}, (40, 48), (48, 48)),
        ({"dilated": 8}, (41, 40), (48, 40)),
        ({"architecture": "FCNN"}, (31, 32), (32, 32)),
        ({"architecture": "PAN"}, (64, 64), (128, 128)),  # its pyramid ends at nothing
    ],
)
def test_an_illegal_input_size_of_other_strides(options, size, legal):
    network = built(**options)
    with pytest.raises(ModelError) as caught:
        check_input_hw(network, size)
    assert str(caught.value).startswith("data.input_hw: ")
    assert str(caught.value).endswith(f"is {list(legal)}")
    check_input_hw(network, legal)
    assert network(pictures(1, 3, *legal))["mask"].shape == (1, 1, *legal)


def test_logits_are_of_the_input_size_at_any_depth():
    """The enlargement that FPN ends with is for depth 5."""
    network = built(architecture="FPN", encoder_depth=3)
    check_input_hw(network, (32, 32))
    assert network(pictures(1, 3, 32, 32))["mask"].shape == (1, 1, 32, 32)
