"""Shares of weights in two processes: the training of one, in half of its memory, and files that tell no difference."""

import csv
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from processes import begun
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from segsmith.errors import ModelError, RecipeError, RunError
from segsmith.modeling.bundle import Bundle
from segsmith.modeling.processes import ALONE, Processes, joined
from segsmith.modeling.run import Run, load_state
from segsmith.modeling.sharding import check_sharding, shard, whole
from segsmith.modeling.train import train
from segsmith.modeling.training import Step, Training, TrainingStopped
from segsmith.recipe import Recipe
from segsmith.recipe_files import override

CALM = [
    *("network.dropout=0", "train.stages.0.optimizer.lr=0.002", "train.gradient_clip=0.5"),
    *("train.stages.0.epochs=1", "train.stages.1.epochs=1"),
]
"""Each process drops other values; and Adam at a high rate makes large steps of what rounding left of a gradient."""
OTHERS = [
    "network.dropout=0",
    "train.keep=last",
    "train.ema_decay=null",
    "train.stages=[{epochs: 1, images_per_epoch: 8, optimizer: {name: adagrad, lr: 0.001, encoder_lr: 0}},"
    " {epochs: 1, images_per_epoch: 8, start_from: last, optimizer: {name: rmsprop, lr: 0.0002, encoder_lr: 0.1}}]",
]
"""Other optimisers, an encoder that is frozen and then learns more slowly."""


def in_two(task: Callable[..., None], *arguments: object) -> list[int | None]:
    """Do something in two processes that know of each other; how they ended, by rank."""

    def one(rank: int) -> None:
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
        torch.set_num_threads(1)  # the other one shares the cores
        task(*arguments)

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [begun(one, rank) for rank in range(2)]
    for process in started:
        process.join(300)
        process.kill()
    return [process.exitcode for process in started]


def losses(run: Run) -> list[float]:
    with (run.folder / "losses.csv").open() as lines:
        return [float(row["loss"]) for row in csv.DictReader(lines)]


def check_alike(found: Any, expected: Any, where: str = "") -> None:
    """Of two checkpoints, everything but what a clock says."""
    assert type(found) is type(expected), where
    if isinstance(expected, dict):
        assert list(found) == list(expected), where
        for key, value in expected.items():
            if "second" not in str(key):
                check_alike(found[key], value, f"{where}.{key}")
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected), where
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            check_alike(one, other, f"{where}.{number}")
    elif isinstance(expected, Tensor):
        assert found.dtype == expected.dtype, where
        near = (1e-3, 1e-2) if ".optimizer." in where else (1e-4, 0)  # sums of gradients can be large
        torch.testing.assert_close(found, expected, atol=near[0], rtol=near[1], equal_nan=True, msg=lambda m: where + m)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=1e-4, nan_ok=True), where
    else:
        assert found == expected, where


def check_same_run(found: Run, expected: Run) -> None:
    assert losses(found) == pytest.approx(losses(expected), abs=1e-4)
    files = sorted(path.relative_to(expected.folder) for path in expected.folder.rglob("*.pt"))
    assert sorted(path.relative_to(found.folder) for path in found.folder.rglob("*.pt")) == files
    for file in files:
        check_alike(load_state(found.folder / file), load_state(expected.folder / file), str(file))
    one, other = Bundle.read(found.bundle), Bundle.read(expected.bundle)
    check_alike(list(one.members), list(other.members), "bundle")
    assert (one.classes, one.fingerprint, one.mean, one.std) == (
        other.classes,
        other.fingerprint,
        other.mean,
        other.std,
    )


