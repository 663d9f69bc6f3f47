"""Chips + recipe -> a trained run with its bundle: stages, epochs, steps in one loop on Lightning Fabric.

Everything random is counted from (seed, stage, epoch, step), nothing is consumed from a generator's hidden state. So
a run that was stopped, at any instant and by whatever, goes on from its last checkpoint to the same bits.
"""

import hashlib
import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from jaxtyping import Float, Int
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from torch.optim.swa_utils import AveragedModel

from segsmith.data.extra import extra_ranges
from segsmith.errors import ModelError, RecipeError, SegsmithError
from segsmith.files import write_text
from segsmith.losses.losses import check_losses, image_losses, pixel_weight
from segsmith.losses.objective import class_probabilities, objective
from segsmith.losses.targets import Scalar
from segsmith.modeling.averaging import averaged_after, equal_mean, follow, measure_norms, running_average
from segsmith.modeling.bundle import Bundle, Weights
from segsmith.modeling.checkpoints import best_epochs, drop_others, epochs_to_keep, epochs_without_better
from segsmith.modeling.hardware import choose_hardware
from segsmith.modeling.logbook import Logbook, Row, write_rows
from segsmith.modeling.mlflow_run import open_mlflow
from segsmith.modeling.normalisation import mean_image, normalisation
from segsmith.modeling.optim import (
    build_optimizer,
    cycle_ends,
    encoder_of,
    learning_rate,
    plateau_factor,
    set_learning_rate,
)
from segsmith.modeling.processes import Processes
from segsmith.modeling.run import Run, load_state, save_state
from segsmith.modeling.sharding import check_sharding, load_weights, optimizer_shares, shard, whole
from segsmith.modeling.trouble import LossHistory
from segsmith.modeling.validation import Validation
from segsmith.networks.networks import Outputs, build_network
from segsmith.recipe import Recipe, Stage
from segsmith.samples.augment import check_augment
from segsmith.samples.batches import Batch, TrainingBatches, default_workers
from segsmith.samples.borders import check_borders
from segsmith.samples.cache import SampleCaches
from segsmith.samples.chips import Chips
from segsmith.samples.device_batches import DeviceBatches
from segsmith.samples.resident import Resident
from segsmith.samples.rows import form_of
from segsmith.samples.samples import of_size
from segsmith.samples.sampling import EpochPlan, hard_weights, plan_epochs
from segsmith.samples.sight import sight_of
from segsmith.samples.split import split, trust, unjudged


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
    fold: str = ""
    """Where folds validate in turn, which of them does now."""
    warnings: tuple[str, ...] = ()
    """What is to be known before anyone believes the scores, a line each."""


@dataclass
class Position:
    """Where training stands, in plain values; `epoch` and `step` are the next ones to do."""

    stage: int = 0
    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    rows: list[Row] = field(default_factory=list)
    losses: list[list[float]] = field(default_factory=lambda: [[]])
    """Of every step so far, epoch by epoch; the last are those of the present one."""
    averages: list[Row] = field(default_factory=list)
    """What the means of weights scored."""


