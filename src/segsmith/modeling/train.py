"""Recipe + dataset -> run folder with a bundle: stages, epochs, steps in one loop on Lightning Fabric.

Everything random is counted from (seed, stage, epoch, step), nothing is consumed from a generator's hidden state. So
a run that was stopped, at any instant and by whatever, goes on from its last checkpoint to the same bits.
"""

import copy
import csv
import hashlib
import io
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from lightning.fabric import Fabric
from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from segsmith.data.augment import check_augment
from segsmith.data.batches import Batch, TrainingBatches, chip_batches, default_workers
from segsmith.data.chips import Chips, cut
from segsmith.data.dataset import Dataset
from segsmith.data.extra import extra_levels, extra_ranges
from segsmith.data.samples import read_sample, unfit_probabilities
from segsmith.data.sampling import EpochPlan, hard_weights, plan_epochs
from segsmith.data.split import split, trust
from segsmith.eda.profile import band_statistics
from segsmith.errors import ModelError, SegsmithError
from segsmith.files import write_error, write_text
from segsmith.modeling.bundle import Bundle
from segsmith.modeling.hardware import choose_hardware
from segsmith.modeling.losses import image_losses, pixel_weight
from segsmith.modeling.metrics import LevelScores
from segsmith.modeling.networks import IMAGENET_MEAN, IMAGENET_STD, build_network, check_input_hw
from segsmith.modeling.objective import class_probabilities, objective, quantised
from segsmith.modeling.optim import build_optimizer, learning_rate, plateau_factor, set_learning_rate
from segsmith.modeling.run import Run, load_state, save_state
from segsmith.progress import track
from segsmith.recipe import Recipe

Row = dict[str, float | int | str]
"""One epoch: what stands in one row of metrics.csv."""


class TrainingStopped(SegsmithError):  # noqa: N818 (it is no error)
    """Someone asked the training to stop; its state is saved, and the same command continues it."""


@dataclass(frozen=True)
class Step:
    """What a watcher is told after every step: where training stands, and how the last epoch did."""

    stage: int
    epoch: int
    step: int
    plan: EpochPlan
    loss: float
    images_seen: int
    images_in_all: int
    images_per_second: float
    last_epoch: Row | None
    epoch_is_over: bool


@dataclass
class Position:
    """Where training stands, in plain values; `epoch` and `step` are the next ones to do."""

    stage: int = 0
    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    best: float | None = None
    rows: list[Row] = field(default_factory=list)


def train(dataset: Path, recipe: Recipe, run: Path, *, watch: Callable[[Step], None] = lambda step: None) -> Run:
    """Train, or go on training, until the recipe's last epoch, and write the bundle. Returns the run.

    A run of the same recipe and dataset is continued, a finished one returned as it is. Raises RecipeError, DataError,
    ModelError before anything is written; RunError if the folder holds something else; WriteError for a full disk,
    after which the run can be continued; TrainingStopped after SIGINT or SIGTERM, with the state saved.
    """
    data = Dataset.open(dataset).named(recipe.data.classes)
    training = _Training(data, recipe, Run(run), watch)
    training.run.check_free()
    with training.run.locked():
        facts = {
            "hardware": training.hardware.name,
            "precision": training.hardware.precision,
            "versions": {name: version(name) for name in ("segsmith", "torch", "segmentation-models-pytorch", "timm")},
        }
        training.run.begin(dataset, training.chips, training.split, recipe, facts)
        if not training.run.bundle.exists():
            training.go()
    return training.run


