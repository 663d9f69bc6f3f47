"""`segsmith label`: what soft labels are, which are kept, and that no student is judged on what its teacher knows."""

from dataclasses import replace
from itertools import permutations

import cv2
import numpy as np
import pandas as pd
import pytest

from segsmith.data.dataset import TRAINED_ON, TUNED_ON, Dataset
from segsmith.data.images import read_image
from segsmith.decision.label import Voice, soft_labels, voices_of
from segsmith.errors import DataError
from segsmith.modeling.bundle import Bundle
from segsmith.modeling.run import Run
from segsmith.prediction.probabilities import Predictor
from segsmith.recipe_files import override, to_yaml
from segsmith.samples.chips import cut
from segsmith.samples.samples import read_sample
from segsmith.samples.split import split

SIZE = 64
TRUTH = np.zeros((SIZE, SIZE), bool)
TRUTH[8:20, 8:20] = True
EMPTY = np.zeros((SIZE, SIZE), bool)
SMALL = ("folds.count=4", "folds.held_out=3", "data.input_hw=[64,64]", "train.batch_size=2", "predict.flips=horizontal")
ONE_EPOCH = ("train.stages=[{epochs: 1, images_per_epoch: 4, loss: {kl: 1}}]", "train.workers=0")


@pytest.fixture(scope="module")
def teacher(make_run):
    """A run on sixteen images: folds 1 and 2 were trained on, 0 tuned on, 3 is held out."""
    return make_run([TRUTH, EMPTY] * 8, [np.zeros((SIZE, SIZE), np.uint8)] * 16, *SMALL)


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    folder = tmp_path_factory.mktemp("others")
    noise = np.random.default_rng(1)
    for number in range(6):
        image = cv2.GaussianBlur(noise.integers(0, 256, (SIZE, SIZE, 3), np.uint8), (0, 0), 1 + number)
        cv2.imwrite(str(folder / f"other{number}.png"), image)
    return folder


@pytest.fixture(scope="module")
def all_kept(command, teacher, others, tmp_path_factory):
    folder = tmp_path_factory.mktemp("taught") / "all"
    done = command("label", teacher.folder, others, "--to", folder, "--sure", 0, "--agree", 0)
    assert done.code == 0, done.err
    assert "6 images looked at, 6 kept" in done.out
    return folder


def test_soft_labels_are_the_mean_of_all_views_and_reach_the_batch(teacher, others, all_kept):
    dataset, recipe = Dataset.open(all_kept), Run(teacher.folder).recipe()
    bundle = Bundle.read(Run(teacher.folder).bundle)
    predict = recipe.predict.model_copy(update={"flips": "none"})
    plain = replace(bundle, recipe=recipe.model_copy(update={"predict": predict}))
    for row in np.flatnonzero(dataset.taught).tolist():
        image = read_image(others / dataset.images["image_id"].iloc[row])
        (straight,), (mirrored,) = Predictor(plain)([image]), Predictor(plain)([np.ascontiguousarray(image[:, ::-1])])
        expected = (straight.astype(float) + mirrored[:, :, ::-1]) / 2
        assert np.abs(dataset.soft(row) - expected).max() <= 0.5
        sample = read_sample(cut(dataset, recipe.data), row)
        assert np.array_equal(sample.soft, dataset.soft(row))
        assert np.array_equal(sample.mask, dataset.soft(row) >= 128)
        assert dataset.images["foreground"].iloc[row] == sample.mask.any(axis=0).sum()
    assert dataset.taught.sum() == 6
    assert dataset.soft(0) is None


def test_an_image_is_kept_where_its_confidence_and_agreement_suffice(command, teacher, others, all_kept, tmp_path):
    table = pd.read_csv(all_kept / "taught.csv").set_index("image_id")
    sure, agree = table["confidence"].median(), table["agreement"].min() + 1e-4
    done = command("label", teacher.folder, others, "--to", tmp_path / "few", "--sure", sure, "--agree", agree)
    assert done.code == 0, done.err
    expected = set(table.index[(table["confidence"] >= sure) & (table["agreement"] >= agree)])
    dataset = Dataset.open(tmp_path / "few")
    assert 0 < len(expected) < 6
    assert set(dataset.images["image_id"][dataset.taught]) == expected
    assert set(dataset.images["image_id"][~dataset.images["labelled"]]) == set(table.index) - expected
    assert dataset.fingerprint != Dataset.open(all_kept).fingerprint


