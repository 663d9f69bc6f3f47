"""Architecture + encoder -> logits of the input's size; weights from files; what is refused, and how."""

import logging
import os
import socket
import time
from pathlib import Path
from typing import Any, get_args

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from segsmith import recipe
from segsmith.errors import ModelError
from segsmith.modeling.networks import Network, build_network, check_encoder, check_input_hw, read_weights

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
ARCHITECTURES = get_args(recipe.Network.model_fields["architecture"].annotation)
SMALL = {"encoder": "tu-test_resnet", "encoder_depth": 3, "decoder_channels": (8, 8, 8)}


def built(*, bands: int = 3, classes: int = 1, weights: bool = True, **options: Any) -> Network:
    """A small U-Net in evaluation mode, unless `options` say otherwise."""
    settings = recipe.Network(**({"encoder_weights": None} | (options or SMALL)))
    return build_network(settings, classes, (MEAN * 2)[:bands], (STD * 2)[:bands], weights=weights).eval()


def pictures(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


# shapes


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_gives_logits_of_the_input_size(architecture):
    encoder = "tu-vit_tiny_patch16_224" if architecture == "DPT" else "resnet18"  # DPT is for transformers
    side = 128 if architecture == "PAN" else 64
    network = built(architecture=architecture, encoder=encoder, classes=2)
    check_input_hw(network, (side, 2 * side))
    with torch.inference_mode():
        logits = network(pictures(1, 3, side, 2 * side))["mask"]
    assert logits.shape == (1, 2, side, 2 * side)
    assert logits.isfinite().all()
    assert logits.std() > 0


@pytest.mark.parametrize("bands", [1, 3, 4])
@pytest.mark.parametrize("encoder", ["resnet18", "tu-test_resnet"])
def test_one_three_and_four_bands(encoder, bands):
    network = built(**SMALL | {"encoder": encoder}, bands=bands)
    assert network(pictures(2, bands, 32, 32))["mask"].shape == (2, 1, 32, 32)


@pytest.mark.parametrize("architecture", ["Unet", "UnetPlusPlus"])
def test_attention_is_in_the_decoder(architecture):
    options = SMALL | {"architecture": architecture, "decoder_channels": (16, 16, 16)}
    plain, attentive = built(**options), built(**options, attention="scse")
    assert not [name for name, _ in plain.named_modules() if "SCSE" in type(plain.get_submodule(name)).__name__]
    assert [name for name, module in attentive.named_modules() if "SCSE" in type(module).__name__]
    assert attentive(pictures(1, 3, 32, 32))["mask"].shape == (1, 1, 32, 32)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"architecture": "FPN", "attention": "scse"}, "network.attention goes with Unet or UnetPlusPlus, not FPN"),
        (
            {"architecture": "FPN", "decoder_channels": (8, 8)},
            "network.decoder_channels goes with MAnet or Unet or UnetPlusPlus, not FPN",
        ),
        ({"encoder_depth": 3, "decoder_channels": (8, 8)}, "network: Unet with resnet18 does not build: "),
        ({"architecture": "DPT"}, "network: DPT with resnet18 does not build: "),
        ({"encoder": "tu-resnet18.nonsense"}, "network: Unet with tu-resnet18.nonsense does not build: "),
    ],
)
def test_options_that_do_not_go_together(options, said):
    with pytest.raises(ModelError) as caught:
        built(**options)
    assert str(caught.value).startswith(said)


# normalisation, dropout


def test_normalisation_is_part_of_the_network():
    """8-bit images come as they are; mean and deviation are of images scaled to 0..1."""
    images = pictures(2, 3, 4, 4)
    expected = (images.double() / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    assert torch.allclose(Network(nn.Identity(), MEAN, STD, dropout=0.0)(images)["mask"].double(), expected, atol=1e-5)


def test_normalisation_travels_with_the_weights():
    ours, other = built(), Network(built().body, (0.1,) * 3, (0.9,) * 3, dropout=0.0)
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
    ("options", "size"),
    [
        ({"architecture": "FPN", "encoder_depth": 3}, (32, 32)),  # its logits are four times as large
        ({"architecture": "PAN"}, (64, 64)),  # its pyramid ends at nothing
        (SMALL | {"attention": "scse"}, (32, 32)),  # 8 channels are too few for it
    ],
)
def test_a_size_the_network_does_not_take_is_refused(options, size):
    with pytest.raises(ModelError, match=r"data\.input_hw"):
        check_input_hw(built(**options), size)


# weights from files


@pytest.fixture
def encoder_weights() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {name: tensor.contiguous() for name, tensor in built().body.get_submodule("encoder").state_dict().items()}


def encoder_of(weights: Path, **options: Any) -> dict[str, Tensor]:
    torch.manual_seed(2)
    network = built(**SMALL, encoder_weights=str(weights), **options)
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
    loaded = built(**SMALL, encoder_weights=str(tmp_path / "weights.safetensors"))
    torch.manual_seed(2)
    random = built()
    for name, tensor in random.body.get_submodule("decoder").state_dict().items():
        assert torch.equal(loaded.body.get_submodule("decoder").state_dict()[name], tensor)
    assert not same(random.body.get_submodule("encoder").state_dict(), encoder_weights)


def test_weights_left_out_need_no_file():
    built(**SMALL, encoder_weights="gone.safetensors", weights=False)


def test_missing_and_mismatched_weights_are_named(tmp_path, encoder_weights):
    first, *_, last = (name for name in encoder_weights if name.endswith(".weight"))
    safetensors.torch.save_file(
        encoder_weights | {first: torch.ones(2, 3)} | {"of.another": torch.ones(1)}, tmp_path / "a.safetensors"
    )
    shape = tuple(encoder_weights[first].shape)
    with pytest.raises(ModelError) as caught:
        encoder_of(tmp_path / "a.safetensors")
    assert "a.safetensors: not the weights of this encoder" in str(caught.value)
    assert f"{first}: (2, 3) in the file, {shape} in the network" in str(caught.value)

    del encoder_weights[last]
    torch.save(encoder_weights, tmp_path / "b.pth")
    with pytest.raises(ModelError, match=f"b.pth: not the weights of this encoder: {last}: missing$"):
        encoder_of(tmp_path / "b.pth")


def test_many_missing_weights_are_counted(tmp_path, encoder_weights):
    """The first three are named."""
    needed = [name for name in encoder_weights if "num_batches_tracked" not in name]
    safetensors.torch.save_file({"other": torch.ones(1)}, tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match=f"{needed[2]}: missing and {len(needed) - 3} more"):
        encoder_of(tmp_path / "a.safetensors")


def test_weights_for_another_number_of_bands_do_not_fit(tmp_path, encoder_weights):
    safetensors.torch.save_file(encoder_weights, tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match=r"3, 3, 3\) in the file, .*4, 3, 3\) in the network"):
        encoder_of(tmp_path / "a.safetensors", bands=4)


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
    began = time.monotonic()
    with pytest.raises(ModelError) as caught, caplog.at_level(logging.WARNING):
        built(encoder=encoder, encoder_weights="imagenet")
    assert time.monotonic() - began < 15
    assert f"ImageNet weights of {encoder} could not be downloaded" in str(caught.value)
    assert "network.encoder_weights=null" in str(caught.value)
    assert ".safetensors or .pth" in str(caught.value)
    assert not caplog.messages
    assert not [str(warning.message) for warning in recwarn if "encoder_weights" in str(warning.message)]
