"""Batches made on the device: those of the CPU, whatever is sent, stays there, is mixed in, or taught."""

import multiprocessing

import numpy as np
import pytest
import torch
from torch.utils.data._utils.pin_memory import pin_memory

from segsmith import recipe
from segsmith.data.dataset import Dataset
from segsmith.data.ingest_rle import ingest
from segsmith.errors import DataError
from segsmith.samples.batches import Batch, TrainingBatches
from segsmith.samples.cache import SampleCaches
from segsmith.samples.chips import Chips, cut
from segsmith.samples.device_batches import DeviceBatches
from segsmith.samples.mixing import Paste
from segsmith.samples.resident import MOST_OF_FREE, Resident
from segsmith.samples.rows import form_of
from segsmith.samples.samples import of_size
from segsmith.samples.sampling import EpochPlan, plan_epochs

OPTIONS = recipe.Data(fit="pad", input_hw=(32, 32))
AUGMENT = recipe.Augment(affine=1, elastic=1, colour=1, noise=1, cutmix=0.5, paste=0.5)
EXACT = recipe.Augment(vflip=0.5, transpose=0.5, colour=1, noise=0.5, cutout=0.5, cutmix=0.5, paste=0.5)
CPU = torch.device("cpu")
PLENTY = 10**9


@pytest.fixture
def dataset(ships) -> Dataset:
    return ingest(ships)


def stage_of(augment: recipe.Augment, **options: object) -> recipe.Stage:
    return recipe.Stage(augment=augment, images_per_epoch=12, **options)


def plan_of(chips: Chips, stage: recipe.Stage) -> EpochPlan:
    return plan_epochs(chips.dataset.labelled, chips.strata(), 0, stage, 3, 0)


def on_device(chips: Chips, stage: recipe.Stage, workers: int = 0, free: int = 0, read=None) -> DeviceBatches:
    form = form_of(chips, of_size(chips.options, stage.input_hw))
    resident = Resident(form, len(chips), len(chips), CPU, lambda device: free)
    return DeviceBatches(chips, stage, plan_of(chips, stage), workers, list, read, resident)


def on_cpu(chips: Chips, stage: recipe.Stage) -> TrainingBatches:
    return TrainingBatches(chips, stage, plan_of(chips, stage), 0)


def same(left: Batch, right: Batch) -> bool:
    pairs = [(getattr(left, name), getattr(right, name)) for name in Batch.__dataclass_fields__]
    return all(one is other if one is None or other is None else torch.equal(one, other) for one, other in pairs)


def all_same(left: list[Batch], right: list[Batch]) -> bool:
    return len(left) == len(right) and all(map(same, left, right))


@pytest.mark.parametrize("hw", [None, (48, 48)])
def test_where_nothing_is_blended_batches_are_those_of_the_cpu(dataset, hw):
    chips, stage = cut(dataset, OPTIONS), stage_of(EXACT, input_hw=hw)
    ours, theirs = on_device(chips, stage), on_cpu(chips, stage)
    for epoch in range(3):
        assert all_same(list(ours.epoch(epoch)), list(theirs.epoch(epoch)))


def test_where_samples_move_batches_are_nearly_those_of_the_cpu(dataset):
    chips, stage = cut(dataset, OPTIONS), stage_of(AUGMENT)
    for ours, theirs in zip(on_device(chips, stage).epoch(0), on_cpu(chips, stage).epoch(0), strict=True):
        assert torch.equal(ours.indices, theirs.indices)
        assert torch.equal(ours.scale, theirs.scale)
        assert (ours.images.float() - theirs.images).abs().mean() < 2.5, "of noise"
        assert (ours.masks != theirs.masks).float().mean() < 0.005
        assert ours.images.is_contiguous(memory_format=torch.channels_last)
        assert (ours.valid is None) == (theirs.valid is None)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("free", [0, PLENTY])
def test_workers_and_what_stays_change_nothing(dataset, tmp_path, workers, free):
    chips, stage = cut(dataset, OPTIONS), stage_of(AUGMENT)
    alone = on_device(chips, stage)
    read = SampleCaches(chips, tmp_path / "cache", pytest.fail).reader(chips.options)
    beside = on_device(chips, stage, workers, free, read)
    for epoch in range(3):
        assert all_same(list(beside.epoch(epoch)), list(alone.epoch(epoch)))
    whole = list(alone.epoch(1))
    for first_step in range(5):
        assert all_same(list(beside.epoch(1, first_step)), whole[first_step:])


