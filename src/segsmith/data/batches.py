"""Samples -> batches. A batch is a pure function of (seed, stage, epoch, step): workers only make it come sooner."""

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import cpu_count
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from segsmith import recipe
from segsmith.data.chips import Chips
from segsmith.data.samples import Sample, augmented, read_sample, with_extra
from segsmith.data.sampling import EpochPlan
from segsmith.errors import DataError

Position = tuple[int, int, int]
"""Epoch, position within the epoch, chip number: all that a sample depends on, beside the recipe."""


@dataclass(frozen=True)
class Batch:
    """Images and truths (0 or 1) of `input_hw` pixels, and the chip numbers they are of."""

    images: UInt8[Tensor, "batch bands height width"]
    masks: UInt8[Tensor, "batch classes height width"]
    indices: Int64[Tensor, " batch"]
    valid: UInt8[Tensor, "batch height width"] | None
    """1 where a pixel is usable; None where all are."""


class _Samples(TorchDataset[tuple[int, Sample | DataError]]):
    def __init__(self, chips: Chips, augment: recipe.Augment | None, seeds: tuple[int, ...]):
        self.chips, self.augment, self.seeds = chips, augment, seeds

    def __getitem__(self, position: Position) -> tuple[int, Sample | DataError]:
        epoch, place, index = position
        try:
            sample = read_sample(self.chips, index)
        except DataError as error:  # raised by a worker, it would come with the worker's traceback in its message
            return index, error
        if self.augment is not None:
            rng = np.random.default_rng([*self.seeds, epoch, place])
            sample = augmented(sample, self.augment, self.chips.options, rng)
        extra = self.chips.extra(index)
        return index, with_extra(sample, extra) if len(extra) else sample


class TrainingBatches:
    """The batches of one stage, epoch by epoch, from any step on; worker processes live as long as it does."""

    def __init__(self, chips: Chips, stage: recipe.Stage, plan: EpochPlan, workers: int):
        self.plan = plan
        self._order: list[list[Position]] = []
        samples = _Samples(chips, stage.augment, (plan.seed, plan.stage))
        self._loader = _loader(samples, self._order, workers)

    def epoch(
        self, epoch: int, first_step: int = 0, harder: Float[np.ndarray, " samples"] | None = None
    ) -> Iterator[Batch]:
        """The batches of an epoch, from `first_step` on, as an undisturbed epoch would give them; `harder` as in
        EpochPlan.draw."""
        size = self.plan.batch_size
        self._order[:] = [
            [(epoch, step * size + place, int(index)) for place, index in enumerate(batch)]
            for step, batch in enumerate(self.plan.draw(epoch, harder))
        ][first_step:]
        yield from _whole(self._loader)


def chip_batches(chips: Chips, indices: Sequence[int], batch_size: int, workers: int) -> Iterator[Batch]:
    """Chips in the order of `indices`, without augmentation; the last batch may be smaller."""
    order = [
        [(0, place, int(index)) for place, index in enumerate(indices[first : first + batch_size], start=first)]
        for first in range(0, len(indices), batch_size)
    ]
    yield from _whole(_loader(_Samples(chips, None, ()), order, workers))


def default_workers(on_cpu: bool) -> int:
    """Worker processes for this machine: where the network shares the processors, half of them at most."""
    processors = cpu_count() or 1
    return min(8, processors // 2 if on_cpu else max(1, processors - 1))


def _loader(samples: _Samples, order: list[list[Position]], workers: int) -> "DataLoader[Any]":
    return DataLoader(
        samples,
        batch_sampler=order,
        num_workers=workers,
        collate_fn=_collated,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_one_thread,
    )


def _whole(loaded: "DataLoader[Any]") -> Iterator[Batch]:
    for batch in loaded:
        if isinstance(batch, DataError):
            raise batch
        yield batch


def _collated(found: list[tuple[int, Sample | DataError]]) -> Batch | DataError:
    samples: list[tuple[int, Sample]] = []
    for index, sample in found:
        if isinstance(sample, DataError):
            return sample
        samples.append((index, sample))
    images = np.stack([sample.image for _, sample in samples]).transpose(0, 3, 1, 2)
    masks = np.stack([sample.mask for _, sample in samples]).view(np.uint8)
    valid = None
    if any(sample.valid is not None for _, sample in samples):
        every = [np.ones(masks.shape[2:], bool) if sample.valid is None else sample.valid for _, sample in samples]
        valid = torch.from_numpy(np.stack(every).view(np.uint8))
    return Batch(
        images=torch.from_numpy(np.ascontiguousarray(images)),
        masks=torch.from_numpy(masks),
        indices=torch.tensor([index for index, _ in samples]),
        valid=valid,
    )


def _one_thread(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process, which stops at a whole step
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    cv2.setNumThreads(0)  # each worker is one process of many; threads of its own would only fight
