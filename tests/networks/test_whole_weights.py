"""Files of weights -> a whole network that begins with them: names, heads, bands, what is missing and too much."""

from typing import Any

import pytest
import safetensors.torch
import segmentation_models_pytorch as smp
import torch
from torch import Tensor

from segsmith import recipe
from segsmith.data.ingest_rle import LAYOUTS
from segsmith.errors import ModelError
from segsmith.modeling.bundle import Bundle, Part
from segsmith.networks.networks import Network, build_network

SMALL = {"encoder": "tu-test_resnet", "encoder_depth": 3, "decoder_channels": (16, 16, 16)}
NORMALISATION = {"mean", "std"}


def built(seed: int, *, bands: int = 3, classes: int = 1, **options: Any) -> Network:
    """A small network with random weights of a seed, unless `options` say otherwise, in evaluation mode."""
    settings = recipe.Network(**({"encoder_weights": None} | SMALL | options))
    torch.manual_seed(seed)
    return build_network(settings, classes, (0.1 * seed,) * bands, (1 / 255,) * bands).eval()


def learnt(network: Network) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in network.state_dict().items() if name not in NORMALISATION}


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def bundle(*networks: Network, parts: tuple[Part, ...] = ()) -> Bundle:
    members = tuple(network.state_dict() for network in networks)
    options = recipe.Recipe(network=recipe.Network(**SMALL))
    return Bundle(members, options, (0.1,) * 3, (1.0,) * 3, ("object",), LAYOUTS[0], "", parts=parts)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"context": True, "centre": "ppm", "hypercolumn": True, "activation": "mish"},
        {"attention": "scse", "heads": {"presence": {"kind": "presence"}}},
        {"architecture": "FPN", "decoder_channels": None, "encoder_depth": None},
        {"architecture": "FCNN2", "encoder": "resnet18", "encoder_depth": None, "decoder_channels": None},
    ],
    ids=["plain", "context, centre and columns", "attention and a head", "FPN", "FCNN2"],
)
@pytest.mark.parametrize("form", ["bundle", "weights", "processes"])
def test_a_network_begins_with_the_weights_of_a_file(tmp_path, form, options):
    """Of a bundle with the first network's; and what images are normalised by stays its own."""
    trained, file = built(1, **options), tmp_path / "a.safetensors"
    if form == "bundle":
        bundle(trained, built(3, **options)).write(file)
    else:
        prefix = "module." if form == "processes" else ""
        safetensors.torch.save_file({f"{prefix}{name}": t.contiguous() for name, t in learnt(trained).items()}, file)
    begun = built(2, weights=str(file), **options)
    assert same(learnt(begun), learnt(trained))
    assert not torch.equal(begun.mean, trained.mean)


@pytest.mark.parametrize("prefix", ["", "model."])
@pytest.mark.parametrize("aux", [None, {"classes": 4}])
def test_a_network_of_segmentation_models_pytorch_loads(tmp_path, prefix, aux):
    """As it was saved, its classifying head too, or in a Lightning module; with stages that a shallow encoder drops."""
    torch.manual_seed(1)
    theirs = smp.Unet(
        "resnet18", encoder_weights=None, encoder_depth=3, decoder_channels=(16, 16, 16), aux_params=aux
    ).eval()
    torch.save({"state_dict": {f"{prefix}{name}": t for name, t in theirs.state_dict().items()}}, tmp_path / "a.pth")
    ours = built(0, encoder="resnet18", weights=str(tmp_path / "a.pth"))
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        made = theirs(images.float())
        expected = made[0] if aux else made
        assert torch.allclose(ours(images)["mask"], expected, rtol=1e-3, atol=1e-3)


def test_heads_of_other_classes_stay_random(tmp_path):
    bundle(built(1)).write(tmp_path / "a.safetensors")
    heads = {"presence": {"kind": "presence"}}
    begun = built(2, classes=3, heads=heads, weights=str(tmp_path / "a.safetensors"))
    random, trained = built(2, classes=3, heads=heads), learnt(built(1))
    for name, tensor in learnt(begun).items():
        of_head = name.startswith(("body.segmentation_head", "heads"))
        assert torch.equal(tensor, (learnt(random) if of_head else trained)[name]), name


def test_weights_for_three_bands_are_inflated(tmp_path):
    """Where all bands are alike, the network of five sees what that of three does."""
    three = built(0)
    torch.save(learnt(three), tmp_path / "a.pth")
    five = built(0, bands=5, weights=str(tmp_path / "a.pth"))
    grey = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, found = (net(grey.expand(-1, n, -1, -1))["mask"] for net, n in ((three, 3), (five, 5)))
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_what_does_not_belong_is_named(tmp_path, suffix):
    state, file = {name: tensor.contiguous() for name, tensor in learnt(built(1)).items()}, tmp_path / f"a{suffix}"
    name = "body.decoder.blocks.1.conv1.0.weight"
    changes: dict[str, dict[str, Tensor]] = {
        f"{name}: missing": {key: tensor for key, tensor in state.items() if key != name},
        "body.decoder.blocks.9.weight: surplus": state | {"body.decoder.blocks.9.weight": torch.ones(1)},
        rf"{name}: \(2, 3\) in the file, \(16, .*\) in the network": state | {name: torch.ones(2, 3)},
        "missing and 7 more": {key: tensor for key, tensor in state.items() if ".blocks.1.conv" not in key},
    }
    for said, changed in changes.items():
        if suffix == ".safetensors":
            safetensors.torch.save_file(changed, file)
        else:
            torch.save(changed, file)
        with pytest.raises(ModelError, match=rf"a\{suffix}: not the weights of this network: .*{said}"):
            built(2, weights=str(file))


def test_a_bundle_of_several_runs_is_refused(tmp_path):
    bundle(parts=(Part(0.5, bundle(built(1))), Part(0.5, bundle(built(2))))).write(tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match=r"a\.safetensors: a bundle of several runs; give the bundle of one of them"):
        built(3, weights=str(tmp_path / "a.safetensors"))


def test_whole_weights_stand_in_for_those_of_the_encoder(tmp_path):
    """Which are not looked for."""
    torch.save(learnt(built(1)), tmp_path / "a.pth")
    begun = built(2, encoder_weights="gone.pth", weights=str(tmp_path / "a.pth"))
    assert same(learnt(begun), learnt(built(1)))