class _Training:
    """One training in progress. Building it checks everything that can be checked without writing."""

    def __init__(self, dataset: Dataset, recipe: Recipe, run: Run, watch: Callable[[Step], None]):
        self.dataset, self.recipe, self.run, self.watch = dataset, recipe, run, watch
        self.hardware = choose_hardware(recipe.train)
        self.chips = cut(dataset, recipe.data)
        self.split = split(self.chips, recipe.folds, recipe.seed)
        self.trust = torch.from_numpy(trust(self.chips))
        self.plans = _plans(self.chips, recipe, self.split.training)
        mean, std = normalisation(dataset, recipe)
        check_augment(recipe, len(mean) - len(recipe.data.extra))
        torch.manual_seed(_counted(recipe.seed, "weights"))
        mean_image = (
            _mean_image(self.chips, self.split.training, mean) if recipe.data.normalise == "mean_image" else None
        )
        self.network = build_network(recipe.network, len(dataset.classes), mean, std, mean_image=mean_image)
        check_input_hw(self.network, recipe.data.input_hw)
        self.mean, self.std = mean, std
        self.metric = recipe.train.select_by or recipe.decide.metric
        workers = recipe.train.workers
        self.workers = default_workers(self.hardware.device.type == "cpu") if workers is None else workers
        self.at = Position()
        # of each chip, averaged over the times it was drawn: as the epoch began, and now
        self.losses = torch.full((2, len(self.chips)), math.nan)
        self.optimizer: Any = None  # each stage has its own

    def go(self) -> None:
        """From where the run stands to its end."""
        torch.use_deterministic_algorithms(True, warn_only=True)
        precision = "bf16-mixed" if self.hardware.precision == "bf16" else "32-true"
        self.fabric = Fabric(accelerator=self.hardware.device.type, devices=1, precision=precision)  # type: ignore[arg-type]
        self.module = self.fabric.setup_module(self.network)
        self.averaged = self._fresh_average()
        restored = self._restore()
        stages = self.recipe.train.stages
        board = _Board(self.run.folder / "tensorboard")
        with _asked_to_stop() as asked:
            self._write_metrics(board, self.at.rows)  # all anew: the kill may have come before they were written
            while self.at.stage < len(stages):
                stage, plan = stages[self.at.stage], self.plans[self.at.stage]
                self._enter_stage(restored)
                batches = TrainingBatches(self.chips, stage, plan, self.workers)
                while self.at.epoch < stage.epochs:
                    self._epoch(batches, asked)
                    self._write_metrics(board, self.at.rows[-1:])
                if self.at.stage == len(stages) - 1:
                    break
                self.at.stage, self.at.epoch, restored = self.at.stage + 1, 0, None
        self._write_bundle()

    def _epoch(self, batches: TrainingBatches, asked: list[int]) -> None:
        """The rest of the present epoch, its validation, and the checkpoint after it."""
        at, plan = self.at, batches.plan
        saved = began = time.monotonic()
        first = at.step
        if at.step == 0:
            self.losses[0] = self.losses[1]  # what an epoch draws is settled when it begins
        hard = self.recipe.train.stages[at.stage].hard
        harder = None if hard is None else hard_weights(self.losses[0].double().numpy(), hard)
        for batch in batches.epoch(at.epoch, at.step, harder):
            loss = self._step(batch)
            at.loss_sum += loss
            at.step += 1
            now = time.monotonic()
            self._tell(loss, (at.step - first) * plan.batch_size / (now - began), epoch_is_over=False)
            if asked or now - saved > 60 * self.recipe.train.checkpoint_minutes:
                at.seconds, before = at.seconds + now - began, at.seconds
                self._save_last()
                if asked:
                    raise TrainingStopped(
                        f"stopped in stage {at.stage + 1}, epoch {at.epoch + 1}, step {at.step} of {plan.batches}; "
                        "the same command continues from there"
                    )
                at.seconds, saved = before, now
        at.seconds += time.monotonic() - began
        self._check_finite(at.loss_sum)
        row = self._end_of_epoch(plan)
        self._check_finite(float(row["validation_loss"]))
        better = at.best is None or float(row[self.metric]) > at.best
        at.rows.append(row)
        at.epoch, at.step, at.loss_sum, at.seconds = at.epoch + 1, 0, 0.0, 0.0
        if better:
            at.best = float(row[self.metric])
            save_state(self.run.best, self._kept().state_dict())
        if self.recipe.train.keep_every and at.epoch % self.recipe.train.keep_every == 0:
            save_state(self.run.last.with_name(f"stage-{at.stage + 1}-epoch-{at.epoch}.pt"), self._kept().state_dict())
        self._save_last()
        self._tell(float(row["loss"]), float(row["images_per_second"]), epoch_is_over=True)

    def _remember(self, batch: Batch, losses: Float[Tensor, " batch"]) -> None:
        """Average the losses of the batch's images with those they had before."""
        for chip, loss in zip(batch.indices.tolist(), losses.cpu().tolist(), strict=True):
            before = float(self.losses[1, chip])
            self.losses[1, chip] = loss if math.isnan(before) else (before + loss) / 2

    def _check_finite(self, loss: float) -> None:
        at = self.at
        if not math.isfinite(loss):
            raise ModelError(
                f"the loss became {loss} in stage {at.stage + 1}, epoch {at.epoch + 1}: lower "
                f"train.stages.{at.stage}.optimizer.lr, or set train.gradient_clip=1"
            )

    def _step(self, batch: Batch) -> float:
        """One optimiser step."""
        at, options = self.at, self.recipe.train
        stage, plan = options.stages[at.stage], self.plans[at.stage]
        torch.manual_seed(_counted(self.recipe.seed, at.stage, at.epoch, at.step))  # dropout is counted, too
        scores = [float(row[self.metric]) for row in at.rows if row["stage"] == at.stage + 1]
        lr = learning_rate(stage, at.epoch * plan.batches + at.step, stage.epochs * plan.batches)
        set_learning_rate(self.optimizer, lr * plateau_factor(stage.schedule, scores))
        self.module.train()
        outputs = self.module(batch.images.to(self.fabric.device, non_blocking=True))
        weight = pixel_weight(batch.valid, self.trust[batch.indices], outputs["mask"])
        truth = batch.masks.to(self.fabric.device, non_blocking=True)
        loss = objective(self.recipe, stage, outputs, truth, weight)
        if stage.hard is not None:
            self._remember(batch, image_losses(class_probabilities(self.recipe, outputs), truth, weight))
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        if options.gradient_clip is not None:
            self.fabric.clip_gradients(self.module, self.optimizer, max_norm=options.gradient_clip)
        self.optimizer.step()
        if self.averaged is not None:
            # a young average forgets faster, as in TensorFlow's ExponentialMovingAverage
            updates = int(self.averaged.n_averaged)
            self.averaged.multi_avg_fn = get_ema_multi_avg_fn(  # type: ignore[no-untyped-call]
                min(options.ema_decay or 0, (1 + updates) / (10 + updates))
            )
            self.averaged.update_parameters(self.network)
        return float(loss.detach())

    def _end_of_epoch(self, plan: EpochPlan) -> Row:
        """Score the validation fold; the row for metrics.csv."""
        at = self.at
        scores, loss = self._validate()
        by_level = scores.scores(self.metric)[1:]
        level = 1 + int(np.argmax(by_level))
        return {
            "stage": at.stage + 1,
            "epoch": at.epoch + 1,
            "images": plan.images,
            "lr": self.optimizer.param_groups[0]["lr"],
            "loss": at.loss_sum / plan.batches,
            "validation_loss": loss,
            self.metric: float(by_level[level - 1]),
            "threshold": level / 255,
            "dice_foreground": float(scores.dice(foreground=True)[level]),
            "dice_empty": float(scores.dice(foreground=False)[level]),
            "seconds": at.seconds,
            "images_per_second": plan.images / at.seconds,
        }

    @torch.inference_mode()
    def _validate(self) -> tuple[LevelScores, float]:
        """Scores at the images' own size and mean loss of the validation fold, for the weights that would be kept."""
        network = self._kept().eval()
        stage, scores, loss = self.recipe.train.stages[self.at.stage], LevelScores(), 0.0
        size = self.recipe.predict.batch_size
        for batch in chip_batches(self.chips, self.split.validation.tolist(), size, self.workers):
            with self.hardware.autocast():
                outputs = network(batch.images.to(self.hardware.device))
            weight = pixel_weight(batch.valid, self.trust[batch.indices], outputs["mask"])
            truth = batch.masks.to(self.hardware.device)
            loss += len(batch.indices) * float(objective(self.recipe, stage, outputs, truth, weight))
            levels = quantised(class_probabilities(self.recipe, outputs))
            for index, of_chip in zip(batch.indices.tolist(), levels, strict=True):
                chip = self.chips.read(index)
                fitted = unfit_probabilities(of_chip, self.chips.hw(index), self.recipe.data) * chip.valid
                for of_class, true_of_class in zip(fitted, chip.mask & chip.valid, strict=True):
                    scores.add(of_class, true_of_class)
        return scores, loss / len(self.split.validation)

    def _kept(self) -> nn.Module:
        """The weights that are validated and bundled: averaged once there is an average."""
        if self.averaged is not None and int(self.averaged.n_averaged):
            return self.averaged.module
        return self.network

    def _fresh_average(self) -> AveragedModel | None:
        return AveragedModel(self.network, use_buffers=True) if self.recipe.train.ema_decay else None

    def _enter_stage(self, restored: dict[str, Any] | None) -> None:
        """Weights and optimiser at the start of a stage, or as a checkpoint within it left them."""
        stage = self.recipe.train.stages[self.at.stage]
        if restored is None and self.at.stage > 0:
            if stage.start_from == "best":
                self.network.load_state_dict(load_state(self.run.best))
            else:
                self.network.load_state_dict(copy.deepcopy(self._kept().state_dict()))
            self.averaged = self._fresh_average()
        self.optimizer = self.fabric.setup_optimizers(build_optimizer(self.network, stage.optimizer))
        if restored is not None:
            self.optimizer.load_state_dict(restored["optimizer"])
        elif self.at.stage > 0:
            self._save_last()  # best.pt, which the stage began from, may be replaced before its first checkpoint

    def _restore(self) -> dict[str, Any] | None:
        """The last checkpoint, if there is one, with network and position already set to it."""
        if not self.run.last.exists():
            return None
        state = load_state(self.run.last)
        self.at = Position(**state["position"])
        self.network.load_state_dict(state["network"])
        self.losses = state["losses"]
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
        return state

    def _save_last(self) -> None:
        save_state(
            self.run.last,
            {
                "position": asdict(self.at),
                "network": self.network.state_dict(),
                "averaged": self.averaged.state_dict() if self.averaged is not None else None,
                "optimizer": self.optimizer.state_dict(),
                "losses": self.losses,
            },
        )

    def _write_metrics(self, board: "_Board", new: list[Row]) -> None:
        """Write metrics.csv with every epoch so far, and the last ones, `new`, for TensorBoard."""
        if not new:
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.at.rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.at.rows)
        write_text(self.run.folder / "metrics.csv", text.getvalue())
        board.write(1 + len(self.at.rows) - len(new), new)

    def _write_bundle(self) -> None:
        weights: dict[str, Tensor] = (
            load_state(self.run.best) if self.recipe.train.keep == "best" else self._kept().state_dict()
        )
        Bundle(
            weights={name: tensor.cpu() for name, tensor in weights.items()},
            recipe=self.recipe,
            extra=extra_ranges(self.dataset.images, self.recipe.data.extra),
            mean=self.mean,
            std=self.std,
            classes=self.dataset.classes,
            layout=self.dataset.layout,
            fingerprint=self.dataset.fingerprint,
        ).write(self.run.bundle)

    def _tell(self, loss: float, images_per_second: float, *, epoch_is_over: bool) -> None:
        at, stages = self.at, self.recipe.train.stages
        sizes = [stage.epochs * plan.images for stage, plan in zip(stages, self.plans, strict=True)]
        plan = self.plans[at.stage]
        self.watch(
            Step(
                stage=at.stage,
                epoch=at.epoch,
                step=at.step,
                plan=plan,
                loss=loss,
                images_seen=sum(sizes[: at.stage]) + at.epoch * plan.images + at.step * plan.batch_size,
                images_in_all=sum(sizes),
                images_per_second=images_per_second,
                last_epoch=at.rows[-1] if at.rows else None,
                epoch_is_over=epoch_is_over,
            )
        )


