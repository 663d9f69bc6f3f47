"""Scores against slow code that counts pixel by pixel; which images, and with whose decision, they are scored."""

import csv
import json
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from by_hand import decided, objects, scenes, score

from segsmith.decision.decide import decide
from segsmith.decision.evaluate import evaluate
from segsmith.errors import RunError
from segsmith.modeling.bundle import Bundle, Cell, Decision
from segsmith.recipe import Metric

METRICS = get_args(Metric)
HW = (12, 14)
SEARCH = ("decide.gate=none", "decide.areas=[0,2,5,9]", "decide.parts=3")


@pytest.fixture(scope="module")
def made(make_run):
    """Three folds; 1 is held out."""
    return make_run(*scenes(60, HW), "folds.count=3", "folds.held_out=1", *SEARCH)


@pytest.fixture(scope="module")
def held_out(made):
    return decide(made.folder), evaluate(made.folder)


@pytest.fixture(scope="module")
def validation(made, held_out):
    return held_out[0], evaluate(made.folder, on="validation")


def set_decision(made, decision: Decision) -> None:
    path = made.folder / "bundle.safetensors"
    replace(Bundle.read(path), decision=decision).write(path)


def scores_by_hand(predicted: list[np.ndarray], truths: list[np.ndarray]) -> dict[str, float]:
    found = {metric: score(metric, predicted, truths) for metric in METRICS}
    for name, wanted in (("dice_foreground", True), ("dice_empty", False)):
        chosen = [(mask, truth) for mask, truth in zip(predicted, truths, strict=True) if truth.any() == wanted]
        if chosen:
            found[name] = score("mean_dice", *zip(*chosen, strict=True))
    right = sum(int((mask & truth).sum()) for mask, truth in zip(predicted, truths, strict=True))
    marked, true = sum(int(mask.sum()) for mask in predicted), sum(int(truth.sum()) for truth in truths)
    found["global_precision"] = right / marked if marked else float(true == 0)
    found["global_recall"] = right / true if true else float(marked == 0)
    return found


def test_every_number_and_what_all_empty_scores(made, held_out):
    decision, evaluation = held_out
    truths = [made.truths[image_id] for image_id in made.fold(1)]
    cell = decision.cells[0][:2]
    expected = scores_by_hand([decided(made.probabilities[image_id], *cell) for image_id in made.fold(1)], truths)
    all_empty = scores_by_hand([np.zeros(HW, bool)] * len(truths), truths)
    assert {found.name: found.value for found in evaluation.scores} == pytest.approx(expected)
    assert {found.name: found.all_empty for found in evaluation.scores} == pytest.approx(all_empty)
    assert len(set(expected.values())) >= 8, "numbers that are told apart"
    assert all_empty["dice_empty"] == 1
    assert all_empty["dice_foreground"] == all_empty["global_recall"] == 0
    assert evaluation.score("global_recall").value == pytest.approx(expected["global_recall"])


def test_images_are_of_the_held_out_fold_with_one_decision(made, held_out):
    decision, evaluation = held_out
    assert evaluation.part == "held_out"
    assert not evaluation.cross_fitted
    assert sorted(evaluation.images["image_id"]) == sorted(made.fold(1))
    assert set(evaluation.images["level"]) == {decision.cells[0].level}
    assert set(evaluation.images["smallest_area"]) == {decision.cells[0].smallest_area}


def test_images_of_the_validation_fold_are_scored_with_decisions_tuned_on_others(made, validation):
    decision, evaluation = validation
    assert evaluation.part == "validation"
    assert evaluation.cross_fitted
    assert len(set(decision.parts)) > 1, "or the test would be too easy"
    used = {row.image_id: (row.level, row.smallest_area) for row in evaluation.images.itertuples()}
    assert used == {image_id: decision.parts[place % 3][0][:2] for place, image_id in enumerate(made.fold(0))}
    truths = [made.truths[image_id] for image_id in made.fold(0)]
    expected = scores_by_hand([decided(made.probabilities[i], *used[i]) for i in made.fold(0)], truths)
    assert {found.name: found.value for found in evaluation.scores} == pytest.approx(expected)
    assert evaluation.score("mean_dice").value == pytest.approx(decision.cross_fitted_score)


