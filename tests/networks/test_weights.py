"""Files of weights -> an encoder that has them: names, bands, what is missing and what is too much."""

import logging
import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from torch import Tensor

from segsmith import recipe
from segsmith.data.ingest_rle import LAYOUTS
from segsmith.errors import ModelError
from segsmith.modeling.bundle import Bundle
from segsmith.networks.networks import Network, build_network
from segsmith.networks.weights import read_weights

SMALL = {"encoder": "tu-test_resnet", "encoder_depth": 3, "decoder_channels": (8, 8, 8)}


def built(*, bands: int = 3, weights: bool = True, **options: Any) -> Network:
    """A small U-Net in evaluation mode, unless `options` say otherwise. Its normalisation changes nothing."""
    settings = recipe.Network(**({"encoder_weights": None} | SMALL | options))
    return build_network(settings, 1, (0.0,) * bands, (1 / 255,) * bands, weights=weights).eval()


@pytest.fixture
def encoder_weights() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {name: tensor.contiguous() for name, tensor in built().body.get_submodule("encoder").state_dict().items()}


def encoder_of(weights: Path, **options: Any) -> dict[str, Tensor]:
    torch.manual_seed(2)
    network = built(encoder_weights=str(weights), **options)
    return network.body.get_submodule("encoder").state_dict()


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("form", ["plain", "of a whole network", "of a training", "without counters"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_local_weights_arrive_as_they_are(tmp_path, encoder_weights, suffix, form):
    file, kept = tmp_path / f"weights{suffix}", encoder_weights
    if form == "of a whole network":
        kept = {f"encoder.{name}": tensor for name, tensor in kept.items()} | {"decoder.weight": torch.ones(1)}
    if form == "without counters":
        kept = {name: tensor for name, tensor in kept.items() if "num_batches_tracked" not in name}
    if suffix == ".safetensors":
        safetensors.torch.save_file(kept, file)
    else:
        torch.save({"state_dict": kept, "epoch": 3} if form == "of a training" else kept, file)
    assert same(encoder_of(file), encoder_weights)


def test_local_weights_change_the_encoder_alone(tmp_path, encoder_weights):
    safetensors.torch.save_file(encoder_weights, tmp_path / "weights.safetensors")
    torch.manual_seed(2)
    loaded = built(encoder_weights=str(tmp_path / "weights.safetensors"))
    torch.manual_seed(2)
    random = built()
    for name, tensor in random.body.get_submodule("decoder").state_dict().items():
        assert torch.equal(loaded.body.get_submodule("decoder").state_dict()[name], tensor)
    assert not same(random.body.get_submodule("encoder").state_dict(), encoder_weights)


def test_weights_left_out_need_no_file():
    built(encoder_weights="gone.safetensors", weights=False)


def test_missing_and_mismatched_weights_are_named(tmp_path, encoder_weights):
    first, *_, last = (name for name in encoder_weights if name.endswith(".weight"))
    safetensors.torch.save_file(encoder_weights | {first: torch.ones(2, 3)}, tmp_path / "a.safetensors")
    shape = tuple(encoder_weights[first].shape)
    with pytest.raises(ModelError) as caught:
        encoder_of(tmp_path / "a.safetensors")
    assert "a.safetensors: not the weights of this encoder" in str(caught.value)
    assert f"{first.removeprefix('model.')}: (2, 3) in the file, {shape} in the network" in str(caught.value)

    del encoder_weights[last]
    torch.save(encoder_weights, tmp_path / "b.pth")
    with pytest.raises(ModelError, match=f"b.pth: not the weights of this encoder: {last}: missing$"):
        encoder_of(tmp_path / "b.pth")


def test_many_missing_weights_are_counted(tmp_path, encoder_weights):
    """The first three are named; the surplus one counts as well."""
    needed = [name for name in encoder_weights if "num_batches_tracked" not in name]
    safetensors.torch.save_file({"other": torch.ones(1)}, tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match=f"{needed[2]}: missing and {len(needed) - 2} more"):
        encoder_of(tmp_path / "a.safetensors")


# bands


def features(network: Network, image: Tensor) -> list[Tensor]:
    made: list[Tensor] = network.body.get_submodule("encoder")(image)[1:]
    return made


@pytest.mark.parametrize("bands", [1, 2, 4, 7])
@pytest.mark.parametrize("encoder", ["tu-test_resnet", "resnet18"])
def test_weights_for_three_bands_are_inflated(tmp_path, encoder, bands):
    """Where all bands are alike, a network of any number of bands sees what that of three does."""
    three = built(encoder=encoder)
    kept = {f"encoder.{name}": t.contiguous() for name, t in three.body.get_submodule("encoder").state_dict().items()}
    safetensors.torch.save_file(kept, tmp_path / "a.safetensors")
    other = built(encoder=encoder, bands=bands, encoder_weights=str(tmp_path / "a.safetensors"))
    grey = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = features(three, grey.expand(-1, 3, -1, -1))
        found = features(other, grey.expand(-1, bands, -1, -1))
    for left, right in zip(expected, found, strict=True):
        assert torch.allclose(left, right, rtol=1e-3, atol=1e-4)


def test_red_green_and_blue_keep_their_kernels(tmp_path, encoder_weights):
    safetensors.torch.save_file(encoder_weights, tmp_path / "a.safetensors")
    first = "model.conv1.0.weight"
    five = encoder_of(tmp_path / "a.safetensors", bands=5)[first]
    three = encoder_weights[first]
    assert torch.allclose(five[:, :3], three * 3 / 5)
    assert torch.allclose(five[:, 3:], three.mean(dim=1, keepdim=True).expand(-1, 2, -1, -1) * 3 / 5)


def test_weights_for_more_bands_are_not_cut_to_fewer(tmp_path):
    torch.save(built(bands=4).state_dict(), tmp_path / "a.pth")
    with pytest.raises(ModelError, match=r"4, 3, 3\) in the file, .*3, 3, 3\) in the network"):
        encoder_of(tmp_path / "a.pth")
    encoder_of(tmp_path / "a.pth", bands=4)


def test_pretrained_weights_are_inflated_alike(tmp_path, monkeypatch):
    """The hub's file, of three bands, in a stand-in for it."""
    torch.manual_seed(3)
    stand_in = torchvision.models.resnet18()
    safetensors.torch.save_file(stand_in.state_dict(), tmp_path / "model.safetensors")
    monkeypatch.setattr(
        "segmentation_models_pytorch.encoders.hf_hub_download", lambda *_, **__: tmp_path / "model.safetensors"
    )
    first = {
        bands: built(encoder="resnet18", encoder_weights="imagenet", bands=bands).state_dict()[
            "body.encoder.conv1.weight"
        ]
        for bands in (2, 3)
    }
    assert torch.equal(first[3], stand_in.conv1.weight)
    assert torch.allclose(first[2], stand_in.conv1.weight.mean(dim=1, keepdim=True).expand(-1, 2, -1, -1) * 3 / 2)


# names


@pytest.mark.parametrize("encoder", ["resnet18", "tu-resnet18"])
@pytest.mark.parametrize("maker", [torchvision.models.resnet18, lambda: timm.create_model("resnet18")])
def test_weights_of_a_whole_classifier_load_by_either_name(tmp_path, encoder, maker):
    torch.manual_seed(3)
    classifier = maker()
    torch.save(classifier.state_dict(), tmp_path / "a.pth")
    loaded = built(encoder=encoder, encoder_weights=str(tmp_path / "a.pth"))
    prefix = "body.encoder.model." if encoder.startswith("tu-") else "body.encoder."
    name = "layer2.1.conv2.weight"
    assert torch.equal(loaded.state_dict()[prefix + name], classifier.state_dict()[name])


@pytest.mark.parametrize("name", ["test_convnext", "test_efficientnet", "test_resnet"])
def test_what_an_encoder_leaves_out_of_timms_model_is_no_surplus(tmp_path, name):
    """Its deepest stages, and layers after them; ConvNeXt's stages.0 is stages_0 in the encoder."""
    torch.manual_seed(3)
    whole = timm.create_model(name)
    torch.save(whole.state_dict(), tmp_path / "a.pth")
    own = encoder_of(tmp_path / "a.pth", encoder=f"tu-{name}")
    loaded = {key.removeprefix("model."): tensor for key, tensor in own.items()}
    if name == "test_convnext":
        assert torch.equal(loaded["stages_0.blocks.0.norm.weight"], whole.state_dict()["stages.0.blocks.0.norm.weight"])
        assert torch.equal(loaded["stem_0.weight"], whole.state_dict()["stem.0.weight"])
    assert len(loaded) < len(whole.state_dict())


@pytest.mark.parametrize("holds", ["all stages", "those that are used"])
@pytest.mark.parametrize("bands", [3, 4])
def test_a_file_may_hold_the_stages_that_a_shallow_encoder_leaves_out_or_not(tmp_path, holds, bands):
    shallow = {"encoder": "resnet18", "bands": bands}  # SMALL is three halvings deep
    if holds == "all stages":
        state = torchvision.models.resnet18().state_dict()
    else:
        state = built(encoder="resnet18").body.get_submodule("encoder").state_dict()
        assert not [name for name in state if name.startswith(("layer3", "layer4"))]
    torch.save(state, tmp_path / "a.pth")
    own = encoder_of(tmp_path / "a.pth", **shallow)
    assert torch.equal(own["layer2.1.conv2.weight"], state["layer2.1.conv2.weight"])
    torch.save(state | {"layer4.2.conv9.weight": torch.ones(1)}, tmp_path / "b.pth")
    with pytest.raises(ModelError, match=r"encoder: layer4\.2\.conv9\.weight: surplus$"):
        encoder_of(tmp_path / "b.pth", **shallow)
    del state["layer2.1.conv2.weight"]
    torch.save(state, tmp_path / "c.pth")
    with pytest.raises(ModelError, match=r"encoder: layer2\.1\.conv2\.weight: missing$"):
        encoder_of(tmp_path / "c.pth", **shallow)


def test_the_encoder_of_a_bundle_loads(tmp_path):
    """Of the first of its networks."""
    torch.manual_seed(3)
    trained, other = built(context=True), built(context=True)
    Bundle(
        members=(trained.state_dict(), other.state_dict()),
        recipe=recipe.Recipe(network=recipe.Network(**SMALL, context=True)),
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        classes=("object",),
        layout=LAYOUTS[0],
        fingerprint="",
    ).write(tmp_path / "bundle.safetensors")
    assert same(encoder_of(tmp_path / "bundle.safetensors"), trained.body.get_submodule("encoder").state_dict())


@pytest.mark.parametrize("encoder", ["resnet18", "tu-test_resnet"])
def test_surplus_weights_are_named(tmp_path, encoder):
    state = built(encoder=encoder).body.get_submodule("encoder").state_dict()
    torch.save(state | {"layer9.weight": torch.ones(1)}, tmp_path / "a.pth")
    with pytest.raises(ModelError, match=r"a\.pth: not the weights of this encoder: layer9\.weight: surplus$"):
        encoder_of(tmp_path / "a.pth", encoder=encoder)


# files that are none


class Malicious:
    def __init__(self, witness: Path):
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.witness),)


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    torch.save({"weight": torch.ones(1), "more": Malicious(tmp_path / "witness")}, tmp_path / "evil.pth")
    with pytest.raises(ModelError, match=r"evil\.pth: holds more than tensors, which is not loaded"):
        read_weights(tmp_path / "evil.pth")
    assert not (tmp_path / "witness").exists(), "its code ran"


