"""A budget: stages share it in the recipe's proportions, and what is measured is what a training takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segsmith.errors import RecipeError, SegsmithError
from segsmith.modeling.budget import fit_to, seconds_of, shared_out, with_lengths_of
from segsmith.modeling.train import train
from segsmith.recipe_files import override

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
    monkeypatch.setattr("segsmith.modeling.budget.SECONDS", 0.5)
    monkeypatch.chdir(tmp_path)
    found = fit_to(squares, tiny, 8.0)
    assert list(tmp_path.iterdir()) == [], "it writes nothing"
    assert found.seconds > 2
    assert found.seconds <= 8
    run = train(squares, found.recipe, tmp_path / "run")
    assert with_lengths_of(tiny, run.recipe()) == found.recipe


def test_little_time_is_an_epoch_of_fewer_images_and_less_is_refused(squares, tiny, monkeypatch):
    monkeypatch.setattr("segsmith.modeling.budget._Timer.rate", lambda timer, stage: 10.0)
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
    monkeypatch.setattr("segsmith.modeling.budget._Timer.rate", lambda timer, stage: 100.0)
    one = fit_to(squares, override(tiny, ["folds.held_out=null"]), 30.0)
    three = fit_to(squares, override(tiny, ["folds.held_out=null", "folds.validation=all"]), 90.0)
    assert three.recipe.train == one.recipe.train
    assert three.seconds == pytest.approx(3 * one.seconds)
    assert three.recipe.folds.validation == "all"