def test_workers_that_are_no_forks_know_what_stays(dataset, tmp_path):
    chips, stage = cut(dataset, OPTIONS), stage_of(recipe.Augment(affine=1, cutmix=0.5))
    read = SampleCaches(chips, tmp_path / "cache", pytest.fail).reader(chips.options)
    alone, beside = on_device(chips, stage), on_device(chips, stage, 1, PLENTY, read)
    multiprocessing.set_start_method("forkserver", force=True)
    try:
        for epoch in range(2):
            assert all_same(list(beside.epoch(epoch)), list(alone.epoch(epoch)))
        assert all(len(handed.rows) == 0 for handed in beside._loaded(2, 0, None))
    finally:
        multiprocessing.set_start_method(None, force=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_gpu_makes_the_same_batches(dataset, workers):
    chips, stage = cut(dataset, OPTIONS), stage_of(AUGMENT)
    resident = Resident(form_of(chips, OPTIONS), len(chips), len(chips), torch.device("cuda", 0))
    ours = DeviceBatches(chips, stage, plan_of(chips, stage), workers, list, None, resident)
    theirs = on_device(chips, stage)
    for epoch in range(3):
        for one, other in zip(ours.epoch(epoch), theirs.epoch(epoch), strict=True):
            assert one.images.is_cuda
            assert one.images.is_contiguous(memory_format=torch.channels_last)
            assert (one.images.cpu().float() - other.images).abs().max() <= 3, "a level, that a table may stretch"
            assert (one.masks.cpu() != other.masks).float().mean() < 0.002
            assert torch.equal(one.scale, other.scale)
    assert resident.here[dataset.labelled].all()


def test_what_stays_is_never_read_again(dataset):
    chips, stage, read = cut(dataset, OPTIONS), stage_of(EXACT), []
    batches = on_device(chips, stage, free=PLENTY)
    whole, untouched = list(on_cpu(chips, stage).epoch(2)), batches.samples.read
    for epoch in (0, 1):
        list(batches.epoch(epoch))
    assert batches.resident.here[chips.dataset.labelled].all()
    batches.samples.read = lambda chip: read.append(chip) or untouched(chip)
    assert all_same(list(batches.epoch(2)), whole)
    drawn = [batches.samples.draw(position).mixed for batch in batches.positions(2) for position in batch]
    pasted = [mixed for mixed in drawn if any(isinstance(other.how, Paste) for other in mixed)]
    assert len(read) == sum(1 + len(mixed) for mixed in pasted) > 0, "workers look for objects, and for nothing else"


def test_as_many_stay_as_there_is_room_for(dataset):
    chips, stage = cut(dataset, OPTIONS), stage_of(recipe.Augment(hflip=0.5, cutmix=0.5))
    row = form_of(chips, OPTIONS).row_bytes
    batches = on_device(chips, stage, free=int(3.5 * row / MOST_OF_FREE))
    plain = on_cpu(chips, stage)
    for epoch in range(3):
        assert all_same(list(batches.epoch(epoch)), list(plain.epoch(epoch)))
    assert batches.resident.here.sum() == 3


def test_nothing_stays_before_a_network_has_learnt_from_a_batch(dataset):
    chips, stage = cut(dataset, OPTIONS), stage_of(EXACT)
    batches = on_device(chips, stage, free=PLENTY)
    epoch = batches.epoch(0)
    next(epoch)
    next(epoch)
    assert batches.resident.here.sum() <= 3, "the third batch may be made meanwhile, and no other"
    next(epoch)
    assert batches.resident.here.any()


def test_what_workers_hand_over_can_be_pinned(dataset, monkeypatch):
    """DataLoader takes it apart and builds it anew; here its tensors are copied, since only a GPU's driver can pin."""
    chips, stage, pinned = cut(dataset, OPTIONS), stage_of(AUGMENT), []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor.clone())
    plain, batches = list(on_device(chips, stage).epoch(0)), on_device(chips, stage, free=PLENTY)
    for expected, handed in zip(plain, batches._loaded(0, 0, None), strict=True):
        pinned.clear()
        assert same(batches._batch(pin_memory(handed)), expected)
        assert len(pinned) >= 7
        pinned.clear()
        assert same(pin_memory(expected), expected)
        assert len(pinned) == 4
    batch = next(on_cpu(chips, stage).epoch(0)).pin_memory()
    assert batch.images.is_contiguous(memory_format=torch.channels_last)


def test_ignored_pixels_numbers_of_images_come_along(dataset):
    dataset.images["depth"] = np.linspace(0, 9, len(dataset.images))
    chips = cut(dataset, OPTIONS.model_copy(update={"extra": ("depth",)}))
    untouched = on_cpu(chips, stage_of(EXACT)).samples.read

    def some_unusable(chip: int):
        sample = untouched(chip)
        if chip % 2:
            return sample
        valid = np.random.default_rng(chip).random(sample.mask.shape[1:]) < 0.9
        return type(sample)(sample.image, sample.mask, valid, 0.25 * chip)

    for augment in (EXACT, recipe.Augment(hflip=0.5), recipe.Augment(cutmix=1)):
        stage = stage_of(augment)
        theirs = TrainingBatches(chips, stage, plan_of(chips, stage), 0, read=some_unusable)
        ours = on_device(chips, stage, free=PLENTY, read=some_unusable)
        assert {batch.images.shape[1] for batch in theirs.epoch(0)} == {4}
        assert any(batch.valid is not None for batch in theirs.epoch(0))
        for epoch in range(3):
            assert all_same(list(ours.epoch(epoch)), list(theirs.epoch(epoch)))


def test_taught_samples_are_sent_and_mixed_with_their_levels(dataset):
    chips, stage = cut(dataset, OPTIONS), stage_of(EXACT)
    untouched = on_cpu(chips, stage).samples.read

    def some_taught(chip: int):
        sample = untouched(chip)
        if chip % 3:
            return sample
        soft = np.random.default_rng(chip).integers(0, 256, sample.mask.shape, np.uint8)
        return type(sample)(sample.image, sample.mask, sample.valid, 0.0, soft)

    theirs = TrainingBatches(chips, stage, plan_of(chips, stage), 0, read=some_taught)
    ours = on_device(chips, stage, free=PLENTY, read=some_taught)
    assert (
        len({batch.soft is None for batch in theirs.epoch(0)} | {batch.soft is None for batch in theirs.epoch(1)}) > 0
    )
    for epoch in range(3):
        assert all_same(list(ours.epoch(epoch)), list(theirs.epoch(epoch)))
    assert not ours.resident.here[::3].any(), "a row has no room for soft labels"


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_broke_since_it_was_indexed_is_named(dataset, workers):
    dataset.path(1).write_bytes(b"gone bad")
    with pytest.raises(DataError) as caught:
        list(on_device(cut(dataset, OPTIONS), stage_of(EXACT), workers).epoch(0))
    assert f"{dataset.path(1)}: does not decode as an image" in str(caught.value)
    assert "Traceback" not in str(caught.value)