def test_confidence_and_agreement_are_the_dice_that_they_are_said_to_be(make_bundle):
    bundle = make_bundle("predict.flips=none", "decide.top_k=2")
    one, other = np.zeros((1, 4, 4), np.uint8), np.zeros((1, 4, 4), np.uint8)
    one[0, :2, :2], other[0, :2, :3] = 255, 204

    def says(levels):
        return lambda images, extra: [levels] * len(images)

    image, extra = np.zeros((4, 4, 3), np.uint8), np.empty(0, np.uint8)
    view = (False, False, False)
    (found,) = soft_labels([Voice(says(one), view, 0.5), Voice(says(other), view, 0.5)], [image], [extra], bundle)
    together = np.zeros((1, 4, 4))
    together[0, :2, :2], together[0, :2, 2] = 230, 102
    assert np.abs(found.levels - together).max() <= 1
    inside = 4 * 230 / 255
    assert found.confidence == pytest.approx(2 * inside / (inside + 2 * 102 / 255 + 4), abs=0.01)
    assert found.agreement == pytest.approx((1 + 2 * 4 / (4 + 6)) / 2)
    nothing = np.zeros((1, 4, 4), np.uint8)
    nothing[0, 0, :2] = 102, 51
    (empty,) = soft_labels([Voice(says(nothing), view, 1.0)], [image], [extra], bundle)
    assert empty.confidence == pytest.approx(1 - 0.3, abs=0.01)
    assert empty.agreement == 1


def test_taught_images_change_no_fold_and_are_only_trained_on(teacher, all_kept):
    recipe, before, after = Run(teacher.folder).recipe(), Dataset.open(teacher.dataset), Dataset.open(all_kept)
    old, new = (split(cut(dataset, recipe.data), recipe.folds, recipe.seed) for dataset in (before, after))
    assert np.array_equal(new.fold[: len(before)], old.fold)
    for part in ("validation", "held_out"):
        assert np.array_equal(getattr(new, part), getattr(old, part))
    assert set(new.training) == set(old.training) | set(np.flatnonzero(after.taught))


def test_no_student_is_judged_on_what_its_teacher_was_trained_or_tuned_on(teacher, all_kept):
    """Every choice of folds is refused if, and only if, by the teacher's own list it would."""
    recipe, dataset = Run(teacher.folder).recipe(), Dataset.open(all_kept)
    listed = pd.read_csv(teacher.folder / "folds.csv")
    part_of = dict(zip(listed["chip"], listed["part"], strict=True))
    chips, allowed = cut(dataset, recipe.data), []
    untaught = cut(Dataset.open(teacher.dataset), recipe.data)
    for validation, held_out in [*permutations(range(4), 2), *((fold, None) for fold in range(4)), ("all", 3)]:
        folds = recipe.folds.model_copy(update={"validation": validation, "held_out": held_out})
        free = split(untaught, folds, recipe.seed)
        judges = {part_of[chips.id(chip)] for chip in free.validation.tolist()}
        held = {part_of[chips.id(chip)] for chip in free.held_out.tolist()}
        leaks = "training" in judges or bool({"training", "validation"} & held)
        if leaks:
            with pytest.raises(DataError, match="teacher of the dataset's soft labels"):
                split(chips, folds, recipe.seed)
        else:
            allowed.append((validation, held_out))
            assert np.array_equal(split(chips, folds, recipe.seed).validation, free.validation)
    assert sorted(allowed, key=str) == [(0, 3), (0, None), (3, None)]
    with pytest.raises(DataError, match="teacher of the dataset's soft labels"):  # other folds mix what was trained on
        split(chips, recipe.folds, recipe.seed + 1)


