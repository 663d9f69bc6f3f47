"""Untouched samples + what was drawn for them -> batches, changed on the device.

Workers hand over what a sample is kept as (rows.py), unless it lies on the device already (resident.py), and what is
drawn for it. A sample that an object is pasted into is made by its worker, since OpenCV finds the object; all else is
done here (batch_changes.py). The next batch is made while a network learns from the one before, on a stream of its own.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from segsmith import recipe
from segsmith.ahead import ahead
from segsmith.errors import DataError
from segsmith.samples.augment import Change
from segsmith.samples.batch_changes import BatchChanges, Pixels
from segsmith.samples.batches import Batch, TrainingBatches, loader
from segsmith.samples.cache import SampleCache
from segsmith.samples.chips import Chips
from segsmith.samples.mixing import Cutmix, Paste
from segsmith.samples.resident import Resident, Rows, numbers_on
from segsmith.samples.rows import FACTS, Facts, Form
from segsmith.samples.samples import Reader
from segsmith.samples.sampling import EpochPlan
from segsmith.samples.stage_samples import Position, StageSamples
from segsmith.types import InputProbabilities


class Handed(NamedTuple):
    """One sample as a worker hands it over."""

    chip: int
    change: Change
    row: UInt8[np.ndarray, " bytes"] | None
    """None where it lies on the device."""
    soft: InputProbabilities | None
    stays: bool
    """Whether the row may be kept: it is the untouched chip's, and all of it."""
    box: Cutmix | None = None
    partner: "Handed | None" = None
    """What the box is taken from."""


class HandedBatch(NamedTuple):
    """A batch as a worker hands it over: samples, and behind them the partners that boxes are taken from."""

    chips: list[int]
    samples: int
    changes: BatchChanges
    zooms: list[float]
    boxes: list[tuple[int, int, Cutmix]]
    """Place of a sample, of its partner, and what is taken."""
    sent: list[int]
    """Places of those that do not lie on the device."""
    rows: Rows
    facts: list[Facts]
    stays: list[bool]
    taught: list[int]
    """Places of those with soft labels."""
    soft: UInt8[Tensor, "taught planes height width"] | None


class DeviceBatches(TrainingBatches):
    """The batches of one stage as TrainingBatches gives them, made and changed on the device of `resident`."""

    def __init__(
        self,
        chips: Chips,
        stage: recipe.Stage,
        plan: EpochPlan,
        workers: int,
        share: Callable[[list[Position]], list[Position]],
        read: Reader | None,
        resident: Resident,
    ):
        self.resident = resident
        super().__init__(chips, stage, plan, workers, share, read)

    def epoch(
        self, epoch: int, first_step: int = 0, harder: Float[np.ndarray, " samples"] | None = None
    ) -> Iterator[Batch]:
        """The batches of an epoch, as TrainingBatches gives them; each is made while the one before is used."""
        for batch, done in ahead(self._made(self._loaded(epoch, first_step, harder)), depth=1):
            if done is not None:
                now = torch.cuda.current_stream(self.resident.device)
                now.wait_event(done)
                for column in fields(batch):
                    value = getattr(batch, column.name)
                    if value is not None and value.is_cuda:
                        value.record_stream(now)  # or its memory might be taken while it is still read
            yield batch

    def _load(self, workers: int) -> "DataLoader[Any]":
        collate = partial(_handed_over, form=self.resident.form)
        return loader(_Handing(self.samples, self.resident), self._order, workers, collate)

    def _made(self, loaded: Iterator[HandedBatch]) -> Iterator[tuple[Batch, torch.cuda.Event | None]]:
        """In a thread of its own; on a GPU with what is recorded there when a batch is done."""
        device = self.resident.device
        if device.type != "cuda":
            for handed in loaded:
                yield self._batch(handed), None
            return
        torch.cuda.set_device(device)  # which each thread says for itself
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.default_stream(device))  # which waited for what was made before
        for handed in loaded:
            with torch.cuda.stream(stream):
                made = self._batch(handed), stream.record_event()
            yield made

    def _batch(self, handed: HandedBatch) -> Batch:
        rows, facts = self._rows(handed)
        pixels = _unpacked(rows, facts, self.resident.form)
        changes, soft = on_device((handed.changes, handed.soft), rows.device)
        taught = numbers_on(rows.device, handed.taught)
        if soft is not None:
            every = torch.zeros_like(pixels.masks)
            every[taught] = soft
            pixels = pixels._replace(soft=every)
        pixels = changes.apply(pixels, self.samples.options.padding)
        if pixels.soft is not None:
            of_masks = 255 * pixels.masks
            of_masks[taught] = pixels.soft[taught]
            pixels = pixels._replace(soft=of_masks)
        for box in handed.boxes:
            _take(pixels, *box)
        count = handed.samples
        images = self._with_extra(pixels.images[:count], handed.chips)
        scales = [of.scale + math.log2(zoom) for of, zoom in zip(facts, handed.zooms, strict=True)]
        return Batch(
            images=images.contiguous(memory_format=torch.channels_last),
            masks=pixels.masks[:count],
            indices=torch.tensor(handed.chips[:count]),
            valid=None if pixels.valid is None else pixels.valid[:count],
            soft=None if pixels.soft is None else pixels.soft[:count],
            scale=torch.tensor(scales[:count], dtype=torch.float32),
        )

    def _rows(self, handed: HandedBatch) -> tuple[Rows, list[Facts]]:
        """On the device, in their order."""
        resident = self.resident
        resident.next_batch()
        facts: dict[int, Facts] = dict(zip(handed.sent, handed.facts, strict=True))
        here = [place for place in range(len(handed.chips)) if place not in facts]
        rows = torch.empty(len(handed.chips), resident.form.row_bytes, dtype=torch.uint8, device=resident.device)
        if here:
            there, known = resident.rows([handed.chips[place] for place in here])
            rows[numbers_on(rows.device, here)] = there
            facts |= dict(zip(here, known, strict=True))
        if handed.sent:
            sent = handed.rows.to(resident.device, non_blocking=True)
            rows[numbers_on(rows.device, handed.sent)] = sent
            for_good = {handed.chips[handed.sent[number]]: number for number, stays in enumerate(handed.stays) if stays}
            resident.keep(for_good, sent, handed.facts)
        return rows, [facts[place] for place in range(len(handed.chips))]

    def _with_extra(self, images: UInt8[Tensor, "images bands height width"], chips: list[int]) -> Tensor:
        levels = torch.from_numpy(np.stack([self.samples.chips.extra(chip) for chip in chips[: len(images)]]))
        if not levels.shape[1]:
            return images
        planes = levels.to(images.device)[:, :, None, None].expand(-1, -1, *images.shape[2:])
        return torch.cat([images, planes], dim=1)


