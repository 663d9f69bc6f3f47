"""Dataset + recipe + time -> the recipe with as many epochs as fit into it on this machine, lighter if need be."""

import math
import re
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NoReturn

import numpy as np

from segsmith.data.dataset import Dataset
from segsmith.errors import ModelError, RecipeError, SegsmithError
from segsmith.modeling.bundle import Weights
from segsmith.modeling.processes import ALONE
from segsmith.modeling.run import Run
from segsmith.modeling.train import check_recipe
from segsmith.modeling.training import Training
from segsmith.modeling.trouble import memory_told
from segsmith.recipe import Recipe
from segsmith.recipe_files import override
from segsmith.samples.chips import Chips, cut
from segsmith.samples.sampling import EpochPlan
from segsmith.tuning.lighter import Part, lighten
from segsmith.tuning.plan import LEAST_EPOCHS

PLANNED = 0.9
"""Share of the time that is filled; the rest starts workers, and writes."""
VALIDATES = 3.0
"""Images are validated so many times as fast as they are trained on: no gradient, and it costs twice the outputs."""
WARM_UP, STEPS, SECONDS = 2, 3, 8.0
"""Steps of each stage that are not timed; that are, at least; and how long more are timed."""


@dataclass(frozen=True)
class StageTime:
    """What a stage costs on this machine, and what it was given."""

    images_per_second: float
    epoch_seconds: float
    """Of as many images as the recipe says, with its validation."""
    epochs: int
    images_per_epoch: int | None
    """Where not even one epoch fits; None leaves what the recipe says."""


@dataclass(frozen=True)
class Budget:
    recipe: Recipe
    stages: tuple[StageTime, ...]
    seconds: float
    """What the training is expected to take."""
    passes: float
    """How often it goes over its training images, all stages together."""
    wanted: float
    """Below so many they are few: LEAST_EPOCHS, or what the recipe asks for where that is less."""
    changes: tuple[str, ...] = ()
    """What was made lighter, and why."""


def fit_to(dataset: Path, recipe: Recipe, seconds: float, lighter: Collection[Part] = ()) -> Budget:
    """The recipe with its stages as long, in the proportions it gives them, as fits into so many seconds.

    A few steps of each stage are trained on its own batches, timed, and forgotten. Where a stage does not get a whole
    epoch it gets one of fewer images. `validation: all` shares the time out among its folds. Where the passes over the
    training images that fit are few, `lighter` names what may be changed so that more do (see `lighten`); nothing
    else of the recipe ever is. Raises RecipeError where no stage gets two steps, and like `train`, before anything is
    written.
    """
    recipe = recipe.model_copy(update={"search": None})
    check_recipe(recipe)
    opened = Dataset.open(dataset).named(recipe.data.classes)
    measured = _measure(opened, recipe)
    passes, wanted = measured.passes(seconds), measured.wanted
    changes: tuple[str, ...] = ()
    if lighter and passes < wanted:
        found = lighten(opened, recipe, wanted / passes, lighter)
        changes = found.reasons
        if found.recipe != recipe:
            measured = _measure(opened, found.recipe)
    return measured.fitted(seconds, changes)


@dataclass(frozen=True)
class _Measured:
    """A recipe, and for each of its stages how an epoch is drawn, images a second and seconds of an epoch."""

    recipe: Recipe
    plans: list[EpochPlan]
    rates: list[float]
    training: int
    validated: float
    """Images whose training takes as long as a validation."""

    @property
    def costs(self) -> list[float]:
        return [(plan.images + self.validated) / rate for plan, rate in zip(self.plans, self.rates, strict=True)]

    @property
    def asked(self) -> float:
        """Passes over the training images that the recipe asks for."""
        images = (stage.epochs * plan.images for stage, plan in zip(self.recipe.train.stages, self.plans, strict=True))
        return sum(images) / self.training

    @property
    def wanted(self) -> float:
        return min(float(LEAST_EPOCHS), self.asked)

    def _share(self, seconds: float) -> float:
        """Seconds of a fold."""
        return PLANNED * seconds / len(self.recipe.folds.validated)

    def passes(self, seconds: float) -> float:
        """That would fit, if epochs could be cut at any image."""
        stages = zip(self.recipe.train.stages, self.costs, strict=True)
        return self.asked * self._share(seconds) / sum(stage.epochs * cost for stage, cost in stages)

    def fitted(self, seconds: float, changes: tuple[str, ...]) -> Budget:
        stages, costs, validated = self.recipe.train.stages, self.costs, self.validated
        epochs = shared_out([stage.epochs for stage in stages], costs, self._share(seconds))
        times, lengths, seen = [], [], 0
        for plan, rate, cost, count in zip(self.plans, self.rates, costs, epochs, strict=True):
            images = None
            if count < 1:
                images = int(count * cost * rate - validated) // plan.batch_size * plan.batch_size
                if images < 2 * plan.batch_size:
                    raise RecipeError(
                        f"{seconds:g} seconds are too few: at {rate:.3g} images/s a stage gets {max(0, images)} images "
                        f"beside its validation, which takes {validated / rate:.0f} seconds; give it more time, or "
                        "lower data.input_hw"
                    )
            times.append(StageTime(rate, cost, max(1, int(count)), images))
            lengths.append((max(1, int(count)), images))
            seen += max(1, int(count)) * (images or plan.images)
        expected = sum(min(1.0, count) * cost * max(1, int(count)) for count, cost in zip(epochs, costs, strict=True))
        return Budget(
            recipe=_with_lengths(self.recipe, lengths),
            stages=tuple(times),
            seconds=len(self.recipe.folds.validated) * expected,
            passes=seen / self.training,
            wanted=self.wanted,
            changes=changes,
        )


