"""A training that begins with the weights of another run: what it learns from there, and what it may not judge."""

from pathlib import Path

import pytest
import torch

from segsmith.errors import ModelError
from segsmith.modeling.bundle import Bundle
from segsmith.modeling.train import train
from segsmith.recipe import Recipe
from segsmith.recipe_files import override

ONE_STEP = (
    "train.stages=[{epochs: 1, images_per_epoch: 4, loss: {bce: 1}, optimizer: {name: sgd, lr: 1e-9}}]",
    "train.ema_decay=null",
    "train.keep=last",
)


def begun(recipe: Recipe, bundle: Path, *changes: str) -> Recipe:
    return override(recipe, [f"network.weights={bundle}", *ONE_STEP, *changes])


def test_it_goes_on_from_where_the_other_ended(make_squares, tiny, undisturbed, tmp_path):
    """All but at a standstill, so that what it ends with is what it began with; the other dataset's classes are as
    many, so its head goes on as well."""
    other = make_squares(tmp_path / "other", (0, 1, 2) * 6)
    run = train(other, begun(tiny, undisturbed[0].bundle), tmp_path / "run")
    first, last = (Bundle.read(of.bundle).members[0] for of in (undisturbed[0], run))
    learnt = [name for name in first if name.endswith(".weight")]
    assert len(learnt) > 10
    for name in learnt:
        assert torch.allclose(first[name], last[name], atol=1e-6), name
    again = train(other, begun(tiny, undisturbed[0].bundle), tmp_path / "run")
    assert again.folder == run.folder, "a finished run is returned as it is"


def test_what_the_weights_were_trained_on_is_never_judged(squares, tiny, undisturbed, tmp_path):
    bundle = undisturbed[0].bundle
    said = r"bundle\.safetensors: trained on images of this very dataset that would now be judged"
    for change, told in (
        ("seed=7", rf"seed: {tiny.seed} there, 7 now"),
        ("folds.validation=1", r"folds\.validation: 0 there, 1 now"),
        (f"folds.count={tiny.folds.count + 1}", rf"folds\.count: {tiny.folds.count} there"),
    ):
        with pytest.raises(ModelError, match=rf"{said}:\n.*{told}.*\nset seed and folds as there"):
            train(squares, begun(tiny, bundle, change), tmp_path / "run")
    with pytest.raises(ModelError, match=rf"{said}; take the bundle of one fold, and that fold as folds\.validation"):
        train(squares, begun(tiny, bundle, "folds.validation=all"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert train(squares, begun(tiny, bundle), tmp_path / "run").bundle.exists(), "the same folds"
    assert train(squares, begun(tiny, bundle, "seed=7", "folds.by_heart=true"), tmp_path / "known").bundle.exists()


@pytest.mark.parametrize("gone", ["gone.safetensors", "."])
def test_weights_that_are_not_there_are_told_before_any_data_is_read(tiny, tmp_path, gone):
    with pytest.raises(ModelError, match=r"network\.weights: .*: no such file; give a bundle, a \.safetensors or"):
        train(tmp_path / "none", begun(tiny, tmp_path / gone), tmp_path / "run")


def test_it_may_be_killed_and_ends_with_the_same_weights(make_squares, tiny, undisturbed, tmp_path):
    other = make_squares(tmp_path / "other", (0, 1, 2) * 6)
    recipe = override(tiny, [f"network.weights={undisturbed[0].bundle}"])
    whole = train(other, recipe, tmp_path / "whole")

    steps: list[object] = []

    def kill(step: object) -> None:
        steps.append(step)
        if len(steps) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(other, recipe, tmp_path / "killed", watch=kill)
    resumed = train(other, recipe, tmp_path / "killed")
    one, two = (Bundle.read(run.bundle).members[0] for run in (whole, resumed))
    assert all(torch.equal(one[name], two[name]) for name in one)