class _Handing(TorchDataset[Handed | DataError]):
    def __init__(self, samples: StageSamples, resident: Resident):
        self.samples, self.form, self.here = samples, resident.form, resident.here

    def __getitem__(self, position: Position) -> Handed | DataError:
        try:
            drawn = self.samples.draw(position)
            if any(isinstance(mixed.how, Paste) for mixed in drawn.mixed):
                sample = self.samples.sample(position)
                return Handed(position[2], Change(), self.form.row(sample), sample.soft, stays=False)
            handed = self._untouched(position[2], drawn.change)
            for mixed in drawn.mixed:
                assert isinstance(mixed.how, Cutmix)
                handed = handed._replace(box=mixed.how, partner=self._untouched(mixed.chip, mixed.change))
            return handed
        except DataError as error:  # raised by a worker, it would come with the worker's traceback in its message
            return error

    def _untouched(self, chip: int, change: Change) -> Handed:
        if self.here[chip]:
            return Handed(chip, change, None, None, stays=True)
        read = self.samples.read
        row = read.content(chip) if isinstance(read, SampleCache) else None
        if row is not None:
            return Handed(chip, change, row, None, stays=True)
        sample = read(chip)
        return Handed(chip, change, self.form.row(sample), sample.soft, stays=sample.soft is None)


def _handed_over(found: list[Handed | DataError], form: Form) -> HandedBatch | DataError:
    own: list[Handed] = []
    for each in found:
        if isinstance(each, DataError):
            return each
        own.append(each)
    every, boxes = list(own), []
    for place, each in enumerate(own):
        if each.box is not None and each.partner is not None:
            boxes.append((place, len(every), each.box))
            every.append(each.partner)
    rows = {place: each.row for place, each in enumerate(every) if each.row is not None}
    soft = {place: each.soft for place, each in enumerate(every) if each.soft is not None}
    return HandedBatch(
        chips=[each.chip for each in every],
        samples=len(own),
        changes=BatchChanges.of([each.change for each in every], form.hw),
        zooms=[each.change.zoom for each in every],
        boxes=boxes,
        sent=list(rows),
        rows=torch.from_numpy(np.stack([*rows.values()]) if rows else np.empty((0, form.row_bytes), np.uint8)),
        facts=[form.facts(row) for row in rows.values()],
        stays=[every[place].stays for place in rows],
        taught=list(soft),
        soft=torch.from_numpy(np.stack([*soft.values()])) if soft else None,
    )


def _unpacked(rows: Rows, facts: list[Facts], form: Form) -> Pixels:
    """The samples of rows."""
    (height, width), (image, mask, usable) = form.hw, form.ends
    images = rows[:, FACTS.size : image].reshape(-1, height, width, form.bands).permute(0, 3, 1, 2)
    masks = _bits(rows[:, image:mask], form.planes * height * width).view(-1, form.planes, height, width)
    if all(each.all_usable for each in facts):
        return Pixels(images, masks, None, None)
    valid = _bits(rows[:, mask:usable], height * width).view(-1, height, width)
    whole = numbers_on(rows.device, [each.all_usable for each in facts])
    return Pixels(images, masks, valid | whole[:, None, None].to(torch.uint8), None)


def _bits(packed: UInt8[Tensor, "samples bytes"], count: int) -> UInt8[Tensor, "samples bits"]:
    shifts = torch.arange(7, -1, -1, dtype=torch.uint8, device=packed.device)
    return ((packed[:, :, None] >> shifts) & 1).flatten(1)[:, :count]


def _take(pixels: Pixels, own: int, other: int, box: Cutmix) -> None:
    """What a box holds, of another sample."""
    rows, columns = slice(box.top, box.top + box.height), slice(box.left, box.left + box.width)
    for planes in pixels:
        if planes is not None:
            planes[own, ..., rows, columns] = planes[other, ..., rows, columns]


def on_device(value: Any, device: torch.device) -> Any:
    """Tensors, and tuples and lists of them, on the device."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, tuple | list):
        parts = [on_device(each, device) for each in value]
        return type(value)(*parts) if hasattr(value, "_fields") else parts
    return value