class Training:
    """One training in progress. Building it checks everything that can be checked without writing."""

    def __init__(
        self,
        chips: Chips,
        recipe: Recipe,
        run: Run,
        watch: Callable[[Step], None],
        processes: Processes,
        cache: Path | None = None,
    ):
        """`cache` is the folder that decoded samples are kept in; without one they are decoded in every epoch."""
        dataset = chips.dataset
        self.dataset, self.recipe, self.run, self.watch, self.processes = dataset, recipe, run, watch, processes
        check_losses(recipe, dataset.classes)
        self.hardware = choose_hardware(recipe.train)
        if recipe.network.border_px:
            check_borders(dataset)
        self.chips = replace(chips, border_px=recipe.network.border_px)
        self.caches = SampleCaches(self.chips, cache, None if processes.first else lambda message: None)
        self.split = split(self.chips, recipe.folds, recipe.seed)
        told = unjudged(self.chips, self.split.validation, self.split.fold, recipe.folds)
        self.warnings = tuple(told.values())
        self.trust = torch.from_numpy(trust(self.chips))
        self.plans = _plans(self.chips, recipe, self.split.training)
        for plan in self.plans:
            processes.check_divides(plan.batch_size, recipe.train.accumulate)
        check_sharding(recipe.train, processes)
        mean, std = normalisation(dataset, recipe)
        check_augment(recipe, len(mean) - len(recipe.data.extra))
        image = mean_image(self.chips, self.split.training, mean) if recipe.data.normalise == "mean_image" else None
        torch.manual_seed(_counted(recipe.seed, "weights"))
        self.network = build_network(
            recipe.network,
            len(dataset.classes),
            mean,
            std,
            exclusive=recipe.data.exclusive,
            mean_image=image,
        )
        self.mean, self.std = mean, std
        self.metric = recipe.selected_by
        self.other_metrics = [metric for metric in dict.fromkeys(recipe.train.keep_best_by) if metric != self.metric]
        workers = recipe.train.workers
        if workers is None:
            workers = default_workers(self.hardware.device.type == "cpu") // processes.count
        self.workers = workers
        self.validation = Validation(
            self.chips,
            self.split.validation,
            recipe,
            self.other_metrics,
            self.hardware,
            workers,
            processes,
            self.caches,
        )
        self.at = Position()
        # of each chip, averaged over the times it was drawn: as the epoch began, and now
        self.losses = torch.full((2, len(self.chips)), math.nan)
        self.resident: Resident | None = None  # samples that stay on the device
        self.batch: Batch | None = None  # the last one, for when it made the loss explode
        # each stage has its own, and begins the averages anew
        self.optimizer: Any = None
        self.frozen: nn.Module | None = None
        self.history = LossHistory()
        self.ema: AveragedModel | None = None
        self.swa_of_stages: AveragedModel | None = None

    # the loop: stages, epochs, steps

    def go(self) -> None:
        """From where the run stands to its end."""
        self._set_up()
        state = self._last_state()
        mlflow = open_mlflow(self.recipe, self.run) if self.processes.first else None
        logbook = Logbook(self.run.folder, mlflow.log if mlflow else None) if self.processes.first else None
        with _asked_to_stop() as asked:
            if logbook is not None:
                logbook.write(self.at.rows, self.at.losses, new=len(self.at.rows))
            while True:
                self._enter_stage(state)
                batches = self._stage_batches()
                while not self._stage_is_over():
                    self._epoch(batches, asked)
                    if logbook is not None:
                        logbook.write(self.at.rows, self.at.losses, new=1)
                self._leave_stage(batches)
                if self.at.stage + 1 == len(self.plans):
                    break
                self.at.stage, self.at.epoch, state = self.at.stage + 1, 0, None
        last = self._whole(self._kept().state_dict()) if self.recipe.train.keep == "last" else {}
        self.processes.same(lambda: self._write_bundle(last))
        if mlflow is not None:
            mlflow.finish()

    def _stage_batches(self) -> TrainingBatches:
        """What this process takes of the batches of the present stage."""
        share = partial(self.processes.part, passes=self.recipe.train.accumulate)
        options = of_size(self.chips.options, self.stage.input_hw)
        read = self.caches.reader(options)
        if not self.hardware.augments:
            return TrainingBatches(self.chips, self.stage, self.plan, self.workers, share, read)
        form = form_of(self.chips, options)
        if self.resident is None or self.resident.form != form:
            self.resident = Resident(form, len(self.chips), len(self.split.training), self.fabric.device)
        return DeviceBatches(self.chips, self.stage, self.plan, self.workers, share, read, self.resident)

    def _set_up(self) -> None:
        """Bring the network to the device, or this process's share of it, and make the averages that stages need."""
        torch.use_deterministic_algorithms(True, warn_only=True)
        precision = "bf16-mixed" if self.hardware.precision == "bf16" else "32-true"
        device = self.hardware.device
        devices = [device.index or torch.cuda.current_device()] if device.type == "cuda" else 1
        self.fabric = Fabric(accelerator=device.type, devices=devices, precision=precision)  # type: ignore[arg-type]
        options = self.recipe.train
        self.module = self.fabric.setup_module(self.network, move_to_device=not options.shard)
        self.ema = running_average(self.network) if options.ema_decay else None
        self.swa_of_stages = equal_mean(self.network) if any(stage.swa for stage in options.stages) else None
        if options.shard:
            mesh = init_device_mesh(device.type, (self.processes.count,))
            images = torch.zeros(1, len(self.mean), *self.recipe.data.input_hw, dtype=torch.uint8)
            for average in (self.ema, self.swa_of_stages):
                if average is not None:
                    shard(average.module, images, mesh)
            shard(self.network, images, mesh)
        self.learning = [parameter for parameter in self.network.parameters() if parameter.requires_grad]

    @property
    def swa(self) -> AveragedModel | None:
        """The mean of the present stage's weights, where it has one."""
        return self.swa_of_stages if self.stage.swa else None

    @property
    def stage(self) -> Stage:
        return self.recipe.train.stages[self.at.stage]

    @property
    def plan(self) -> EpochPlan:
        return self.plans[self.at.stage]

    def _epoch(self, batches: TrainingBatches, asked: list[int]) -> None:
        """The rest of the present epoch, its validation, and the checkpoint after it."""
        at, plan = self.at, self.plan
        saved = began = time.monotonic()
        first = at.step
        if at.step == 0:
            self.losses[0] = self.losses[1]  # what an epoch draws is settled when it begins
        hard = self.stage.hard
        harder = None if hard is None else hard_weights(self.losses[0].double().numpy(), hard)
        for batch in batches.epoch(at.epoch, at.step, harder):
            loss = self._step(batch)
            at.losses[-1].append(loss)
            at.step += 1
            self._after_step()
            now = time.monotonic()
            self._tell(loss, (at.step - first) * plan.batch_size / (now - began), epoch_is_over=False)
            stop = self.processes.any(bool(asked))
            if stop or now - saved > 60 * self.recipe.train.checkpoint_minutes:
                at.seconds, before = at.seconds + now - began, at.seconds
                self._save_last()
                if stop:
                    raise TrainingStopped(
                        f"stopped in stage {at.stage + 1}, epoch {at.epoch + 1}, step {at.step} of {plan.batches}; "
                        "the same command continues from there"
                    )
                at.seconds, saved = before, now
        at.seconds += time.monotonic() - began
        row = self._end_of_epoch()
        at.rows.append(row)
        at.losses.append([])
        at.epoch, at.step, at.seconds = at.epoch + 1, 0, 0.0
        self._keep_weights()
        self._tell(float(row["loss"]), float(row["images_per_second"]), epoch_is_over=True)

    def _step(self, batch: Batch) -> float:
        """One optimiser step, in as many passes as `accumulate` says; the loss of the batch."""
        options, self.batch = self.recipe.train, batch
        torch.manual_seed(_counted(self.recipe.seed, self.at.stage, self.at.epoch, self.at.step))  # for dropout
        set_learning_rate(self.optimizer, self._learning_rate(self.at.step))
        self.module.train()
        if self.frozen is not None:
            self.frozen.eval()
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for piece in _pieces(batch, options.accumulate):
            with self.processes.norms():
                outputs = self.module(piece.images.to(self.fabric.device, non_blocking=True))
            piece, outputs = self.processes.whole(piece, outputs)
            loss, truth, weight = self._judge(piece, outputs)
            if self.stage.hard is not None:
                self._remember(piece, image_losses(class_probabilities(self.recipe, outputs), truth, weight))
            loss = loss * (len(piece.indices) / (len(batch.indices) * self.processes.count))
            self.fabric.backward(loss)
            total += float(loss.detach())
        if not options.shard:  # those of shares are sums already
            self.processes.add_gradients(self.network)
        largest = math.inf if options.gradient_clip is None else options.gradient_clip
        norm = whole(
            self.fabric.clip_gradients(self.module, self.optimizer, max_norm=largest, error_if_nonfinite=False)
        )  # without a largest norm, only to look at it
        if self.history.exploded(total):
            self._fail("loss", total)
        if norm is not None and not bool(norm.isfinite()):
            self._fail("gradient's norm", float(norm))
        self.optimizer.step()
        if self.ema is not None and options.ema_decay is not None:
            follow(self.ema, self.network, options.ema_decay)
        return total

    def _after_step(self) -> None:
        """Take the weights into the mean, and keep them as a snapshot, where it is time."""
        steps = self.stage.epochs * self.plan.batches
        done = self.at.epoch * self.plan.batches + self.at.step
        if self.swa is not None and done in averaged_after(self.stage, steps):
            self.swa.update_parameters(self.network)
        ends = cycle_ends(self.stage.schedule, steps)
        if self.stage.snapshots and done in ends:
            self._save(self.run.snapshot(self.at.stage + 1, 1 + ends.index(done)), self._kept().state_dict())

    def _judge(self, batch: Batch, outputs: Outputs) -> tuple[Scalar, Tensor, Tensor | None]:
        """The loss of a batch, and the truth and the pixels' weights it was taken with."""
        weight = pixel_weight(batch.valid, self.trust[batch.indices.cpu()], outputs["mask"])
        classes = len(self.dataset.classes)
        labels = (batch.masks if batch.soft is None else batch.soft).to(self.hardware.device, non_blocking=True)
        labels = labels if batch.soft is None else labels / 255
        truth, borders = labels[:, :classes], labels[:, classes:] if self.recipe.network.border_px else None
        loss = objective(self.recipe, self.stage, outputs, truth, weight, batch.scale.exp2(), borders)
        return loss, truth, weight

    def _learning_rate(self, step: int) -> float:
        """Of a step of the present epoch."""
        watched, sign = ("validation_loss", -1) if self.stage.schedule.watch == "loss" else (self.metric, 1)
        done = self.at.epoch * self.plan.batches + step
        lr = learning_rate(self.stage, done, self.stage.epochs * self.plan.batches)
        return lr * plateau_factor(self.stage.schedule, [sign * score for score in self._of_stage(watched)])

    def _of_stage(self, column: str) -> list[float]:
        """A column of the rows of the stage's epochs so far."""
        return [float(row[column]) for row in self.at.rows if row["stage"] == self.at.stage + 1]

    def _stage_is_over(self) -> bool:
        patience = self.stage.stop_after
        waited = epochs_without_better(self._of_stage(self.metric))
        return self.at.epoch == self.stage.epochs or (patience is not None and waited >= patience)

    def _remember(self, batch: Batch, losses: Float[Tensor, " batch"]) -> None:
        """Average the losses of the batch's images with those they had before."""
        for chip, loss in zip(batch.indices.tolist(), losses.cpu().tolist(), strict=True):
            before = float(self.losses[1, chip])
            self.losses[1, chip] = loss if math.isnan(before) else (before + loss) / 2

    # epochs are scored

    def _end_of_epoch(self) -> Row:
        """Score the validation fold with the weights that would be kept; the row for metrics.csv."""
        at, plan = self.at, self.plan
        lr = self._learning_rate(plan.batches - 1)
        scores = self._scores(self._kept())
        others: Row = {name: scores.pop(name) for name in self.other_metrics}
        return {
            "stage": at.stage + 1,
            "epoch": at.epoch + 1,
            "images": plan.images,
            "lr": lr,
            "loss": sum(at.losses[-1]) / plan.batches,
            **scores,
            "seconds": at.seconds,
            "images_per_second": plan.images / at.seconds,
            "averaged": 0 if self.swa is None else int(self.swa.n_averaged),
            **others,
        }

    def _scores(self, network: nn.Module) -> Row:
        """Of the validation fold, by the best threshold. Raises ModelError where its loss is no number."""
        scores = self.validation(network, lambda batch, outputs: self._judge(batch, outputs)[0])
        if not math.isfinite(float(scores["validation_loss"])):
            self._fail("validation loss", float(scores["validation_loss"]))
        return scores

    def _kept(self) -> nn.Module:
        """The weights that are validated and kept: the running average once there is one."""
        if self.ema is not None and int(self.ema.n_averaged):
            return self.ema.module
        return self.network

    # stages

    def _enter_stage(self, state: dict[str, Any] | None) -> None:
        """Weights, averages and optimiser at the start of a stage, or as a checkpoint within it left them."""
        if state is not None:
            load_weights(self.network, state["network"])
        elif self.at.stage > 0:
            load_weights(self.network, self._weights_to_start_from())
        self.history = LossHistory()
        for average in (self.ema, self.swa):
            if average is not None:
                average.n_averaged.zero_()  # the first to come is copied
        for parameter in self.learning:
            parameter.requires_grad_(True)  # the stage before may have frozen it
        self.frozen = encoder_of(self.network) if self.stage.optimizer.encoder_lr == 0 else None
        optimizer = build_optimizer(self.network, self.stage.optimizer, self.recipe.data.input_hw)
        self.optimizer = self.fabric.setup_optimizers(optimizer)
        if state is not None:
            self.optimizer.load_state_dict(optimizer_shares(state["optimizer"], optimizer))
            self.history = LossHistory(**state["history"])
            for average, saved in ((self.ema, state["ema"]), (self.swa, state["swa"])):
                if average is not None:
                    load_weights(average, saved)

    def _weights_to_start_from(self) -> Weights:
        """Whole, those that the first process has or reads."""
        if self.stage.start_from == "last":
            weights = self._whole(self._kept().state_dict())
            return self.processes.same(lambda: weights)
        averaged = self.stage.start_from == "averaged"
        best = self.run.best_weights(*best_epochs(self.at.rows, self.metric, 1)[0])
        return self.processes.same(lambda: load_state(self.run.averaged(self.at.stage) if averaged else best))

    def _leave_stage(self, batches: TrainingBatches) -> None:
        """Make a network of the mean of the stage's weights, and score it."""
        if self.swa is None:
            return
        epoch, passes = self.stage.epochs, self.recipe.train.accumulate
        torch.manual_seed(_counted(self.recipe.seed, self.at.stage, epoch))
        network = self.swa.module
        drawn = batches.epoch(epoch)  # one more than it was trained for
        with self.hardware.autocast():
            images = (piece.images.to(self.hardware.device) for batch in drawn for piece in _pieces(batch, passes))
            with self.processes.norms():
                measure_norms(network, images, None if self.frozen is None else encoder_of(network))
        scores = self._scores(network)
        self._save(self.run.averaged(self.at.stage + 1), network.state_dict())
        self.at.averages.append(
            {"stage": self.at.stage + 1, "averaged": int(self.swa.n_averaged), "images": self.plan.images, **scores}
        )
        if self.processes.first:
            write_rows(self.run.folder / "averaged.csv", self.at.averages)

    # files

    def _keep_weights(self) -> None:
        """After an epoch: write its weights if it is among the best, and the checkpoint; remove what no longer is."""
        at, options = self.at, self.recipe.train
        kept = epochs_to_keep(at.rows, self.metric, options.keep_best, self.other_metrics)
        if (at.stage + 1, at.epoch) in kept:
            self._save(self.run.best_weights(at.stage + 1, at.epoch), self._kept().state_dict())
        if options.keep_every and at.epoch % options.keep_every == 0:
            self._save(self.run.kept_for_good(at.stage + 1, at.epoch), self._kept().state_dict())
        self._save_last()
        if self.processes.first:
            drop_others(
                self.run, kept
            )  # last: until there is a checkpoint, training may go back to what was best before

    def _last_state(self) -> dict[str, Any] | None:
        """The last checkpoint, if there is one, with the position already set to it."""
        state = self.processes.same(lambda: load_state(self.run.last) if self.run.last.exists() else None)
        if state is None:
            return None
        self.at = Position(**state["position"])
        self.losses = state["losses"]
        return state

    def _save_last(self) -> None:
        """Write the checkpoint that training goes on from; never one of weights that are no numbers any more."""
        weights = self.network.state_dict()
        if self.processes.any(not _all_finite(weights)):
            self._fail("largest weight", math.inf)
        self._save(
            self.run.last,
            {
                "position": asdict(self.at),
                "network": weights,
                "ema": self.ema.state_dict() if self.ema is not None else None,
                "swa": self.swa.state_dict() if self.swa is not None else None,
                "optimizer": self.optimizer.state_dict(),
                "losses": self.losses,
                "history": asdict(self.history),
            },
        )

    def _save(self, path: Path, state: dict[str, Any]) -> None:
        state = self._whole(state)
        if self.processes.first:
            save_state(path, state)

    def _whole(self, state: dict[str, Any]) -> dict[str, Any]:
        """For the first process, a state that each of them holds a share of; for the others nothing of use."""
        made: dict[str, Any] = whole(state, kept=self.processes.first)
        return made

    def _fail(self, what: str, value: float) -> NoReturn:
        """Give up, naming the images of the last batch, which are saved."""
        at = self.at
        mine = [] if self.batch is None else self.batch.indices.tolist()
        ids = [self.chips.id(chip) for part in self.processes.each(mine) for chip in part]
        file = self.run.folder / "failed-batch.json"
        step = min(at.step + 1, self.plan.batches)  # all are done when it is validated
        where = {"stage": at.stage + 1, "epoch": at.epoch + 1, "step": step}
        if self.processes.first:
            write_text(file, json.dumps({**where, "what": what, "value": str(value), "images": ids}, indent=2))
        images = f"{', '.join(ids[:3])}{f' and {len(ids) - 3} more' if len(ids) > 3 else ''}"
        raise ModelError(
            f"the {what} became {value:g} in stage {at.stage + 1}, epoch {at.epoch + 1}, step {step}: look at "
            f"the images of the last batch ({images}; all in {file}), and in a new run lower "
            f"train.stages.{at.stage}.optimizer.lr, or set train.gradient_clip=1"
        )

    def _write_bundle(self, last: Weights) -> None:
        """`last` are the last weights, where these are what is kept."""
        members = [{name: tensor.cpu() for name, tensor in weights.items()} for weights in self._bundled(last)]
        Bundle(
            members=tuple(members),
            recipe=self.recipe,
            extra=extra_ranges(self.dataset.images, self.recipe.data.extra),
            sight=sight_of(self.dataset, self.recipe.data),
            mean=self.mean,
            std=self.std,
            classes=self.dataset.classes,
            layout=self.dataset.layout,
            fingerprint=self.dataset.fingerprint,
        ).write(self.run.bundle)

    def _bundled(self, last: Weights) -> list[Weights]:
        """The weights of each network that goes into the bundle."""
        stages = list(enumerate(self.recipe.train.stages, start=1))
        match self.recipe.train.keep:
            case "last":
                return [last]
            case "averaged":
                return [load_state(self.run.averaged(len(stages)))]
            case "snapshots":
                cycles = [(n, cycle) for n, s in stages if s.snapshots for cycle in range(1, s.schedule.cycles + 1)]
                return [load_state(self.run.snapshot(stage, cycle)) for stage, cycle in cycles]
            case _:
                return [load_state(self.run.best_weights(*best_epochs(self.at.rows, self.metric, 1)[0]))]

    def _tell(self, loss: float, images_per_second: float, *, epoch_is_over: bool) -> None:
        at, stages = self.at, self.recipe.train.stages
        sizes = [stage.epochs * plan.images for stage, plan in zip(stages, self.plans, strict=True)]
        plan = self.plans[at.stage]
        if not self.processes.first:
            return
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
                warnings=self.warnings,
            )
        )


