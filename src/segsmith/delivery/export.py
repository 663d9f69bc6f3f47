"""Decided run -> its networks as ONNX in float32 and int8, or compiled; checked on its images and timed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from segsmith.decision.decide import decided_bundle
from segsmith.delivery.export_figures import compared
from segsmith.errors import ModelError, RunError, WriteError
from segsmith.files import digest, replacing_folder, write_text
from segsmith.modeling.bundle import Bundle
from segsmith.modeling.compiled_files import missing_compiler, write_package
from segsmith.modeling.onnx_files import Seen, write_int8, write_onnx
from segsmith.modeling.run import Run
from segsmith.prediction.backends import (
    EXPORTED,
    BackendName,
    Exported,
    export_folder,
    machine,
    network_file,
    runtime_calls,
    unusable_here,
)
from segsmith.prediction.network_calls import NetworkCall, Said, torch_calls
from segsmith.prediction.packages import signature
from segsmith.prediction.probabilities import Predictor
from segsmith.progress import track
from segsmith.samples.chips import Chips

CALIBRATED = 32
"""Training images, at most, that the ranges of int8 come from."""


@dataclass(frozen=True)
class Export:
    """What was written, and of which backends nothing is known and why."""

    folder: Path
    exported: Exported
    unchecked: tuple[str, ...]


def export(run: Path, *, images: int = 128, compiled: bool = False) -> Export:
    """Write the networks of a decided run for other runtimes, `BUNDLE.export` beside its bundle, and check each of
    them.

        0.onnx         the first network in float32 (onnx_files.py), and so on; of parts, part-0.0.onnx
        0-int8.onnx    likewise in int8, its ranges from training images; only if a runtime passes with it
        0.pt2          likewise compiled for this machine (compiled_files.py), if `compiled` and where there is a C++
                       compiler; signed, since predict runs no other code (packages.py)
        export.json    what each backend did (backends.py)

    `images` of the held-out fold (else of the validation fold) are predicted by PyTorch and by every backend whose
    package is installed, batch by batch in turn: largest difference, changed pixels of the decided masks, change of the
    decided score, time. What changes the score by more than MOST_SCORE_CHANGE is not used by predict.

    Raises RunError for a run that is not decided; ModelError for a missing package, and for a network that does not
    export. Then what stood there before still stands.
    """
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise ModelError(f"export needs {', '.join(missing)}: pip install 'segsmith[export]'")
    if images < 1:
        raise RunError(f"exports are checked on 1 image or more, and {images} is none")
    opened = Run(run)
    chips = opened.chips()
    opened.check_trained()
    with opened.locked():
        bundle = decided_bundle(opened)
        checked = opened.part(chips, "held_out") or opened.part(chips, "validation")
        training = opened.part(chips, "training") or checked
        folder, known = export_folder(opened.bundle), digest(opened.bundle)
        with replacing_folder(folder) as new:
            facts = {"segsmith": version("segsmith"), "bundle": known, "planes": ", ".join(bundle.planes)}
            strides = _write(bundle, new, facts, _seen(bundle, chips, _spread(training, CALIBRATED)))
            names, unchecked = _available()
            signatures: dict[str, str] = {}
            if compiled:
                try:
                    signatures = _compile(bundle, new)
                    names.append("aotinductor")
                except (ModelError, WriteError) as error:  # it is one export of several
                    unchecked += (f"aotinductor: {error}",)
            predictors = {name: Predictor(bundle, runtime_calls(new, name, strides)) for name in names}
            figures = compared(bundle, chips, _spread(checked, images), {"torch": Predictor(bundle), **predictors})
            del predictors
            if not any(of.passes for of in figures if of.backend.endswith("-int8")):
                for file in new.glob("*-int8.onnx"):
                    file.unlink()
            exported = Exported(
                segsmith=version("segsmith"),
                bundle=known,
                machine=machine(bundle),
                images=min(images, len(checked)),
                metric=str(bundle.decision.metric),
                strides=strides,
                signatures=signatures,
                figures=figures,
            )
            write_text(new / "export.json", exported.text())
    return Export(folder, exported, unchecked)


def _available() -> tuple[list[BackendName], tuple[str, ...]]:
    """Backends that read ONNX whose package is installed, and what is said of the others."""
    missing = {name: unusable_here(name) for name in EXPORTED if name != "aotinductor"}
    said = dict.fromkeys(reason for reason in missing.values() if reason)
    return [name for name, reason in missing.items() if reason is None], tuple(said)


def _spread(indices: list[int], count: int) -> list[int]:
    """So many of them at the most, evenly over all."""
    places = np.linspace(0, len(indices) - 1, min(count, len(indices))).round().astype(int)
    return [indices[place] for place in places.tolist()]


def _write(bundle: Bundle, folder: Path, facts: dict[str, str], seen: dict[str, list[Seen]]) -> dict[str, int]:
    """Every network in float32 and int8; the stride of each, by its place and number."""
    strides = {}
    for place, of_place in _places(bundle):
        for number, network in enumerate(of_place.networks()):
            file = folder / network_file(f"{place}{number}", "onnxruntime")
            strides[f"{place}{number}"] = network.stride
            write_onnx(network, of_place.recipe, file, facts | {"stride": str(network.stride)})
            write_int8(file, seen[f"{place}{number}"], folder / network_file(f"{place}{number}", "onnxruntime-int8"))
    return strides


def _compile(bundle: Bundle, folder: Path) -> dict[str, str]:
    """Every network as machine code; the signature of each, by the name of its file. Raises ModelError where none can
    be made, WriteError where they cannot be signed; then none is there."""
    if missing := missing_compiler():
        raise ModelError(missing)
    signatures = {}
    try:
        networks = [
            (network_file(f"{place}{number}", "aotinductor"), network, of_place.recipe)
            for place, of_place in _places(bundle)
            for number, network in enumerate(of_place.networks())
        ]
        for name, network, recipe in track(networks, "networks compiled", len(networks)):
            write_package(network, recipe, folder / name)
            signatures[name] = signature(folder / name, machine(bundle))
    except (ModelError, WriteError):
        for file in folder.glob("*.pt2"):
            file.unlink()
        raise
    return signatures


def _places(bundle: Bundle, place: str = "") -> list[tuple[str, Bundle]]:
    """The bundle and all its parts, by their places."""
    parts = [_places(part.bundle, f"{place}part-{number}.") for number, part in enumerate(bundle.parts)]
    return [(place, bundle), *(found for part in parts for found in part)]


class _Noting:
    """A network that notes what it is shown."""

    def __init__(self, call: NetworkCall, seen: list[Seen]):
        self.call, self.seen, self.stride, self.device = call, seen, call.stride, call.device

    def __call__(self, images: UInt8[Tensor, "batch channels height width"]) -> Said:
        self.seen.append(images.cpu().numpy())
        return self.call(images)


def _seen(bundle: Bundle, chips: Chips, indices: list[int]) -> dict[str, list[Seen]]:
    """What each network, by its place and number, is shown of chips, without flips."""
    seen: dict[str, list[Seen]] = {}

    def noting(of_place: Bundle, place: str) -> Sequence[NetworkCall]:
        calls = enumerate(torch_calls(of_place))
        return [_Noting(call, seen.setdefault(f"{place}{number}", [])) for number, call in calls]

    predictor = Predictor(_unflipped(bundle), noting)
    items = ((index, chips.read(index).image, chips.extra(index)) for index in indices)
    for _ in track(predictor.stream(items), "images to calibrate by", len(indices)):
        pass
    return seen


def _unflipped(bundle: Bundle) -> Bundle:
    predict = bundle.recipe.predict.model_copy(update={"flips": "none"})
    parts = tuple(part._replace(bundle=_unflipped(part.bundle)) for part in bundle.parts)
    return replace(bundle, recipe=bundle.recipe.model_copy(update={"predict": predict}), parts=parts)
