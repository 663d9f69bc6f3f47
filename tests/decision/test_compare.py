"""Runs whose scores are known: what is sure, what is a coin's toss, and what cannot be compared."""

import numpy as np
import pandas as pd
import pytest

from segsmith.decision.compare import compare
from segsmith.errors import RunError
from segsmith.files import write_text
from segsmith.recipe_files import load_recipe, to_yaml


def evaluated(folder, iou, truth=None):
    """A run folder with the rows of images of this IoU: 1000 true pixels, as many predicted."""
    folder.mkdir()
    write_text(folder / "recipe.yaml", to_yaml(load_recipe("ships-demo")))
    truth = np.full(len(iou), 1000) if truth is None else truth
    right = np.rint(2 * truth * np.array(iou) / (1 + np.array(iou))).astype(int)
    table = {"image_id": [f"{n:04d}" for n in range(len(iou))], "class": "ship", "right_pixels": right}
    table |= {"predicted_pixels": truth, "true_pixels": truth, "usable_pixels": 4000}
    pd.DataFrame(table).to_csv(folder / "images.csv", index=False)
    return folder


@pytest.fixture
def hard():
    """How hard each of 200 images is."""
    return np.random.default_rng(1).uniform(0.2, 0.8, 200)


def test_a_run_that_is_better_on_every_image_is_surely_better(tmp_path, hard):
    worse, better = evaluated(tmp_path / "worse", hard), evaluated(tmp_path / "better", hard + 0.05)
    found = compare([worse, better], metric="mean_iou")
    assert [each.run for each in found.standings] == [better, worse]
    first, second = found.standings
    assert second.gain == pytest.approx(-0.05, abs=1e-3)
    assert second.gain_high < 0, "images are not paired"
    assert (second.beats_best, second.beats_best_unseen) == (0, 0)
    assert (first.wins_public, found.shaken) == (1, 0)
    assert first.low < first.score < first.high


def test_noise_is_a_coin_toss(tmp_path, hard):
    rng = np.random.default_rng(2)
    runs = [evaluated(tmp_path / name, hard + rng.permuted(np.tile([0.05, -0.05], 100))) for name in "ab"]
    found = compare(runs, metric="mean_iou")
    second = found.standings[1]
    assert 0.1 < second.beats_best < 0.5 + 1e-9 or second.gain == pytest.approx(0, abs=1e-3)
    assert second.gain_low < 0 < second.gain_high
    assert found.shaken > 0.2


def test_the_interval_is_that_of_a_mean(tmp_path, hard):
    run, other = evaluated(tmp_path / "a", hard), evaluated(tmp_path / "b", hard * 0.9)
    first = compare([run, other], metric="mean_iou").standings[0]
    half = 1.96 * hard.std() / len(hard) ** 0.5
    assert first.high - first.low == pytest.approx(2 * half, rel=0.1)
    public = compare([run, other], metric="mean_iou", unseen=50, public=0.5).standings[0]
    of_public = (hard.var() / 25 + hard.var() / 200) ** 0.5  # of 25 images, and of not knowing the true mean
    assert public.public_spread == pytest.approx(of_public, rel=0.1)


def test_global_scores_weigh_pixels(tmp_path):
    truth = np.array([10] * 50 + [1000] * 50)
    small, large = np.repeat([0.9, 0.5], 50), np.repeat([0.5, 0.6], 50)
    runs = [evaluated(tmp_path / "small", small, truth), evaluated(tmp_path / "large", large, truth)]
    assert compare(runs, metric="mean_iou").standings[0].run == runs[0]
    assert compare(runs, metric="global_iou").standings[0].run == runs[1]


def test_the_same_seed_says_the_same(tmp_path, hard):
    runs = [evaluated(tmp_path / "a", hard), evaluated(tmp_path / "b", hard[::-1])]
    assert compare(runs) == compare(runs)
    assert compare(runs) != compare(runs, seed=1)


def test_what_cannot_be_compared_is_refused(command, tmp_path, hard):
    a, b = evaluated(tmp_path / "a", hard), evaluated(tmp_path / "b", hard[:-1])
    c = evaluated(tmp_path / "c", hard, np.full(200, 900))
    for runs, says in (
        ([a, b], "not scored on the same images and classes; 1 differ:\n  - 0199"),
        ([a, c], "have other truths for 200 images"),
        ([a], "two different runs or more"),
        ([a, a], "two different runs or more"),
    ):
        with pytest.raises(RunError, match=says):
            compare(runs)
        assert command("compare", *runs).code == 2
    (c / "images.csv").unlink()
    with pytest.raises(RunError, match="not evaluated yet; first: segsmith evaluate"):
        compare([a, c])
    with pytest.raises(RunError, match="leaves 0 public"):
        compare([a, evaluated(tmp_path / "d", hard)], unseen=2, public=0.1)
    said = command("compare", a, tmp_path / "d", "--metric", "mean_dise")
    assert said.code == 2
    assert "mean_dice" in said.err


def test_the_command_prints_what_was_found(command, tmp_path, hard):
    runs = [evaluated(tmp_path / "a", hard), evaluated(tmp_path / "b", hard + 0.1)]
    said = command("compare", *runs, "--metric", "mean_iou", "--public", "0.5")
    assert said.code == 0, said.err
    assert "mean_iou on 200 images" in said.out
    assert "-0.1000" in said.out or "-0.0999" in said.out or "-0.1001" in said.out
    assert "first on the public part 100%" in said.out
