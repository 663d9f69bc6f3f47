"""`segsmith search`: what it tries, that no trial is lost or trained twice whatever is killed, and what it refuses."""

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGKILL

import optuna
import pandas as pd
import pytest
import safetensors.torch
from processes import Command

from segsmith.modeling.bundle import Bundle
from segsmith.modeling.run import Run
from segsmith.recipe_files import load_recipe, override

BASE = """\
data: {input_hw: [32, 32], normalise: measured}
folds: {count: 3}
network: {encoder: tu-test_resnet, encoder_weights: null, encoder_depth: 3, decoder_channels: [8, 8, 8]}
train:
  batch_size: 4
  workers: 0
  stages: [{epochs: 2, images_per_epoch: 4, schedule: {name: constant}}]
"""
RANDOM = """\
search:
  over:
    train.stages.0.optimizer.lr: {low: 1e-3, high: 1e-1, log: true}
    network.dropout: {low: 0, high: 1}
    train.batch_size: {low: 2, high: 4, step: 2}
    train.stages.0.loss: [{bce: 1}, {bce: 1, dice: 1}]
  sampler: random
  pruner: none
  trials: 3
"""
GRID = """\
search:
  over: {train.batch_size: [2, 4], train.stages.0.optimizer.lr: {low: 0.01, high: 0.03, step: 0.01}}
  sampler: grid
"""

Searched = Callable[..., Path]


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[[str], Path]:
    def write(search: str) -> Path:
        (tmp_path / "job.yaml").write_text(BASE + search)
        return tmp_path / "job.yaml"

    return write


@pytest.fixture
def start(squares: Path, tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """Starts `segsmith search` in a process of its own."""
    started: list[Command] = []

    def starting(recipe: Path, folder: Path, *options: object) -> Command:
        started.append(Command(["search", str(recipe), str(squares), "--to", str(folder), *map(str, options)]))
        return started[-1]

    yield starting
    for command in started:
        command.end()


def trials(storage: Path) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="segsmith", storage=f"sqlite:///{storage}").trials


def weights(run: Path) -> bytes:
    return safetensors.torch.save(Bundle.read(Run(run).bundle).members[0])


def test_a_search_ends_in_a_recipe_a_table_and_a_report(command, squares, recipe, tmp_path):
    job, to = recipe(RANDOM), tmp_path / "search"
    said = command("search", job, squares, "--to", to)
    assert said.code == 0, said.err
    table = pd.read_csv(to / "trials.csv")
    assert list(table["state"]) == ["complete"] * 3
    assert table["train.stages.0.optimizer.lr"].between(1e-3, 1e-1).all()
    assert table["network.dropout"].nunique() == 3, "0 and 1 are the ends of all between, not two whole numbers"
    assert set(table["train.batch_size"]) <= {2, 4}
    for number, score in zip(table["trial"], table["score"], strict=True):
        of_run = pd.read_csv(to / "trials" / f"{number:04}" / "metrics.csv")
        assert score == pytest.approx(of_run["mean_dice"].max())
    best = table.loc[table["score"].idxmax()]
    trained = Run(to / "trials" / f"{best['trial']:04}").recipe()
    assert load_recipe(to / "best.yaml") == trained
    assert trained.train.batch_size == best["train.batch_size"]
    assert f"mean_dice {best['score']:.4f}  trial {best['trial']}" in said.out
    page = (to / "report.html").read_text()
    assert "train.stages.0.optimizer.lr" in page
    assert "http://" not in page.replace("http://www.w3.org/", "")

    before = {file: file.read_bytes() for file in (to / "trials").rglob("*") if file.is_file()}
    again = command("search", job, squares, "--to", to)
    assert again.code == 0
    assert "epoch" not in again.out, "nothing was trained"
    assert command("search", job, squares, "--to", to, "search.trials=4").code == 0
    assert len(pd.read_csv(to / "trials.csv")) == 4
    assert {file: file.read_bytes() for file in before} == before