def _plans(chips: Chips, recipe: Recipe, training: Int[np.ndarray, " training"]) -> list[EpochPlan]:
    """Of each stage. Raises RecipeError for a schedule of more cycles than the stage has steps for."""
    strata, plans = chips.strata(), []
    for number, stage in enumerate(recipe.train.stages):
        plan = plan_epochs(training, strata, number, stage, recipe.train.batch_size, recipe.seed)
        steps = stage.epochs * plan.batches
        ends = [0, *cycle_ends(stage.schedule, steps)]
        if any(end <= before for before, end in pairwise(ends)):
            raise RecipeError(
                f"train.stages.{number}.schedule: {stage.schedule.cycles} cycles do not fit into the {steps} steps of "
                f"{stage.epochs} epochs; lower cycles, growth or warmup, or raise epochs"
            )
        plans.append(plan)
    return plans


def _pieces(batch: Batch, count: int) -> Iterator[Batch]:
    """A batch in so many pieces of equal size, to within one image; in fewer if it has fewer images."""
    images = len(batch.indices)
    count = min(count, images)
    for number in range(count):
        part = slice(images * number // count, images * (number + 1) // count)
        values = {column.name: getattr(batch, column.name) for column in fields(batch)}
        yield replace(batch, **{name: value[part] for name, value in values.items() if value is not None})


def _all_finite(state: dict[str, Tensor]) -> bool:
    here = (tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in state.values())
    return all(bool(tensor.isfinite().all()) for tensor in here)


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