def test_a_student_that_teaches_hands_on_what_its_teacher_knew(command, teacher, all_kept, tmp_path):
    """The student holds out nothing and so trains on fold 3, but its teacher knows folds 1 and 2 all the same."""
    recipe = override(Run(teacher.folder).recipe(), ["folds.validation=0", "folds.held_out=null", *ONE_EPOCH])
    (tmp_path / "student.yaml").write_text(to_yaml(recipe))
    job = ("--recipe", tmp_path / "student.yaml")
    refused = command("train", all_kept, tmp_path / "refused", *job, "folds.validation=1")
    assert refused.code == 2
    assert "set folds.validation=0" in refused.err
    assert not (tmp_path / "refused" / "run.json").exists()
    done = command("train", all_kept, tmp_path / "student", *job, 'train.stages.0.mix={"source:taught": 1, rest: 0}')
    assert done.code == 0, done.err  # trained on soft labels alone
    again = command("label", tmp_path / "student", all_kept, "--to", tmp_path / "more", "--sure", 0, "--agree", 0)
    assert again.code == 0, again.err
    before, after = Dataset.open(all_kept), Dataset.open(tmp_path / "more")
    folds = split(cut(before, recipe.data), recipe.folds, recipe.seed).fold
    assert set(before.known[folds == 0]) == {TUNED_ON}
    assert set(before.known[folds == 3]) == {0}
    assert set(before.known[(folds == 1) | (folds == 2)]) == {TRAINED_ON}
    assert set(after.known[folds == 0]) == {TUNED_ON}
    assert set(after.known[(folds > 0)]) == {TRAINED_ON}
    assert after.taught.sum() == 6
    assert after.fingerprint != before.fingerprint


def test_training_learns_the_levels_and_not_the_mask(command, teacher, all_kept, tmp_path):
    recipe = override(Run(teacher.folder).recipe(), [*ONE_EPOCH, 'train.stages.0.mix={"source:taught": 1}'])
    (tmp_path / "student.yaml").write_text(to_yaml(recipe))
    losses = {}
    for name in ("as they are", "as masks"):
        run = tmp_path / name
        dataset = Dataset.open(all_kept)
        table = dataset.images.assign(soft=dataset.images["soft"].where(~dataset.taught, name))
        folder = tmp_path / f"dataset {name}"
        files = tmp_path / f"soft {name}" / "class-1"
        files.mkdir(parents=True)
        for row in np.flatnonzero(dataset.taught).tolist():
            levels = dataset.soft(row)[0]
            levels = levels if name == "as they are" else np.where(levels >= 128, 255, 0).astype(np.uint8)
            cv2.imwrite(str(files / f"{dataset.images['image_id'].iloc[row]}.png"), levels)
        replace(dataset, images=table, soft_labels=files.parent).write(folder)
        done = command("train", folder, run, "--recipe", tmp_path / "student.yaml")
        assert done.code == 0, done.err
        losses[name] = pd.read_csv(run / "losses.csv")["loss"].iloc[0]
    # a network that has learnt nothing says nearly what its teacher, which has not either, and is far from sure
    assert losses["as they are"] < 0.2
    assert losses["as masks"] > 0.4


def test_a_combined_run_teaches_what_all_of_its_networks_say(command, teacher, others, all_kept, tmp_path):
    assert command("combine", teacher.folder, teacher.folder, "--to", tmp_path / "both").code == 0
    assert len(voices_of(Bundle.read(Run(tmp_path / "both").bundle))) == 4
    done = command("label", tmp_path / "both", others, "--to", tmp_path / "taught", "--sure", 0, "--agree", 0)
    assert done.code == 0, done.err
    one, both = Dataset.open(all_kept), Dataset.open(tmp_path / "taught")
    assert np.array_equal(one.known, both.known)
    assert np.array_equal(one.soft(len(one) - 1), both.soft(len(both) - 1))


def test_borders_are_taught_by_a_teacher_that_knows_them_alone(command, make_run, others, all_kept, tmp_path):
    head = "network.heads={touching: {kind: border}}"
    run = make_run([TRUTH, EMPTY] * 8, [np.zeros((2, SIZE, SIZE), np.uint8)] * 16, *SMALL, head)
    done = command("label", run.folder, others, "--to", tmp_path / "taught", "--sure", 0, "--agree", 0)
    assert done.code == 0, done.err
    recipe = override(Run(run.folder).recipe(), [*ONE_EPOCH, 'train.stages.0.mix={"source:taught": 1}'])
    chips = replace(cut(Dataset.open(tmp_path / "taught"), recipe.data), border_px=1)
    taught = read_sample(chips, len(chips) - 1)
    assert taught.soft.shape == (2, SIZE, SIZE)
    assert np.array_equal(taught.mask, taught.soft >= 128)
    (tmp_path / "student.yaml").write_text(to_yaml(recipe))
    assert command("train", tmp_path / "taught", tmp_path / "run", "--recipe", tmp_path / "student.yaml").code == 0
    refused = command("train", all_kept, tmp_path / "none", "--recipe", tmp_path / "student.yaml")
    assert "their teacher has no such head" in refused.err


