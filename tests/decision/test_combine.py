"""Runs combined: what is averaged of their files, with which weights, and that these were fitted on other images."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from by_hand import files_in, scenes

from segsmith.decision.combine import combine
from segsmith.decision.decide import decide
from segsmith.decision.evaluate import evaluate
from segsmith.decision.fit_weights import FittingPixels
from segsmith.errors import RunError
from segsmith.modeling.bundle import Bundle
from segsmith.modeling.run import Run
from segsmith.modeling.runs import runs as list_runs
from segsmith.prediction.average import averaged_levels
from segsmith.prediction.probabilities import ProbabilityFiles

HW = (12, 14)
PARTS = 3
OPTIONS = (
    "folds.count=3",
    "folds.held_out=1",
    "decide.areas=[0,2,5]",
    f"decide.parts={PARTS}",
    "data.input_hw=[32,32]",
)
TRUTHS, SEEN = scenes(42, HW)
_, OTHERWISE = scenes(42, HW, seed=1)
NOISE = list(np.random.default_rng(2).integers(0, 256, (42, *HW), np.uint8))


@pytest.fixture(scope="module")
def good(make_run):
    return make_run(TRUTHS, SEEN, *OPTIONS)


@pytest.fixture(scope="module")
def noisy(make_run):
    """On the same dataset; what it says of an image has nothing to do with it."""
    return make_run(TRUTHS, NOISE, *OPTIONS)


@pytest.fixture(scope="module")
def other(make_run):
    """Sees images at another size; right on other pixels than the first."""
    mixed = [np.where(np.eye(*HW, k, dtype=bool), seen, 128).astype(np.uint8) for k, seen in enumerate(SEEN)]
    return make_run(TRUTHS, [np.maximum(one // 2, seen) for one, seen in zip(mixed, SEEN, strict=True)], *OPTIONS,
                    "data.input_hw=[64,64]", "predict.flips=none")  # fmt: skip


def levels(run, image_id: str) -> np.ndarray:
    return ProbabilityFiles(run / "probabilities", ("ship",)).read(image_id)[0]


def test_a_run_with_itself_is_itself(good, tmp_path):
    for average in ("mean", "geometric", "median"):
        combine([good.folder, good.folder], tmp_path / average, average=average)
        for fold in (0, 1):
            for image_id in good.fold(fold):
                assert (levels(tmp_path / average, image_id) == good.probabilities[image_id]).all()
    alone, twice = decide(good.folder), decide(tmp_path / "mean")
    assert (alone.cells, alone.cross_fitted_score) == (twice.cells, twice.cross_fitted_score)


def test_a_mean_is_that_of_the_probabilities_to_one_level(good, noisy, other, tmp_path):
    runs = [made.folder for made in (good, noisy, other)]
    done = combine(runs, tmp_path / "run", weights=[2.0, 1.0, 1.0])
    assert done.weights == (0.5, 0.25, 0.25)
    assert (done.validation, done.held_out) == (len(good.fold(0)), len(good.fold(1)))
    for image_id in (*good.fold(0), *good.fold(1)):
        expected = np.average([levels(run, image_id) for run in runs], axis=0, weights=[2, 1, 1])
        assert np.abs(levels(tmp_path / "run", image_id) - expected).max() <= 0.5 + 1e-3


def test_later_commands_take_it_like_any_other(good, other, tmp_path, command):
    """And predict says of images what is combined of what each of the two predicts."""
    runs, run, raw = [good.folder, other.folder], tmp_path / "run", good.dataset.parent / "raw" / "train"
    for step in (
        ("combine", *runs, "--to", run, "--weights", "3,1"),
        ("decide", run),
        ("evaluate", run),
        ("decide", good.folder),
        ("evaluate", good.folder),
        ("compare", run, good.folder),
        ("predict", run, raw, "--to", tmp_path / "prediction"),
    ):
        said = command(*step)
        assert said.code == 0, said.err
        if step[0] == "combine":
            assert f"{good.folder}: weight 0.750" in said.out
            assert "14 validation images in common, 14 held out" in said.out
    assert "2 runs combined" in (run / "report.html").read_text()
    listed = command("runs", run, good.folder).out
    assert f"combined of {good.folder.name} (0.75), {other.folder.name} (0.25)" in listed
    standings = [one for group in list_runs([run, good.folder])[0] for one in group.standings]
    own = {one.folder: any(key.startswith(("network.", "train.")) for key in one.options) for one in standings}
    assert own == {run: False, good.folder: True}, "its parts' networks are not its own"
    fresh = Run(tmp_path / "fresh")
    shutil.copytree(run, fresh.folder)
    shutil.rmtree(fresh.probabilities)
    evaluate(fresh.folder)  # of the held-out fold, from the bundle alone
    each = []
    for made in (good, other):
        alone = Run(tmp_path / f"alone-{len(each)}")
        shutil.copytree(made.folder, alone.folder)
        shutil.rmtree(alone.probabilities)
        decide(alone.folder)
        evaluate(alone.folder)
        each.append(alone.folder)
    for image_id in good.fold(1):
        expected = averaged_levels([levels(alone, image_id) for alone in each], [0.75, 0.25], "mean")
        assert np.abs(levels(fresh.folder, image_id).astype(int) - expected).max() <= 1


def test_fitted_weights_leave_out_what_is_noise(good, noisy, tmp_path):
    done = combine([noisy.folder, good.folder], tmp_path / "run", weights="fit")
    assert done.weights[1] > 0.9
    assert sum(done.weights) == pytest.approx(1)
    facts = json.loads((tmp_path / "run" / "run.json").read_text())["combined"]
    assert [of["weight"] for of in facts] == list(done.weights)


@pytest.mark.parametrize("how", ["mean", "geometric"])
def test_fitted_weights_are_the_best_there_are(how):
    """Beside every tenth between the two runs, by the log loss they are said to make least."""
    rng = np.random.default_rng(0)
    truth = rng.random((1, 4000)) < 0.3
    said = [np.clip(np.where(truth, 150, 100) + rng.normal(0, spread, truth.shape), 0, 255) for spread in (40, 60)]
    pixels = FittingPixels(np.stack(said).astype(np.uint8), truth, np.arange(4000) % 20)

    def loss(weights) -> float:
        values = np.clip(np.stack(said).astype(np.uint8) / 255, 0.25 / 255, 1 - 0.25 / 255)
        if how == "geometric":
            odds = np.exp(np.tensordot(weights, np.log(values / (1 - values)), 1))
            found = odds / (1 + odds)
        else:
            found = np.tensordot(weights, values, 1)
        return float(-np.mean(np.where(truth, np.log(found), np.log(1 - found))))

    found = pixels.weights(how)
    assert loss(found) <= min(loss((share, 1 - share)) for share in np.linspace(0, 1, 11)) + 1e-6
    assert 0.1 < found[1] < 0.9, "both are of use"


def test_no_image_is_averaged_by_weights_that_saw_its_truth(make_run, good, tmp_path):
    """Where the truth of one part of the cross-fit is another, its probabilities stay, and those of others change."""
    part = good.fold(0)[1::PARTS]
    swapped = [~truth if image_id in part else truth for image_id, truth in good.truths.items()]
    found = []
    for name, truths in (("as it is", TRUTHS), ("another", swapped)):
        runs = [make_run(truths, planes, *OPTIONS, "folds.stratify_by=objects").folder for planes in (SEEN, OTHERWISE)]
        folds = [(run / "folds.csv").read_text() for run in (*runs, good.folder)]
        (runs[0] / "folds.csv").write_text(folds[2])
        (runs[1] / "folds.csv").write_text(folds[2])
        combine(runs, tmp_path / name, weights="fit")
        found.append({image_id: levels(tmp_path / name, image_id) for image_id in good.fold(0)})
    same = {image_id: bool((found[0][image_id] == found[1][image_id]).all()) for image_id in good.fold(0)}
    assert all(same[image_id] for image_id in part)
    assert not any(same[image_id] for image_id in same if image_id not in part)


REFUSED = {
    "one run": (["A"], [], "two runs or more"),
    "weights": (["A", "B"], ["--weights", "1,2,3"], "--weights 1,2,3: 3 weights for 2 runs"),
    "no numbers": (["A", "B"], ["--weights", "a,b"], "--weights 'a,b' is not numbers"),
    "negative": (["A", "B"], ["--weights", "1,-1"], "weights are numbers from 0 on"),
    "of a median": (["A", "B"], ["--weights", "1,2", "--average", "median"], "a median has no weights"),
    "fit of a median": (["A", "B"], ["--weights", "fit", "--average", "median"], "a median has no weights"),
    "other dataset": (["A", "dataset"], [], "dataset of fingerprint"),
    "other folds": (["A", "folds"], [], "no image is in the validation fold of each"),
    "other classes": (["A", "classes"], [], "classes boat, not ship"),
    "unfinished": (["A", "unfinished"], [], "its training is not finished"),
    "no run": (["A", "nothing"], [], "no run here"),
    "there": (["A", "B"], ["there"], "is there already; choose a new folder"),
}


@pytest.fixture(scope="module")
def runs(good, noisy, make_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    made = {"A": good.folder, "B": noisy.folder, "nothing": folder / "nothing"}
    made["dataset"] = make_run(TRUTHS[:30], SEEN[:30], *OPTIONS).folder
    made["folds"] = make_run(TRUTHS, SEEN, *OPTIONS, "folds.validation=2").folder
    for name in ("classes", "unfinished"):
        shutil.copytree(good.folder, folder / name)
        made[name] = folder / name
    replace(Bundle.read(made["A"] / "bundle.safetensors"), classes=("boat",)).write(
        made["classes"] / "bundle.safetensors"
    )
    (made["unfinished"] / "bundle.safetensors").unlink()
    return made


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_combined_is_refused(name, runs, command, tmp_path):
    names, options, expected = REFUSED[name]
    if options == ["there"]:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "notes.txt").write_text("mine")
        options = []
    before = files_in(tmp_path)
    said = command("combine", *(runs[run] for run in names), "--to", tmp_path / "run", *options)
    assert said.code == 2
    assert expected in said.err
    assert "Traceback" not in said.err
    assert files_in(tmp_path) == before


def test_gone_probabilities_are_not_made_by_networks_that_saw_the_images(good, noisy, tmp_path):
    combine([good.folder, noisy.folder], tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "probabilities")
    with pytest.raises(RunError, match="probabilities of 14 validation images are gone"):
        decide(tmp_path / "run")
