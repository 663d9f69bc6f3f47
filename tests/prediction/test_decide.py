"""The decision against brute force: every cell of the search alone, by flood fill, from the metric's definition."""

import fcntl
import json
from dataclasses import asdict, replace
from typing import get_args

import numpy as np
import pytest
from by_hand import decided, in_child, scenes, score

from segsmith.errors import RunError
from segsmith.modeling.bundle import Bundle
from segsmith.prediction.decide import Search, areas_to_try, decide
from segsmith.recipe import Metric

METRICS = get_args(Metric)
LEVELS = [1, 52, 103, 153, 204, 255]
AREAS = [0, 2, 5, 9]
PARTS = 3
SEARCH = (f"decide.thresholds={len(LEVELS)}", f"decide.areas={AREAS}", f"decide.parts={PARTS}")


@pytest.fixture(scope="module")
def made(make_run):
    return make_run(*scenes(26, (12, 14), seed=1), "folds.count=2", *SEARCH)


@pytest.fixture(scope="module")
def brute(made):
    """`brute(metric, places, level, area)`: the metric over some images of the validation fold, numbered in order."""
    ids = made.fold(0)
    masks = {
        (place, level, area): decided(made.probabilities[image_id], level, area)
        for place, image_id in enumerate(ids)
        for level in LEVELS
        for area in AREAS
    }

    def compute(metric, cells):
        places = sorted(cells)
        return score(metric, [masks[place, *cells[place]] for place in places], [made.truths[ids[p]] for p in places])

    return compute


same_cell = dict.fromkeys


@pytest.mark.parametrize("metric", METRICS)
def test_the_best_cell_is_chosen_and_all_are_told(made, brute, metric):
    decision = decide(made.folder, metric=metric)
    everything = range(len(made.fold(0)))
    assert (decision.metric, list(decision.levels), list(decision.areas)) == (metric, LEVELS, AREAS)
    surface = [[brute(metric, same_cell(everything, (level, area))) for area in AREAS] for level in LEVELS]
    assert np.array(decision.surface) == pytest.approx(np.array(surface), abs=1e-6)
    assert decision.score == pytest.approx(np.max(surface))
    chosen = brute(metric, same_cell(everything, (decision.level, decision.smallest_area)))
    assert chosen == pytest.approx(np.max(surface)) != np.min(surface)
    assert decision.threshold == decision.level / 255


@pytest.mark.parametrize("metric", METRICS)
def test_the_cross_fitted_score_is_of_cells_tuned_on_other_images(made, brute, metric):
    decision = decide(made.folder, metric=metric)
    everything = range(len(made.fold(0)))
    assert len(decision.parts) == PARTS
    for part, cell in enumerate(decision.parts):
        others = [place for place in everything if place % PARTS != part]
        best = max(brute(metric, same_cell(others, (level, area))) for level in LEVELS for area in AREAS)
        assert brute(metric, same_cell(others, cell)) == pytest.approx(best)
    tuned = {place: decision.parts[place % PARTS] for place in everything}
    assert decision.cross_fitted_score == pytest.approx(brute(metric, tuned))


def test_parts_may_decide_otherwise(made):
    decisions = [decide(made.folder, metric=metric) for metric in METRICS]
    assert any(len(set(decision.parts)) > 1 for decision in decisions), "or the test above would be too easy"
    assert any(decision.cross_fitted_score < decision.score for decision in decisions)


def test_it_is_stored_in_the_bundle_and_beside_it(made):
    before = Bundle.read(made.folder / "bundle.safetensors")
    decision = decide(made.folder, metric="global_iou")
    after = Bundle.read(made.folder / "bundle.safetensors")
    assert after.decision == decision
    assert json.loads((made.folder / "decision.json").read_text()) == json.loads(json.dumps(asdict(decision)))
    assert {name: tensor.tolist() for name, tensor in after.members[0].items()} == {
        name: tensor.tolist() for name, tensor in before.members[0].items()
    }
    assert replace(after, members=(), decision=before.decision) == replace(before, members=())


def test_the_recipe_names_the_metric_and_another_may_stand_in(make_run):
    made = make_run(*scenes(12, (12, 14)), "folds.count=2", "decide.metric=global_f1", *SEARCH)
    first = decide(made.folder)
    assert first.metric == "global_f1"
    assert decide(made.folder, metric="mean_iou").metric == "mean_iou"
    assert decide(made.folder) == first, "the recipe is as it was"


