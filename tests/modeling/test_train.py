"""Recipe + dataset -> run: the same bits again, after whatever stopped it; what is logged; what is refused, and how."""

import json
import multiprocessing
import os
import random
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM
from typing import Any

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from processes import Command
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from segsmith.data.dataset import Dataset
from segsmith.errors import DataError, ModelError, RecipeError, RunError
from segsmith.losses.objective import objective, quantised
from segsmith.modeling.bundle import Bundle, Cell, Decision
from segsmith.modeling.normalisation import normalisation
from segsmith.modeling.run import Run, load_state
from segsmith.modeling.train import train
from segsmith.modeling.training import Step, TrainingStopped
from segsmith.networks.networks import IMAGENET_MEAN
from segsmith.prediction.probabilities import Predictor, ProbabilityFiles, predict_chips
from segsmith.recipe import Recipe, Stage
from segsmith.recipe_files import override, to_yaml
from segsmith.samples import resident
from segsmith.samples.cache import SampleCache, kept_samples, remove_samples
from segsmith.samples.chips import cut
from segsmith.samples.split import split

TIMING = ["seconds", "images_per_second"]
ONE_EPOCH = ("train.stages=[{epochs: 1, images_per_epoch: 12, optimizer: {lr: 0.01}}]", "train.ema_decay=null")


def same_weights(left: Run, right: Run) -> bool:
    one, other = Bundle.read(left.bundle).members, Bundle.read(right.bundle).members
    return [safetensors.torch.save(weights) for weights in one] == [
        safetensors.torch.save(weights) for weights in other
    ]


def metrics(run: Run) -> pd.DataFrame:
    """metrics.csv as text, without what depends on the clock."""
    return pd.read_csv(run.folder / "metrics.csv", dtype=str).drop(columns=TIMING)


def kept(run: Run) -> dict[str, dict[str, torch.Tensor]]:
    """Weights of the best epochs, snapshots and means, by file."""
    folder = run.last.parent
    return {str(file.relative_to(folder)): load_state(file) for file in sorted(folder.glob("*/*.pt"))}


def same_kept(left: Run, right: Run) -> bool:
    one, other = kept(left), kept(right)
    assert one.keys() == other.keys()
    return all(torch.equal(one[file][name], other[file][name]) for file in one for name in one[file])


def same(left: Run, right: Run) -> bool:
    """In the bundle, in every file of weights, in every step's loss, and in what epochs and the mean of weights
    scored."""
    for file in ("averaged.csv", "losses.csv"):
        if (left.folder / file).read_text() != (right.folder / file).read_text():
            return False
    return same_weights(left, right) and same_kept(left, right) and metrics(left).equals(metrics(right))


# the same bits again


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_the_same_recipe_gives_the_same_bits_whatever_the_number_of_workers(
    squares, tiny, undisturbed, tmp_path, workers
):
    assert same(train(squares, override(tiny, [f"train.workers={workers}"]), tmp_path / "run"), undisturbed[0])


def test_workers_need_not_be_forks(squares, tiny, undisturbed, tmp_path):
    """Python 3.14 forks no more unless told to, other systems never did."""
    multiprocessing.set_start_method("forkserver", force=True)
    try:
        assert same(train(squares, override(tiny, ["train.workers=2"]), tmp_path / "run"), undisturbed[0])
    finally:
        multiprocessing.set_start_method(None, force=True)


@pytest.mark.parametrize("workers", [0, 2])
def test_weights_are_the_same_with_and_without_decoded_samples(squares, tiny, undisturbed, tmp_path, workers):
    """Never kept, kept while it trains, and all of them there already; sizes differ from stage to stage."""
    recipe = override(tiny, [f"train.workers={workers}", "train.stages.1.input_hw=[48,40]"])
    runs = []
    for name, kept in (("never", "false"), ("first", str(tmp_path / "cache")), ("again", str(tmp_path / "cache"))):
        runs.append(train(squares, override(recipe, [f"train.cache={kept}"]), tmp_path / name))
        assert same(runs[-1], runs[0])
    assert sorted(kept.hw for kept in kept_samples(tmp_path / "cache")) == [(32, 32), (48, 40)]
    assert kept_samples(squares / "cache"), "beside the dataset, by default"
    assert not list((tmp_path / "first").rglob("*.samples"))


def test_a_training_sees_what_is_kept(squares, tiny, tmp_path):
    """The test above would pass if nothing were read from the cache: one altered level must change the weights."""
    small = override(tiny, [*ONE_EPOCH, f"train.cache={tmp_path / 'cache'}", "train.workers=1"])
    expected = train(squares, small, tmp_path / "expected")
    chips = expected.chips()
    cache = SampleCache.open(chips, chips.options, tmp_path / "cache", pytest.fail)
    for chip in range(len(chips)):
        sample = cache(chip)
        cache._keep(chip, replace(sample, image=sample.image ^ 1))
    altered = train(squares, small, tmp_path / "altered")
    assert not same_weights(altered, expected)
    remove_samples(tmp_path / "cache")
    assert same_weights(train(squares, small, tmp_path / "again"), expected)


def test_augmented_on_the_device_weights_are_the_same_whatever_workers_stops_and_room(
    squares, tiny, undisturbed, tmp_path, monkeypatch
):
    """Sizes differ from stage to stage; samples are sent, or stay on the device; it stops in the midst of epochs."""
    more = ["train.augment_on=device", "train.stages.0.augment.cutmix=0.3", "train.stages.0.augment.paste=0.3"]
    recipe = override(tiny, [*more, "train.stages.1.input_hw=[48,40]"])
    sent = train(squares, recipe, tmp_path / "sent")
    monkeypatch.setattr(resident, "_free_bytes", lambda device: 10**8)
    kept = train(squares, override(recipe, ["train.workers=2", "train.cache=false"]), tmp_path / "kept")
    assert same(kept, sent)
    numbers, stops = count(1), 0
    while True:
        try:
            stop = lambda step: next(numbers) % 4 or signal.raise_signal(SIGINT)  # noqa: E731
            stopped = train(squares, recipe, tmp_path / "stopped", watch=stop)
            break
        except TrainingStopped:
            stops += 1
    assert stops > 2
    assert same(stopped, sent)
    assert not same_weights(sent, undisturbed[0])


