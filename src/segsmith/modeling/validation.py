"""A network + the validation fold -> its loss, and its scores at the best threshold: an epoch's row of metrics.csv."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import nn

from segsmith.losses.objective import class_probabilities, most_probable, quantised
from segsmith.losses.targets import Scalar
from segsmith.modeling.hardware import Hardware
from segsmith.modeling.logbook import Row
from segsmith.modeling.metrics import Counts, Figure, LevelScores, level_counts
from segsmith.modeling.processes import Processes
from segsmith.networks.networks import Outputs
from segsmith.recipe import Metric, Recipe
from segsmith.samples.batches import Batch, chip_batches
from segsmith.samples.cache import SampleCaches
from segsmith.samples.chips import Chips
from segsmith.samples.samples import unfit_probabilities
from segsmith.types import ClassMask, Mask

Judge = Callable[[Batch, Outputs], Scalar]
"""The loss of a batch, by what a network made of it."""
OVER_PIXELS: dict[str, Figure] = {
    "accuracy": "global_accuracy",
    "precision": "global_precision",
    "recall": "global_recall",
    "f1": "global_f1",
    "iou": "global_iou",
}
"""Columns of metrics.csv that tell of an epoch at its threshold, whatever it is selected by."""


@dataclass(frozen=True)
class Validation:
    """The chips of a fold, and how networks are scored on them."""

    chips: Chips
    fold: Int[np.ndarray, " validation"]
    recipe: Recipe
    other_metrics: Sequence[Metric]
    """Told beside the one that epochs are selected by, each at its own best threshold."""
    hardware: Hardware
    workers: int
    processes: Processes
    caches: SampleCaches

    @torch.inference_mode()
    def __call__(self, network: nn.Module, judge: Judge) -> Row:
        """Mean loss of the validation fold, and its scores at the images' own size and the best threshold."""
        network.eval()
        scores, loss = LevelScores(len(self.chips.dataset.classes)), 0.0
        size, processes = self.recipe.predict.batch_size, self.processes
        validation = self.fold.tolist()
        batches = [validation[first : first + size] for first in range(0, len(validation), size)]
        # As many for each process, since a network in shares answers to all of them at once: the last batch is gone
        # through again by those that are left without one.
        left_out = -len(batches) % processes.count
        mine = [
            chip for batch in (batches + batches[-1:] * left_out)[processes.rank :: processes.count] for chip in batch
        ]
        done = self._batches(network, judge, mine)
        for first in range(0, len(batches), processes.count):  # in their order, whoever did them: sums round alike
            for of_batch, counts in processes.each(next(done))[: len(batches) - first]:
                loss += of_batch
                for number, counted in counts:
                    scores.add(counted, of_class=number)
        loss /= len(self.fold)
        by_level = scores.scores(self.recipe.selected_by)[1:]
        level = 1 + int(np.argmax(by_level))
        return {
            "validation_loss": loss,
            self.recipe.selected_by: float(by_level[level - 1]),
            "threshold": level / 255,
            "dice_foreground": float(scores.dice(foreground=True)[level]),
            "dice_empty": float(scores.dice(foreground=False)[level]),
            **{name: float(scores.scores(figure)[level]) for name, figure in OVER_PIXELS.items()},
            **(self._of_classes(scores, level) if len(self.chips.dataset.classes) > 1 else {}),
            **{name: float(scores.scores(name)[1:].max()) for name in self.other_metrics},
        }

    def _batches(
        self, network: nn.Module, judge: Judge, chips: list[int]
    ) -> Iterator[tuple[float, list[tuple[int, Counts]]]]:
        """Of each batch of chips: the sum of their losses, and the counts of each class of each of them."""
        read = self.caches.reader(self.chips.options)
        for batch in chip_batches(self.chips, chips, self.recipe.predict.batch_size, self.workers, read):
            with self.hardware.autocast():
                outputs = network(batch.images.to(self.hardware.device))
            loss, counts = len(batch.indices) * float(judge(batch, outputs)), []
            probabilities = class_probabilities(self.recipe, outputs).cpu().numpy()
            for place, (index, of_chip) in enumerate(zip(batch.indices.tolist(), probabilities, strict=True)):
                truth, valid = self._labels(batch, place)
                fitted = quantised(unfit_probabilities(of_chip, self.chips.hw(index), self.recipe.data))
                if self.recipe.data.exclusive:
                    fitted = most_probable(fitted)
                for number, (of_class, true_of_class) in enumerate(zip(fitted, truth, strict=True)):
                    counts.append((number, level_counts(of_class, true_of_class, valid)))
            yield loss, counts

    def _labels(self, batch: Batch, place: int) -> tuple[Mask, ClassMask]:
        """Truth and usable pixels of a chip of a batch, at the size that it has in its image."""
        if self.chips.whole:
            return self.chips.labels(int(batch.indices[place]))
        truth = batch.masks[place, : len(self.chips.dataset.classes)].numpy().view(bool)
        every = np.ones(truth.shape[1:], bool)
        return truth, every if batch.valid is None else batch.valid[place].numpy().view(bool)

    def _of_classes(self, scores: LevelScores, level: int) -> Row:
        """Mean Dice of each class at a level: over all images, over those with it, over those without."""
        groups = {"dice": None, "dice_foreground": True, "dice_empty": False}
        return {
            f"{name}:{of_class}": float(scores.dice(foreground=foreground, of_class=number)[level])
            for number, of_class in enumerate(self.chips.dataset.classes)
            for name, foreground in groups.items()
        }
