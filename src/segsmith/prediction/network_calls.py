"""A bundle's networks -> calls from 8-bit images to probabilities, by PyTorch or by a runtime that reads files."""

import sys
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from segsmith.errors import ModelError
from segsmith.losses.objective import plane_probabilities, presence_probabilities
from segsmith.modeling.bundle import Bundle
from segsmith.modeling.hardware import Hardware, choose_hardware
from segsmith.recipe import Recipe
from segsmith.types import InputImage


class Said(NamedTuple):
    """What a network says of images, as probabilities 0..1, on the device of the images."""

    planes: Float[Tensor, "batch planes height width"]
    presence: Float[Tensor, "batch classes"] | None = None
    """Of networks with a presence head."""


@runtime_checkable
class NetworkCall(Protocol):
    """One network. `stride` is what sides of images are multiples of, `device` where images are to lie."""

    stride: int
    device: torch.device

    def __call__(self, images: UInt8[Tensor, "batch channels height width"]) -> Said: ...


Calls = Callable[[Bundle, str], Sequence[NetworkCall]]
"""The networks of a bundle itself, without those of its parts. Beside it stands its place in the bundle it is a part
of, as names of weights have it: nothing, or 'part-0.' and so on."""


class TorchCall:
    """By PyTorch, in the precision of the hardware."""

    def __init__(self, network: nn.Module, recipe: Recipe, hardware: Hardware, stride: int = 1):
        self.network = network.to(hardware.device)
        self.recipe, self.hardware, self.stride, self.device = recipe, hardware, stride, hardware.device

    def __call__(self, images: UInt8[Tensor, "batch channels height width"]) -> Said:
        with self.hardware.autocast():
            outputs = self.network(images)
        return Said(plane_probabilities(self.recipe, outputs), presence_probabilities(self.recipe, outputs))


def torch_calls(bundle: Bundle, place: str = "") -> list[NetworkCall]:
    """Calls by PyTorch, the same ones wherever the bundle stands."""
    hardware = choose_hardware(bundle.recipe.train)
    return [TorchCall(network, bundle.recipe, hardware, network.stride) for network in bundle.networks()]


def as_batch(
    images: Sequence[InputImage], extra: Sequence[UInt8[np.ndarray, " extra"]], device: torch.device, batch_size: int
) -> UInt8[Tensor, "_batch channels input_height input_width"]:
    """Images of one size with the levels of their further channels, as a network takes them; an image that comes alone,
    where batches hold several, stands there twice."""
    pixels = np.stack(images)
    planes = np.stack(extra)[:, None, None, :]
    planes = np.broadcast_to(planes, (*pixels.shape[:3], planes.shape[-1]))
    stacked = np.concatenate([pixels, planes], axis=3).transpose(0, 3, 1, 2)
    batch = torch.from_numpy(np.ascontiguousarray(stacked)).to(device)
    if len(batch) == 1 < batch_size:
        # oneDNN multiplies a single image by other kernels than two or more, which agree to the last bit: levels would
        # depend on which images come together
        batch = batch.repeat(2, 1, 1, 1)
    return batch


RunFile = Callable[[UInt8[np.ndarray, "batch channels height width"]], Sequence[Float32[np.ndarray, "..."]]]
"""Images to the outputs of an exported file, in their order."""


class Runtime(NamedTuple):
    """What runs exported files on a CPU."""

    package: str
    extra: str
    """Of segsmith, that brings it."""
    open: Callable[[Path, Hardware], RunFile]
    suffix: str = ".onnx"
    """Of the files that it reads."""

    @property
    def missing(self) -> str | None:
        """What to install; None where it is there."""
        there = find_spec(self.package) is not None
        return None if there else f"{self.package} is not installed (pip install 'segsmith[{self.extra}]')"


class RuntimeCall:
    """By a runtime. Raises ModelError for a file that it does not read."""

    device = torch.device("cpu")

    def __init__(self, runtime: Runtime, file: Path, stride: int, hardware: Hardware):
        self.stride = stride
        try:
            self._run = runtime.open(file, hardware)
        except Exception as error:  # each runtime raises kinds of its own
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ModelError(f"{file}: {runtime.package} does not read it ({reason}); export again") from error

    def __call__(self, images: UInt8[Tensor, "batch channels height width"]) -> Said:
        planes, *presence = self._run(np.ascontiguousarray(images.numpy()))
        return Said(torch.from_numpy(planes), torch.from_numpy(presence[0]) if presence else None)


def _onnxruntime(file: Path, hardware: Hardware) -> RunFile:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})


@cache
def _openvino_core() -> Any:
    """Never given up: it lends the thread that makes it a stack for signals, and takes that back from whatever thread
    lets go of it last. Then the next signal ends the process (seen with OpenVINO 2026.4)."""
    # it reports to its makers when it is imported, unless the package that does so is not there
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino.Core()


def _openvino(file: Path, hardware: Hardware) -> RunFile:
    core = _openvino_core()
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if hardware.precision == "bf16" else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    compiled: Any = core.compile_model(core.read_model(file), "CPU", settings)
    return lambda images: list(compiled(images).values())


def _aotinductor(file: Path, hardware: Hardware) -> RunFile:
    """Loads the code in a package, which runs: see packages.py for whose may be."""
    package = torch._inductor.aoti_load_package(str(file))
    return lambda images: [output.numpy() for output in package(torch.from_numpy(images))]


RUNTIMES = {
    "onnxruntime": Runtime("onnxruntime", "export", _onnxruntime),
    "openvino": Runtime("openvino", "openvino", _openvino),
    "aotinductor": Runtime("torch", "export", _aotinductor, ".pt2"),
}