@pytest.mark.parametrize(("affine", "off"), [(0, 0.0), (1, 0.02)])
def test_augmented_on_the_device_losses_are_those_of_the_cpu(squares, tiny, tmp_path, affine, off):
    """To the last bit where images are flipped alone, else as near as interpolation is."""
    small = override(tiny, [*ONE_EPOCH, f"train.stages.0.augment.affine={affine}"])
    losses = []
    for place in ("cpu", "device"):
        run = train(squares, override(small, [f"train.augment_on={place}"]), tmp_path / place)
        losses.append(pd.read_csv(run.folder / "losses.csv")["loss"].to_numpy())
    assert losses[1] == pytest.approx(losses[0], rel=0, abs=off)
    assert (losses[1] != losses[0]).any() == bool(affine)


def test_two_trainings_that_begin_together_share_what_they_decode(tiny, undisturbed, start, tmp_path):
    kept = f"train.cache={tmp_path / 'cache'}"
    runs = [Run(tmp_path / name) for name in "ab"]
    commands = [start(tiny, run.folder, kept, "train.workers=1") for run in runs]
    assert [command.ended() for command in commands] == [0, 0]
    assert all(same(run, undisturbed[0]) for run in runs)
    assert len(kept_samples(tmp_path / "cache")) == 1


def test_another_seed_gives_other_weights(squares, tiny, tmp_path):
    runs = [train(squares, override(tiny, [*ONE_EPOCH, f"seed={seed}"]), tmp_path / str(seed)) for seed in (0, 1)]
    assert not same_weights(*runs)


def test_a_run_goes_on_after_any_step(squares, tiny, undisturbed, tmp_path):
    """Stopped after each of its steps: the first, the last of an epoch, of a stage, of all."""
    run, stops = tmp_path / "run", []
    while True:
        try:
            train(squares, tiny, run, watch=lambda step: step.epoch_is_over or signal.raise_signal(SIGINT))
            break
        except TrainingStopped as stopped:
            stops.append(str(stopped))
    epochs = [(stage, epoch, steps) for stage, steps in ((1, 3), (2, 4)) for epoch in (1, 2)]
    assert stops == [
        f"stopped in stage {stage}, epoch {epoch}, step {step} of {steps}; the same command continues from there"
        for stage, epoch, steps in epochs
        for step in range(1, steps + 1)
    ]
    assert same(Run(run), undisturbed[0])
    check_tensorboard(Run(run))


def test_a_finished_run_is_returned_as_it_is(squares, tiny, undisturbed, tmp_path):
    """With the decision that was stored in its bundle since."""
    small = override(tiny, ONE_EPOCH)
    run = train(squares, small, tmp_path / "run")
    replace(Bundle.read(run.bundle), decision=Decision((Cell(77),))).write(run.bundle)
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    train(squares, small, run.folder, watch=lambda step: pytest.fail("it was trained again"))
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before


def test_another_recipe_does_not_touch_the_run(squares, tiny, tmp_path):
    run = train(squares, override(tiny, ONE_EPOCH), tmp_path / "run")
    bundle = run.bundle.read_bytes()
    with pytest.raises(RunError, match=r"train\.gradient_clip: None there, 1\.0 now"):
        train(squares, override(tiny, [*ONE_EPOCH, "train.gradient_clip=1"]), run.folder)
    assert run.bundle.read_bytes() == bundle


# processes that are killed

Start = Callable[..., Command]


