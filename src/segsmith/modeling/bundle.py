"""What prediction needs, in one safetensors file: weights of one network or several, and what stands around them.

Runs that were combined are one file as well: a bundle of bundles.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.utils import deterministic

from segsmith.data.dataset import Layout
from segsmith.data.extra import Ranges
from segsmith.data.rasters import Levels
from segsmith.errors import ModelError, RecipeError, unreadable
from segsmith.files import write_bytes
from segsmith.networks.networks import Network, build_network
from segsmith.recipe import DecideMetric, Gate, Recipe, Separate
from segsmith.recipe_files import recipe_of
from segsmith.samples.sight import UNTOLD, Sight

FORMAT = "4"
"""Since 4 a decision has a cell for each class; since 3 a bundle holds the weights of each of its networks under
'NUMBER.'; before, those of one without a prefix."""

SPARE_WEIGHTS = 2**27
"""Weights that a network may have while it is built beyond four times those of its file: encoders are built whole, and
what their features do not need is taken out of them."""

Weights = dict[str, Tensor]


class Cell(NamedTuple):
    """How the probabilities of a class become its mask: an image whose gate value is below `gate` is empty; else
    `level` and above of 0..255 is foreground, and objects under `smallest_area` go."""

    level: int = 128
    smallest_area: int = 0
    """Pixels of the image at its own size; 0 keeps every object."""
    gate: int = 0
    """Of 0..255; 0 empties no image."""
    depth: int = 0
    """How deep the valley between two objects that touch is at least, in levels of the relief they are told apart by;
    0 for objects that are what is connected."""

    @property
    def threshold(self) -> float:
        """The level as a probability, 0..1."""
        return self.level / 255


@dataclass(frozen=True)
class Dial:
    """What a level is sure not to miss of a class, and what that costs on the images it was found on. Shares are None
    where they are of nothing."""

    miss_rate: float
    """The mean share of an image's foreground that may be missed, of images with foreground."""
    images: int
    """Images with foreground that the promise rests on."""
    missed: float | None
    """The mean share that is missed there."""
    false_alarms: float | None
    """The share of empty images in which anything is predicted."""
    wrong_pixels: float | None
    """The share of predicted pixels that are background."""


@dataclass(frozen=True)
class Skip:
    """How networks are spared what surely holds nothing, and what that is sure not to cost. What is looked at is what
    networks see at once: a whole image, or a chip."""

    loss: float
    """Of images that hold a class, the share that may be skipped, on average; that of their foreground which is lost
    is the same. It holds for each class."""
    below: float
    """An image is skipped if no pixel of it is as probable as this at the first look; 0 skips none."""
    scale: float
    """The sides of what the first look sees, as a share of what the networks see."""
    filled: tuple[int, ...]
    """Images that hold each class, on which the promise rests."""
    looked_at: int
    """Images of the validation fold."""
    skipped: int
    """How many of them are skipped."""
    objects: int
    """Objects in all of them."""
    lost: int
    """Objects in those that are skipped."""


@dataclass(frozen=True)
class Decision:
    """The cell of each class, and what they were chosen from."""

    cells: tuple[Cell, ...] = (Cell(),)
    """One for each class, or one for all."""
    gate_by: Gate = "none"
    """What gate values are: the mean of the highest levels, if anything."""
    gate_pixels: int = 100
    """How many levels that is the mean of."""
    fill_holes: bool = False
    """Whether holes in objects are filled, before their area is asked for."""
    separate_by: Separate = "none"
    """What the relief is made of, where a cell has a depth."""
    metric: DecideMetric | None = None
    """What it was tuned for; None for the untuned default."""
    score: float | None = None
    """The metric on the images it was tuned on."""
    cross_fitted_score: float | None = None
    """The metric when every image is scored with a decision tuned on other images."""
    all_empty: float | None = None
    """The metric when nothing is found in any of these images."""
    areas: tuple[int, ...] = ()
    surfaces: tuple[tuple[tuple[float, ...], ...], ...] = ()
    """Of each class, the metric at the levels 0..255 (rows) and `areas` (columns), at the gate of its cell."""
    gates: tuple[tuple[tuple[int, float], ...], ...] = ()
    """Of each class, the gates tried and the metric at each, at the level and area of its cell."""
    parts: tuple[tuple[Cell, ...], ...] = ()
    """The cells for the images of each part of the cross-fit, tuned on the other parts."""
    dials: tuple[Dial, ...] = ()
    """Of each class, where its level was taken for a miss rate; none where it was tuned for the metric."""
    temperature: float | None = None
    """What logits are divided by to make probabilities calibrated; None leaves them as they are."""
    skip: Skip | None = None
    """What predictions may skip, if they are asked to; None where no loss was allowed for it."""

    def cells_of(self, classes: int, part: int | None = None) -> tuple[Cell, ...]:
        """The cell of each class; those decided for one part of the cross-fit, if that is named."""
        cells = self.cells if part is None else self.parts[part]
        return cells * classes if len(cells) == 1 else cells


