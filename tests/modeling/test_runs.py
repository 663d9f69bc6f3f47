"""`segsmith runs`: what stands beside what, what tells runs apart, and when their scores are not of one kind."""

import json
import shutil

import numpy as np
import pytest

HW = (32, 32)
TRUTH = np.zeros(HW, bool)
TRUTH[8:20, 8:20] = True


@pytest.fixture(scope="module")
def made(make_run, tmp_path_factory):
    """Copies of one run of eight images, beside each other."""
    probabilities = np.where(TRUTH, 200, 20).astype(np.uint8)
    run = make_run([TRUTH] * 8, [probabilities] * 8, "folds.count=2")
    folder = tmp_path_factory.mktemp("runs")
    for name in ("a", "b", "c"):
        shutil.copytree(run.folder, folder / name)
    recipe = (folder / "b" / "recipe.yaml").read_text()
    assert "ema_decay: " in recipe
    (folder / "b" / "recipe.yaml").write_text(
        recipe.replace("seed: 0", "seed: 7", 1).replace("workers: ", "workers: 1 #")
    )
    better = (folder / "b" / "metrics.csv").read_text().replace("0.75,0.6,", "0.75,0.66,")
    (folder / "b" / "metrics.csv").write_text(better)
    (folder / "c" / "bundle.safetensors").unlink()
    (folder / "c" / "metrics.csv").unlink()
    return folder


def scored(folder, value, low, high):
    """As `evaluate` leaves a run."""
    scores = {"mean_dice": {"value": value, "low": low, "high": high, "all_empty": 0.0}}
    (folder / "scores.json").write_text(json.dumps({"part": "validation", "images": 2, "scores": scores}))
    (folder / "images.csv").write_text("image_id\n01.png\n02.png\n")


def test_runs_stand_by_score_with_what_tells_them_apart(command, made):
    said = command("runs", made)
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    assert lines[0].startswith("mean_dice on dataset (")
    assert "best epoch on the validation fold" in lines[0]
    assert lines[1:7] == [
        f"  0.6600  {made / 'b'}  finished",
        "      seed=7",
        f"  0.6000  {made / 'a'}  finished",
        "      seed=0",
        f"  -  {made / 'c'}  stage 1 of 1, epoch 0",
        "      seed=0",
    ], said.out
    assert lines[7] == f"best: {made / 'b'}, but not surely so"
    assert len(lines) == 8


def test_scores_of_other_images_or_of_another_making_stand_apart(command, made, tmp_path):
    folder = shutil.copytree(made, tmp_path / "runs")
    scored(folder / "a", 0.8, 0.75, 0.84)
    scored(folder / "b", 0.7, 0.65, 0.74)
    said = command("runs", folder)
    assert f"  0.8000 (0.7500 to 0.8400)  {folder / 'a'}  finished" in said.out
    assert f"best: {folder / 'a'}\n" in said.out, "their intervals lie apart"
    assert "2 groups: scores of different datasets, metrics or images cannot be compared" in said.out

    scored(folder / "b", 0.78, 0.7, 0.83)
    assert f"best: {folder / 'a'}, but not surely so; more: segsmith compare" in command("runs", folder).out

    (folder / "b" / "images.csv").write_text("image_id\n01.png\n03.png\n")
    said = command("runs", folder)
    assert "3 groups" in said.out
    assert "best" not in said.out.replace("best epoch", "")


def test_a_run_that_does_not_read_hides_no_other(command, made, tmp_path):
    folder = shutil.copytree(made, tmp_path / "runs")
    (folder / "b" / "recipe.yaml").write_text("sede: 1\n")
    said = command("runs", folder)
    assert said.code == 0
    assert f"does not read: {folder / 'b'}: " in said.out
    assert "unknown key; did you mean 'seed'?" in said.out
    assert f"{folder / 'a'}  finished" in said.out


def test_a_folder_without_runs(command, tmp_path):
    assert "no run in" in command("runs", tmp_path).err
    assert "no such folder" in command("runs", tmp_path / "nowhere").err