@pytest.fixture
def start(squares: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts `segsmith train` in a process of its own."""
    started: list[Command] = []

    def starting(recipe: Recipe, run: Path, *overrides: str, dataset: Path = squares, **trouble: int) -> Command:
        (tmp_path / "recipe.yaml").write_text(to_yaml(recipe))
        arguments = ["train", str(dataset), str(run), "--recipe", str(tmp_path / "recipe.yaml"), *overrides]
        started.append(Command(arguments, **trouble))
        return started[-1]

    yield starting
    for command in started:
        command.end()


OFTEN = "train.checkpoint_minutes=0.0001"  # after nearly every step


def test_killed_at_three_random_moments(tiny, undisturbed, start, tmp_path):
    """Some of them lie within an epoch, and within a write."""
    run, moments = Run(tmp_path / "run"), random.Random(0)
    for _ in range(3):
        command = start(tiny, run.folder, OFTEN, "train.workers=1")
        command.wait_for_checkpoint(run)
        time.sleep(moments.uniform(0, 0.1))
        command.process.kill()
        assert command.ended() == -SIGKILL
    assert start(tiny, run.folder, OFTEN, "train.workers=1").ended() == 0
    assert same(run, undisturbed[0])
    check_tensorboard(run)


SHORT = (  # every kind of write, and a stage that starts from the best and is better at once
    "train.stages.0.epochs=1",
    "train.stages.0.images_per_epoch=4",
    "train.stages.0.optimizer.lr=1e-6",
    "train.stages.1.epochs=1",
    "train.keep_every=1",
    "train.select_by=global_dice",
)


def test_killed_at_each_of_its_writes(squares, tiny, start, tmp_path):
    """While each file is written in turn: weights, states, metrics, the bundle; not its beginning, see test_run."""
    short = override(tiny, SHORT)
    expected = train(squares, short, tmp_path / "expected")
    scores = metrics(expected)["global_dice"].astype(float)
    assert scores[1] > scores[0], "the second stage must be better than what it started from"

    for write in count(4):
        run = Run(tmp_path / f"killed-{write}")
        code = start(short, run.folder, kill_at_write=write).ended()
        if code == 0:
            break
        assert code == -SIGKILL
        assert not run.bundle.exists()
        assert start(short, run.folder).ended() == 0
        assert same(run, expected), f"killed at write {write}"
    assert write > 12, "of two epochs and the bundle"


IN_TURN = (*ONE_EPOCH, "train.stages.0.epochs=2", "folds.held_out=1")


def test_folds_in_turn_are_killed_and_go_on(squares, tiny, start, tmp_path):
    """Each fold is a run as it would be alone; the bundle has the same bits, whatever happened on the way."""
    recipe = override(tiny, [*IN_TURN, "folds.validation=all", OFTEN])
    folds: list[str] = []
    expected = train(squares, recipe, tmp_path / "expected", watch=lambda step: folds.append(step.fold))
    assert sorted(set(folds)) == ["fold 0, 1 of 2", "fold 2, 2 of 2"]
    chips = expected.chips()
    for fold, members in ((0, slice(0, 1)), (2, slice(1, 2))):
        run = expected.of_fold(fold)
        alone = train(squares, override(recipe, [f"folds.validation={fold}"]), tmp_path / f"alone-{fold}")
        assert same_weights(run, alone)
        assert metrics(run).equals(metrics(alone))
        assert run.recipe() == alone.recipe()
        weights = safetensors.torch.save(Bundle.read(expected.bundle).members[members][0])
        assert weights == safetensors.torch.save(Bundle.read(alone.bundle).members[0])
    validated = [set(expected.of_fold(fold).part(chips, "validation")) for fold in (0, 2)]
    held_out = set(expected.part(chips, "held_out"))
    assert set(expected.part(chips, "validation")) == validated[0] | validated[1]
    assert not validated[0] & validated[1]
    assert held_out == set(expected.of_fold(0).part(chips, "held_out"))
    assert not held_out & (validated[0] | validated[1])

    killed = Run(tmp_path / "killed")
    command = start(recipe, killed.folder)
    command.wait_for_checkpoint(killed.of_fold(2))
    command.process.kill()
    assert command.ended() == -SIGKILL
    assert not killed.bundle.exists()
    assert start(recipe, killed.folder).ended() == 0
    assert same_weights(killed, expected)
    assert replace(Bundle.read(killed.bundle), members=()) == replace(Bundle.read(expected.bundle), members=())
    with pytest.raises(RunError, match=r"folds\.validation: all there, 0 now"):
        train(squares, override(recipe, ["folds.validation=0"]), killed.folder)


def test_interrupted_on_the_command_line(tiny, undisturbed, start, tmp_path):
    run = Run(tmp_path / "run")
    command = start(tiny, run.folder, OFTEN)
    command.wait_for_checkpoint(run)
    os.kill(command.process.pid, SIGINT)
    assert command.ended() == 130
    *_, last_line = command.printed().splitlines()
    assert last_line.startswith("segsmith: stopped in stage ")
    assert last_line.endswith("the same command continues from there")
    assert not run.bundle.exists()

    assert start(tiny, run.folder).ended() == 0
    assert same(run, undisturbed[0])


def test_two_processes_do_not_train_the_same_run(tiny, start, tmp_path):
    run = Run(tmp_path / "run")
    with run.locked():
        command = start(tiny, run.folder)
        assert command.ended() == 2
    assert f"segsmith: {run.folder}: another process is at work here" in command.printed()
    assert not (run.folder / "recipe.yaml").exists()


def check_full_disk(command: Command) -> None:
    assert command.ended() == 2
    printed = command.printed()
    assert "Traceback" not in printed
    *_, last_line = printed.splitlines()
    assert last_line.startswith("segsmith: ")
    assert "cannot be written: " in last_line


@pytest.mark.parametrize("room", [100, 20_000, 500_000])
def test_a_full_disk(tiny, undisturbed, start, tmp_path, room):
    """Room for less than the run's beginning, for less than a network, for less than a checkpoint; in bytes."""
    run = Run(tmp_path / "run")
    check_full_disk(start(tiny, run.folder, largest_file=room))
    assert not list(run.folder.rglob("*.partial"))
    assert start(tiny, run.folder).ended() == 0
    assert same(run, undisturbed[0])


def test_a_disk_that_filled_up_since(tiny, undisturbed, start, tmp_path):
    """There is room for nothing when the run goes on; not for what TensorBoard writes in its own thread either."""
    run = Run(tmp_path / "run")
    command = start(tiny, run.folder)
    command.wait_for_checkpoint(run)
    command.process.kill()
    command.ended()
    check_full_disk(start(tiny, run.folder, largest_file=10))
    assert start(tiny, run.folder).ended() == 0
    assert same(run, undisturbed[0])


@pytest.mark.parametrize("number", [SIGINT, SIGTERM])
def test_a_second_signal_stops_at_once(squares, tiny, tmp_path, number):
    handlers = [signal.getsignal(SIGINT), signal.getsignal(SIGTERM)]
    told = []

    def twice(step: Step) -> None:
        told.append(step)
        signal.raise_signal(number)
        signal.raise_signal(number)

    with pytest.raises(KeyboardInterrupt):
        train(squares, tiny, tmp_path / "run", watch=twice)
    assert len(told) == 1
    assert [signal.getsignal(SIGINT), signal.getsignal(SIGTERM)] == handlers


# what is kept and logged


def check_tensorboard(run: Run) -> None:
    """TensorBoard shows what stands in metrics.csv and losses.csv: each epoch and each step once, whatever happened in
    between."""
    table = pd.read_csv(run.folder / "metrics.csv")
    columns = {name: table[name] for name in table.columns if name not in ("stage", "epoch")}
    columns["step_loss"] = pd.read_csv(run.folder / "losses.csv")["loss"]
    events = EventAccumulator(str(run.folder / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == set(columns)
    for name, column in columns.items():
        shown = events.Scalars(name)
        assert [event.step for event in shown] == list(range(1, len(column) + 1)), name
        assert np.allclose([event.value for event in shown], column, rtol=1e-6, equal_nan=True), name


def test_metrics_have_a_row_per_epoch_and_tensorboard_the_same(undisturbed):
    run, _ = undisturbed
    table = pd.read_csv(run.folder / "metrics.csv")
    assert list(zip(table["stage"], table["epoch"], table["images"], strict=True)) == [
        (1, 1, 12),
        (1, 2, 12),
        (2, 1, 16),
        (2, 2, 16),
    ]
    assert list(table.columns) == [
        "stage", "epoch", "images", "lr", "loss", "validation_loss", "mean_dice", "threshold", "dice_foreground",
        "dice_empty", "accuracy", "precision", "recall", "f1", "iou", *TIMING, "averaged", "global_iou",
    ]  # fmt: skip
    scores = table[["mean_dice", "threshold", "dice_foreground", "dice_empty"]]
    assert ((scores >= 0) & (scores <= 1)).all(axis=None)
    assert np.allclose(table["mean_dice"], (table["dice_foreground"] + table["dice_empty"]) / 2), "4 of 8 are empty"
    assert (table[TIMING] > 0).all(axis=None)
    assert list(table["averaged"]) == [0, 0, 0, 2], "after steps 5 and 8 of the second stage, where its cycles end"
    check_tensorboard(run)


def test_every_step_leaves_its_loss(undisturbed):
    run, told = undisturbed
    table = pd.read_csv(run.folder / "losses.csv")
    steps = [step for step in told if not step.epoch_is_over]
    expected = [(step.stage + 1, step.epoch + 1, step.step, step.loss) for step in steps]
    assert list(table.itertuples(index=False, name=None)) == expected
    means = table.groupby(["stage", "epoch"])["loss"].mean()
    assert np.allclose(means, pd.read_csv(run.folder / "metrics.csv")["loss"])


def test_epochs_are_told_over_all_pixels_at_their_threshold(squares, tiny, tmp_path):
    """What evaluate would find with the same weights, at the threshold of the epoch."""
    run = train(squares, override(tiny, [*ONE_EPOCH, "train.select_by=global_f1"]), tmp_path / "run")
    row = pd.read_csv(run.folder / "metrics.csv").iloc[0]
    assert row["f1"] == row["global_f1"]
    assert row["f1"] == pytest.approx(2 * row["precision"] * row["recall"] / (row["precision"] + row["recall"]))
    assert row["iou"] == pytest.approx(row["f1"] / (2 - row["f1"]))
    dataset = Dataset.open(squares)
    chips = cut(dataset, tiny.data)
    validation = run.part(chips, "validation")
    truths = np.stack([chips.read(chip).mask[0] for chip in validation])
    files = ProbabilityFiles(run.probabilities, dataset.classes)
    bundle = Bundle.read(run.bundle)
    plain = replace(bundle, recipe=override(bundle.recipe, ["predict.flips=none"]))
    predict_chips(Predictor(plain), chips, validation, files, "validation images")
    levels = np.stack([files.read(chips.id(chip))[0] for chip in validation])
    predicted = levels >= round(row["threshold"] * 255)
    assert row["accuracy"] == pytest.approx((predicted == truths).mean())
    assert row["precision"] == pytest.approx((predicted & truths).sum() / predicted.sum())
    assert row["recall"] == pytest.approx((predicted & truths).sum() / truths.sum())


def test_borders_are_learnt_beside_the_mask_and_kept_beside_its_probabilities(squares, tiny, tmp_path):
    """With a head whose loss weighs nothing the same is learnt of the mask, so truth and border are not mixed up."""
    losses = {}
    for weight in (0, 1):
        options = [*ONE_EPOCH, f"network.heads={{edge: {{kind: border, width_px: 6, weight: {weight}}}}}"]
        run = train(squares, override(tiny, options), tmp_path / str(weight))
        losses[weight] = pd.read_csv(run.folder / "losses.csv")["loss"]
    assert (losses[1] > losses[0] + 0.1).all()
    bundle = Bundle.read(run.bundle)
    (name,) = bundle.classes
    assert bundle.planes == (name, f"border of {name}")
    chips = cut(Dataset.open(squares), tiny.data)
    validation = run.part(chips, "validation")[:2]
    files = ProbabilityFiles(run.probabilities, bundle.planes)
    predict_chips(Predictor(bundle), chips, validation, files, "validation images")
    mask, border = files.read(chips.id(validation[0]))
    assert mask.shape == border.shape == (32, 32)
    assert (mask != border).any()
    classes = ProbabilityFiles(run.probabilities, bundle.classes)
    assert (classes.read(chips.id(validation[0])) == mask).all(), "who asks for classes alone is given these"


def test_the_metric_that_selects_has_its_column(squares, tiny, tmp_path):
    run = train(squares, override(tiny, [*ONE_EPOCH, "train.select_by=global_iou"]), tmp_path / "run")
    assert "global_iou" in metrics(run)
    assert "mean_dice" not in metrics(run)


def test_the_watcher_is_told_after_every_step_and_every_epoch(undisturbed):
    _, told = undisturbed
    within, over = ([step for step in told if step.epoch_is_over == ended] for ended in (False, True))
    assert [(s.stage, s.epoch, s.step) for s in within] == [
        (stage, epoch, step) for stage, steps in ((0, 3), (1, 4)) for epoch in (0, 1) for step in range(1, steps + 1)
    ]
    assert [s.images_seen for s in within] == list(range(4, 57, 4))
    assert {s.images_in_all for s in told} == {56}
    assert all(s.images_per_second > 0 for s in told)
    assert within[0].last_epoch is None
    assert [s.last_epoch["epoch"] for s in over] == [1, 2, 1, 2]
    for epoch in over:
        losses = [s.loss for s in within if (s.stage, s.epoch) == (epoch.stage, epoch.epoch - 1)]
        assert epoch.loss == pytest.approx(np.mean(losses))
        assert epoch.loss == epoch.last_epoch["loss"]


def test_the_watcher_is_told_what_the_validation_fold_cannot_judge(make_squares, tiny, tmp_path):
    dataset = make_squares(tmp_path / "data", (0,) * 8 + (1,))
    one = override(tiny, ["train.stages.0.mix=null", "train.stages.0.epochs=1", "train.stages.0.images_per_epoch=4"])
    one = one.model_copy(update={"train": one.train.model_copy(update={"stages": one.train.stages[:1]})})
    chips = cut(Dataset.open(dataset), one.data)
    holding = int(split(chips, one.folds, one.seed).fold[chips.present[:, 0]].item())
    steps: list[Step] = []
    train(dataset, override(one, [f"folds.validation={(holding + 1) % 3}"]), tmp_path / "run", watch=steps.append)
    (warning,) = steps[0].warnings
    assert "the validation fold holds nothing of class " in warning


def test_a_run_folder_holds_what_made_it(undisturbed, squares, tiny):
    run, _ = undisturbed
    assert run.recipe() == tiny
    assert run.facts().keys() == {"dataset", "fingerprint", "hardware", "precision", "versions"}
    assert run.facts()["versions"]["torch"] == torch.__version__.split("+")[0]
    bundle = Bundle.read(run.bundle)
    assert (bundle.recipe, bundle.decision) == (tiny, Decision())
    assert (bundle.fingerprint, bundle.layout) == (Dataset.open(squares).fingerprint, Dataset.open(squares).layout)
    assert (bundle.mean, bundle.std) == normalisation(Dataset.open(squares), tiny)


def test_checkpoints_are_kept_for_good_every_so_many_epochs(squares, tiny, undisturbed, tmp_path):
    changes = ["train.stages.0.epochs=3", "train.stages.1.epochs=1", "train.keep_every=2", "train.keep=last"]
    run = train(squares, override(tiny, changes), tmp_path / "run")
    assert {path.name for path in run.last.parent.iterdir()} == {
        "last.pt", "best", "averaged", "snapshots", "stage-1-epoch-2.pt",
    }  # fmt: skip
    averaged = load_state(undisturbed[0].last)["ema"]
    assert load_state(run.last.with_name("stage-1-epoch-2.pt")).keys() == {
        name.removeprefix("module.") for name in averaged if name != "n_averaged"
    }


LEARNS_NOTHING_AT_FIRST = (  # all scores are the same, so that the first epoch stays the best
    "train.stages.0.epochs=3",
    "train.stages.0.optimizer={name: sgd, lr: 1e-5}",
    "train.stages.0.mix=null",
    "train.stages.1.epochs=1",
    "train.stages.1.optimizer={name: sgd, lr: 1e-30, weight_decay: 0}",
    "train.ema_decay=null",
    "train.keep_every=1",
)


@pytest.mark.parametrize(("start_from", "epoch"), [("best", 1), ("last", 3)])
def test_a_stage_starts_from_the_best_or_the_last_weights(squares, tiny, tmp_path, start_from, epoch):
    changes = [*LEARNS_NOTHING_AT_FIRST, f"train.stages.1.start_from={start_from}", "train.keep=last"]
    run = train(squares, override(tiny, changes), tmp_path / "run")
    assert metrics(run)["mean_dice"][:3].nunique() == 1
    kept = {n: load_state(run.last.with_name(f"stage-1-epoch-{n}.pt")) for n in (1, 3)}
    found = Bundle.read(run.bundle).members[0]
    learned = [name for name in found if name.endswith(("weight", "bias"))]
    assert all(torch.equal(found[name], kept[epoch][name]) for name in learned)
    assert not all(torch.equal(found[name], kept[4 - epoch][name]) for name in learned)


@pytest.mark.parametrize(("keep", "file"), [("best", "stage-1-epoch-1.pt"), ("last", "stage-2-epoch-1.pt")])
def test_the_bundle_holds_the_best_or_the_last_weights(squares, tiny, tmp_path, keep, file):
    run = train(squares, override(tiny, [*LEARNS_NOTHING_AT_FIRST, f"train.keep={keep}"]), tmp_path / "run")
    kept, bundled = load_state(run.last.with_name(file)), Bundle.read(run.bundle).members[0]
    assert all(torch.equal(bundled[name], kept[name]) for name in bundled)


def test_averaged_weights_are_the_average(squares, tiny, tmp_path):
    """A decay of 0.9 once ten steps have passed, less before; one step an epoch, so that every step leaves a state."""
    seen: list[dict[str, torch.Tensor]] = []
    changes = ["train.stages=[{epochs: 4, images_per_epoch: 4, optimizer: {lr: 0.05}}]", "train.keep=last"]
    run = tmp_path / "run"

    def note(step: Step) -> None:
        if step.epoch_is_over:
            seen.append(load_state(Run(run).last)["network"])

    train(squares, override(tiny, changes), run, watch=note)
    average = dict(seen[0])
    for updates, weights in enumerate(seen[1:], start=1):
        decay = min(0.9, (1 + updates) / (10 + updates))
        for name in (name for name in weights if weights[name].is_floating_point()):
            average[name] = decay * average[name] + (1 - decay) * weights[name]
    bundled = Bundle.read(Run(run).bundle).members[0]
    for name in (name for name in average if average[name].is_floating_point()):
        assert torch.allclose(bundled[name], average[name], atol=1e-6), name
    head = "body.segmentation_head.0.weight"
    assert not torch.allclose(bundled[head], seen[-1][head])


def test_the_gradient_is_clipped(squares, tiny, tmp_path):
    changes = ["train.stages=[{epochs: 2, optimizer: {name: sgd, lr: 0.1, weight_decay: 0}}]", "train.ema_decay=null"]
    moved = []
    for clip in ("null", "1e-12"):
        clipped = override(tiny, [*changes, "train.keep_every=1", f"train.gradient_clip={clip}"])
        run = train(squares, clipped, tmp_path / clip)
        one, two = (load_state(run.last.with_name(f"stage-1-epoch-{epoch}.pt")) for epoch in (1, 2))
        learned = [name for name in one if name.endswith(("weight", "bias"))]
        moved.append(max(float((one[name] - two[name]).abs().max()) for name in learned))
    assert moved[0] > 1e-3
    assert moved[1] < 1e-9


def test_bf16_trains_and_weights_stay_float32(squares, tiny, tmp_path):
    runs = [
        train(squares, override(tiny, [*ONE_EPOCH, f"train.precision={p}"]), tmp_path / p) for p in ("bf16", "fp32")
    ]
    assert [run.facts()["precision"] for run in runs] == ["bf16", "fp32"]
    assert not same_weights(*runs)
    weights = Bundle.read(runs[0].bundle).members[0].values()
    assert {tensor.dtype for tensor in weights if tensor.is_floating_point()} == {torch.float32}
    assert all(tensor.isfinite().all() for tensor in weights)


def test_learning_happens(squares, tiny, tmp_path):
    """Bright squares are learned in seconds: the loss falls, and the score leaves all empty behind."""
    learning = ["train.stages=[{epochs: 8, optimizer: {lr: 0.02}, loss: {bce: 1, dice: 1}}]", "train.ema_decay=null"]
    table = pd.read_csv(train(squares, override(tiny, learning), tmp_path / "run").folder / "metrics.csv")
    all_empty = 0.5
    assert table["loss"].iloc[-1] < 0.5 * table["loss"].iloc[0]
    assert table["validation_loss"].iloc[-1] < 0.5 * table["validation_loss"].iloc[0]
    assert table["mean_dice"].max() > all_empty + 0.3
    assert table["dice_foreground"].iloc[-1] > 0.7


# stages


def weights_of(run: Run, file: str) -> dict[str, torch.Tensor]:
    return load_state(run.last.parent / file)


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], *, part: str = "") -> bool:
    """Whether two sets of weights are the same, in the modules whose names hold `part`."""
    names = [name for name in one if part in name]
    assert names
    return all(torch.equal(one[name], other[name]) for name in names)


def test_steps_in_several_passes_are_steps_of_the_whole_batch(squares, tiny, tmp_path, monkeypatch):
    """But for batch norms, which see a pass alone; here they are as when predicting."""
    monkeypatch.setattr(torch.nn.BatchNorm2d, "train", lambda self, mode=True: torch.nn.Module.train(self, False))
    same_steps = [
        "train.stages=[{epochs: 1, optimizer: {name: sgd, lr: 0.1}}]",
        "train.ema_decay=null",
        "train.gradient_clip=0.5",
        "network.dropout=0",
    ]
    runs = [
        train(squares, override(tiny, [*same_steps, f"train.accumulate={passes}"]), tmp_path / str(passes))
        for passes in (1, 2, 4)
    ]
    one, two, four = (Bundle.read(run.bundle).members[0] for run in runs)
    for name, tensor in one.items():
        assert torch.allclose(tensor.float(), two[name].float(), atol=1e-6), name
        assert torch.allclose(tensor.float(), four[name].float(), atol=1e-6), name
    assert metrics(runs[0])["loss"].astype(float)[0] == pytest.approx(metrics(runs[2])["loss"].astype(float)[0])


def test_a_frozen_encoder_stays_as_it_was_and_learns_again(squares, tiny, tmp_path):
    """Its weights and what its norms know, while the decoder learns; in the second stage both learn."""
    stages = "[{epochs: 2, images_per_epoch: 4, optimizer: {encoder_lr: 0}}, {epochs: 1, start_from: last}]"
    changes = [f"train.stages={stages}", "train.ema_decay=null", "train.keep_every=1"]
    run = train(squares, override(tiny, changes), tmp_path / "run")
    first, second, third = (weights_of(run, f"stage-{s}-epoch-{e}.pt") for s, e in ((1, 1), (1, 2), (2, 1)))
    encoder = "body.encoder."
    assert equal(first, second, part=encoder)
    assert not equal(first, second, part="body.decoder.")
    learned = [n for n in first if encoder in n and n.endswith("weight")]
    assert not any(torch.equal(second[name], third[name]) for name in learned)


def test_a_stage_ends_when_it_gets_no_better(squares, tiny, tmp_path):
    """Scores that never change: the first epoch is the best, and two more are waited for; whatever stopped it."""
    changes = [
        "train.stages.0={epochs: 9, images_per_epoch: 4, stop_after: 2, optimizer: {name: sgd, lr: 1e-9}}",
        "train.stages.1.epochs=1",
    ]
    run = train(squares, override(tiny, changes), tmp_path / "run")
    assert list(zip(metrics(run)["stage"], metrics(run)["epoch"], strict=True)) == [
        ("1", "1"), ("1", "2"), ("1", "3"), ("2", "1"),
    ]  # fmt: skip

    again, stopped = tmp_path / "again", 0
    while not Run(again).bundle.exists():
        try:
            train(
                squares,
                override(tiny, changes),
                again,
                watch=lambda step: step.epoch_is_over or signal.raise_signal(SIGINT),
            )
        except TrainingStopped:
            stopped += 1
    assert stopped == 3 + 4
    assert same(Run(again), run)


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ("{stop_after: 1, swa: 0.5}", "stop_after=1 may end the stage before the epochs or cycles that swa averages"),
        ("{stop_after: 1, snapshots: true, schedule: {name: cosine}}", "that snapshots are of"),
    ],
)
def test_an_end_that_is_counted_to_is_not_moved(tiny, stage, said):
    with pytest.raises(RecipeError, match=said):
        override(tiny, [f"train.stages.1={stage}"])


