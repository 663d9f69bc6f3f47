"""One bundle by several backends, on the same images in turn -> how far they differ, and how long they take."""

import time
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from segsmith.decision.evaluate import image_rows, judge, score_of
from segsmith.decision.masks import decided_by
from segsmith.modeling.bundle import Bundle
from segsmith.prediction.backends import BackendName, Figures
from segsmith.prediction.probabilities import Predicted, Predictor
from segsmith.progress import track
from segsmith.samples.chips import Chips
from segsmith.types import Mask


def compared(
    bundle: Bundle, chips: Chips, indices: list[int], predictors: dict[BackendName, Predictor]
) -> tuple[Figures, ...]:
    """The figures of each backend beside those of 'torch', of the chips `indices`, in batches of the recipe's size.

    Of a batch each backend is timed right after the other, another one first each time, so that a busy moment of the
    machine does not fall on one alone; each sees the first batch once before, to make itself ready.
    """
    names, size = list(predictors), bundle.recipe.predict.batch_size
    batches = [indices[start : start + size] for start in range(0, len(indices), size)]
    tallies = {name: _Tally() for name in names}
    for turn, batch in enumerate(track(batches, "batches to check by", len(batches))):
        images = [chips.read(index).image for index in batch]
        extra = [chips.extra(index) for index in batch]
        found: dict[BackendName, list[Predicted]] = {}
        for name in (*names[turn % len(names) :], *names[: turn % len(names)]):
            if turn == 0:
                predictors[name].predict(images, extra)
            began = time.perf_counter()
            found[name] = predictors[name].predict(images, extra)
            tallies[name].seconds.append((time.perf_counter() - began) / len(batch))
        for place, index in enumerate(batch):
            for name in names:
                tallies[name].add(bundle, chips, index, found[name][place], found["torch"][place])
    score = score_of(tallies["torch"].rows, bundle.decision.metric or bundle.recipe.decide.metric)
    return tuple(tally.figures(name, bundle, score) for name, tally in tallies.items())


@dataclass
class _Tally:
    """What one backend did so far."""

    seconds: list[float] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    largest: int = 0
    changed: int = 0
    pixels: int = 0

    def add(self, bundle: Bundle, chips: Chips, index: int, found: Predicted, by_torch: Predicted) -> None:
        _, valid = chips.labels(index)
        masks = [_mask(bundle, one.levels * valid, one) for one in (found, by_torch)]
        self.rows += image_rows(judge(chips, index, found.levels * valid, found.presence, bundle.decision))
        self.largest = max(self.largest, int(np.abs(found.levels.astype(int) - by_torch.levels).max()))
        self.changed += int((masks[0] != masks[1]).sum())
        self.pixels += masks[0].size

    def figures(self, name: BackendName, bundle: Bundle, by_torch: float) -> Figures:
        score = score_of(self.rows, bundle.decision.metric or bundle.recipe.decide.metric)
        return Figures(
            backend=name,
            largest_difference=self.largest,
            changed_pixels=self.changed / self.pixels,
            score=score,
            score_change=score - by_torch,
            seconds_per_image=median(self.seconds),
        )


def _mask(bundle: Bundle, planes: np.ndarray, predicted: Predicted) -> Mask:
    of_classes = planes[: len(bundle.classes)]
    return decided_by(bundle.decision, of_classes, exclusive=bundle.recipe.data.exclusive, presence=predicted.presence)
