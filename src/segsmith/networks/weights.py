"""Files of weights -> tensors by name -> an encoder, or a whole network, that has them."""

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub
import safetensors
import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from segsmith.errors import ModelError, unreadable

ENCODER_PREFIXES = ("0.body.encoder.", "body.encoder.", "model.encoder.", "encoder.")
"""Before the names of an encoder's weights in the file of a whole network; of those of a bundle, the first counts."""
NETWORK_PREFIXES = ("0.", "module.")
"""Before the names of all weights of a network: the first one of a bundle, and one trained in several processes."""
HEADS = ("body.segmentation_head.", "body.classification_head.", "heads.")
"""Before the names of weights that depend on what is to be found."""
NORMALISATION = ("mean", "std", "mean_image")
COUNTER = "num_batches_tracked"
CLASSIFIERS = ("fc.", "_fc.", "classifier.", "last_linear.", "head.")
"""Before the names of weights that classify images, which no encoder has."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a .safetensors file, or of a .pth file read without running any code in it. Raises ModelError."""
    try:
        if path.suffix == ".safetensors":
            return dict(safetensors.torch.load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, safetensors.SafetensorError, ValueError, EOFError) as error:
        raise ModelError(unreadable(path, "weights", error)) from None
    except Exception as error:  # the unpickler's own error, for a file that wants to run code
        raise ModelError(f"{path}: holds more than tensors, which is not loaded ({type(error).__name__})") from None
    if not isinstance(state, dict):
        raise ModelError(f"{path}: holds a {type(state).__name__}, not weights by name")
    state = state.get("state_dict", state)
    return {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}


def load_encoder(
    encoder: nn.Module, state: Mapping[str, Tensor], source: str | Path, whole: Collection[str] = ()
) -> None:
    """Give the encoder the weights of `source`, which holds it alone, with its classifier, or in a whole network.

    Names are taken as segmentation_models.pytorch, torchvision and timm write them. Weights made for three bands are
    inflated to those of the encoder. `whole` names what the encoder had before parts of it that it does not use were
    taken away; a file may hold those or not. Raises ModelError for weights that are missing, of another shape or too
    many; counters of batches may be missing.
    """
    given = _of_encoder(state)
    own = encoder.state_dict()
    found = {name: alias for name in own for alias in _aliases(name) if alias in given}
    values, wrong = _taken(own, given, found)
    surplus = given.keys() - set(found.values())
    if surplus:
        expected = _with_classifier(encoder) | {alias for name in whole for alias in _aliases(name)}
        wrong += [
            f"{name}: surplus" for name in sorted(surplus) if name not in expected and not name.startswith(CLASSIFIERS)
        ]
    _check_nothing(wrong, f"{source}: not the weights of this encoder")
    nn.Module.load_state_dict(encoder, values, strict=False)


def load_network(
    network: nn.Module, state: Mapping[str, Tensor], source: str | Path, whole: Collection[str] = ()
) -> None:
    """Give a whole network the weights of `source`: a bundle, of which the first network is taken, or a file of weights
    as segsmith or segmentation_models.pytorch names them.

    What images are normalised by stays as it is. A head that the file lacks, or has for other classes, keeps its random
    weights, so that a network goes on to learn something else. Weights made for three bands are inflated, and `whole`
    names what the body had, as by `load_encoder`. Raises ModelError for all else that is missing, of another shape or
    too many.
    """
    if any(name.startswith("part-") for name in state):
        raise ModelError(f"{source}: a bundle of several runs; give the bundle of one of them")
    given = _of_network(state)
    own = {name: tensor for name, tensor in network.state_dict().items() if name not in NORMALISATION}
    values, wrong = _taken(own, given, {name: name for name in own if name in given})
    wrong += [f"{name}: surplus" for name in given.keys() - own.keys() - {f"body.{name}" for name in whole}]
    body = [problem for problem in sorted(wrong) if not problem.startswith(HEADS)]
    _check_nothing(body, f"{source}: not the weights of this network")
    fits = {name: tensor for name, tensor in values.items() if tensor.shape == own[name].shape}
    nn.Module.load_state_dict(network, fits, strict=False)


def _taken(
    own: Mapping[str, Tensor], given: Mapping[str, Tensor], found: Mapping[str, str]
) -> tuple[dict[str, Tensor], list[str]]:
    """The weights that a file gives a module, `found` there by their names in it, and which are of another shape or
    missing; counters of batches may be."""
    values = {name: _inflated(given[alias], own[name].shape) for name, alias in found.items()}
    wrong = [
        f"{alias}: {tuple(given[alias].shape)} in the file, {tuple(own[name].shape)} in the network"
        for name, alias in found.items()
        if values[name].shape != own[name].shape
    ]
    return values, wrong + [f"{name}: missing" for name in own if name not in found and not name.endswith(COUNTER)]


def _check_nothing(wrong: list[str], problem: str) -> None:
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ModelError(f"{problem}: {'; '.join(wrong[:3])}{more}")


@contextmanager
def hub_asked_once() -> Iterator[None]:
    """Look in the cache alone when the hub of models does not answer: its client would go on asking for a minute."""
    hub = huggingface_hub.constants
    offline = hub.HF_HUB_OFFLINE
    try:
        huggingface_hub.get_session().head(hub.ENDPOINT, timeout=10)
    except Exception:  # each version of the client has errors of its own
        hub.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        hub.HF_HUB_OFFLINE = offline


def _of_encoder(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the encoder, by the names they have in it."""
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    for prefix in ENCODER_PREFIXES:
        inner = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
        if inner:
            state = inner
            break
    return {name.removeprefix("model."): tensor for name, tensor in state.items()}


def _of_network(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a network by the names they have in it, without what it normalises by."""
    for prefix in NETWORK_PREFIXES:
        inner = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
        state = inner or state
    if not any(name.startswith("body.") for name in state):
        state = {f"body.{name.removeprefix('model.')}": tensor for name, tensor in state.items()}
    return {name: tensor for name, tensor in state.items() if name not in NORMALISATION}


def _aliases(name: str) -> list[str]:
    """Names of a weight in files: timm writes stages.0 where its encoders have stages_0."""
    plain = name.removeprefix("model.")
    return list(dict.fromkeys((plain, re.sub(r"^([a-z]+)_(\d+)\.", r"\1.\2.", plain))))


def _with_classifier(encoder: nn.Module) -> set[str]:
    """Names of the weights of the timm model that the encoder is cut from; none if it is not timm's."""
    name = getattr(encoder, "name", None)
    if name is None:
        return set()
    with torch.device("meta"):
        return set(timm.create_model(name, pretrained=False).state_dict())


def _inflated(weight: Tensor, shape: torch.Size) -> Tensor:
    """A kernel for three bands as one for `shape[1]` bands; what fits already, or never will, as it is.

    Where all bands are equal, the kernel of n bands gives what that of three did: for n > 3 the first three bands keep
    their kernels and the others get the mean of them, for n < 3 all get the mean, times 3 / n (as timm scales them).
    """
    as_given = (*weight.shape[:1], 3, *weight.shape[2:])
    if (
        weight.ndim != 4
        or weight.shape == shape
        or weight.shape != as_given
        or shape != (*weight.shape[:1], shape[1], *weight.shape[2:])
    ):
        return weight
    bands = shape[1]
    mean = weight.mean(dim=1, keepdim=True)
    kept = weight if bands > 3 else weight[:, :0]
    return torch.cat([kept, mean.expand(-1, bands - kept.shape[1], -1, -1)], dim=1) * (3 / bands)