def _measure(dataset: Dataset, recipe: Recipe) -> _Measured:
    timer = _Timer(cut(dataset, recipe.data), override(recipe, [f"folds.validation={recipe.folds.validated[0]}"]))
    with memory_told(recipe, timer.workers):
        rates = [timer.rate(number) for number in range(len(recipe.train.stages))]
    return _Measured(recipe, timer.plans, rates, len(timer.split.training), len(timer.split.validation) / VALIDATES)


def seconds_of(text: str) -> float:
    """Of a time such as '90s', '20m', '1.5h' or '1h30m'. Raises SegsmithError for any other text, and for none."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([hms])", text)
    seconds = sum(float(number) * {"h": 3600, "m": 60, "s": 1}[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or not seconds > 0:
        raise SegsmithError(f"'{text}' is no time to train for; say it like 90s, 20m or 1h30m")
    return seconds


def as_fitted_before(recipe: Recipe, other: Recipe, lighter: Collection[Part] = ()) -> Recipe:
    """The recipe with stages as long as another one's, such as that of the run which is to be continued, and with its
    encoder and its input size where `lighter` names them; itself where its stages are not as many."""
    stages = other.train.stages
    if len(stages) != len(recipe.train.stages):
        return recipe
    fitted = _with_lengths(recipe, [(stage.epochs, stage.images_per_epoch) for stage in stages])
    tree = fitted.model_dump()
    if "encoder" in lighter:
        tree["network"]["encoder"] = other.network.encoder
    if "size" in lighter:
        tree["data"] |= {key: getattr(other.data, key) for key in ("input_hw", "fit", "resize_hw")}
        for own, stage in zip(tree["train"]["stages"], stages, strict=True):
            own["input_hw"] = stage.input_hw
    return Recipe.model_validate(tree)


def shared_out(epochs: Sequence[int], costs: Sequence[float], seconds: float) -> list[float]:
    """How many epochs of each stage's costs fit, in the proportions of `epochs`: whole ones, and shares of one below 1.

    What whole numbers leave over goes to the stages that are owed most, as far as it reaches.
    """
    factor = seconds / sum(count * cost for count, cost in zip(epochs, costs, strict=True))
    fair = [count * factor for count in epochs]
    found = [float(math.floor(count)) if count >= 1 else count for count in fair]
    left = seconds - sum(count * cost for count, cost in zip(found, costs, strict=True))
    for number in sorted(range(len(fair)), key=lambda number: found[number] - fair[number]):
        if found[number] >= 1 and costs[number] <= left:
            found[number], left = found[number] + 1, left - costs[number]
    return found


def _with_lengths(recipe: Recipe, lengths: Sequence[tuple[int, int | None]]) -> Recipe:
    stages = []
    for stage, (epochs, images) in zip(recipe.train.stages, lengths, strict=True):
        update: dict[str, object] = {"epochs": epochs, "last_epochs": min(stage.last_epochs, epochs)}
        if images is not None:
            update["images_per_epoch"] = images
        stages.append(stage.model_copy(update=update))
    train = recipe.train.model_copy(update={"stages": tuple(stages)})
    return Recipe.model_validate(recipe.model_copy(update={"train": train}).model_dump())


class _Timer(Training):
    """A training of a few steps in each stage, which writes nothing."""

    def __init__(self, chips: Chips, recipe: Recipe):
        super().__init__(chips, recipe, Run(Path()), lambda step: None, ALONE)
        self._set_up()

    def rate(self, stage: int) -> float:
        """Images a second of a stage, read and augmented by as many workers as it will have: the median of steps."""
        self.at.stage, self.at.epoch, self.at.step = stage, 0, 0
        self._enter_stage(None)
        batches = self._stage_batches()
        began, taken = time.perf_counter(), []
        before = began
        for number, batch in enumerate(islice(batches.epoch(0), self.plan.batches)):
            self._step(batch)
            now = time.perf_counter()
            if number >= WARM_UP or self.plan.batches <= WARM_UP + STEPS:
                taken.append(now - before)
            if len(taken) >= STEPS and now - began > SECONDS:
                break
            before = now
        return self.plan.batch_size / float(np.mean(taken))

    def _weights_to_start_from(self) -> Weights:
        return self.network.state_dict()  # any cost the same

    def _fail(self, what: str, value: float) -> NoReturn:
        raise ModelError(
            f"the {what} is {value:g} within the first steps of stage {self.at.stage + 1}; lower its optimizer.lr"
        )
