"""`segsmith teach`: rounds, the ledger, when it stops, and that whatever is killed, the same comes of it."""

import json
from dataclasses import replace
from unittest.mock import patch

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from segsmith.data.dataset import TRAINED_ON, TUNED_ON
from segsmith.decision import teach as module
from segsmith.decision.decide import decide
from segsmith.decision.evaluate import evaluate
from segsmith.decision.label import known_by
from segsmith.modeling.bundle import Bundle
from segsmith.modeling.run import Run
from segsmith.modeling.train import check_recipe
from segsmith.recipe_files import load_recipe, override, to_yaml

SIZE = 32
TRUTH = np.zeros((SIZE, SIZE), bool)
TRUTH[8:10, 8:10] = True
EMPTY = np.zeros((SIZE, SIZE), bool)
SMALL = ("folds.count=3", "folds.held_out=2", "data.input_hw=[32,32]", "train.batch_size=4", "predict.flips=none")
STAGE = "train.stages=[{epochs: 1, images_per_epoch: 8, loss: {kl: 1}, mix: {'source:taught': 1, rest: 1}}]"
ANY = ("--sure", 0, "--agree", 0)


@pytest.fixture(scope="module")
def teacher(make_run):
    """A run that sees foreground wherever there is none: any student is better, and none surely than the next."""
    truths = [TRUTH, EMPTY] * 9
    run = make_run(truths, [np.where(truth, 0, 255).astype(np.uint8) for truth in truths], *SMALL)
    decide(run.folder)
    evaluate(run.folder)
    return run


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    folder = tmp_path_factory.mktemp("others")
    for number in range(4):
        image = np.random.default_rng(number).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
        cv2.imwrite(str(folder / f"other{number}.png"), image)
    return folder


@pytest.fixture(scope="module")
def student(teacher, tmp_path_factory):
    file = tmp_path_factory.mktemp("recipe") / "student.yaml"
    file.write_text(to_yaml(override(Run(teacher.folder).recipe(), [STAGE, "train.workers=0"])))
    return "--recipe", file


@pytest.fixture(scope="module")
def taught(command, teacher, others, student, tmp_path_factory):
    folder = tmp_path_factory.mktemp("taught") / "students"
    done = command("teach", teacher.folder, others, "--to", folder, *student, *ANY)
    assert done.code == 0, done.err
    return folder, done.out


def test_rounds_go_on_while_the_gain_is_sure_and_the_ledger_tells(teacher, taught):
    folder, said = taught
    ledger = pd.read_csv(folder / "ledger.csv")
    assert len(ledger) >= 2, "the first teacher is wrong everywhere"
    assert ledger["teacher"].tolist() == [str(teacher.folder.resolve()), *ledger["student"].tolist()[:-1]]
    assert (ledger["gain_low"].iloc[:-1] > 0).all()
    assert ledger["gain_low"].iloc[-1] <= 0 or len(ledger) == 3
    assert set(ledger["validation"]) == {0}
    assert set(ledger["held_out"]) == {2}
    assert (ledger["kept"] == 4).all()
    for row in ledger.itertuples():
        scores = json.loads((Run(folder / str(row.round) / "run").folder / "scores.json").read_text())
        metric = Run(folder / str(row.round) / "run").recipe().metric_of_pixels
        assert scores["part"] == "held_out"
        assert scores["scores"][metric]["value"] == pytest.approx(row.student_score, abs=1e-6)
        assert row.gain == pytest.approx(row.student_score - row.teacher_score)
        assert row.gain_low <= row.gain <= row.gain_high
    best = ledger["student"][ledger["gain_low"] > 0].iloc[-1]
    assert f"best: {best}" in said.replace(str(folder), str(folder.resolve()))


def test_no_round_knows_the_held_out_images_and_none_was_trained_on_those_it_validates(taught):
    folder, _ = taught
    for number in pd.read_csv(folder / "ledger.csv")["round"]:
        run = Run(folder / str(number) / "run")
        dataset, folds = run.dataset(), run.folds(run.chips())
        assert dataset.taught.sum() == 4
        for known in (dataset.known, known_by(run)):
            of_fold = {fold: {int(known[chip]) for chip in folds if folds[chip] == fold} for fold in range(3)}
            assert of_fold == {0: {TUNED_ON}, 1: {TRAINED_ON}, 2: {0}}


