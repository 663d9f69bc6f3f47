"""Samples -> batches: the same ones for any number of workers, from any step on."""

import pytest
import torch

from segsmith import recipe
from segsmith.data.dataset import Dataset
from segsmith.data.ingest_rle import ingest
from segsmith.errors import DataError
from segsmith.samples.batches import Batch, TrainingBatches, chip_batches, default_workers
from segsmith.samples.chips import cut
from segsmith.samples.samples import read_sample
from segsmith.samples.sampling import plan_epochs

OPTIONS = recipe.Data(fit="pad", input_hw=(32, 32))
AUGMENT = recipe.Augment(affine=1, elastic=1, colour=1, noise=1, cutmix=0.5, paste=0.5)
STAGE = recipe.Stage(augment=AUGMENT, images_per_epoch=12)


@pytest.fixture
def dataset(ships) -> Dataset:
    return ingest(ships)


def training_batches(dataset: Dataset, workers: int = 0, stage_number: int = 0, seed: int = 0) -> TrainingBatches:
    plan = plan_epochs(dataset.labelled, cut(dataset, OPTIONS).strata(), stage_number, STAGE, 3, seed)
    return TrainingBatches(cut(dataset, OPTIONS), STAGE, plan, workers)


def same(left: Batch, right: Batch) -> bool:
    names = ("images", "masks", "indices", "scale")
    return all(torch.equal(getattr(left, name), getattr(right, name)) for name in names)


def all_same(left: list[Batch], right: list[Batch]) -> bool:
    return len(left) == len(right) and all(map(same, left, right))


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(dataset, workers):
    alone, beside = training_batches(dataset), training_batches(dataset, workers)
    for epoch in (0, 1):
        assert all_same(list(beside.epoch(epoch)), list(alone.epoch(epoch)))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_goes_on_from_any_step(dataset, workers):
    whole = list(training_batches(dataset).epoch(3))
    batches = training_batches(dataset, workers)
    assert len(whole) == 4
    for first_step in range(5):
        assert all_same(list(batches.epoch(3, first_step)), whole[first_step:])


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_left_in_the_middle_does_not_show_in_the_next(dataset, workers):
    batches = training_batches(dataset, workers)
    next(iter(batches.epoch(0)))
    assert all_same(list(batches.epoch(1)), list(training_batches(dataset).epoch(1)))


def test_epochs_stages_and_seeds_differ_in_order_and_in_augmentation(dataset):
    first, *others = (
        list(batches.epoch(epoch))
        for batches, epoch in (
            (training_batches(dataset), 0),
            (training_batches(dataset), 1),
            (training_batches(dataset, stage_number=1), 0),
            (training_batches(dataset, seed=1), 0),
        )
    )
    for other in others:
        assert [b.indices.tolist() for b in other] != [b.indices.tolist() for b in first]
        pictures = {tuple(image.ravel().tolist()) for batches in (first, other) for b in batches for image in b.images}
        assert len(pictures) == 24, "an image was augmented alike twice"


def test_an_image_drawn_again_in_an_epoch_is_augmented_anew(dataset):
    plan = plan_epochs([2], cut(dataset, OPTIONS).strata(), 0, STAGE, 1, 0)
    batches = list(TrainingBatches(cut(dataset, OPTIONS), STAGE, plan, 0).epoch(0))
    assert [batch.indices.tolist() for batch in batches] == [[2]] * 12
    assert len({tuple(batch.images.ravel().tolist()) for batch in batches}) == 12


def test_an_epoch_is_what_its_plan_draws(dataset):
    batches = training_batches(dataset)
    assert [batch.indices.tolist() for batch in batches.epoch(2)] == batches.plan.draw(2).tolist()


def test_images_come_in_their_order_without_augmentation(dataset):
    indices = [8, 0, 5, 2, 2]
    batches = list(chip_batches(cut(dataset, OPTIONS), indices, batch_size=2, workers=0))

    assert [batch.indices.tolist() for batch in batches] == [[8, 0], [5, 2], [2]]
    assert batches[2].images.shape == (1, 3, 32, 32)
    for batch in batches:
        assert (batch.images.dtype, batch.masks.dtype, batch.indices.dtype) == (torch.uint8, torch.uint8, torch.int64)
        for image, mask, index in zip(batch.images, batch.masks, batch.indices.tolist(), strict=True):
            sample = read_sample(cut(dataset, OPTIONS), index)
            assert (image.numpy() == sample.image.transpose(2, 0, 1)).all()
            assert (mask.numpy() == sample.mask).all()
    assert batches[1].masks.unique().tolist() == [0, 1]
    assert all_same(list(chip_batches(cut(dataset, OPTIONS), indices, batch_size=2, workers=2)), batches)


def test_no_images_no_batches(dataset):
    assert list(chip_batches(cut(dataset, OPTIONS), [], batch_size=2, workers=0)) == []


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_broke_since_it_was_indexed_is_named(dataset, workers):
    dataset.path(1).write_bytes(b"gone bad")
    with pytest.raises(DataError) as caught:
        list(chip_batches(cut(dataset, OPTIONS), [0, 1, 2], batch_size=2, workers=workers))
    assert f"{dataset.path(1)}: does not decode as an image" in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_default_workers_leave_room():
    assert 0 <= default_workers(on_cpu=True) <= default_workers(on_cpu=False) <= 8
    assert default_workers(on_cpu=False) >= 1


def test_a_stage_may_see_another_size_and_judging_does_not(dataset):
    stage = STAGE.model_copy(update={"input_hw": (48, 40)})
    chips = cut(dataset, OPTIONS)
    plan = plan_epochs(dataset.labelled, chips.strata(), 0, stage, 3, 0)
    batch = next(TrainingBatches(chips, stage, plan, 0).epoch(0))
    assert (batch.images.shape, batch.masks.shape) == ((3, 3, 48, 40), (3, 1, 48, 40))
    assert next(chip_batches(chips, [0, 1], 2, 0)).images.shape == (2, 3, 32, 32)


def test_truth_is_0_or_1_and_scale_is_0_where_nothing_is_done(dataset):
    for batch in training_batches(dataset).epoch(0):
        assert set(batch.masks.unique().tolist()) <= {0, 1}
        assert (batch.scale.shape, batch.scale.dtype) == ((3,), torch.float32)
        assert (batch.scale != 0).all()
    assert next(chip_batches(cut(dataset, OPTIONS), [0, 1, 2], 3, 0)).scale.tolist() == [0, 0, 0]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_partner_that_broke_is_named(dataset, workers):
    stage = recipe.Stage(augment=recipe.Augment(paste=1))
    chips = cut(dataset, OPTIONS)
    plan = plan_epochs([0, 1], chips.strata(), 0, stage, 1, 0)
    dataset.path(1).write_bytes(b"gone bad")
    batches = TrainingBatches(chips, stage, plan, workers)
    with pytest.raises(DataError, match=r"b\.jpg: does not decode"):
        list(batches.epoch(0))
