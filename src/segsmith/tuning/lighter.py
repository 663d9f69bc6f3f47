"""Recipe + how much faster it has to train -> the same with a lighter encoder or a smaller input, and why."""

from collections.abc import Collection
from dataclasses import dataclass
from math import ceil
from typing import Literal

import numpy as np

from segsmith.data.dataset import Dataset
from segsmith.eda.profile import object_pixels
from segsmith.errors import SegsmithError
from segsmith.modeling.train import check_recipe
from segsmith.networks.combinations import WITHOUT_ENCODER
from segsmith.networks.encoders import lighter_encoders
from segsmith.networks.networks import IMAGENET_MEAN, IMAGENET_STD, build_network
from segsmith.recipe import Recipe
from segsmith.recipe_files import override
from segsmith.tuning.plan import SMALLEST_OBJECT_PX
from segsmith.tuning.training_rate import training_rate
from segsmith.types import HW

Part = Literal["encoder", "size"]
"""What may be changed of a recipe to make it lighter."""
SIZES = (0.75, 0.5, 0.375, 0.25)
"""What sides of images are multiplied by, one after the other."""
WORTH = 0.8
"""Share of the pixels that a smaller input has at most; less of a change brings too little."""
SMALLEST_SIDE_PX = 64
BATCH = 8
"""Images that are timed at once, at most: rates are only compared with one another."""


@dataclass(frozen=True)
class Lighter:
    recipe: Recipe
    reasons: tuple[str, ...]
    """A sentence for each change; of a recipe that stays as it is, why."""


def lighten(dataset: Dataset, recipe: Recipe, times: float, parts: Collection[Part] = ("encoder", "size")) -> Lighter:
    """The recipe that keeps most and trains `times` as fast here, or as fast as can be: steps on noise are timed.

    The largest input is kept first, then the heaviest encoder: a lighter one of its family shows the network every
    pixel still. Encoders are those of segmentation_models.pytorch that differ by their number alone; one whose weights
    are a file has no other. Sizes shrink while the median object stays SMALLEST_OBJECT_PX wide; chips, whose pixels
    are as many however they are cut, stay.
    """
    bands = int(dataset.images["bands"].iloc[dataset.labelled].max()) + len(recipe.data.extra)
    rates = _Rates(bands, len(dataset.classes))
    sizes = [recipe, *(_smaller(dataset, recipe) if "size" in parts else [])]
    encoders = [recipe.network.encoder, *(_lighter(recipe) if "encoder" in parts else [])]
    wanted = times * rates.of(recipe)
    tried = []
    for sized in sizes:
        lightest = _with_encoder(sized, encoders[-1])
        if rates.of(lightest) < wanted:  # then none of this size will do
            tried.append(lightest)
            continue
        each = (_with_encoder(sized, encoder) for encoder in encoders)
        tried.append(next(one for one in each if rates.of(one) >= wanted))
        break
    chosen = max([recipe, *tried], key=lambda one: (min(rates.of(one), wanted), rates.of(one)))
    return Lighter(chosen, _reasons(dataset, recipe, chosen, rates))


def _reasons(dataset: Dataset, was: Recipe, now: Recipe, rates: "_Rates") -> tuple[str, ...]:
    between = _with_encoder(was, now.network.encoder)
    found = []
    if between != was:
        found.append(
            f"network.encoder={now.network.encoder} instead of {was.network.encoder}: "
            f"{rates.of(between):.3g} instead of {rates.of(was):.3g} images/s here"
        )
    if now != between:
        resized = "" if was.data.fit == "resize" else f" and data.fit=resize instead of {was.data.fit}"
        found.append(
            f"data.input_hw={list(now.data.input_hw)} instead of {list(was.data.input_hw)}{resized}: "
            f"{rates.of(now):.3g} instead of {rates.of(between):.3g} images/s here; the median object is still "
            f"{_object_px(dataset, now.data.input_hw):.0f} pixels wide"
        )
    return tuple(found) or ("nothing lighter was found: encoder and input stay as they are",)


class _Rates:
    """Images a second of recipes, measured once for each; 0 for one that cannot be trained."""

    def __init__(self, bands: int, classes: int):
        self.bands, self.classes = bands, classes
        self.known: dict[str, float] = {}

    def of(self, recipe: Recipe) -> float:
        key = recipe.model_dump_json(include={"data", "network"})
        if key not in self.known:
            batch = max(2, min(BATCH, recipe.train.batch_size // recipe.train.accumulate))
            try:
                check_recipe(recipe)
                self.known[key] = training_rate(recipe, self.bands, self.classes, batch=batch)
            except SegsmithError:
                self.known[key] = 0.0
        return self.known[key]


def _lighter(recipe: Recipe) -> list[str]:
    """Encoders that may take the place of the recipe's, the heaviest first."""
    options = recipe.network
    given = options.weights is not None or options.encoder_weights not in (None, "imagenet")
    if options.architecture in WITHOUT_ENCODER or given:
        return []
    return lighter_encoders(options.encoder, pretrained=options.encoder_weights == "imagenet")


def _with_encoder(recipe: Recipe, encoder: str) -> Recipe:
    return recipe.model_copy(update={"network": recipe.network.model_copy(update={"encoder": encoder})})


def _smaller(dataset: Dataset, recipe: Recipe) -> list[Recipe]:
    """The recipe with smaller and smaller inputs, the largest first."""
    shown = _shown_hw(dataset, recipe)
    if shown is None:
        return []
    network = build_network(recipe.network, len(dataset.classes), IMAGENET_MEAN, IMAGENET_STD, weights=False)
    stride = network.stride
    found, before = [], recipe.data.input_hw
    for factor in SIZES:
        hw = (stride * ceil(shown[0] * factor / stride), stride * ceil(shown[1] * factor / stride))
        fewer = hw[0] * hw[1] <= WORTH * before[0] * before[1]
        if not fewer or min(hw) < SMALLEST_SIDE_PX or _object_px(dataset, hw) < SMALLEST_OBJECT_PX:
            continue
        said = [f"data.input_hw={list(hw)}", "data.fit=resize", "data.resize_hw=null"]
        for number, stage in enumerate(recipe.train.stages):
            if stage.input_hw is not None:
                both = zip(stage.input_hw, hw, recipe.data.input_hw, strict=True)
                sides = [stride * ceil(side * now / was / stride) for side, now, was in both]
                said.append(f"train.stages.{number}.input_hw={sides}")
        found.append(override(recipe, said))
        before = hw
    return found


def _shown_hw(dataset: Dataset, recipe: Recipe) -> HW | None:
    """The size that whole images are shown at within the input; None where they are of several, or cut into chips."""
    data = recipe.data
    sizes = dataset.images[["height", "width"]].iloc[dataset.labelled].drop_duplicates()
    match data.fit:
        case "resize":
            return data.input_hw
        case "pad" if data.resize_hw is not None:
            return data.resize_hw
        case "pad" if len(sizes) == 1:
            height, width = sizes.to_numpy().tolist()[0]
            return height, width
        case _:
            return None


def _object_px(dataset: Dataset, hw: HW) -> float:
    """Width of the median object where whole images are shown at a size; no bound where there is none."""
    pixels = object_pixels(dataset)
    if not len(pixels):
        return float("inf")
    area = float(dataset.images[["height", "width"]].iloc[dataset.labelled].prod(axis=1).median())
    return float(np.sqrt(np.median(pixels) * hw[0] * hw[1] / area))