def test_the_mean_of_weights(squares, tiny, undisturbed, tmp_path):
    """Of parameters, the mean over the ends of the cycles; what norms know is measured, not averaged."""
    changes = [
        "train.stages=[{epochs: 3, images_per_epoch: 8, swa: 0.5, schedule: {name: constant}}]",
        "train.keep=averaged",
        "train.ema_decay=null",
        "train.keep_every=1",
        "network.dropout=0",
    ]
    run = train(squares, override(tiny, changes), tmp_path / "run")
    mean, two, three = (weights_of(run, f) for f in ("averaged/stage-1.pt", "stage-1-epoch-2.pt", "stage-1-epoch-3.pt"))
    for name in (name for name in mean if name.endswith(("weight", "bias"))):
        assert torch.allclose(mean[name], (two[name] + three[name]) / 2, atol=1e-6), name
    statistics = [name for name in mean if name.endswith("running_mean")]
    assert not any(torch.allclose(mean[name], three[name], atol=1e-6) for name in statistics)
    tracked = {int(mean[name]) for name in mean if name.endswith("num_batches_tracked")}
    assert tracked == {4}, "two batches, in two passes each"
    (member,) = Bundle.read(run.bundle).members
    assert equal(member, mean)
    scored = pd.read_csv(run.folder / "averaged.csv")
    assert list(zip(scored["stage"], scored["averaged"], strict=True)) == [(1, 2)]
    assert scored[["mean_dice", "threshold", "validation_loss"]].notna().all(axis=None)