def test_without_a_held_out_fold_validation_is_scored(make_run):
    made = make_run(*scenes(8, HW), "folds.count=2", *SEARCH)
    decide(made.folder)
    evaluation = evaluate(made.folder)
    assert (evaluation.part, sorted(evaluation.images["image_id"])) == ("validation", sorted(made.fold(0)))


def test_a_score_of_the_images_it_was_tuned_on_is_told_to_be_too_good(make_run, command):
    truth = np.zeros(HW, bool)
    truth[3:7, 3:9] = True
    made = make_run([truth] * 2, [truth.astype(np.uint8) * 200] * 2, "folds.count=2", *SEARCH)
    assert decide(made.folder).cross_fitted_score is None
    said = " ".join(command("evaluate", made.folder).out.split())
    assert "1 images of the validation fold, decision tuned on these very images: the score is too good" in said
    assert "tuned on these very images, too few to cross-fit" in (made.folder / "report.html").read_text()


@pytest.mark.parametrize("which", ["held_out", "validation"])
def test_each_image_has_a_row_and_the_worst_comes_first(made, which, request):
    _, evaluation = request.getfixturevalue(which)
    for row in evaluation.images.itertuples():
        truth = made.truths[row.image_id]
        mask = decided(made.probabilities[row.image_id], row.level, row.smallest_area)
        assert (row.true_pixels, row.predicted_pixels, row.right_pixels) == (
            truth.sum(), mask.sum(), (truth & mask).sum(),
        )  # fmt: skip
        for column, metric in (("dice", "mean_dice"), ("iou", "mean_iou"), ("iou_map", "mean_iou_map")):
            assert getattr(row, column) == pytest.approx(score(metric, [mask], [truth]))
    images = evaluation.images
    wrong = images["true_pixels"] + images["predicted_pixels"] - 2 * images["right_pixels"]
    order = list(zip(images["dice"], -wrong, images["image_id"], strict=True))
    assert order == sorted(order)
    assert images["dice"].nunique() > 3


def test_each_object_of_either_side_has_a_row_with_its_best_overlap(made, held_out):
    _, evaluation = held_out
    cell = evaluation.decision.cells[0]
    found = evaluation.objects.groupby(["image_id", "side"])[["pixels", "iou"]].agg(list)
    ids = made.fold(1)
    assert any((image_id, "true") in found.index for image_id in ids), "or the test would be empty"
    for image_id in ids:
        sides = {
            "true": objects(made.truths[image_id]),
            "predicted": objects(decided(made.probabilities[image_id], cell.level, cell.smallest_area)),
        }
        for side, other in (("true", "predicted"), ("predicted", "true")):
            expected = sorted(
                (len(mine), round(max((len(mine & each) / len(mine | each) for each in sides[other]), default=0.0), 4))
                for mine in sides[side]
            )
            row = found.loc[(image_id, side)] if (image_id, side) in found.index else {"pixels": [], "iou": []}
            assert sorted(zip(row["pixels"], row["iou"], strict=True)) == expected


def test_intervals_hold_their_score_and_are_the_bootstrap_over_images(made, held_out, monkeypatch):
    monkeypatch.setattr("segsmith.decision.evaluate.RESAMPLES", 1000)
    evaluation = evaluate(made.folder)
    images = evaluation.images
    counts = images[["right_pixels", "predicted_pixels", "true_pixels"]].to_numpy()
    rng = np.random.default_rng(12345)
    drawn = [counts[rng.integers(0, len(counts), len(counts))].sum(axis=0) for _ in range(4000)]
    dice = [images["dice"].to_numpy()[rng.integers(0, len(images), len(images))].mean() for _ in range(4000)]
    for name, others in (
        ("mean_dice", dice),
        ("global_precision", [right / marked for right, marked, _ in drawn]),
        ("global_recall", [right / true for right, _, true in drawn]),
        ("global_iou", [right / (marked + true - right) for right, marked, true in drawn]),
    ):
        found = evaluation.score(name)
        assert (found.low, found.high) == pytest.approx(np.percentile(others, [2.5, 97.5]), abs=0.03), name
    for found in evaluation.scores:
        assert 0 <= found.low <= found.value <= found.high <= 1, found.name
    assert sum(found.low < found.high for found in evaluation.scores) >= 9