def test_unlabelled_images_of_the_own_dataset_are_labelled_in_their_place(command, teacher, tmp_path):
    dataset = Dataset.open(teacher.dataset)
    corrections = "image_id,class,verdict,runs\ni00.png,,leave out,\ni05.png,,leave out,\n"
    (tmp_path / "corrections.csv").write_text(corrections)
    dataset.write(tmp_path / "dataset", {"corrections.csv": corrections})
    recipe = override(Run(teacher.folder).recipe(), [*ONE_EPOCH])
    (tmp_path / "job.yaml").write_text(to_yaml(recipe))
    assert command("train", tmp_path / "dataset", tmp_path / "run", "--recipe", tmp_path / "job.yaml").code == 0
    to = tmp_path / "taught"
    done = command("label", tmp_path / "run", tmp_path / "dataset", "--to", to, "--sure", 0, "--agree", 0)
    assert done.code == 0, done.err
    taught = Dataset.open(to)
    assert len(taught) == len(dataset)
    assert list(taught.images["image_id"][taught.taught]) == ["i00.png", "i05.png"]


def test_chips_of_an_image_hold_their_part_of_its_soft_labels(command, make_run, others, tmp_path):
    cut_up = ("data.fit=chip", "data.input_hw=[32,32]", "data.scales=[1,0.5]", "folds.count=2", "folds.split=images")
    run = make_run([TRUTH, EMPTY] * 3, [np.zeros((SIZE, SIZE), np.uint8)] * 6, *cut_up)
    to = tmp_path / "taught"
    done = command("label", run.folder, others, "--to", to, "--sure", 0, "--agree", 0)
    assert done.code == 0, done.err
    dataset = Dataset.open(to)
    chips = cut(dataset, Run(run.folder).recipe().data)
    taught = [chip for chip in range(len(chips)) if dataset.taught[chips.image[chip]]]
    assert len(taught) == 6 * (4 + 1)
    for chip in taught:
        whole = dataset.soft(int(chips.image[chip]))
        top, left = chips.top[chip], chips.left[chip]
        halves = whole.reshape(1, 32, 2, 32, 2).mean(axis=(2, 4))
        expected = whole[:, top : top + 32, left : left + 32] if chips.scale[chip] == 1 else halves
        assert np.abs(read_sample(chips, chip).soft - expected.astype(float)).max() <= 0.5
    blocks = make_run([TRUTH, EMPTY] * 3, [np.zeros((SIZE, SIZE), np.uint8)] * 6, *cut_up[:-1], "folds.block=1")
    refused = command("label", blocks.folder, others, "--to", tmp_path / "blocks")
    assert "folds.split=images" in refused.err


def test_what_is_refused(command, teacher, others, all_kept, tmp_path):
    labelled = command("label", teacher.folder, teacher.dataset, "--to", tmp_path / "x")
    assert "all images of this dataset are labelled" in labelled.err
    own = command("label", teacher.folder, others, "--to", teacher.dataset)
    assert "is the run's own dataset" in own.err
    recipe = override(Run(teacher.folder).recipe(), ["folds.validation=all", *ONE_EPOCH])
    (tmp_path / "job.yaml").write_text(to_yaml(recipe))
    assert command("train", teacher.dataset, tmp_path / "all", "--recipe", tmp_path / "job.yaml").code == 0
    in_turn = command("label", tmp_path / "all", others, "--to", tmp_path / "x")
    assert f"take that of one fold, {tmp_path / 'all' / 'folds' / '0'}" in in_turn.err
    assert not (tmp_path / "x").exists()
    of_fold = tmp_path / "all" / "folds" / "1"
    assert command("label", of_fold, others, "--to", tmp_path / "of-1", "--sure", 0, "--agree", 0).code == 0
    job = ("--recipe", tmp_path / "job.yaml", "folds.validation=0")
    assert "set folds.validation=1" in command("train", tmp_path / "of-1", tmp_path / "run", *job).err
    (all_kept / "corrections.csv").write_text("image_id,class,verdict,runs\nother0.png,ship,empty,\n")
    try:
        assert "soft ones, of a run" in command("label", teacher.folder, all_kept, "--to", tmp_path / "x").err
    finally:
        (all_kept / "corrections.csv").unlink()
