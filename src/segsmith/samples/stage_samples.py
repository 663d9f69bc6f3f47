"""A stage of a recipe + a position -> what is drawn for a sample, and the sample as the network is trained on it.

All that is drawn is a function of (seed, stage, epoch, position), another image that is mixed in included.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Int

from segsmith import recipe
from segsmith.samples.augment import Change, draw_change, flips_only
from segsmith.samples.chips import Chips
from segsmith.samples.mixing import Cutmix, Paste, draw_cutmix, draw_paste
from segsmith.samples.samples import Reader, Sample, changed, of_size, read_sample
from segsmith.samples.sampling import EpochPlan
from segsmith.samples.split import trust

Position = tuple[int, int, int]
"""Epoch, position within the epoch, chip number: all that a sample depends on, beside the recipe."""


@dataclass(frozen=True)
class Mixed:
    """What comes into a sample from another chip, which is changed by itself first."""

    how: Cutmix | Paste
    chip: int
    change: Change


@dataclass(frozen=True)
class Drawn:
    """What is done to one chip."""

    change: Change
    mixed: tuple[Mixed, ...]


class StageSamples:
    """The training samples of one stage. What is mixed in is of chips that the stage draws, of trusted sources."""

    def __init__(self, chips: Chips, stage: recipe.Stage, plan: EpochPlan, read: Reader | None = None):
        """`read` gives samples at the stage's size; from the raw files by default."""
        self.chips, self.stage = chips, stage
        self.options = of_size(chips.options, stage.input_hw)
        self.read = read or partial(read_sample, chips, options=self.options)
        self.seeds = (plan.seed, plan.stage)
        drawn = np.sort(np.concatenate(plan.groups))
        self.others: Int[np.ndarray, " others"] = drawn[trust(chips)[drawn] >= 1]
        self.filled: Int[np.ndarray, " filled"] = self.others[chips.objects[self.others] > 0]

    def draw(self, position: Position) -> Drawn:
        """What happens to the chip at a position."""
        epoch, place, chip = position
        last = self.stage.augment_last is not None and epoch >= self.stage.epochs - self.stage.last_epochs
        options = self.stage.augment_last if last and self.stage.augment_last else self.stage.augment
        few = self.chips.objects[chip] < options.least_objects
        own = flips_only(options) if few else options
        seeds, hw = (*self.seeds, epoch, place), self.options.input_hw
        change = draw_change(own, hw, np.random.default_rng([*seeds]))
        mixed = []
        if own.cutmix:
            rng = np.random.default_rng([*seeds, 1])
            if rng.random() < own.cutmix and (other := self._other(self.others, chip, rng)) is not None:
                mixed.append(Mixed(draw_cutmix(hw, rng), other, draw_change(options, hw, rng)))
        if own.paste and self.chips.objects[chip] == 0:
            rng = np.random.default_rng([*seeds, 2])
            if rng.random() < own.paste and (other := self._other(self.filled, chip, rng)) is not None:
                mixed.append(Mixed(draw_paste(rng), other, draw_change(options, hw, rng)))
        return Drawn(change, tuple(mixed))

    def sample(self, position: Position) -> Sample:
        """The sample at a position. Raises DataError for a file that broke, an image too large to pad."""
        drawn = self.draw(position)
        sample = self._changed(position[2], drawn.change)
        for mixed in drawn.mixed:
            sample = mixed.how.apply(sample, self._changed(mixed.chip, mixed.change))
        return sample

    def untouched(self, chip: int) -> Sample:
        """A chip as the stage sees it before anything is done to it."""
        return self.read(chip)

    def words(self, drawn: Drawn) -> list[str]:
        """What was drawn, for people."""
        told = {Cutmix: "cutmix with", Paste: "paste from"}
        mixed = [f"{told[type(other.how)]} {self.chips.id(other.chip)}" for other in drawn.mixed]
        return [*drawn.change.words, *mixed]

    def _changed(self, chip: int, change: Change) -> Sample:
        return changed(self.untouched(chip), change, self.options)

    @staticmethod
    def _other(pool: Int[np.ndarray, " pool"], chip: int, rng: np.random.Generator) -> int | None:
        """One of the pool that is not the chip itself, if there is one."""
        place = int(rng.random() * len(pool))
        if len(pool) and pool[place] == chip:
            place = (place + 1) % len(pool)
        return int(pool[place]) if len(pool) and pool[place] != chip else None