class _Board:
    """Epochs for TensorBoard, in a file that grows, since it reads on where it stopped; what older files say is hidden.

    Its own writer works in a thread, and tells of a full disk by that thread's traceback.
    """

    def __init__(self, folder: Path):
        self.file = folder / f"events.out.tfevents.{time.time_ns()}"

    def write(self, first: int, rows: list[Row]) -> None:
        """Append the rows of epoch `first` and those after it. Raises WriteError."""
        events = []
        if not self.file.exists():
            events.append(Event(file_version="brain.Event:2"))
            events.append(Event(step=1, session_log=SessionLog(status=SessionLog.START)))
        for epoch, row in enumerate(rows, start=first):
            named = {name: float(value) for name, value in row.items() if name not in ("stage", "epoch")}
            values = [Summary.Value(tag=name, simple_value=value) for name, value in named.items()]
            events.append(Event(step=epoch, summary=Summary(value=values)))
        records = io.BytesIO()
        for event in events:
            event.wall_time = time.time()
            RecordWriter(records).write(event.SerializeToString())
        try:
            self.file.parent.mkdir(exist_ok=True)
            with self.file.open("ab") as file:
                file.write(records.getvalue())
        except OSError as error:
            raise write_error(error, self.file) from error


def normalisation(dataset: Dataset, recipe: Recipe) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation per channel of images scaled to 0..1, as the recipe asks: bands, then the columns of
    `data.extra`. Raises ModelError where that cannot be."""
    bands = set(dataset.images["bands"])
    if len(bands) > 1 or bands == {0}:
        raise ModelError(
            "the dataset was indexed without its images; inspect it with them"
            if bands == {0}
            else f"images have {', '.join(map(str, sorted(bands)))} bands; one training takes images of one kind"
        )
    count = bands.pop()
    mean, std = _of_bands(dataset, recipe, count)
    levels = extra_levels(dataset.images, recipe.data.extra, extra_ranges(dataset.images, recipe.data.extra)) / 255
    return (*mean, *levels.mean(axis=0).tolist()), (*std, *levels.std(axis=0).tolist())


def _of_bands(dataset: Dataset, recipe: Recipe, count: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if recipe.data.normalise == "imagenet":
        if count == 3:
            return IMAGENET_MEAN, IMAGENET_STD
        if count == 1:
            return (sum(IMAGENET_MEAN) / 3,), (sum(IMAGENET_STD) / 3,)
        raise ModelError(
            f"data.normalise=imagenet goes with 1 or 3 bands, the images have {count}; set data.normalise=measured"
        )
    mean, std = band_statistics(dataset)
    return tuple(value / 255 for value in mean), tuple(max(value, 1.0) / 255 for value in std)


def _mean_image(
    chips: Chips, training: Int[np.ndarray, " training"], mean: Sequence[float]
) -> Float[Tensor, "bands height width"]:
    """The mean of all training images at the size the network sees, on the scale 0..1, less the mean of each band."""
    total = np.zeros((*chips.options.input_hw, len(mean) - len(chips.options.extra)))
    for chip in track(training.tolist(), "mean image", len(training)):
        total += read_sample(chips, chip).image
    image = np.pad(total / (255 * len(training)), ((0, 0), (0, 0), (0, len(chips.options.extra))))
    bands = total.shape[2]
    image[:, :, :bands] -= np.array(mean[:bands])
    return torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32))


def _plans(chips: Chips, recipe: Recipe, training: Int[np.ndarray, " training"]) -> list[EpochPlan]:
    strata = chips.strata()
    return [
        plan_epochs(training, strata, number, stage, recipe.train.batch_size, recipe.seed)
        for number, stage in enumerate(recipe.train.stages)
    ]


def _counted(*counts: int | str) -> int:
    """A 63-bit seed that is a function of its arguments alone."""
    return int.from_bytes(hashlib.blake2b(repr(counts).encode(), digest_size=8).digest()) >> 1


@contextmanager
def _asked_to_stop() -> Iterator[list[int]]:
    """A list that fills with a signal when SIGINT or SIGTERM comes; a second one acts at once."""
    asked: list[int] = []

    def note(number: int, _: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: signals are its business
        before = {}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
