"""How many processes share a batch changes nothing but rounding; and one that is gone stops the others with a word."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from processes import begun

from segsmith.data.dataset import Dataset
from segsmith.errors import RecipeError
from segsmith.modeling.bundle import Bundle
from segsmith.modeling.processes import Processes, joined
from segsmith.modeling.run import Run, load_state
from segsmith.modeling.train import train
from segsmith.modeling.training import Training
from segsmith.recipe import Recipe
from segsmith.recipe_files import override, to_yaml

Together = Callable[..., "subprocess.Popen[str]"]

CALM = ["network.dropout=0", "train.stages.0.optimizer.lr=0.002"]
"""Each process drops other values; and Adam at a high rate makes large steps of what rounding left of a gradient."""


@pytest.fixture
def together(squares: Path, tmp_path: Path) -> Iterator[Together]:
    """Starts `segsmith train --processes 2`."""
    started: list[subprocess.Popen[str]] = []

    def start(recipe: Recipe, run: Path, *options: str, dataset: Path = squares) -> "subprocess.Popen[str]":
        file = tmp_path / "recipe.yaml"
        file.write_text(to_yaml(recipe))
        command = [sys.executable, "-m", "segsmith", "train", str(dataset), str(run), "--recipe", str(file)]
        started.append(
            subprocess.Popen(
                [*command, "--processes", "2", *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.terminate()
        process.wait()


def column(run: Run, file: str, name: str) -> list[float]:
    with (run.folder / file).open() as lines:
        return [float(row[name]) for row in csv.DictReader(lines)]


def test_two_processes_train_as_one(squares, tiny, together, tmp_path):
    """A mix, hard images, passes, averages, snapshots, two stages: the losses of every step, and what came of them."""
    recipe = override(tiny, CALM)
    alone = train(squares, recipe, tmp_path / "alone")
    process = together(recipe, tmp_path / "two")
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    two = Run(tmp_path / "two")
    for file, name in (("losses.csv", "loss"), ("metrics.csv", "validation_loss"), ("averaged.csv", "validation_loss")):
        expected = column(alone, file, name)
        assert len(expected) == {"losses.csv": 14, "metrics.csv": 4, "averaged.csv": 1}[file]
        assert column(two, file, name) == pytest.approx(expected, abs=1e-4)
    assert two.bundle.exists()
    assert said.count("bundle ") == 1, "only the first process talks"


@pytest.mark.parametrize("augment_on", ["cpu", "device"])
def test_two_processes_learn_soft_labels_as_one(squares, tiny, together, tmp_path, augment_on):
    """Of each pass one of four images is taught, so one of the processes has no soft label of its own."""
    dataset = Dataset.open(squares)
    taught = np.zeros(len(dataset), bool)
    taught[[0, 9, 18]] = True
    (tmp_path / "soft" / "class-1").mkdir(parents=True)
    for row in np.flatnonzero(taught).tolist():
        levels = np.random.default_rng(row).integers(0, 256, dataset.hw(row), np.uint8)
        cv2.imwrite(str(tmp_path / "soft" / "class-1" / f"{dataset.images['image_id'].iloc[row]}.png"), levels)
    source = dataset.images["source"].where(~taught, "taught")
    images = dataset.images.assign(mined=taught, soft=np.where(taught, "digest", ""), source=source)
    replace(dataset, images=images, soft_labels=tmp_path / "soft").write(tmp_path / "dataset")
    stage = "train.stages=[{epochs: 1, images_per_epoch: 12, loss: {kl: 1}, mix: {'source:taught': 1, rest: 3}}]"
    recipe = override(tiny, [*CALM[:1], "train.batch_size=4", "train.accumulate=1", "train.keep=last", stage])
    recipe = override(recipe, [f"train.augment_on={augment_on}"])
    alone = train(tmp_path / "dataset", recipe, tmp_path / "alone")
    process = together(recipe, tmp_path / "two", dataset=tmp_path / "dataset")
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    expected = column(alone, "losses.csv", "loss")
    assert len(expected) == 3
    assert column(Run(tmp_path / "two"), "losses.csv", "loss") == pytest.approx(expected, abs=1e-4)


def test_two_processes_train_every_fold_as_one(squares, tiny, together, tmp_path):
    recipe = override(tiny, [*CALM, "folds.held_out=null", "folds.count=2", "folds.validation=all"])
    alone = train(squares, recipe, tmp_path / "alone")
    process = together(recipe, tmp_path / "two")
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    two = Run(tmp_path / "two")
    for fold in (0, 1):
        expected = column(alone.of_fold(fold), "metrics.csv", "validation_loss")
        assert column(two.of_fold(fold), "metrics.csv", "validation_loss") == pytest.approx(expected, abs=1e-4)
    assert len(Bundle.read(two.bundle).members) == len(Bundle.read(alone.bundle).members)


def test_one_that_is_killed_ends_the_run_and_the_same_command_goes_on(tiny, together, tmp_path):
    recipe = override(tiny, ["train.checkpoint_minutes=0.0001"])
    run = Run(tmp_path / "run")
    process = together(recipe, run.folder)
    began = time.monotonic()
    while not run.last.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() - began < 300
        time.sleep(0.01)
    second = next(pid for pid in children(process.pid) if "RANK=1" in environment(pid))
    os.kill(second, signal.SIGKILL)
    said, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert re.search(r"segsmith: one of the 2 processes .* the same command continues from the last checkpoint", said)
    assert "Traceback" not in said
    assert not run.bundle.exists()
    again = together(recipe, run.folder)
    said, _ = again.communicate(timeout=300)
    assert again.returncode == 0, said
    assert run.bundle.exists()
    assert len(column(run, "losses.csv", "loss")) == 14


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def environment(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/environ").read_text().split("\0")


def score(run: Run, rank: int, count: int, found: Path) -> None:
    """What the validation fold scores with the last weights of a run, in batches of three."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(20000 + os.getppid() % 10000)}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
    with joined() as processes:
        recipe = override(run.recipe(), ["predict.batch_size=3"])
        training = Training(run.chips(), recipe, run, lambda step: None, processes)
        training.network.load_state_dict(load_state(run.last)["network"])
        row = training._scores(training.network)
        found.with_name(f"{count}-{rank}.json").write_text(json.dumps(row))


