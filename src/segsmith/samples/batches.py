"""Samples -> batches. A batch is a pure function of (seed, stage, epoch, step): workers only make it come sooner."""

import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
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
from segsmith.errors import DataError
from segsmith.samples.chips import Chips
from segsmith.samples.samples import Reader, Sample, read_sample, with_extra
from segsmith.samples.sampling import EpochPlan
from segsmith.samples.stage_samples import Position, StageSamples


@dataclass(frozen=True)
class Batch:
    """Images and truths (0 or 1) of the size the network sees, and the chip numbers they are of."""

    images: UInt8[Tensor, "images bands height width"]
    """As many as there are samples, but of this process alone where several train (modeling/processes.py). They lie in
    memory with their bands last, as networks want them."""
    masks: UInt8[Tensor, "batch planes height width"]
    """Of each class; behind these, where chips have borders, the border in each class."""
    indices: Int64[Tensor, " batch"]
    valid: UInt8[Tensor, "batch height width"] | None
    """1 where a pixel is usable; None where all are."""
    soft: UInt8[Tensor, "batch planes height width"] | None
    """Levels 0..255 to be learnt in place of the masks, those of which stand as 0 and 255 there; None where no sample
    has soft labels."""
    scale: Float[Tensor, " batch"]
    """Log2 of the enlargement each sample is seen at, its chip's and its augmentation's; 0 for an untouched image."""

    def pin_memory(self) -> "Batch":
        """The batch in memory that a GPU reads by itself; DataLoader asks for it."""
        values = {column.name: getattr(self, column.name) for column in fields(self)}
        return replace(self, **{name: value.pin_memory() for name, value in values.items() if value is not None})


class _Samples(TorchDataset[tuple[int, Sample | DataError]]):
    def __init__(self, chips: Chips, read: Callable[[Position], Sample]):
        self.chips, self.read = chips, read

    def __getitem__(self, position: Position) -> tuple[int, Sample | DataError]:
        index = position[2]
        try:
            sample = self.read(position)
        except DataError as error:  # raised by a worker, it would come with the worker's traceback in its message
            return index, error
        extra = self.chips.extra(index)
        return index, with_extra(sample, extra) if len(extra) else sample


class TrainingBatches:
    """The batches of one stage, epoch by epoch, from any step on; worker processes live as long as it does."""

    def __init__(
        self,
        chips: Chips,
        stage: recipe.Stage,
        plan: EpochPlan,
        workers: int,
        share: Callable[[list[Position]], list[Position]] = list,
        read: Reader | None = None,
    ):
        """`share` chooses of each batch what this process takes, everything by default; `read` as in StageSamples."""
        self.plan, self.share = plan, share
        self.samples = StageSamples(chips, stage, plan, read)
        self._order: list[list[Position]] = []
        self._loader = self._load(workers)

    def epoch(
        self, epoch: int, first_step: int = 0, harder: Float[np.ndarray, " samples"] | None = None
    ) -> Iterator[Batch]:
        """The batches of an epoch, from `first_step` on, as an undisturbed epoch would give them; `harder` as in
        EpochPlan.draw."""
        yield from self._loaded(epoch, first_step, harder)

    def _loaded(self, epoch: int, first_step: int, harder: Float[np.ndarray, " samples"] | None) -> Iterator[Any]:
        self._order[:] = [self.share(batch) for batch in self.positions(epoch, harder)[first_step:]]
        return _whole(iter(self._loader))

    def _load(self, workers: int) -> "DataLoader[Any]":
        return loader(_Samples(self.samples.chips, self.samples.sample), self._order, workers, _collated)

    def positions(self, epoch: int, harder: Float[np.ndarray, " samples"] | None = None) -> list[list[Position]]:
        """What `samples` is asked for, batch by batch."""
        size = self.plan.batch_size
        return [
            [(epoch, step * size + place, int(index)) for place, index in enumerate(batch)]
            for step, batch in enumerate(self.plan.draw(epoch, harder))
        ]


def chip_batches(
    chips: Chips, indices: Sequence[int], batch_size: int, workers: int, read: Reader | None = None
) -> Iterator[Batch]:
    """Chips in the order of `indices`, without augmentation; the last batch may be smaller. `read` gives samples; from
    the raw files by default."""
    order = [
        [(0, place, int(index)) for place, index in enumerate(indices[first : first + batch_size], start=first)]
        for first in range(0, len(indices), batch_size)
    ]
    samples = _Samples(chips, partial(_plain, read or partial(read_sample, chips)))
    yield from _whole(loader(samples, order, workers, _collated))


def default_workers(on_cpu: bool) -> int:
    """Worker processes for this machine: where the network shares the processors, half of them at most."""
    processors = cpu_count() or 1
    return min(8, processors // 2 if on_cpu else max(1, processors - 1))


def loader(
    samples: TorchDataset[Any], order: list[list[Position]], workers: int, collate: Callable[[list[Any]], Any]
) -> "DataLoader[Any]":
    """What reads samples in an order of batches, which may be changed between epochs."""
    return DataLoader(
        samples,
        batch_sampler=order,
        num_workers=workers,
        collate_fn=collate,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_one_thread,
    )


def _plain(read: Reader, position: Position) -> Sample:
    return read(position[2])


def _whole(loaded: Iterable[Any]) -> Iterator[Any]:
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
    images = np.stack([sample.image for _, sample in samples])
    masks = np.stack([sample.mask for _, sample in samples]).view(np.uint8)
    valid = None
    if any(sample.valid is not None for _, sample in samples):
        every = [np.ones(masks.shape[2:], bool) if sample.valid is None else sample.valid for _, sample in samples]
        valid = torch.from_numpy(np.stack(every).view(np.uint8))
    soft = None
    if any(sample.soft is not None for _, sample in samples):
        soft = torch.from_numpy(np.stack([sample.levels for _, sample in samples]))
    return Batch(
        images=torch.from_numpy(images).permute(0, 3, 1, 2),
        masks=torch.from_numpy(masks),
        indices=torch.tensor([index for index, _ in samples]),
        valid=valid,
        soft=soft,
        scale=torch.tensor([sample.scale for _, sample in samples], dtype=torch.float32),
    )


def _one_thread(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process, which stops at a whole step
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    cv2.setNumThreads(0)  # each worker is one process of many; threads of its own would only fight