def test_only_the_validation_fold_counts(make_run):
    truths, probabilities = scenes(20, (12, 14))
    made = make_run(truths, probabilities, "folds.count=2", "folds.validation=1", *SEARCH)
    for image_id in made.fold(0):
        (made.folder / "probabilities" / "ship" / f"{image_id}.png").unlink()
    decision = decide(made.folder)
    assert sorted(path.stem for path in (made.folder / "probabilities" / "ship").iterdir()) == sorted(made.fold(1))
    cell = (decision.level, decision.smallest_area)
    ids = made.fold(1)
    alone = score("mean_dice", [decided(made.probabilities[i], *cell) for i in ids], [made.truths[i] for i in ids])
    assert decision.score == pytest.approx(alone)


def test_of_equals_the_middle_is_taken(make_run):
    truths, _ = scenes(8, (12, 14))
    sure = [np.where(truth, 255, 0).astype(np.uint8) for truth in truths]
    options = ("folds.count=2", "decide.thresholds=5", "decide.areas=[0]")
    decision = decide(make_run(truths, sure, *options).folder)
    assert decision.levels == (1, 64, 128, 192, 255)
    assert (decision.level, decision.score, decision.cross_fitted_score) == (128, 1.0, 1.0)


def test_one_image_cannot_be_cross_fitted(make_run):
    truth = np.zeros((12, 14), bool)
    truth[2:6, 3:8] = True
    decision = decide(make_run([truth] * 2, [truth.astype(np.uint8) * 200] * 2, "folds.count=2", *SEARCH).folder)
    assert decision.score == 1.0
    assert decision.cross_fitted_score is None
    assert decision.parts == ((decision.level, decision.smallest_area),)


def test_fewer_images_than_parts(make_run):
    truths, probabilities = scenes(6, (12, 14))
    decision = decide(make_run(truths, probabilities, "folds.count=2", *SEARCH, "decide.parts=50").folder)
    assert len(decision.parts) == 3, "every image is its own part"
    assert decision.cross_fitted_score is not None


@pytest.mark.parametrize("hw", [(101, 101), (768, 768), (5, 5)])
def test_areas_to_try(hw):
    areas = areas_to_try(hw)
    assert areas[:2] == [0, 2]
    assert areas == sorted(set(areas))
    assert len(areas) <= 20
    assert areas[-1] == max(2, round(0.05 * hw[0] * hw[1]))


def test_memory_does_not_grow_with_the_number_of_images():
    def held(images: int) -> int:
        search = Search("mean_iou_map", np.array(LEVELS), np.array(AREAS), PARTS)
        counts = np.ones((len(LEVELS), len(AREAS)), np.int64)
        for place in range(images):
            search.add(place, counts, counts, 1, 100)
        return sum(value.nbytes if isinstance(value, np.ndarray) else 0 for value in vars(search).values())

    assert held(1) == held(500) > 0
    search = Search("mean_dice", np.array(LEVELS), np.array(AREAS), PARTS)
    assert not any(isinstance(value, list | dict | set) for value in vars(search).values())


# What is refused


def test_a_training_that_is_not_finished_is_refused(make_run):
    made = make_run(*scenes(4, (12, 14)), "folds.count=2")
    (made.folder / "bundle.safetensors").unlink()
    with pytest.raises(RunError, match=r"its training is not finished; the same train command continues it"):
        decide(made.folder)
    assert not (made.folder / "decision.json").exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"no run here \(recipe\.yaml is missing\); make one with: segsmith train"):
        decide(tmp_path / "nothing")
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_that_changed_since_is_refused(make_run):
    made = make_run(*scenes(4, (12, 14)), "folds.count=2")
    facts = json.loads((made.folder / "run.json").read_text())
    (made.folder / "run.json").write_text(json.dumps(facts | {"fingerprint": "0" * 16}))
    with pytest.raises(RunError, match=r"changed since the run began .*train a new run on it"):
        decide(made.folder)


def test_a_run_that_another_process_holds_is_refused(make_run):
    made = make_run(*scenes(4, (12, 14)), "folds.count=2")
    with (made.folder / ".lock").open("w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)

        def refused() -> str:
            with pytest.raises(RunError) as caught:
                decide(made.folder)
            return str(caught.value)

        assert "another process is at work here" in in_child(refused)
    assert decide(made.folder).metric == "mean_dice"


def test_a_metric_that_does_not_exist_is_refused_with_the_nearest(command, made):
    said = command("decide", made.folder, "--metric", "mean_dise")
    assert said.code == 2
    assert said.err.startswith("segsmith: override 'decide.metric=mean_dise'")
    assert "did you mean 'mean_dice'?" in said.err