@pytest.mark.parametrize("killed_in", ["label", "train", "decide", "evaluate", "compare"])
def test_what_was_killed_goes_on_to_the_same(command, teacher, others, student, taught, tmp_path, killed_in):
    folder, _ = taught
    to = tmp_path / "students"
    asked = ("teach", teacher.folder, others, "--to", to, *student, *ANY, "--rounds", 1)
    work = getattr(module, killed_in)

    def killed(*args, **options):
        work(*args, **options)
        raise KeyboardInterrupt

    with patch.object(module, killed_in, killed):
        assert command(*asked).code == 130
    assert not (to / "ledger.csv").exists()
    assert command(*asked).code == 0
    places = ["teacher", "student"]
    found, expected = (pd.read_csv(of / "ledger.csv").drop(columns=places) for of in (to, folder))
    pd.testing.assert_frame_equal(found, expected[:1])
    ours, theirs = (Bundle.read(Run(of / "1" / "run").bundle) for of in (to, folder))
    assert ours.decision == theirs.decision
    for name, weights in theirs.members[0].items():
        assert torch.equal(ours.members[0][name], weights), name


def test_rounds_that_were_ended_are_not_done_again(command, teacher, others, student, taught):
    folder, said = taught
    before = (folder / "ledger.csv").read_text()
    with patch.object(module, "_round", side_effect=AssertionError("done again")):
        again = command("teach", teacher.folder, others, "--to", folder, *student, *ANY)
    assert again.code == 0, again.err
    assert again.out == said.split("teaches\n")[-1].split("images/s\n")[-1]
    assert (folder / "ledger.csv").read_text() == before


def test_what_is_refused(command, teacher, others, student, taught, tmp_path):
    folder, _ = taught
    another = command("teach", teacher.folder, others, "--to", folder, *student, "--sure", 0.5, "--agree", 0)
    assert "sure: 0.0 there, 0.5 now" in another.err
    sure = command("teach", teacher.folder, others, "--to", tmp_path / "sure", *student, "--sure", 1, "--agree", 1)
    assert "is sure of none of the 4 images" in sure.err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "note.txt").write_text("mine")
    assert "no students" in command("teach", teacher.folder, others, "--to", tmp_path / "mine", *student, *ANY).err
    recipe = Run(teacher.folder).recipe()
    for option, told in (("folds.held_out=null", "has no held-out fold"), ("seed=0", "not evaluated on its held-out")):
        run = Run(tmp_path / option)
        run.folder.mkdir()
        (run.folder / "recipe.yaml").write_text(to_yaml(override(recipe, [option])))
        replace(Bundle.read(Run(teacher.folder).bundle)).write(run.bundle)
        assert told in command("teach", run.folder, others, "--to", tmp_path / "x", *student).err


@pytest.mark.parametrize("name", ["salt", "steel", "houses"])
def test_the_recipe_of_a_student_is_its_teachers_made_noisier(name):
    teacher = load_recipe(name, ["network.encoder_weights=null"])
    student = module.student_recipe(teacher)
    check_recipe(student)
    assert load_recipe_of(student) == student
    first, *fine = student.train.stages
    soft = first.mix["source:taught"] / sum(first.mix.values())
    assert soft == pytest.approx(0.5)
    assert first.loss.kl == 1
    assert (first.loss.bce, first.loss.cross_entropy, first.loss.focal) == (0, 0, 0)
    assert len(fine) == len(teacher.train.stages)
    assert all(stage.mix["source:taught"] == 0 for stage in fine)
    for stage, before in zip(fine, teacher.train.stages, strict=True):
        assert stage.augment.cutout >= 0.5
        assert stage.augment.colour >= before.augment.colour
        assert stage.optimizer.lr < before.optimizer.lr
    assert student.network.dropout >= teacher.network.dropout


def load_recipe_of(recipe):
    """The recipe after a way through its file."""
    return type(recipe).model_validate(recipe.model_dump(mode="json"))