@pytest.mark.parametrize("content", [torch.ones(3), [torch.ones(3)], 5], ids=["tensor", "list", "number"])
def test_a_file_without_names_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(ModelError, match=r"weights\.pth: holds a \w+, not weights by name"):
        read_weights(tmp_path / "weights.pth")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("broken", ["missing", "empty", "text", "cut short", "folder"])
def test_a_file_that_does_not_read_is_named(tmp_path, suffix, broken):
    file = tmp_path / f"weights{suffix}"
    if broken == "empty":
        file.touch()
    elif broken == "text":
        file.write_text("<html>404: no such model</html>")
    elif broken == "cut short":
        torch.save({"a": torch.ones(999)}, tmp_path / "whole.pth")
        safetensors.torch.save_file({"a": torch.ones(999)}, tmp_path / "whole.safetensors")
        file.write_bytes((tmp_path / f"whole{suffix}").read_bytes()[:-500])
    elif broken == "folder":
        file.mkdir()
    with pytest.raises(ModelError, match=f"weights{suffix}: "):
        read_weights(file)


# pretrained weights without network


@pytest.mark.parametrize("encoder", ["resnet18", "tu-mobilenetv3_small_050"])
def test_pretrained_weights_without_network(encoder, tmp_path, monkeypatch, caplog, recwarn):
    """One message, at once: not the half minute of retries and warnings that the hub's client makes of it."""

    def unreachable(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"waits {seconds} s before it asks again"))
    with pytest.raises(ModelError) as caught, caplog.at_level(logging.WARNING):
        built(encoder=encoder, encoder_weights="imagenet")
    assert f"ImageNet weights of {encoder} could not be downloaded" in str(caught.value)
    assert "network.encoder_weights=null" in str(caught.value)
    assert ".safetensors or .pth" in str(caught.value)
    assert not caplog.messages
    assert not [str(warning.message) for warning in recwarn if "encoder_weights" in str(warning.message)]
