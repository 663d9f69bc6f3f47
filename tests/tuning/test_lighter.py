"""What is made lighter first, what never is, and what stays when nothing helps."""

import pytest

from segsmith.data.dataset import Dataset
from segsmith.networks.encoders import lighter_encoders
from segsmith.recipe_files import override
from segsmith.tuning.lighter import lighten

NETWORK = "network={encoder: resnet50, encoder_weights: null, encoder_depth: 4, decoder_channels: [32, 16, 8, 8]}"


@pytest.fixture
def recipe(tiny, monkeypatch):
    """A machine that is as fast as it has few pixels and layers to go through."""

    def rate(recipe, bands, classes, *, batch):
        height, width = recipe.data.input_hw
        layers = int(recipe.network.encoder.removeprefix("resnet"))
        return 1e6 / (height * width * layers)

    monkeypatch.setattr("segsmith.tuning.lighter.training_rate", rate)
    return override(tiny, [NETWORK, "data.input_hw=[256,256]", "train.stages=[{}]", "train.accumulate=1"])


@pytest.mark.parametrize(
    ("times", "encoder", "side"),
    [
        (1.0, "resnet50", 256),
        (1.4, "resnet34", 256),
        (2.0, "resnet18", 256),
        (3.0, "resnet18", 192),
        (5.0, "resnet34", 128),
        (1000.0, "resnet18", 64),
    ],
)
def test_the_largest_input_is_kept_and_then_the_heaviest_encoder(squares, recipe, times, encoder, side):
    found = lighten(Dataset.open(squares), recipe, times).recipe
    assert (found.network.encoder, found.data.input_hw) == (encoder, (side, side))
    assert found == override(recipe, [f"network.encoder={encoder}", f"data.input_hw=[{side},{side}]"])


def test_only_what_may_be_changed_is(squares, recipe):
    dataset = Dataset.open(squares)
    assert lighten(dataset, recipe, 5.0, ["size"]).recipe == override(recipe, ["data.input_hw=[96,96]"])
    assert lighten(dataset, recipe, 5.0, ["encoder"]).recipe == override(recipe, ["network.encoder=resnet18"])


def test_chips_keep_their_size_and_padded_images_are_shrunk_instead(squares, recipe):
    dataset = Dataset.open(squares)
    chips = override(recipe, ["data.fit=chip", "data.input_hw=[128,128]"])
    assert lighten(dataset, chips, 50.0, ["size"]).recipe == chips
    padded = lighten(dataset, override(recipe, ["data.fit=pad", "data.resize_hw=[128,128]"]), 5.0, ["size"])
    assert padded.recipe == override(recipe, ["data.fit=resize", "data.input_hw=[96,96]"])
    assert "data.input_hw=[96, 96] instead of [256, 256] and data.fit=resize instead of pad" in padded.reasons[0]


def test_objects_stay_wide_enough(make_squares, recipe, tmp_path):
    """Squares of 9 pixels in images of 200 are 8 wide at 178, so that 192 is as small as it gets."""
    dataset = Dataset.open(make_squares(tmp_path, side=200))
    found = lighten(dataset, recipe, 50.0, ["size"])
    assert found.recipe == override(recipe, ["data.input_hw=[192,192]"])
    assert "the median object is still 9 pixels wide" in found.reasons[0]


def test_sizes_of_stages_shrink_alike(squares, recipe):
    staged = override(recipe, ["train.stages=[{input_hw: [128, 128]}, {}]"])
    found = lighten(Dataset.open(squares), staged, 4.0, ["size"]).recipe
    assert found.data.input_hw == (128, 128)
    assert [stage.input_hw for stage in found.train.stages] == [(64, 64), None]


def test_what_cannot_be_lighter_stays_and_says_so(squares, recipe, tmp_path):
    smallest = override(recipe, ["network.encoder=resnet18", "data.input_hw=[64,64]"])
    found = lighten(Dataset.open(squares), smallest, 5.0)
    assert found.recipe == smallest
    assert found.reasons == ("nothing lighter was found: encoder and input stay as they are",)


@pytest.mark.parametrize(
    ("name", "lighter"),
    [
        ("resnet50", ["resnet34", "resnet18"]),
        ("efficientnet-b2", ["efficientnet-b1", "efficientnet-b0"]),
        ("se_resnext101_32x4d", ["se_resnext50_32x4d"]),
        ("resnet18", []),
        ("tu-convnext_tiny", []),
        ("xception", []),
    ],
)
def test_lighter_encoders_are_of_the_family(name, lighter):
    assert lighter_encoders(name, pretrained=True) == lighter


def test_encoders_without_weights_of_imagenet_are_left_out_where_these_are_wanted():
    assert "resnext101_32x8d" not in lighter_encoders("resnext101_32x16d", pretrained=False)
    assert lighter_encoders("dpn98", pretrained=True) == [
        name for name in lighter_encoders("dpn98", pretrained=False) if name != "dpn92"
    ]