def bundle_file(given: Path) -> Path:
    """A bundle's file, given by itself or by its run folder; whether it is there is not asked."""
    return given / "bundle.safetensors" if given.is_dir() else given


class Part(NamedTuple):
    """A bundle among those that were combined."""

    weight: float
    bundle: "Bundle"


@dataclass(frozen=True)
class Bundle:
    """The weights of a trained network, or of several whose probabilities are averaged, and all that stands around
    them. Only weights differ between the networks.

    Or, where runs were combined, no weights but `parts`, each with its own recipe, whose probabilities are averaged as
    `recipe.predict.average` says.
    """

    members: tuple[Weights, ...]
    recipe: Recipe
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]
    layout: Layout
    fingerprint: str
    extra: Ranges = ()
    """The ranges of the columns named in data.extra."""
    sight: Sight = UNTOLD
    """How images were shown to the networks; a bundle written before it was kept says nothing of it."""
    decision: Decision = Decision()
    parts: tuple[Part, ...] = ()

    def of_fold(self, fold: int) -> "Bundle":
        """Of networks that were validated on folds in turn, those that were not trained on a fold."""
        folds = self.recipe.folds.validated
        each = len(self.members) // len(folds)
        first = each * folds.index(fold)
        return replace(self, members=self.members[first : first + each])

    @property
    def planes(self) -> tuple[str, ...]:
        """Names of what is predicted of each pixel: the classes, and behind them the borders in each, where the
        networks learnt these."""
        borders = [f"border of {name}" for name in self.classes] if self.recipe.network.border_px else []
        return (*self.classes, *borders)

    def networks(self) -> list[Network]:
        """The networks with their weights, in evaluation mode. Raises ModelError if they do not fit the recipe, and,
        before it takes memory, for a recipe that asks for a network far beyond these weights."""
        return [self._network(weights) for weights in self.members]

    def _network(self, weights: Weights) -> Network:
        mean_image = weights["mean_image"][0] if "mean_image" in weights else None
        try:
            with _of_at_most(4 * sum(weight.numel() for weight in weights.values()) + SPARE_WEIGHTS):
                network = build_network(
                    self.recipe.network,
                    len(self.classes),
                    self.mean,
                    self.std,
                    exclusive=self.recipe.data.exclusive,
                    weights=False,
                    mean_image=mean_image,
                )
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise ModelError(f"the bundle's weights do not fit its recipe: {error}") from None
        return network.eval()

    def write(self, path: Path) -> None:
        """Write the bundle whole or not at all. Raises WriteError."""
        facts = json.dumps(_facts(self))
        write_bytes(path, safetensors.torch.save(_tensors(self), {"segsmith": FORMAT, "facts": facts}))

    @staticmethod
    def read(path: Path) -> "Bundle":
        """The bundle in a file. Raises ModelError if it is none, or its recipe is one that no training would take."""
        try:
            with safetensors.safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        except FileNotFoundError:
            raise ModelError(f"{path}: no such file; train writes bundle.safetensors into its run folder") from None
        except (OSError, safetensors.SafetensorError) as error:
            raise ModelError(unreadable(path, "a bundle", error)) from None
        found = metadata.get("segsmith")
        if found is None:
            raise ModelError(f"{path}: safetensors, but no segsmith bundle")
        if found != FORMAT:
            raise ModelError(
                f"{path}: a bundle of format {found}, and this version of segsmith reads format {FORMAT}; train again, "
                "or use the version that wrote it"
            )
        try:
            return _from_facts(json.loads(metadata["facts"]), tensors, str(path))
        except RecipeError as error:
            raise ModelError(
                f"{error}\n{path}: written by another version of segsmith or by none; train again"
            ) from None
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ModelError(f"{path}: written by another version of segsmith ({error!r}); train again") from None