def test_a_stage_starts_from_the_mean_of_the_one_before(squares, tiny, tmp_path):
    learns_nothing = "{epochs: 1, images_per_epoch: 4, start_from: averaged, optimizer: {name: sgd, lr: 1e-30}}"
    stages = f"[{{epochs: 2, images_per_epoch: 4, swa: 1, optimizer: {{lr: 0.05}}}}, {learns_nothing}]"
    run = train(squares, override(tiny, [f"train.stages={stages}", "train.keep_every=1"]), tmp_path / "run")
    started, mean = (weights_of(run, file) for file in ("stage-2-epoch-1.pt", "averaged/stage-1.pt"))
    assert equal(started, mean, part=".weight")
    assert not equal(started, weights_of(run, "stage-1-epoch-2.pt"), part=".weight")


def test_snapshots_become_an_ensemble(squares, tiny, undisturbed, tmp_path):
    """The weights at the end of each cycle, all in one bundle; nothing else of the training changes."""
    run = train(squares, override(tiny, ["train.keep=snapshots"]), tmp_path / "run")
    assert same_kept(run, undisturbed[0])
    first, second = Bundle.read(run.bundle).members
    assert equal(first, weights_of(run, "snapshots/stage-2-cycle-1.pt"))
    assert equal(second, weights_of(run, "snapshots/stage-2-cycle-2.pt"))
    assert not equal(first, second, part="segmentation_head")


