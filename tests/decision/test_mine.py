"""`segsmith mine`: what counts as known, what is kept, and that a dataset with mined images is scored as before."""

import shutil
from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest
from by_hand import files_in

from segsmith import cluster
from segsmith.data.dataset import Dataset
from segsmith.data.images import read_image
from segsmith.decision import mine as decision_mine
from segsmith.modeling.bundle import Bundle, Cell, Decision
from segsmith.modeling.run import Run
from segsmith.prediction.probabilities import Predictor
from segsmith.recipe_files import override
from segsmith.samples.chips import cut
from segsmith.samples.split import split

SIZE = 64
TRUTH = np.zeros((SIZE, SIZE), bool)
TRUTH[8:20, 8:20] = True
EMPTY = np.zeros((SIZE, SIZE), bool)


@pytest.fixture(scope="module")
def made(make_run, tmp_path_factory):
    """A run on eight images, four of them empty, and a folder of eight others; its decision lies between what its
    network says of the dark and of the bright ones."""
    truths = [TRUTH, EMPTY] * 4
    small = ("folds.count=2", "data.input_hw=[64,64]", "decide.top_k=10", "train.batch_size=2", "predict.batch_size=3")
    run = make_run(truths, [np.zeros((SIZE, SIZE), np.uint8)] * 8, *small)
    folder = tmp_path_factory.mktemp("others")
    noise = np.random.default_rng(1)
    for number in range(8):
        image = noise.integers(0, 30 * number + 30, (SIZE, SIZE, 3), np.uint8)
        cv2.imwrite(str(folder / f"other{number}.png"), image)
    opened = Run(run.folder)
    bundle = Bundle.read(opened.bundle)
    highest = sorted(found.max() for found in said(bundle, folder).values())
    assert highest[3] < highest[4], "the network tells them apart"
    replace(bundle, decision=Decision((Cell(int(highest[4])),))).write(opened.bundle)
    return opened, folder


def said(bundle, folder):
    """What the network says of each image of a folder: levels."""
    paths = sorted(folder.rglob("*.png"))
    return {
        path.name: found[0]
        for path, found in zip(paths, Predictor(bundle)([read_image(p) for p in paths]), strict=True)
    }


def value(levels):
    return round(round(np.sort(levels.ravel())[-10:].mean()) / 255, 4)


def test_of_unknown_images_only_sure_empties_are_kept(command, made, tmp_path):
    run, others = made
    bundle = Bundle.read(run.bundle)
    level = bundle.decision.cells[0].level
    levels = said(bundle, others)
    fires = {name for name, found in levels.items() if (found >= level).any()}
    values = {name: value(found) for name, found in levels.items() if name not in fires}
    sure = sorted(values.values())[2]
    done = command("mine", run.folder, others, "--to", tmp_path / "mined", "--sure", sure)
    assert done.code == 0, done.err
    kept = pd.read_csv(tmp_path / "mined" / "mined.csv")
    assert dict(zip(kept["image_id"], kept["value"], strict=True)) == {n: v for n, v in values.items() if v <= sure}
    assert set(kept["kind"]) == {"empty"}
    assert set(kept["known_by"]) == {"model"}
    assert kept["value"].is_monotonic_increasing
    unknown = pd.read_csv(tmp_path / "mined" / "unknown.csv")
    assert set(unknown["image_id"]) == fires, "seen, and not learnt from"
    assert f"{len(fires)} show something, and nobody knows whether it is there" in done.out
    images = Dataset.open(tmp_path / "mined").images
    assert set(images.loc[images["source"] == "mined-believed", "image_id"]) == set(kept["image_id"])