@contextmanager
def _of_at_most(weights: int) -> Iterator[None]:
    """Raise ModelError for a network that is built within and has more weights. They are counted as modules take them,
    which is before values are written to them: till then they take up no memory."""
    taken = 0

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal taken
        taken += 0 if parameter is None else parameter.numel()
        if taken > weights:
            raise ModelError(
                f"the bundle's weights do not fit its recipe: that asks for a network of {taken:,} weights and more, "
                "far beyond those of the file"
            )

    settings: Any = deterministic  # its setting is made in a way that type checkers do not see
    fills = settings.fill_uninitialized_memory
    settings.fill_uninitialized_memory = False  # after a training, PyTorch would write to them
    counting = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        counting.remove()
        settings.fill_uninitialized_memory = fills


def _facts(bundle: Bundle) -> dict[str, Any]:
    return {
        "recipe": bundle.recipe.model_dump(mode="json"),
        "mean": bundle.mean,
        "std": bundle.std,
        "classes": bundle.classes,
        "layout": asdict(bundle.layout),
        "fingerprint": bundle.fingerprint,
        "extra": bundle.extra,
        "sight": asdict(bundle.sight),
        "decision": asdict(bundle.decision),
        "parts": [{"weight": part.weight, **_facts(part.bundle)} for part in bundle.parts],
    }


def _tensors(bundle: Bundle) -> Weights:
    """The weights of all networks by the names they have in a file: 'NETWORK.NAME', of a part 'part-PART.' before."""
    own = {
        f"{number}.{name}": tensor.contiguous()
        for number, weights in enumerate(bundle.members)
        for name, tensor in weights.items()
    }
    of_parts = {
        f"part-{number}.{name}": tensor
        for number, part in enumerate(bundle.parts)
        for name, tensor in _tensors(part.bundle).items()
    }
    return own | of_parts


def _members(tensors: Weights) -> tuple[Weights, ...]:
    """The tensors of a file by network, without those of parts. Raises ValueError for one without a number."""
    members: dict[int, Weights] = {}
    for name, tensor in tensors.items():
        number, _, rest = name.partition(".")
        if not number.startswith("part-"):
            members.setdefault(int(number), {})[rest] = tensor
    return tuple(members[number] for number in sorted(members))


def _of_part(tensors: Weights, number: int) -> Weights:
    prefix = f"part-{number}."
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _from_facts(facts: dict[str, Any], tensors: Weights, name: str) -> Bundle:
    decision = {name: _tuples(value) for name, value in facts["decision"].items()}
    decision["cells"] = tuple(Cell(*cell) for cell in decision["cells"])
    decision["parts"] = tuple(tuple(Cell(*cell) for cell in part) for part in decision["parts"])
    decision["dials"] = tuple(Dial(**dial) for dial in decision["dials"])
    if skip := decision.get("skip"):
        decision["skip"] = Skip(**{**skip, "filled": tuple(skip["filled"])})
    return Bundle(
        members=_members(tensors),
        recipe=recipe_of(facts["recipe"], name),
        mean=tuple(facts["mean"]),
        std=tuple(facts["std"]),
        classes=tuple(facts["classes"]),
        layout=Layout.of(facts["layout"]),
        fingerprint=facts["fingerprint"],
        extra=tuple((low, high) for low, high in facts["extra"]),
        sight=_sight(facts["sight"]) if "sight" in facts else UNTOLD,
        decision=Decision(**decision),
        parts=tuple(
            Part(part["weight"], _from_facts(part, _of_part(tensors, number), f"{name}, part {number}"))
            for number, part in enumerate(facts.get("parts", ()))
        ),
    )


def _sight(facts: dict[str, Any]) -> Sight:
    gsd_m, levels = facts["gsd_m"], facts["levels"]
    return Sight(
        enlarged=float(facts["enlarged"]),
        gsd_m=None if gsd_m is None else (float(gsd_m[0]), float(gsd_m[1])),
        levels=tuple(Levels(tuple(low), tuple(high)) for low, high in levels),
    )


def _tuples(value: Any) -> Any:
    """A value as JSON gives it, its lists as tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
