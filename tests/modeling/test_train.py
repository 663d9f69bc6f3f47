"""Recipe + dataset -> run: the same bits again, after whatever stopped it; what is logged; what is refused, and how."""

import multiprocessing
import os
import random
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM

import numpy as np
import pandas as pd
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from segsmith.cli import main
from segsmith.data.chips import cut
from segsmith.data.dataset import Dataset
from segsmith.data.ingest_rle import ingest
from segsmith.errors import DataError, ModelError, RunError
from segsmith.modeling.bundle import Bundle, Decision
from segsmith.modeling.networks import IMAGENET_MEAN, IMAGENET_STD
from segsmith.modeling.run import Run, load_state
from segsmith.modeling.train import Step, TrainingStopped, normalisation, quantised, train
from segsmith.recipe import Recipe
from segsmith.recipe_files import override, to_yaml

TIMING = ["seconds", "images_per_second"]
ONE_EPOCH = ("train.stages=[{epochs: 1, images_per_epoch: 12, optimizer: {lr: 0.01}}]", "train.ema_decay=null")


def same_weights(left: Run, right: Run) -> bool:
    one, other = Bundle.read(left.bundle).weights, Bundle.read(right.bundle).weights
    assert one.keys() == other.keys()
    return all(torch.equal(one[name], other[name]) for name in one)


def metrics(run: Run) -> pd.DataFrame:
    """metrics.csv as text, without what depends on the clock."""
    return pd.read_csv(run.folder / "metrics.csv", dtype=str).drop(columns=TIMING)


def same(left: Run, right: Run) -> bool:
    return same_weights(left, right) and metrics(left).equals(metrics(right))


# the same bits again


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_the_same_recipe_gives_the_same_bits_whatever_the_number_of_workers(
    squares, tiny, undisturbed, tmp_path, workers
):
    assert same(train(squares, override(tiny, [f"train.workers={workers}"]), tmp_path / "run"), undisturbed[0])


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
    replace(Bundle.read(run.bundle), decision=Decision(level=77)).write(run.bundle)
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

FORKED = multiprocessing.get_context("fork")  # importing torch anew would take longer than all of these trainings


