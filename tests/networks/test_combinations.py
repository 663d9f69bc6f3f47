"""Options that do not go together are refused, and the nearest ones that do are named."""

from typing import Any

import pytest

from segsmith import recipe
from segsmith.errors import ModelError
from segsmith.networks.combinations import ALL, GOES_WITH, check_options
from segsmith.networks.networks import build_network, check_input_hw

GIVEN: dict[str, Any] = {
    "decoder_channels": (32, 32, 16, 16, 16),
    "attention": "cbam",
    "first_pool": False,
    "dilated": 16,
    "context": True,
    "centre": "ppm",
    "hypercolumn": True,
}


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize("architecture", sorted(ALL - {"DPT"}))
def test_an_option_works_or_is_refused(architecture, name):
    """What is not refused makes a mask of the image's size."""
    settings = recipe.Network(
        architecture=architecture,
        encoder="tu-test_resnet",
        encoder_weights=None,
        encoder_depth=5,
        **{name: GIVEN[name]},
    )
    if architecture in GOES_WITH[name]:
        network = build_network(settings, 1, (0.5,) * 3, (0.2,) * 3)
        check_input_hw(network, (128, 256))
    else:
        with pytest.raises(ModelError, match=rf"^network\.{name}=.* goes with .*, not {architecture}$"):
            check_options(settings)


@pytest.mark.parametrize("architecture", ["FCNN", "FCNN2"])
@pytest.mark.parametrize(
    ("name", "given"),
    [*GIVEN.items(), ("encoder", "resnet34"), ("encoder_weights", "a.pth"), ("encoder_depth", 4), ("drop_path", 0.1)],
)
def test_networks_without_encoder_refuse_what_is_for_encoders(architecture, name, given):
    with pytest.raises(ModelError) as caught:
        check_options(recipe.Network(architecture=architecture, **{name: given}))
    assert str(caught.value).startswith(f"network.{name}=")
    assert f"is for networks with an encoder, not {architecture}; leave it at " in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"architecture": "FPN", "attention": "scse"},
            'network.attention="scse" goes with Unet or UnetPlusPlus, not FPN',
        ),
        (
            {"architecture": "FPN", "decoder_channels": (8, 8)},
            "network.decoder_channels=[8, 8] goes with MAnet or Unet or UnetPlusPlus, not FPN",
        ),
        (
            {"attention": "scse", "encoder_depth": 3, "decoder_channels": (32, 16, 8)},
            "network.attention=scse needs 16 channels or more in each decoder block, but network.decoder_channels has "
            "8; set attention=cbam",
        ),
        ({"architecture": "PAN", "dilated": 8}, "network.dilated=8 does not go with PAN"),
        (
            {"encoder_depth": 4, "decoder_channels": (8, 8, 8, 8), "dilated": 16},
            "network.dilated=16 changes nothing in Unet of depth 4, whose stride is 16; set 8 or null",
        ),
        (
            {"architecture": "PSPNet", "dilated": 8},
            "network.dilated=8 changes nothing in PSPNet of depth 3, whose stride is 8; set null",
        ),
        (
            {"architecture": "DeepLabV3", "heads": {"levels": {"kind": "deep"}}},
            "network.heads.levels.kind=deep goes with FPN or Linknet or MAnet or Unet or UnetPlusPlus, not DeepLabV3",
        ),
        (
            {"architecture": "FCNN", "heads": {"levels": {"kind": "deep"}}},
            "network.heads.levels.kind=deep goes with FPN or Linknet",
        ),
        (
            {"encoder_depth": 3, "decoder_channels": (8, 8)},
            "network.decoder_channels=[8, 8] is for 2 decoder blocks, but a network that halves 3 times has as many; "
            "give 3 numbers",
        ),
        ({"encoder": "resnet19"}, "network.encoder: no encoder 'resnet19'; did you mean resnet18"),
    ],
)
def test_what_is_refused_names_what_comes_nearest(options, said):
    with pytest.raises(ModelError) as caught:
        check_options(recipe.Network(**options))
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"architecture": "DPT"}, "network: DPT with resnet18 does not build: "),
        ({"encoder": "tu-resnet18.nonsense"}, "network: Unet with tu-resnet18.nonsense does not build: "),
    ],
)
def test_what_the_library_refuses(options, said):
    with pytest.raises(ModelError) as caught:
        build_network(recipe.Network(**options), 1, (0.5,), (0.2,), weights=False)
    assert str(caught.value).startswith(said)