def test_more_cycles_than_steps_are_refused(squares, tiny, tmp_path):
    with pytest.raises(RecipeError, match=r"stages\.1\.schedule: 9 cycles do not fit into the 8 steps of 2 epochs"):
        train(squares, override(tiny, ["train.stages.1.schedule.cycles=9"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_best_epochs_are_kept_and_no_others(undisturbed):
    run, _ = undisturbed
    table = pd.read_csv(run.folder / "metrics.csv")
    ranked = table.sort_values("mean_dice", ascending=False, kind="stable").head(2)
    other = table.sort_values("global_iou", ascending=False, kind="stable").head(1)
    expected = {f"stage-{row.stage}-epoch-{row.epoch}.pt" for row in pd.concat([ranked, other]).itertuples()}
    assert {file.name for file in (run.last.parent / "best").iterdir()} == expected
    assert len(expected) in (2, 3)


def test_plateau_may_watch_the_loss(squares, tiny, tmp_path):
    """A loss that falls a little each epoch, and a score that stays: the score's plateau cuts, the loss's does not."""
    rates = {}
    for watch in ("score", "loss"):
        schedule = f"{{name: plateau, patience: 0, watch: {watch}}}"
        stage = f"{{epochs: 3, images_per_epoch: 4, optimizer: {{name: sgd, lr: 1e-3}}, schedule: {schedule}}}"
        run = train(squares, override(tiny, [f"train.stages=[{stage}]", "train.ema_decay=null"]), tmp_path / watch)
        table = pd.read_csv(run.folder / "metrics.csv")
        falls = {"score": -table["mean_dice"], "loss": table["validation_loss"]}[watch].diff()[1:] < 0
        expected = 1e-3 * 0.1 ** np.cumsum([0, 0, *~falls])[:3]
        assert table["lr"].to_numpy() == pytest.approx(expected)
        rates[watch] = expected[-1]


# what is refused, and what goes wrong


def test_what_the_recipe_alone_says_is_refused_before_any_data_is_read(tiny, tmp_path):
    """There is no dataset at all."""
    for change, said in (
        ("network.encoder=resnet19", "no encoder 'resnet19'; did you mean .*resnet18"),
        ("data.input_hw=[36, 32]", r"data\.input_hw: \[36, 32\] is not a multiple of 8"),
        ("train.stages.1.input_hw=[36, 32]", r"train\.stages\.1\.input_hw: \[36, 32\] is not a multiple of 8"),
        ("network.encoder_weights=gone.pth", r"gone\.pth: no such file"),
    ):
        with pytest.raises(ModelError, match=said):
            train(tmp_path / "none", override(tiny, [change]), tmp_path / "run")
    mean_image = override(tiny, ["data.normalise=mean_image", "train.stages.1.input_hw=[40, 40]"])
    with pytest.raises(ModelError, match=r"mean_image is an image of data\.input_hw, and goes with no other size"):
        train(tmp_path / "none", mean_image, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_memory_that_runs_out_within_a_step_is_told(squares, tiny, tmp_path, monkeypatch):
    """The allocator's own error, as a network too large would bring it about."""
    monkeypatch.setattr("segsmith.modeling.training.objective", lambda *_: torch.empty(2**60).sum())
    with pytest.raises(ModelError, match=r"out of memory: train\.batch_size=4 with train\.accumulate=2 is passes of 2"):
        train(squares, tiny, tmp_path / "run")
    assert Run(tmp_path / "run").recipe() == tiny


def test_a_loss_that_explodes_within_a_run_keeps_the_last_good_checkpoint(squares, tiny, tmp_path, monkeypatch):
    """From the second epoch on, losses are a million times larger, for so many steps that it is no accident."""
    long = override(tiny, ["train.stages=[{epochs: 9, images_per_epoch: 16}]", "train.accumulate=1"])
    told: list[Step] = []

    def exploding(recipe: Recipe, stage: Stage, *rest: Any) -> torch.Tensor:
        return objective(recipe, stage, *rest) * (1e6 if torch.is_grad_enabled() and len(told) > 5 else 1)

    monkeypatch.setattr("segsmith.modeling.training.objective", exploding)
    with pytest.raises(ModelError, match=r"the loss became .* in stage 1, epoch 4, step 3"):
        train(squares, long, tmp_path / "run", watch=told.append)
    run = Run(tmp_path / "run")
    failed = json.loads((run.folder / "failed-batch.json").read_text())
    assert (failed["epoch"], failed["step"], failed["what"]) == (4, 3, "loss")
    known = set(pd.read_csv(run.folder / "folds.csv", dtype=str)["chip"])
    assert set(failed["images"]) <= known
    assert len(failed["images"]) == 4
    assert load_state(run.last)["position"]["epoch"] == 3


@pytest.mark.parametrize(
    ("objects", "said"),
    [
        ((0,) * 12, "all 12 labelled images are empty: there is nothing to learn; check the labels"),
        ((1,), "1 labelled image cannot be split into 3 folds; add images or set folds.count lower"),
        ((1, 0), "2 labelled images cannot be split into 3 folds"),
        (
            (0, 1) * 6,
            r"train.stages.0.mix.multi is 1, but no training image is of that stratum alone or first",
        ),
    ],
)
def test_data_that_cannot_be_trained_on_leaves_no_run(make_squares, tiny, tmp_path, objects, said):
    dataset = make_squares(tmp_path / "data", objects)
    with pytest.raises(DataError, match=said):
        train(dataset, tiny, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("network.encoder=resnet19", "no encoder 'resnet19'; did you mean .*resnet18"),
        ("data.input_hw=[36, 32]", r"\[36, 32\] is not a multiple of 8"),
        ("network.encoder_weights=gone.pth", r"gone\.pth: no such file"),
    ],
)
def test_a_network_that_cannot_be_built_leaves_no_run(squares, tiny, tmp_path, change, said):
    with pytest.raises(ModelError, match=said):
        train(squares, override(tiny, [change]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_no_dataset_leaves_no_run(tiny, tmp_path):
    with pytest.raises(DataError, match="no dataset"):
        train(tmp_path, tiny, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_foreign_folder_stays_as_it_is(squares, tiny, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match=r"notes\.txt"):
        train(squares, tiny, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("part", ["training", "validation"])
@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_breaks_in_the_middle_of_training(make_squares, tiny, tmp_path, capfd, workers, part):
    data = make_squares(tmp_path / "data")
    dataset, run = Dataset.open(data), Run(tmp_path / "run")

    def break_images(step: Step) -> None:
        for index in run.part(cut(dataset, tiny.data), part):
            dataset.path(index).write_bytes(b"\x89PNG, but no more")

    with pytest.raises(DataError) as caught:
        train(data, override(tiny, [f"train.workers={workers}"]), run.folder, watch=break_images)
    message = str(caught.value)
    assert message.startswith(str(data.parent / "raw"))
    assert "does not decode as an image" in message
    assert "\n" not in message
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_broken_image_on_the_command_line(make_squares, tiny, start, tmp_path):
    data = make_squares(tmp_path / "data")
    for path in Dataset.open(data).raw.glob("*.png"):
        path.write_bytes(b"")
    command = start(tiny, tmp_path / "run", "train.workers=1", dataset=data)
    assert command.ended() == 2, command.printed()
    (line,) = command.printed().splitlines()
    assert line.startswith(f"segsmith: {data.parent / 'raw'}")
    assert "does not decode as an image" in line


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_loss_that_is_no_number(squares, tiny, tmp_path, epochs):
    """Found at the end of an epoch; also where it is the last step that broke the weights."""
    stage = f"{{epochs: {epochs}, images_per_epoch: 4, optimizer: {{lr: 1e30}}, schedule: {{name: constant}}}}"
    with pytest.raises(ModelError) as caught:
        train(squares, override(tiny, [f"train.stages=[{stage}]"]), tmp_path / "run")
    said = str(caught.value)
    assert re.search("the (validation )?loss became (nan|inf) in stage 1, epoch 1, step 1", said)
    assert "lower train.stages.0.optimizer.lr, or set train.gradient_clip=1" in said
    assert not Run(tmp_path / "run").bundle.exists()
    failed = json.loads((tmp_path / "run" / "failed-batch.json").read_text())
    assert len(failed["images"]) == 4
    assert f"{', '.join(failed['images'][:3])} and 1 more" in said
    assert not (tmp_path / "run" / "checkpoints" / "last.pt").exists(), "of weights that are no numbers"


# images of other kinds, and levels


def test_images_of_one_band_padded(make_squares, tiny, tmp_path):
    """As salt comes: images smaller than the input, one band, nothing legal about their size."""
    data = make_squares(tmp_path / "data", side=27, bands=1)
    changes = [*ONE_EPOCH, "data.fit=pad", "data.normalise=imagenet"]
    bundle = Bundle.read(train(data, override(tiny, changes), tmp_path / "run").bundle)
    assert bundle.mean == (pytest.approx(np.mean(IMAGENET_MEAN)),)
    (network,) = bundle.networks()
    assert network(torch.zeros(1, 1, 32, 32, dtype=torch.uint8))["mask"].shape == (1, 1, 32, 32)


def test_probabilities_are_rounded_to_levels():
    levels = quantised(torch.tensor([0.0, 0.001, 0.003, 0.4, 0.5, 0.999, 1.0]).reshape(1, 1, 1, -1))
    assert levels.dtype == np.uint8
    assert levels.shape == (1, 1, 1, 7)
    assert levels.ravel().tolist() == [0, 0, 1, 102, 128, 255, 255]