@pytest.fixture(scope="module")
def alone(squares: Path, tiny: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(squares, override(tiny, CALM), tmp_path_factory.mktemp("alone") / "run")


def stopped(squares: Path, recipe: Recipe, run: Path, after: int) -> None:
    """Train until so many steps in all are done."""

    def watch(step: Step) -> None:
        done = step.images_seen // recipe.train.batch_size
        if done == after and not step.epoch_is_over:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(TrainingStopped):
        train(squares, recipe, run, watch=watch)


def test_in_shares_as_in_one(squares, tiny, alone, tmp_path):
    """A mix, hard images, passes, averages, snapshots, clipping, two stages: what each process holds a share of is
    written whole, and is what one process writes."""
    assert in_two(train, squares, override(tiny, [*CALM, "train.shard=true"]), tmp_path / "two") == [0, 0]
    assert len(losses(alone)) == 7
    check_same_run(Run(tmp_path / "two"), alone)


def test_frozen_and_slower_encoders_and_other_optimisers(squares, tiny, tmp_path):
    one = train(squares, override(tiny, OTHERS), tmp_path / "one")
    assert in_two(train, squares, override(tiny, [*OTHERS, "train.shard=true"]), tmp_path / "two") == [0, 0]
    assert len(losses(one)) == 4
    check_same_run(Run(tmp_path / "two"), one)


def test_a_run_goes_on_with_shares_and_without(squares, tiny, alone, tmp_path):
    """Begun in shares, stopped in the first stage; gone on with in one process, stopped in the second; ended in
    shares."""
    whole_weights, shares = override(tiny, CALM), override(tiny, [*CALM, "train.shard=true"])
    assert in_two(stopped, squares, shares, tmp_path / "run", 2) == [0, 0]
    run = Run(tmp_path / "run")
    assert sum(map(len, load_state(run.last)["position"]["losses"])) == 2
    stopped(squares, whole_weights, run.folder, 5)
    assert sum(map(len, load_state(run.last)["position"]["losses"])) == 5
    assert in_two(train, squares, shares, run.folder) == [0, 0]
    check_same_run(run, alone)


def held_by(run: Run, recipe: Recipe, found: Path) -> None:
    """Write how many bytes of parameters, and of what the optimiser keeps, this process holds after an epoch, and how
    many there are in all."""
    with joined() as processes:
        training = Training(run.chips(), recipe, run, lambda step: None, processes)
        training._set_up()
        training._enter_stage(None)
        for batch in training._stage_batches().epoch(0):
            training._step(batch)
            training.at.step += 1
        assert training.ema is not None
        kept = [value for values in training.optimizer.state_dict()["state"].values() for value in values.values()]
        held = []
        for tensors in (training.network.parameters(), training.ema.module.parameters(), kept):
            held += [sum(share.nbytes for share in shares) for shares in zip(*map(bytes_of, tensors), strict=True)]
        found.with_name(f"{processes.rank}.txt").write_text(" ".join(map(str, held)))


def bytes_of(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """What this process holds of a tensor, and all of it."""
    return getattr(tensor, "to_local", lambda: tensor)(), whole(tensor.detach())


def test_each_process_holds_half(alone, tiny, tmp_path):
    assert in_two(held_by, alone, override(tiny, [*CALM, "train.shard=true"]), tmp_path / "held") == [0, 0]
    in_all = [0, 0, 0]
    for rank in (0, 1):
        numbers = [int(number) for number in (tmp_path / f"{rank}.txt").read_text().split()]
        here, there = numbers[::2], numbers[1::2]
        in_all = [before + held for before, held in zip(in_all, here, strict=True)]
        assert all(0.45 < held / of_all < 0.55 for held, of_all in zip(here, there, strict=True))
    assert in_all[:2] == there[:2], "each parameter once"
    assert there[2] > 2 * there[0] > 0, "AdamW keeps two numbers for each"


def killed_at(squares: Path, recipe: Recipe, run: Path, step: int, said: Path) -> None:
    """Train, the second process until it is killed in a step."""
    steps, of_training = [], Training._step

    def until_killed(training: Training, batch: Any) -> float:
        steps.append(batch)
        if len(steps) == step and not training.processes.first:
            os.kill(os.getpid(), signal.SIGKILL)
        return of_training(training, batch)

    Training._step = until_killed  # type: ignore[method-assign]
    with pytest.raises(RunError) as error:
        train(squares, recipe, run)
    said.write_text(str(error.value))


def test_where_one_is_killed_the_other_says_so_and_the_run_goes_on(squares, tiny, alone, tmp_path):
    recipe = override(tiny, [*CALM, "train.shard=true", "train.checkpoint_minutes=0.0001"])
    assert in_two(killed_at, squares, recipe, tmp_path / "run", 5, tmp_path / "said") == [0, -signal.SIGKILL]
    assert (
        (tmp_path / "said").read_text().startswith("one of the 2 processes of this training ended or does not answer")
    )
    assert (tmp_path / "said").read_text().endswith("the same command continues from the last checkpoint")
    train(squares, override(recipe, ["train.shard=false"]), tmp_path / "run")
    check_same_run(Run(tmp_path / "run"), alone)


# Which modules are gathered by themselves


@pytest.fixture
def mesh() -> Iterator[DeviceMesh]:
    """Of this process alone, whose shares are all there is, gathered and let go of like others."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


class Awkward(nn.Module):
    """Of six layers, one is called twice, one never but used, one returns a view that is changed in place, and one what
    is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.plain, self.twice, self.used, self.dark = (nn.Conv2d(3, 3, 1) for _ in range(4))
        self.view = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Flatten(2, 3))
        self.pair = Pair()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x = self.twice(self.twice(self.plain(images.float())))
        x = nn.functional.conv2d(x, self.used.weight)
        x = self.view(x)
        x += 1
        return {"mask": self.pair(x)["mask"]}


class Pair(nn.Conv1d):
    def __init__(self) -> None:
        super().__init__(3, 3, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        return {"mask": super().forward(x)}


def test_modules_that_cannot_be_gathered_by_themselves_are_with_the_network(mesh):
    network, shares = Awkward(), Awkward()
    shares.load_state_dict(network.state_dict())
    images = torch.arange(24, dtype=torch.uint8).view(2, 3, 1, 4)
    shard(shares, images, mesh)
    for made in (network, shares):
        made(images)["mask"].square().sum().backward()
    assert [type(module).__name__ for module in shares.modules() if type(module).__name__.startswith("FSDP")] == [
        "FSDPAwkward",
        "FSDPConv2d",  # plain
        "FSDPConv2d",  # of the view
    ]
    for name, parameter in network.named_parameters():
        grad = shares.get_parameter(name).grad
        assert (parameter.grad is None) == (grad is None) == name.startswith(("dark", "used.bias"))
        if grad is not None:
            torch.testing.assert_close(whole(grad), parameter.grad)


def test_a_network_that_cannot_be_cut(mesh):
    class Scalar(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.tensor(1.0))

        def forward(self, images: Tensor) -> Tensor:
            return images * self.factor

    with pytest.raises(ModelError, match=r"train\.shard: this network cannot be cut .*; set train\.shard=false"):
        shard(Scalar(), torch.zeros(1, 3, 4, 4, dtype=torch.uint8), mesh)


# Refused


def test_one_process_alone(command, squares, tiny, tmp_path):
    recipe = override(tiny, ["train.shard=true"])
    with pytest.raises(RecipeError, match=r"train\.shard: one process has no other .* or set train\.shard=false"):
        check_sharding(recipe.train, ALONE)
    said = command("train", squares, tmp_path / "run", "--recipe", "ships-demo", "train.shard=true")
    assert said.code == 2
    assert said.err.startswith("segsmith: train.shard: one process has no other to share weights with")
    assert not (tmp_path / "run").exists()


def test_rates_that_fall_with_depth(tiny):
    recipe = override(tiny, ["train.shard=true", "train.stages.1.optimizer.layer_decay=0.8"])
    with pytest.raises(RecipeError, match=r"train\.stages\.1\.optimizer\.layer_decay: 0\.8 needs whole parameters"):
        check_sharding(recipe.train, Processes(0, 2))
