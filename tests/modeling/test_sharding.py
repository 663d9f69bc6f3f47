"""Shares of weights in two processes: the training of one, in half of its memory, and files that tell no difference."""

import csv
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from segsmith.modeling.run import Run, load_state
from segsmith.modeling.train import train
from segsmith.recipe import Recipe
from segsmith.recipe_files import override, to_yaml

Sharded = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def sharded(squares: Path, tmp_path: Path):
    def start(recipe: Recipe, run: Path, *options: str) -> "subprocess.Popen[str]":
        file = tmp_path / "recipe.yaml"
        file.write_text(to_yaml(recipe))
        command = [sys.executable, "-m", "segsmith", "train", str(squares), str(run), "--recipe", str(file)]
        return subprocess.Popen([*command, "--processes", "2", *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return start


def column(run: Run, file: str, name: str) -> list[float]:
    with (run.folder / file).open() as lines:
        return [float(row[name]) for row in csv.DictReader(lines)]

CALM = ["network.dropout=0", "train.stages.0.optimizer.lr=0.002"]

def test_shares(squares, tiny, sharded, tmp_path):
    recipe = override(tiny, CALM)
    alone = train(squares, recipe, tmp_path / "alone")
    process = sharded(recipe, tmp_path / "two", "train.shard=true")
    said, _ = process.communicate(timeout=500)
    assert process.returncode == 0, said
    two = Run(tmp_path / "two")
    for file, name in (("losses.csv", "loss"), ("metrics.csv", "validation_loss"), ("averaged.csv", "validation_loss")):
        expected = column(alone, file, name)
        print(file, max(abs(a-b) for a,b in zip(expected, column(two,file,name))))
        assert column(two, file, name) == pytest.approx(expected, abs=1e-4)
    a, b = load_state(alone.last), load_state(two.last)
    for n in a["network"]:
        print(n, float((a["network"][n].float()-b["network"][n].float()).abs().max()))