def test_what_a_person_knows_to_be_empty_makes_false_alarms(command, made, tmp_path):
    run, others = made
    bundle = Bundle.read(run.bundle)
    level = bundle.decision.cells[0].level
    false_pixels = {name: int((found >= level).sum()) for name, found in said(bundle, others).items()}
    done = command("mine", run.folder, others, "--to", tmp_path / "mined", "--known-empty")
    assert done.code == 0, done.err
    kept = pd.read_csv(tmp_path / "mined" / "mined.csv")
    expected = {name: count for name, count in false_pixels.items() if count}
    assert dict(zip(kept["image_id"], kept["false_pixels"], strict=True)) == expected
    assert set(kept["kind"]) == {"false alarm"}
    assert set(kept["known_by"]) == {"person"}
    assert kept["value"].is_monotonic_decreasing
    few = command("mine", run.folder, others, "--to", tmp_path / "few", "--known-empty", "--most", 1)
    assert few.code == 0
    assert list(pd.read_csv(tmp_path / "few" / "mined.csv")["image_id"]) == [kept["image_id"][0]]


def test_mined_images_are_trained_on_and_change_no_fold_and_no_score(command, made, tmp_path):
    run, others = made
    assert command("mine", run.folder, others, "--to", tmp_path / "mined", "--known-empty").code == 0
    recipe, before = run.recipe(), run.dataset()
    after = Dataset.open(tmp_path / "mined")
    mined = after.images["source"].to_numpy() == "mined"
    assert mined.sum() == len(after) - len(before) > 0
    assert after.fingerprint != before.fingerprint
    for row in np.flatnonzero(mined).tolist():
        assert np.array_equal(after.image(row), read_image(others / after.images["image_id"].iloc[row]))
        assert not after.mask(row).any()
    old, new = (split(cut(dataset, recipe.data), recipe.folds, recipe.seed) for dataset in (before, after))
    assert np.array_equal(new.fold[~mined], old.fold)
    assert np.array_equal(new.validation, old.validation)
    assert set(new.training) == set(old.training) | set(np.flatnonzero(mined))
    strata = cut(after, recipe.data).strata()
    assert np.array_equal(strata.of("source:mined"), mined)

    (tmp_path / "job.yaml").write_text((run.folder / "recipe.yaml").read_text())
    mix = "train.stages=[{epochs: 1, images_per_epoch: 8, mix: {'source:mined': 0.5, rest: 0.5}}]"
    again = command(
        "train", tmp_path / "mined", tmp_path / "run", "--recipe", tmp_path / "job.yaml", mix, "train.workers=0"
    )
    assert again.code == 0, again.err
    assert "50% source:mined, 50% rest" in again.out

    twice = command("mine", tmp_path / "run", others, "--to", tmp_path / "more")
    assert "are there twice, or in the run's dataset already" in twice.err


def test_false_alarms_among_labelled_images_get_a_source_and_keep_their_fold(command, made, tmp_path):
    run, _ = made
    before = run.dataset()
    bundle = Bundle.read(run.bundle)
    levels = said(bundle, before.raw)
    low = min(int(found.max()) for found in levels.values())
    replace(bundle, decision=Decision((Cell(low),))).write(run.bundle)  # everything fires
    try:
        done = command("mine", run.folder, run.facts()["dataset"], "--to", tmp_path / "mined")
    finally:
        bundle.write(run.bundle)
    assert done.code == 0, done.err
    after = Dataset.open(tmp_path / "mined")
    assert len(after) == len(before)
    empty = before.images["foreground"] == 0
    assert (after.images["source"] == np.where(empty, "mined", "all")).all()
    recipe = run.recipe()
    old, new = (split(cut(dataset, recipe.data), recipe.folds, recipe.seed) for dataset in (before, after))
    for part in ("training", "validation", "fold"):
        assert np.array_equal(getattr(new, part), getattr(old, part))
    kept = pd.read_csv(tmp_path / "mined" / "mined.csv")
    assert set(kept["known_by"]) == {"labels"}