class Command:
    """`segsmith ARGUMENTS` in a process of its own; killed at its n-th write, or on a disk with little room."""

    def __init__(self, arguments: list[str], kill_at_write: int | None = None, largest_file: int | None = None):
        self.arguments, self.kill_at_write, self.largest_file = arguments, kill_at_write, largest_file
        self.output, self.printed_to = os.pipe()
        self.process = FORKED.Process(target=self.run)
        self.process.start()
        os.close(self.printed_to)

    def run(self) -> None:
        sys.stdout = sys.stderr = os.fdopen(self.printed_to, "w", buffering=1)
        os.dup2(self.printed_to, 1)
        os.dup2(self.printed_to, 2)
        if self.kill_at_write:
            writes, fsync = count(1), os.fsync
            os.fsync = lambda file: os.kill(os.getpid(), SIGKILL) if next(writes) == self.kill_at_write else fsync(file)
        if self.largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.largest_file, resource.RLIM_INFINITY))
        threading.excepthook = threading.__excepthook__  # pytest's would keep a thread's traceback to itself
        sys.argv = ["segsmith", *self.arguments]
        main()

    def ended(self) -> int | None:
        """Its exit code, once it has ended, though its workers may live on; minus the signal that killed it."""
        began = time.monotonic()
        while self.process.exitcode is None and time.monotonic() - began < 300:
            time.sleep(0.005)
        return self.process.exitcode

    def printed(self) -> str:
        """What it said, on standard output and standard error."""
        os.set_blocking(self.output, False)
        return os.read(self.output, 2**16).decode()

    def wait_for_checkpoint(self, run: Run) -> None:
        """Return when it has written another checkpoint."""

        def checkpoint() -> int:
            return run.last.stat().st_ino if run.last.exists() else 0

        before, began = checkpoint(), time.monotonic()
        while checkpoint() == before:
            assert self.process.is_alive(), "it ended before it wrote a checkpoint"
            assert time.monotonic() - began < 300
            time.sleep(0.001)


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
        command.process.kill()
        command.process.join()
        os.close(command.output)


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
    """While each file is written in turn: the beginning of the run, states, metrics, the bundle."""
    short = override(tiny, SHORT)
    expected = train(squares, short, tmp_path / "expected")
    scores = metrics(expected)["global_dice"].astype(float)
    assert scores[1] > scores[0], "the second stage must replace best.pt, which it started from"

    for write in count(1):
        run = Run(tmp_path / f"killed-{write}")
        code = start(short, run.folder, kill_at_write=write).ended()
        if code == 0:
            break
        assert code == -SIGKILL
        assert not run.bundle.exists()
        assert start(short, run.folder).ended() == 0
        assert same(run, expected), f"killed at write {write}"
    assert write > 10, "of the run's beginning, two epochs and the bundle"


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
    """TensorBoard shows what stands in metrics.csv: each epoch once, whatever happened in between."""
    table = pd.read_csv(run.folder / "metrics.csv")
    events = EventAccumulator(str(run.folder / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == set(table.columns) - {"stage", "epoch"}
    for name in events.Tags()["scalars"]:
        shown = events.Scalars(name)
        assert [event.step for event in shown] == list(range(1, len(table) + 1)), name
        assert np.allclose([event.value for event in shown], table[name], rtol=1e-6, equal_nan=True), name


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
        "dice_empty", *TIMING,
    ]  # fmt: skip
    scores = table[["mean_dice", "threshold", "dice_foreground", "dice_empty"]]
    assert ((scores >= 0) & (scores <= 1)).all(axis=None)
    assert np.allclose(table["mean_dice"], (table["dice_foreground"] + table["dice_empty"]) / 2), "4 of 8 are empty"
    assert (table[TIMING] > 0).all(axis=None)
    check_tensorboard(run)


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
    assert {path.name for path in run.last.parent.iterdir()} == {"last.pt", "best.pt", "stage-1-epoch-2.pt"}
    averaged = load_state(undisturbed[0].last)["averaged"]
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
    found = Bundle.read(run.bundle).weights
    learned = [name for name in found if name.endswith(("weight", "bias"))]
    assert all(torch.equal(found[name], kept[epoch][name]) for name in learned)
    assert not all(torch.equal(found[name], kept[4 - epoch][name]) for name in learned)


@pytest.mark.parametrize(("keep", "file"), [("best", "stage-1-epoch-1.pt"), ("last", "stage-2-epoch-1.pt")])
def test_the_bundle_holds_the_best_or_the_last_weights(squares, tiny, tmp_path, keep, file):
    run = train(squares, override(tiny, [*LEARNS_NOTHING_AT_FIRST, f"train.keep={keep}"]), tmp_path / "run")
    kept, bundled = load_state(run.last.with_name(file)), Bundle.read(run.bundle).weights
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
    bundled = Bundle.read(Run(run).bundle).weights
    for name in (name for name in average if average[name].is_floating_point()):
        assert torch.allclose(bundled[name], average[name], atol=1e-6), name
    head = "body.segmentation_head.1.0.weight"
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
    weights = Bundle.read(runs[0].bundle).weights.values()
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


# what is refused


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
        ("network.encoder_weights=gone.pth", r"gone\.pth: no such weights file"),
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
    assert command.ended() == 2
    (line,) = command.printed().splitlines()
    assert line.startswith(f"segsmith: {data.parent / 'raw'}")
    assert "does not decode as an image" in line


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_loss_that_is_no_number(squares, tiny, tmp_path, epochs):
    """Found at the end of an epoch; also where it is the last step that broke the weights."""
    stage = f"{{epochs: {epochs}, images_per_epoch: 4, optimizer: {{lr: 1e30}}, schedule: {{name: constant}}}}"
    with pytest.raises(ModelError) as caught:
        train(squares, override(tiny, [f"train.stages=[{stage}]"]), tmp_path / "run")
    assert "the loss became " in str(caught.value)
    assert "in stage 1, epoch " in str(caught.value)
    assert "lower train.stages.0.optimizer.lr, or set train.gradient_clip=1" in str(caught.value)
    assert not Run(tmp_path / "run").bundle.exists()


# normalisation and quantisation


def test_images_of_one_band_padded(make_squares, tiny, tmp_path):
    """As salt comes: images smaller than the input, one band, nothing legal about their size."""
    data = make_squares(tmp_path / "data", side=27, bands=1)
    changes = [*ONE_EPOCH, "data.fit=pad", "data.normalise=imagenet"]
    bundle = Bundle.read(train(data, override(tiny, changes), tmp_path / "run").bundle)
    assert bundle.mean == (pytest.approx(np.mean(IMAGENET_MEAN)),)
    assert bundle.network()(torch.zeros(1, 1, 32, 32, dtype=torch.uint8)).shape == (1, 1, 32, 32)


def test_normalisation_by_imagenet_or_as_measured(squares, tiny):
    dataset = Dataset.open(squares)
    pixels = np.concatenate([dataset.image(n).reshape(-1, 3) for n in range(len(dataset))]) / 255
    mean, std = normalisation(dataset, tiny)
    assert mean == pytest.approx(pixels.mean(axis=0).tolist())
    assert std == pytest.approx(pixels.std(axis=0).tolist())
    assert normalisation(dataset, override(tiny, ["data.normalise=imagenet"])) == (IMAGENET_MEAN, IMAGENET_STD)


def test_a_deviation_of_nothing_does_not_divide_by_nothing(squares, tiny):
    dataset = Dataset.open(squares)
    black = replace(dataset, images=dataset.images.assign(band_mean=[[0, 0, 0]] * 24, band_std=[[0, 0, 0]] * 24))
    assert normalisation(black, tiny) == ((0, 0, 0), (1 / 255,) * 3)


def test_bands_that_cannot_be_normalised(squares, make_squares, tiny, tmp_path):
    imagenet = override(tiny, ["data.normalise=imagenet"])
    four = Dataset.open(make_squares(tmp_path / "four", bands=4))
    with pytest.raises(ModelError, match=r"1 or 3 bands, the images have 4; set data\.normalise=measured"):
        normalisation(four, imagenet)
    assert len(normalisation(four, tiny)[0]) == 4
    dataset = Dataset.open(squares)
    mixed = replace(dataset, images=dataset.images.assign(bands=[1, 3] * 12))
    with pytest.raises(ModelError, match="images have 1, 3 bands; one training takes images of one kind"):
        normalisation(mixed, tiny)
    labels = ingest(dataset.raw, assume_hw=(32, 32))
    with pytest.raises(ModelError, match="indexed without its images; inspect it with them"):
        normalisation(labels, tiny)


def test_probabilities_are_rounded_to_levels():
    probabilities = np.array([0.0, 0.001, 0.003, 0.4, 0.5, 0.999, 1.0])
    logits = torch.logit(torch.tensor(probabilities)).float().reshape(1, 1, 1, -1)
    levels = quantised(logits)
    assert levels.dtype == np.uint8
    assert levels.shape == (1, 1, 1, 7)
    assert levels.ravel().tolist() == [0, 0, 1, 102, 128, 255, 255]
