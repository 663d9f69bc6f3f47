"""What `export` wrote beside a bundle -> which backend runs its networks: the one named, or the fastest that passed."""

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, get_args

import torch

from segsmith.errors import ModelError, unreadable
from segsmith.files import digest
from segsmith.modeling.bundle import Bundle
from segsmith.modeling.hardware import choose_hardware
from segsmith.prediction.network_calls import RUNTIMES, Calls, NetworkCall, Runtime, RuntimeCall, torch_calls
from segsmith.prediction.packages import refusal

BackendName = Literal["torch", "onnxruntime", "onnxruntime-int8", "openvino", "openvino-int8", "aotinductor"]
EXPORTED: tuple[BackendName, ...] = get_args(BackendName)[1:]
MOST_SCORE_CHANGE = 0.002
"""Of the decided score, by which an export may differ from PyTorch and still be used."""


@dataclass(frozen=True)
class Figures:
    """What a backend did with images that PyTorch predicted beside it."""

    backend: BackendName
    largest_difference: int
    """Of any pixel's probability, in levels of 0..255."""
    changed_pixels: float
    """Share of the pixels of the decided masks."""
    score: float
    """Of the decided masks."""
    score_change: float
    """From PyTorch's."""
    seconds_per_image: float
    """The median over batches, without reading."""

    @property
    def passes(self) -> bool:
        return abs(self.score_change) <= MOST_SCORE_CHANGE

    @property
    def told(self) -> str:
        change = f"changes the score by {self.score_change:+.4f}, to {self.score:.4f}"
        return change if self.passes else f"{change}, more than {MOST_SCORE_CHANGE}"


@dataclass(frozen=True)
class Exported:
    """What stands in export.json."""

    segsmith: str
    bundle: str
    """The digest of the bundle's file."""
    machine: str
    """What the figures hold for: `machine`."""
    images: int
    """That they were taken of."""
    metric: str
    strides: dict[str, int]
    """Of each network, by its place and number: what sides of images are multiples of."""
    signatures: dict[str, str] = field(default_factory=dict)
    """Of each file of machine code, by its name: that it was written here (packages.py)."""
    figures: tuple[Figures, ...] = field(default=())
    """PyTorch's first, then in the order of `EXPORTED`; those that did not pass among them."""

    def of(self, backend: str) -> Figures | None:
        return next((figures for figures in self.figures if figures.backend == backend), None)

    def text(self) -> str:
        return json.dumps(asdict(self), indent=2)

    @staticmethod
    def read(folder: Path) -> "Exported":
        """Raises ModelError where nothing, or something else, stands there."""
        file = folder / "export.json"
        try:
            facts = json.loads(file.read_text(encoding="utf-8"))
            figures = tuple(Figures(**of_backend) for of_backend in facts.pop("figures"))
            strides, signatures = dict(facts.pop("strides")), dict(facts.pop("signatures", {}))
            return Exported(**facts, strides=strides, signatures=signatures, figures=figures)
        except FileNotFoundError:
            raise ModelError("nothing was exported beside the bundle; `segsmith export RUN` does so") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{unreadable(file, 'what an export wrote', error)}; export again") from None


@dataclass(frozen=True)
class Backend:
    """What runs the networks, and why that."""

    name: BackendName
    calls: Calls
    why: str


TORCH = Backend("torch", torch_calls, "as asked for")


def export_folder(bundle: Path) -> Path:
    """Where the exports of a bundle's file stand."""
    return bundle.with_suffix(".export")


def machine(bundle: Bundle) -> str:
    """What speeds, and int8's last digits, depend on: processor or GPU, and the precision of the networks."""
    hardware = choose_hardware(bundle.recipe.train)
    processor = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return f"{hardware.name if hardware.device.type == 'cuda' else processor}, {hardware.precision}"


def network_file(network: str, backend: str) -> str:
    """The name of an exported network within the folder; `network` is its place, as Calls have it, and number."""
    return f"{network}{'-int8' if backend.endswith('-int8') else ''}{_runtime(backend).suffix}"