def test_on_a_cluster_the_same_dataset(monkeypatch, command, made, tmp_path, two_workers):
    run, others = made
    monkeypatch.setattr(decision_mine, "JOB_BATCHES", 1)
    found = {}
    for name, more in (("alone", []), ("spread", ["--cluster", two_workers])):
        done = command("mine", run.folder, others, "--to", tmp_path / name / "mined", "--sure", 1, *more)
        assert done.code == 0, done.err
        found[name] = files_in(tmp_path / name / "mined"), done.out.replace(name, "")
    assert found["spread"] == found["alone"]
    assert len(pd.read_csv(tmp_path / "spread" / "mined" / "mined.csv")) >= 2


@pytest.fixture
def large(monkeypatch, made, tmp_path):
    """Images that each are a job, which takes long enough to be killed in it."""
    pytest.importorskip("distributed", reason="Dask is not installed: pip install 'segsmith[cluster]'")
    (tmp_path / "large").mkdir()
    for number in range(8):
        image = np.random.default_rng(number).integers(0, 30 * number + 30, (1200, 1200, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "large" / f"large{number}.png"), image)
    bundle = Bundle.read(made[0].bundle)
    recipe = override(bundle.recipe, ["predict.batch_size=1"])
    shutil.copytree(made[0].folder, tmp_path / "run")
    replace(bundle, recipe=recipe).write(Run(tmp_path / "run").bundle)
    monkeypatch.setattr(decision_mine, "JOB_BATCHES", 1)
    return tmp_path / "run", tmp_path / "large"


def test_a_worker_that_is_killed_midway_changes_nothing(command, large, tmp_path):
    from dask_kills import workers_killed

    asked = ["mine", *large, "--sure", 1, "--to"]
    alone = command(*asked, tmp_path / "alone" / "mined")
    with workers_killed(1, lambda: True) as killed:
        said = command(*asked, tmp_path / "spread" / "mined", "--cluster", "local", "--workers", 2)
    assert said.code == 0, said.err
    assert killed
    assert said.out.replace("spread", "alone") == alone.out
    assert files_in(tmp_path / "spread" / "mined") == files_in(tmp_path / "alone" / "mined")
    found = pd.concat(pd.read_csv(tmp_path / "spread" / "mined" / f"{name}.csv") for name in ("mined", "unknown"))
    assert sorted(found["image_id"]) == [f"large{number}.png" for number in range(8)], "each of them once"


def test_where_workers_are_killed_again_and_again_a_message_and_no_dataset(monkeypatch, command, large, tmp_path):
    from dask_kills import workers_killed

    monkeypatch.setattr(cluster, "MOST_LOST", 2)
    before = set(tmp_path.rglob("*"))
    with workers_killed(100, lambda: True) as killed:
        said = command("mine", *large, "--to", tmp_path / "mined", "--cluster", "local", "--workers", 2)
    assert said.code == 2
    assert said.err.splitlines()[-1].startswith(
        "segsmith: 2 workers were lost over the same job, the last of them tcp:"
    )
    assert "Traceback" not in said.err
    assert len(killed) >= 2
    assert set(tmp_path.rglob("*")) == before


def test_what_is_refused(command, made, tmp_path):
    run, others = made
    dataset = run.facts()["dataset"]
    assert "is a dataset, whose labels say" in command(
        "mine", run.folder, dataset, "--to", tmp_path / "x", "--known-empty"
    ).err  # fmt: skip
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "note.txt").write_text("mine")
    assert "no earlier mining wrote it" in command("mine", run.folder, others, "--to", tmp_path / "mine").err
    assert (tmp_path / "mine" / "note.txt").read_text() == "mine"
    assert "no such folder of images" in command("mine", run.folder, tmp_path / "none", "--to", tmp_path / "x").err
    grey = tmp_path / "grey"
    grey.mkdir()
    cv2.imwrite(str(grey / "grey.png"), np.zeros((SIZE, SIZE), np.uint8))
    assert "number of bands is 1, the model was trained on 3" in command(
        "mine", run.folder, grey, "--to", tmp_path / "x"
    ).err  # fmt: skip
    assert not (tmp_path / "x").exists()