def test_two_processes_score_to_the_last_bit_as_one_does(undisturbed, tmp_path):
    """Eight images in batches of three: the second process has a batch less, and the last batch is smaller."""
    for count in (1, 2):
        started = [begun(score, undisturbed[0], rank, count, tmp_path / "row") for rank in range(count)]
        for process in started:
            process.join(300)
            assert process.exitcode == 0
    rows = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("1-0", "2-0", "2-1")]
    assert rows[0] == rows[1] == rows[2]
    assert rows[0]["validation_loss"] > 0


@pytest.mark.parametrize(("count", "passes"), [(1, 1), (1, 3), (2, 1), (2, 3), (3, 2)])
def test_passes_are_shared_out_in_order(count, passes):
    """Laid side by side pass by pass, the parts are the batch."""
    batch = list(range(12))
    parts = [Processes(rank, count).part(batch, passes) for rank in range(count)]
    size = 12 // (count * passes)
    together = [one for n in range(passes) for part in parts for one in part[n * size : (n + 1) * size]]
    assert together == batch


def test_alone_a_process_takes_all_of_a_batch_that_its_passes_do_not_divide():
    assert Processes().part(list(range(8)), 3) == list(range(8))


def test_a_batch_that_does_not_split_evenly_is_refused():
    Processes(1, 2).check_divides(8, 2)
    Processes().check_divides(7, 2)
    with pytest.raises(
        RecipeError,
        match=r"train\.batch_size: 10 images .* over 2 processes of 2 passes each .* multiple of 4, such as 12",
    ):
        Processes(0, 2).check_divides(10, 2)