def test_what_a_trial_tries_is_counted_from_the_seed(command, squares, recipe, tmp_path):
    """And not drawn from what lives on: the second trial is the same whether the first was trained by the same
    process or by another."""
    job, tables = recipe(RANDOM), []
    for name, steps in (("one", [2]), ("two", [1, 2])):
        for count in steps:
            said = command("search", job, squares, "--to", tmp_path / name, f"search.trials={count}")
            assert said.code == 0, said.err
        tables.append(pd.read_csv(tmp_path / name / "trials.csv"))
    assert tables[0].equals(tables[1])


def test_a_search_killed_again_and_again_loses_no_trial_and_trains_none_twice(
    command, squares, recipe, start, tmp_path
):
    job, moments = recipe(RANDOM), random.Random(0)
    expected = tmp_path / "expected"
    assert command("search", job, squares, "--to", expected).code == 0
    to = tmp_path / "search"
    for number in range(3):
        run = Run(to / "trials" / f"{number:04}")
        process = start(job, to)
        process.wait_for_checkpoint(run)
        time.sleep(moments.uniform(0, 0.3))
        process.process.kill()
        assert process.ended() == -SIGKILL
    last = start(job, to)
    assert last.ended() == 0, last.printed()
    assert [trial.number for trial in trials(to / "study.db")] == [0, 1, 2]
    assert pd.read_csv(to / "trials.csv").equals(pd.read_csv(expected / "trials.csv"))
    for number in range(3):
        run = Path("trials") / f"{number:04}"
        assert weights(to / run) == weights(expected / run), "each goes on to the same bits"
        assert len(pd.read_csv(to / run / "metrics.csv")) == 2


@pytest.mark.parametrize("folders", [1, 2])
def test_two_processes_share_a_grid(squares, recipe, start, tmp_path, folders):
    """In one folder, or with a storage alone in common, as two machines have."""
    job, storage = recipe(GRID), tmp_path / "study.db"
    tos = [tmp_path / f"search-{number % folders}" for number in range(2)]
    options = ("--storage", f"sqlite:///{storage}") if folders == 2 else ()
    processes = [start(job, to, *options) for to in tos]
    said = []
    for process in processes:
        assert process.ended() == 0, process.printed()
        said.append(process.printed())
    found = trials(storage if folders == 2 else tos[0] / "study.db")
    tried = sorted((trial.params["train.batch_size"], trial.params["train.stages.0.optimizer.lr"]) for trial in found
                   if "one more" not in trial.user_attrs.get("why", ""))  # fmt: skip
    assert tried == [(size, pytest.approx(lr)) for size in ("2", "4") for lr in (0.01, 0.02, 0.03)]
    assert all(text.count("trial ") >= 2 for text in said), "both worked"
    runs = sorted(run.name for to in set(tos) for run in (to / "trials").iterdir())
    assert runs == [f"{number:04}" for number in range(6)], "each trial was trained in one place"
    assert all(Run(run).bundle.exists() for to in set(tos) for run in (to / "trials").iterdir())
    best = max((trial for trial in found if trial.value is not None), key=lambda trial: (trial.value, -trial.number))
    winners = [load_recipe(to / "best.yaml") for to in set(tos)]
    assert any(winner.train.batch_size == int(best.params["train.batch_size"]) for winner in winners)


def test_a_hopeless_trial_is_given_up(command, squares, recipe, tmp_path):
    search = """\
search:
  over: {train.stages.0.optimizer.lr: [0.03, 0.02, 0.025, 0.022, 0.027, 1.0e-9]}
  sampler: grid
"""
    job, to = recipe(search), tmp_path / "search"
    longer = [f"train.stages.0.{option}" for option in ("epochs=3", "images_per_epoch=16", "loss={bce: 1, dice: 1}")]
    said = command("search", job, squares, "--to", to, *longer)
    assert said.code == 0, said.err
    table = pd.read_csv(to / "trials.csv")
    assert table["state"].iloc[-1] == "pruned"
    assert table["epochs"].iloc[-1] == 1, "after the epoch that every trial is given"
    assert not Run(to / "trials" / "0005").bundle.exists()


