"""A budget: stages share it in the recipe's proportions, and what is measured is what a training takes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segsmith.errors import RecipeError, SegsmithError
from segsmith.modeling.run import Run
from segsmith.modeling.train import train
from segsmith.recipe_files import override, to_yaml
from segsmith.tuning.budget import as_fitted_before, fit_to, seconds_of, shared_out

STAGES = st.lists(st.tuples(st.integers(1, 50), st.floats(0.1, 100)), min_size=1, max_size=5)


@given(STAGES, st.floats(1, 1e5))
def test_time_is_shared_out_in_proportion_and_hardly_any_is_left(stages, seconds):
    epochs, costs = [count for count, _ in stages], [cost for _, cost in stages]
    found = shared_out(epochs, costs, seconds)
    spent = sum(count * cost for count, cost in zip(found, costs, strict=True))
    assert spent <= seconds * (1 + 1e-9)
    factor = seconds / sum(count * cost for count, cost in zip(epochs, costs, strict=True))
    for count, fair in zip(found, (factor * count for count in epochs), strict=True):
        assert abs(count - fair) < 1 + 1e-9
        assert count == pytest.approx(fair) if fair < 1 else count == int(count)
    whole = [cost for count, cost in zip(found, costs, strict=True) if count >= 1]
    if whole:
        assert seconds - spent < max(whole) * len(whole) + 1e-6 * seconds


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("20m", 1200), ("1.5h", 5400), ("1h30m", 5400)])
def test_times_are_read(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "20", "m", "20 minutes", "-5m", "0s", "20m later"])
def test_other_texts_are_no_times(text):
    with pytest.raises(SegsmithError, match="is no time to train for; say it like 90s, 20m or 1h30m"):
        seconds_of(text)


def test_a_training_is_as_long_as_fits_into_what_was_said(squares, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("segsmith.tuning.budget.SECONDS", 0.5)
    monkeypatch.chdir(tmp_path)
    found = fit_to(squares, tiny, 8.0)
    assert list(tmp_path.iterdir()) == [], "it writes nothing"
    assert found.seconds > 2
    assert found.seconds <= 8
    run = train(squares, found.recipe, tmp_path / "run")
    assert as_fitted_before(tiny, run.recipe()) == found.recipe


def test_little_time_is_an_epoch_of_fewer_images_and_less_is_refused(squares, tiny, monkeypatch):
    monkeypatch.setattr("segsmith.tuning.budget._Timer.rate", lambda timer, stage: 10.0)
    recipe = override(tiny, ["train.stages.0.images_per_epoch=400", "train.stages.1.images_per_epoch=400"])
    found = fit_to(squares, recipe, 40.0)
    assert [stage.epochs for stage in found.recipe.train.stages] == [1, 1]
    shares = [stage.images_per_epoch for stage in found.recipe.train.stages]
    assert shares[0] == shares[1]
    assert 150 < shares[0] < 0.9 * 200
    assert shares[0] % 4 == 0
    with pytest.raises(RecipeError, match=r"0\.4 seconds are too few: at 10 images/s a stage gets 0 images beside its"):
        fit_to(squares, recipe, 0.4)


def test_folds_in_turn_share_the_time(squares, tiny, monkeypatch):
    monkeypatch.setattr("segsmith.tuning.budget._Timer.rate", lambda timer, stage: 100.0)
    one = fit_to(squares, override(tiny, ["folds.held_out=null"]), 30.0)
    three = fit_to(squares, override(tiny, ["folds.held_out=null", "folds.validation=all"]), 90.0)
    assert three.recipe.train == one.recipe.train
    assert three.seconds == pytest.approx(3 * one.seconds)
    assert three.recipe.folds.validation == "all"


WEIGHT = {"resnet34": 1.6, "resnet18": 1.0}


def rate(recipe):
    """Images a second of a machine on which pixels and encoders cost what they say."""
    return 16 * WEIGHT["resnet34"] / WEIGHT[recipe.network.encoder] * 128**2 / np.prod(recipe.data.input_hw)


@pytest.fixture
def heavy(tiny, monkeypatch):
    """Four passes over 16 images in one stage of an encoder that has a lighter one, on a machine that times nothing."""
    monkeypatch.setattr("segsmith.tuning.budget._Timer.rate", lambda timer, stage: rate(timer.recipe))
    monkeypatch.setattr("segsmith.tuning.lighter.training_rate", lambda recipe, *of, **batch: rate(recipe))
    network = "network={encoder: resnet34, encoder_weights: null, decoder_channels: [32, 16, 8, 8, 8]}"
    stages = "train.stages=[{epochs: 4}]"
    return override(tiny, [network, "data.input_hw=[128,128]", stages, "train.accumulate=1", "train.ema_decay=null"])


def test_a_network_is_made_lighter_only_as_far_as_the_passes_need_and_only_if_asked(squares, heavy):
    whole = fit_to(squares, heavy, 100.0, ("encoder", "size"))
    assert whole.changes == ()
    assert whole.passes > 4
    assert fit_to(squares, heavy, 3.0).recipe.network == heavy.network
    little = fit_to(squares, heavy, 4.0, ("encoder", "size"))
    assert little.changes == ("network.encoder=resnet18 instead of resnet34: 25.6 instead of 16 images/s here",)
    less = fit_to(squares, heavy, 3.1, ("encoder", "size"))
    assert less.recipe.network.encoder == "resnet34"
    assert less.changes == (
        "data.input_hw=[96, 96] instead of [128, 128]: 28.4 instead of 16 images/s here; the median object is still "
        "27 pixels wide",
    )


def test_the_same_command_goes_on_with_what_was_fitted(squares, heavy, command, tmp_path, monkeypatch):
    (tmp_path / "job.yaml").write_text(to_yaml(heavy))
    train_it = ("train", squares, tmp_path / "run", "-r", tmp_path / "job.yaml", "--budget", "1s")
    said = command(*train_it, "--fit")
    assert said.code == 0, said.err
    assert "network.encoder=resnet18 instead of resnet34" in said.out
    assert "data.input_hw=[64, 64] instead of [96, 96]" not in said.out
    assert "passes over the training images" in said.out
    fitted = Run(tmp_path / "run").recipe()
    assert fitted.network.encoder == "resnet18"
    assert fitted.data.input_hw == (64, 64)
    (tmp_path / "run" / "bundle.safetensors").unlink()
    monkeypatch.setattr("segsmith.tuning.budget.fit_to", None)  # nothing is measured again
    said = command(*train_it, "--fit")
    assert said.code == 0, said.err
    assert (tmp_path / "run" / "bundle.safetensors").exists()
    assert Run(tmp_path / "run").recipe() == fitted
    said = command(*train_it)
    assert said.code == 2
    assert "network.encoder: resnet18 there, resnet34 now" in said.err
    said = command(*train_it, "--fit", "data.input_hw=[128,128]")
    assert said.code == 2
    assert "data.input_hw.0: 64 there, 128 now" in said.err, "what is said on the command line is never fitted"


def test_few_passes_are_told_and_fit_wants_a_time(squares, heavy, command, tmp_path):
    (tmp_path / "job.yaml").write_text(to_yaml(override(heavy, ["data.input_hw=[64,64]"])))
    train_it = ("train", squares, tmp_path / "run", "-r", tmp_path / "job.yaml")
    said = command(*train_it, "--fit")
    assert said.code == 2
    assert "--fit fits a training into a time; say how long with --budget" in said.err
    said = command(*train_it, "--budget", "0.7s")
    assert said.code == 0, said.err
    assert "2.0 passes over the training images\n  fewer than 4 are few: give it more time, or let" in said.out
    assert "what another hour would bring cannot be told: 2 epochs are too few, 8 are the least" in said.out
    assert Run(tmp_path / "run").recipe().network == heavy.network