def runtime_calls(folder: Path, backend: str, strides: dict[str, int]) -> Calls:
    """Calls by a backend of `EXPORTED`, of what was exported into a folder."""
    runtime = _runtime(backend)

    def calls(bundle: Bundle, place: str) -> Sequence[NetworkCall]:
        hardware = choose_hardware(bundle.recipe.train)
        networks = [f"{place}{number}" for number in range(len(bundle.members))]
        for network in networks:
            if network not in strides:
                raise ModelError(f"{folder / 'export.json'}: tells of no network {network}; export again")
        return [
            RuntimeCall(runtime, folder / network_file(network, backend), strides[network], hardware)
            for network in networks
        ]

    return calls


def choose_backend(file: Path, bundle: Bundle, wanted: str = "auto") -> Backend:
    """What is to run the networks of a bundle that was read from a file.

    auto      the fastest, by the figures of its export, of those that passed and can be used; PyTorch where nothing was
              exported, or from another bundle, or on another kind of machine
    torch     PyTorch
    another   that one, on whatever machine; aotinductor where it was exported alone

    Raises ModelError for one that is named and cannot be used: it is unknown, was not exported, or from another bundle,
    did not pass, its package is missing, or it is machine code that this user's export did not write (packages.py).
    """
    if wanted not in ("auto", "torch", *EXPORTED):
        raise ModelError(f"--backend {wanted}: is none; choose of auto, torch, {', '.join(EXPORTED)}")
    if wanted == "torch":
        return TORCH
    try:
        exported = _exported(file)
    except ModelError as error:
        if wanted == "auto":
            return Backend("torch", torch_calls, str(error))
        raise ModelError(f"--backend {wanted}: {error}") from None
    if wanted == "auto":
        return _fastest(file, bundle, exported)
    figures = exported.of(wanted)
    usable = figures is not None and figures.passes
    unusable = unusable_here(wanted) or (_refusal(file, bundle, exported, wanted) if usable else None)
    if unusable or figures is None or not figures.passes:
        reason = unusable or (figures.told if figures else "was not exported")
        reason += "; export again, or choose another"
        raise ModelError(f"--backend {wanted}: {reason}")
    return _backend(file, exported, figures, "as asked for")


def _exported(file: Path) -> Exported:
    """What was exported of the bundle as it is. Raises ModelError where nothing was."""
    exported = Exported.read(export_folder(file))
    if exported.bundle != digest(file):
        raise ModelError(
            f"{export_folder(file)} was exported from another bundle, such as this one before it was decided again; "
            "export again"
        )
    return exported


def _fastest(file: Path, bundle: Bundle, exported: Exported) -> Backend:
    here = machine(bundle)
    if exported.machine != here:
        return Backend("torch", torch_calls, f"what was exported was timed on {exported.machine}, and this is {here}")
    passed = sorted((of for of in exported.figures if of.passes), key=lambda of: of.seconds_per_image)
    slower: list[str] = []
    for fastest in passed:  # PyTorch is among them, and always there
        unusable = unusable_here(fastest.backend) or _refusal(file, bundle, exported, fastest.backend)
        if unusable is None:
            break
        slower.append(unusable)
    faster = "".join(f"; {unusable}" for unusable in slower[:1])
    if fastest.backend == "torch":
        return Backend("torch", torch_calls, f"of what was exported and passed nothing is faster{faster}")
    torch_takes = next(of.seconds_per_image for of in passed if of.backend == "torch")
    times = torch_takes / fastest.seconds_per_image
    return _backend(file, exported, fastest, f"{times:.1f} times as fast as PyTorch when it was exported{faster}")


def _backend(file: Path, exported: Exported, figures: Figures, why: str) -> Backend:
    return Backend(figures.backend, runtime_calls(export_folder(file), figures.backend, exported.strides), why)


def unusable_here(backend: str) -> str | None:
    """What is missing on this machine for a backend; None where nothing is."""
    return None if backend == "torch" else _runtime(backend).missing


def _refusal(file: Path, bundle: Bundle, exported: Exported, backend: str) -> str | None:
    """Why what was exported for a backend may not run here; None where it may."""
    if backend != "aotinductor":
        return None
    names = [network_file(network, backend) for network in exported.strides]
    told = {export_folder(file) / name: exported.signatures.get(name, "") for name in names}
    return refusal(told, machine(bundle))


def _runtime(backend: str) -> Runtime:
    return RUNTIMES[backend.removesuffix("-int8")]