def test_a_trial_that_explodes_fails_and_the_others_go_on(command, squares, recipe, tmp_path):
    search = "search: {over: {train.stages.0.optimizer.lr: [1.0e+30, 0.01]}, sampler: grid}\n"
    said = command("search", recipe(search), squares, "--to", tmp_path / "search", "train.stages.0.optimizer.name=sgd")
    assert said.code == 0, said.err
    table = pd.read_csv(tmp_path / "search" / "trials.csv")
    assert list(table["state"]) == ["fail", "complete"]
    assert "became" in table["why"].iloc[0]


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ("{train.stages.0.optimizer.lrr: [1]}", "search.over.train.stages.0.optimizer.lrr: no training with 1: overr"),
        ("{train.batch_size: [4, 0]}", "search.over.train.batch_size: no training with 0: override"),
        ("{network.encoder: [tu-test_resnet, resnet999]}", "search.over.network.encoder: no training with resnet999"),
        ("{network.dropout: {low: 0, high: 2}}", "search.over.network.dropout: no training with 2: override"),
        ("{data.input_hw: [[32, 32], [33, 32]]}", "search.over.data.input_hw: no training with [33, 32]"),
        ("{train.batch_size: {low: 2, high: 4.5}}", "search.over.train.batch_size: takes whole numbers"),
        ("{train.batch_size: [2, 2]}", "search.over.train.batch_size: 2 stands there twice"),
        ("{seed: [1, 2]}", "search.over.seed: trials with different values would not have scores to compare"),
        ("{folds.count: [3, 4]}", "search.over.folds.count: trials with different values would not have scores"),
        ("{predict.flips: [none, both]}", "search.over.predict.flips: changes nothing that a trial is scored by"),
    ],
)  # fmt: skip
def test_what_no_training_takes_is_refused_before_any(command, squares, recipe, tmp_path, over, message):
    said = command("search", recipe(f"search: {{over: {over}}}\n"), squares, "--to", tmp_path / "search")
    assert said.code == 2
    assert message in said.err
    assert not (tmp_path / "search").exists()


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ("", "the recipe has no search"),
        ("search: {over: {}}", "search.over: Dictionary should have at least 1 item"),
        ("search: {over: {train.batch_size: {low: 4, high: 2}}}", "low=4 is not below high=2"),
        ("search: {over: {train.batch_size: {low: 2}}}", "give a list of values, or low and high"),
        ("search: {over: {network.dropout: {low: 0, high: 1, log: true}}}", "log=true needs low above 0"),
        ("search: {over: {network.dropout: {low: 0, high: 1}}, sampler: grid}", "sampler=grid needs a list of values"),
    ],
)
def test_a_search_that_says_nothing_is_refused(command, squares, recipe, tmp_path, search, message):
    said = command("search", recipe(search), squares, "--to", tmp_path / "search")
    assert said.code == 2
    assert message in said.err


def test_another_search_is_not_mixed_in(command, squares, recipe, tmp_path):
    one = recipe("search: {over: {train.batch_size: [4]}, sampler: grid}\n")
    assert command("search", one, squares, "--to", tmp_path / "search", "train.stages.0.epochs=1").code == 0
    said = command("search", one, squares, "--to", tmp_path / "search", "train.stages.0.epochs=2")
    assert said.code == 2
    assert "holds a search of another recipe:\n  - train.stages.0.epochs: 1 there, 2 now" in said.err
    storage = f"sqlite:///{tmp_path / 'search' / 'study.db'}"
    said = command("search", one, squares, "--to", tmp_path / "other", "--storage", storage)
    assert said.code == 2
    assert "the study 'segsmith' is of another recipe" in said.err
    said = command("search", one, squares, "--to", tmp_path / "third", "--storage", "nonsense://x:secret@y/z")
    assert said.code == 2
    assert "--storage nonsense://...: cannot be opened" in said.err
    assert "secret" not in said.err


def test_a_training_does_not_ask_what_is_searched(command, squares, recipe, tmp_path):
    job = recipe("search: {over: {train.batch_size: [2, 4]}}\n")
    said = command("train", squares, tmp_path / "run", "--recipe", job, "train.stages.0.epochs=1")
    assert said.code == 0, said.err
    plain = override(load_recipe(job), ["train.stages.0.epochs=1", "search=null"])
    assert Run(tmp_path / "run").recipe() == plain