def test_the_same_again_and_in_files(made, held_out):
    _, evaluation = held_out
    again = evaluate(made.folder)
    assert again.scores == evaluation.scores
    assert again.images.equals(evaluation.images)
    told = json.loads((made.folder / "scores.json").read_text())
    assert (told["part"], told["images"], told["cross_fitted"]) == ("held_out", len(made.fold(1)), False)
    assert told["scores"]["mean_dice"] == {
        key: round(getattr(evaluation.score("mean_dice"), key), 6) for key in ("value", "low", "high", "all_empty")
    }
    assert list(told["scores"]) == [found.name for found in evaluation.scores]
    with (made.folder / "images.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image_id"] for row in rows] == evaluation.images["image_id"].tolist()
    assert [float(row["dice"]) for row in rows] == evaluation.images["dice"].tolist()


def test_another_seed_draws_another_bootstrap(make_run):
    lows = []  # of the global IoU with the same images, decision and fold
    for seed in (0, 1):
        made = make_run(*scenes(24, HW), "folds.count=2", f"seed={seed}", *SEARCH)
        set_decision(made, Decision((Cell(128),), metric="mean_dice"))
        (made.folder / "folds.csv").write_text(
            "chip,fold,part\n"
            + "".join(f"{i},{n % 2},{('validation', 'training')[n % 2]}\n" for n, i in enumerate(made.truths))
        )
        lows.append([(found.low, found.high) for found in evaluate(made.folder).scores])
    assert lows[0] != lows[1]


@pytest.mark.parametrize(
    ("truth", "absent", "precision", "recall"),
    [(False, "dice_foreground", 1.0, 1.0), (True, "dice_empty", 0.0, 0.0)],
)
def test_only_empty_and_no_empty_images(make_run, truth, absent, precision, recall):
    """The validation fold holds images of one kind, and the decision marks nothing."""
    truths, probabilities = scenes(12, HW)
    made = make_run(truths, probabilities, "folds.count=2", *SEARCH)
    set_decision(made, Decision((Cell(255, 10_000),), metric="mean_dice"))
    (made.folder / "folds.csv").write_text(
        "chip,fold,part\n"
        + "".join(f"{i},0,{'validation' if made.truths[i].any() == truth else 'training'}\n" for i in made.truths)
    )
    evaluation = evaluate(made.folder)
    names = {found.name for found in evaluation.scores}
    assert {"dice_foreground", "dice_empty"} - names == {absent}
    for name, value in (("global_precision", precision), ("global_recall", recall), ("mean_dice", float(not truth))):
        found = evaluation.score(name)
        assert (found.low, found.value, found.high, found.all_empty) == (value,) * 4


# What is refused


def test_what_cannot_be_scored_is_refused(make_run, tmp_path):
    made = make_run(*scenes(6, HW), "folds.count=2", *SEARCH)
    with pytest.raises(RunError, match=r"not decided yet; first: segsmith decide"):
        evaluate(made.folder)
    with pytest.raises(RunError, match=r"has no held-out fold; train with folds\.held_out=N"):
        evaluate(made.folder, on="held_out")
    (made.folder / "bundle.safetensors").unlink()
    with pytest.raises(RunError, match=r"its training is not finished"):
        evaluate(made.folder)
    with pytest.raises(RunError, match=r"no run here"):
        evaluate(tmp_path)
    assert not {"scores.json", "images.csv"} & {path.name for path in made.folder.iterdir()}
