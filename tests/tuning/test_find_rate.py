"""`segsmith find-rate`: a rate that teaches, the same one every time."""

import numpy as np
import pytest

from segsmith.recipe_files import override, to_yaml
from segsmith.tuning.find_rate import RangeTest, find_rate, smoothed

FAST = ("train.stages=[{images_per_epoch: 12}]", "train.ema_decay=null", "train.accumulate=1")


@pytest.fixture
def recipe(tiny):
    return override(tiny, FAST)


def curve(rates, falls_at, diverges_at):
    """A loss that falls around one rate and rises beyond another."""
    return 1 - 0.8 / (1 + (falls_at / rates) ** 2) + 0.05 * np.maximum(0, np.log(rates / diverges_at)) ** 2 * 100


def test_the_chosen_rate_lies_where_the_loss_falls():
    rates = np.geomspace(1e-6, 1, 200)
    test = RangeTest(0.0, rates, curve(rates, 1e-3, 1e-1), sigma=2.0)
    assert test.falls
    assert test.steepest == pytest.approx(1e-3, rel=0.2)
    assert 1e-3 < test.tenth < 1e-2, "before it rises again, beyond 1e-1"


def test_smoothing_does_not_shift_a_curve():
    steps = np.arange(100.0)
    noise = np.random.default_rng(0).normal(0, 0.1, 100)
    found = smoothed(np.abs(steps - 50) / 50 + noise, 4.0)
    assert abs(found.argmin() - 50) <= 4
    assert smoothed(steps, 4.0)[20:80] == pytest.approx(steps[20:80], abs=0.01)


def test_rate_and_decay_are_found_written_and_the_same_again(command, squares, recipe, tmp_path):
    (tmp_path / "job.yaml").write_text(to_yaml(recipe))
    arguments = ("find-rate", squares, "--recipe", tmp_path / "job.yaml", "--steps", 40, "--decay", 0.1, "--low", 1e-5)
    said = command(*arguments, "--out", tmp_path / "rates.html")
    assert said.code == 0, said.err
    overrides = next(line for line in said.out.splitlines() if line.startswith("train.stages.0")).split()
    optimizer = override(recipe, overrides).train.stages[0].optimizer
    assert 1e-5 < optimizer.lr < 1
    assert optimizer.weight_decay in (0.01, 0.1)
    page = (tmp_path / "rates.html").read_text()
    assert " ".join(overrides) in page
    assert command(*arguments, "--out", tmp_path / "again.html").out == said.out.replace("rates.html", "again.html")
    assert (tmp_path / "again.html").read_text() == page
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.html", "job.yaml", "rates.html"]


def test_rates_that_teach_nothing_are_told(command, squares, recipe, tmp_path):
    (tmp_path / "job.yaml").write_text(to_yaml(recipe))
    arguments = ("find-rate", squares, "--recipe", tmp_path / "job.yaml", "--decay", 0.01, "--out", tmp_path / "r.html")
    said = command(*arguments, "--steps", 30, "--low", 1e-12, "--high", 1e-11)
    assert said.code == 2
    assert "the loss fell at no learning rate from 1e-12 to 1e-11" in said.err
    assert not (tmp_path / "r.html").exists()
    assert "must rise from above 0" in command(*arguments, "--low", 1).err
    assert "5 steps tell nothing" in command(*arguments, "--steps", 5).err


def test_the_first_step_is_that_of_the_training(squares, recipe, tmp_path):
    """Same weights, same batch: a test looks at the training it is for."""
    from segsmith.modeling.train import train

    told = []
    recipe = override(recipe, ["seed=1"])
    train(squares, override(recipe, ["train.stages.0.epochs=1"]), tmp_path / "run", watch=told.append)
    found = find_rate(squares, recipe, tmp_path / "r.html", low=1e-5, steps=30, decays=())
    assert found.tests[0].losses[0] == told[0].loss
