"""The decision against brute force: cells of the search alone, by flood fill, from the metric's definition."""

import fcntl
import json
from dataclasses import asdict, replace
from typing import get_args

import by_hand
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from by_hand import scenes
from processes import in_child

from segsmith.data.ingest_vector import ingest
from segsmith.decision.decide import areas_to_try, decide, true_objects
from segsmith.decision.evaluate import evaluate
from segsmith.decision.gates import top_k_mean
from segsmith.decision.masks import decided_by
from segsmith.errors import RunError
from segsmith.modeling.bundle import Bundle, Cell
from segsmith.modeling.run import Run
from segsmith.prediction.probabilities import ProbabilityFiles
from segsmith.recipe import Data, Metric
from segsmith.samples.chips import cut
from segsmith.samples.split import unjudged

METRICS = get_args(Metric)
LEVELS = [0, 1, 52, 103, 128, 153, 204, 255]
AREAS = [0, 2, 5, 9]
PARTS = 3
SEARCH = (f"decide.areas={AREAS}", f"decide.parts={PARTS}", "decide.top_k=6")


def decided(plane, cell) -> np.ndarray:
    mask = by_hand.decided(plane, cell.level, cell.smallest_area)
    return mask if top_k_mean(plane, 6) >= cell.gate else np.zeros_like(mask)


@pytest.fixture(scope="module")
def made(make_run):
    return make_run(*scenes(26, (12, 14), seed=1), "folds.count=2", *SEARCH)


@pytest.fixture(scope="module")
def brute(made):
    """`brute(metric, cells)`: the metric over images of the validation fold, numbered in order, each with its cell."""
    ids = made.fold(0)

    def compute(metric, cells):
        masks = [decided(made.probabilities[ids[place]], cell) for place, cell in cells.items()]
        return by_hand.score(metric, masks, [made.truths[ids[place]] for place in cells])

    return compute


@pytest.mark.parametrize("metric", METRICS)
def test_what_is_told_of_each_cell_is_its_score(made, brute, metric):
    decision = decide(made.folder, metric=metric)
    (cell,), (surface,), (gates,) = decision.cells, decision.surfaces, decision.gates
    everything = range(len(made.fold(0)))
    assert (decision.metric, list(decision.areas), len(surface)) == (metric, AREAS, 256)
    for level in LEVELS:
        expected = [
            brute(metric, dict.fromkeys(everything, cell._replace(level=level, smallest_area=area))) for area in AREAS
        ]
        assert surface[level] == pytest.approx(expected, abs=1e-6)
    for gate, told in gates:
        assert told == pytest.approx(brute(metric, dict.fromkeys(everything, cell._replace(gate=gate))), abs=1e-6)
    assert decision.score == pytest.approx(brute(metric, dict.fromkeys(everything, cell)))
    nothing = cell._replace(level=255, smallest_area=10**6)
    assert decision.all_empty == pytest.approx(brute(metric, dict.fromkeys(everything, nothing)))
    assert decision.score > np.mean(surface)


@pytest.mark.parametrize("metric", METRICS)
def test_the_cross_fitted_score_is_of_cells_tuned_on_other_images(made, brute, metric):
    decision = decide(made.folder, metric=metric)
    assert len(decision.parts) == PARTS
    tuned = {place: decision.parts[place % PARTS][0] for place in range(len(made.fold(0)))}
    assert decision.cross_fitted_score == pytest.approx(brute(metric, tuned))


def test_parts_are_decided_without_their_own_images(make_run):
    """Where the truth of one part is turned round, the decisions of the others may change, and its own not."""
    truths, probabilities = scenes(26, (12, 14), seed=1)
    first = make_run(truths, probabilities, "folds.count=2", *SEARCH)
    before = decide(first.folder)
    numbers = {image_id: number for number, image_id in enumerate(first.truths)}
    for image_id in first.fold(0)[1::PARTS]:  # part 1
        probabilities[numbers[image_id]] = 255 - probabilities[numbers[image_id]]
    after = decide(make_run(truths, probabilities, "folds.count=2", *SEARCH).folder)
    assert after.parts[1] == before.parts[1]
    assert after.parts != before.parts
    assert after.cross_fitted_score < before.cross_fitted_score


def test_each_class_and_metric_may_decide_otherwise(made):
    decisions = [decide(made.folder, metric=metric) for metric in METRICS]
    assert len({decision.cells for decision in decisions}) > 1
    assert any(decision.cross_fitted_score != decision.score for decision in decisions)


def test_images_that_are_empty_for_all_their_noise_are_gated(make_run):
    """Noise in empty images is as sure and as large as some objects; only how much there is of it tells."""
    truths, probabilities = [], []
    for number in range(80):
        truth, plane = np.zeros((12, 14), bool), np.zeros((12, 14), np.uint8)
        if number % 2:
            truth[2:7, 2:7] = True
            truth[9:11, 9:11] = True
            plane[truth] = 200
        else:
            plane[4:6, 4:6] = 210
        truths.append(truth)
        probabilities.append(plane)
    options = ("folds.count=2", "decide.areas=[0,2]", "decide.top_k=20")
    gated = decide(make_run(truths, probabilities, *options).folder)
    assert gated.cells[0].gate > 0
    assert gated.score == gated.cross_fitted_score == 1
    without = decide(make_run(truths, probabilities, *options, "decide.gate=none").folder)
    assert without.score < 0.8
    assert (without.cells[0].gate, without.gate_by) == (0, "none")


def test_a_presence_head_gates_what_pixels_cannot_tell(make_run):
    """Noise in empty images looks as objects do; only the head knows. Evaluate and predict's masks ask it too."""
    truths, planes = [], []
    for number in range(40):
        truth, plane = np.zeros((12, 14), bool), np.zeros((12, 14), np.uint8)
        plane[2:7, 2 : 6 + number % 3] = 200
        truth[2:7, 2 : 6 + number % 3] = number % 2
        truths.append(truth)
        planes.append(plane)
    options = ("folds.count=4", "folds.held_out=1", "decide.areas=[0,2]")
    head = ("network.heads={present: {kind: presence}}", "decide.gate=presence")
    made = make_run(truths, planes, *options, *head)
    files = ProbabilityFiles(made.folder / "probabilities", ("ship",))
    for number, image_id in enumerate(made.truths):
        files.write(image_id, planes[number][None], np.array([200 if number % 2 else 60], np.uint8))
    decision = decide(made.folder)
    assert decision.gate_by == "presence"
    assert decision.cells[0].gate == 200
    assert decision.score == decision.cross_fitted_score == 1
    assert evaluate(made.folder).score("mean_dice").value == 1
    image_id = made.fold(1)[0]
    gated = decided_by(decision, files.read(image_id), presence=np.array([0], np.uint8))
    assert not gated.any()
    by_pixels = decide(make_run(truths, planes, *options).folder)
    assert by_pixels.score < 0.6


def test_holes_are_filled_if_asked_for(make_run):
    truths, probabilities = [], []
    for number in range(12):
        truth = np.zeros((12, 14), bool)
        truth[2 : 8 + number % 3, 3:9] = True
        plane = truth.astype(np.uint8) * 200
        plane[4:6, 5:7] = number
        truths.append(truth)
        probabilities.append(plane)
    made = make_run(truths, probabilities, "folds.count=2", *SEARCH, "decide.fill_holes=true")
    decision = decide(made.folder)
    assert decision.fill_holes
    assert decision.score == 1
    assert decide(make_run(truths, probabilities, "folds.count=2", *SEARCH).folder).score < 1


def test_ships_are_decided_by_objects(made):
    decision = decide(made.folder, metric="f2_objects")
    assert decision.metric == "f2_objects"
    assert 0 < decision.score <= 1
    truths = [made.truths[image_id] for image_id in made.fold(0)]
    planes = [made.probabilities[image_id] for image_id in made.fold(0)]
    hits = 0.0
    for truth, plane in zip(truths, planes, strict=True):  # one threshold of the ten is a bound for none of them
        true, found = by_hand.objects(truth), by_hand.objects(decided(plane, decision.cells[0]))
        if not true and not found:
            hits += 1
            continue
        for step in range(10):
            hit = sum(len(a & b) / len(a | b) > 0.5 + 0.05 * step + 1e-9 for a in true for b in found)
            hits += 0.1 * 5 * hit / (4 * len(true) + len(found))
    assert decision.score == pytest.approx(hits / len(truths))


def test_a_miss_rate_sets_the_level_alone(made, command):
    decision = decide(made.folder, miss_rate=0.3)
    (cell,), (dial,) = decision.cells, decision.dials
    assert (cell.smallest_area, cell.gate) == (0, 0)
    filled = [i for i in made.fold(0) if made.truths[i].any()]
    missed = [1 - (made.probabilities[i] >= cell.level)[made.truths[i]].mean() for i in filled]
    assert (dial.miss_rate, dial.images, dial.missed) == (0.3, len(filled), pytest.approx(np.mean(missed)))
    assert (sum(missed) + 1) / (len(filled) + 1) <= 0.3
    higher = [1 - (made.probabilities[i] > cell.level)[made.truths[i]].mean() for i in filled]
    assert (sum(higher) + 1) / (len(filled) + 1) > 0.3
    said = command("decide", made.folder, "--miss-rate", 0.3)
    assert f"at most 30.0% of it is missed on average, judging by {len(filled)} of them" in " ".join(said.out.split())
    assert Bundle.read(made.folder / "bundle.safetensors").decision == decision
    assert decide(made.folder).dials == ()
    with pytest.raises(RunError, match=r"the miss rate lies between 0 and 1, and 5 does not; try 0\.05"):
        decide(made.folder, miss_rate=5.0)


def test_the_temperature_is_stored_where_the_recipe_says_so(make_run):
    scene = scenes(12, (12, 14))
    made = make_run(*scene, "folds.count=2", *SEARCH, "decide.calibrate=true")
    decision = decide(made.folder)
    written = json.loads((made.folder / "calibration.json").read_text())
    assert decision.temperature == written["temperature"] > 0
    without = make_run(*scene, "folds.count=2", *SEARCH)
    assert decide(without.folder) == replace(decision, temperature=None), "no decision depends on it"
    assert (without.folder / "calibration.json").exists()


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
    masks = [decided(made.probabilities[image_id], decision.cells[0]) for image_id in made.fold(1)]
    alone = by_hand.score("mean_dice", masks, [made.truths[image_id] for image_id in made.fold(1)])
    assert decision.score == pytest.approx(alone)


def test_of_equals_the_middle_is_taken(make_run):
    truths, _ = scenes(8, (12, 14))
    sure = [np.where(truth, 255, 0).astype(np.uint8) for truth in truths]
    decision = decide(make_run(truths, sure, "folds.count=2", "decide.areas=[0]").folder)
    assert decision.cells == (Cell(128, 0, 0),)
    assert (decision.score, decision.cross_fitted_score) == (1.0, 1.0)


def test_one_image_cannot_be_cross_fitted(make_run):
    truth = np.zeros((12, 14), bool)
    truth[2:6, 3:8] = True
    decision = decide(make_run([truth] * 2, [truth.astype(np.uint8) * 200] * 2, "folds.count=2", *SEARCH).folder)
    assert decision.score == 1.0
    assert decision.cross_fitted_score is None
    assert decision.parts == (decision.cells,)


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
    assert len(areas) <= 48
    assert areas[-1] == max(2, round(0.05 * hw[0] * hw[1]))


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


def test_a_fold_that_holds_nothing_to_find_decides_nothing(make_run, command):
    truths, blank = [np.zeros((12, 14), bool) for _ in range(4)], np.zeros((12, 14), np.uint8)
    truths[0][3:7, 3:9] = True
    runs = [make_run(truths, [blank] * 4, "folds.count=2", f"folds.validation={fold}", *SEARCH) for fold in (0, 1)]
    lacking, holding = sorted(runs, key=lambda made: "i00.png" in made.fold(runs.index(made)))
    said = command("decide", lacking.folder)
    assert (said.code, said.out) == (2, "")
    assert "the validation fold holds nothing of class ship: scores of it, and a decision tuned on it" in said.err
    assert "mean nothing; lower folds.count, or label more images with some" in said.err
    assert not (lacking.folder / "decision.json").exists()
    assert "holds nothing" not in command("decide", holding.folder).out


def test_a_class_that_the_validation_fold_lacks_is_told(made):
    run = Run(made.folder)
    chips, validation = run.chips(), run.part(run.chips(), "validation")
    scratches = ~np.isin(np.arange(len(chips)), validation)  # in no validation image, and in all others
    two = replace(
        chips,
        dataset=replace(chips.dataset, classes=("ship", "scratch")),
        present=np.stack([chips.present[:, 0], scratches], axis=1),
    )
    fold = np.array([run.folds(chips)[chip] for chip in range(len(chips))])
    (told,) = unjudged(two, validation, fold, run.recipe().folds).values()
    assert told.startswith("the validation fold holds nothing of class scratch: ")
    assert told.endswith("lower folds.count, or label more images with some"), "one fold of two is to train on"
    three = run.recipe().folds.model_copy(update={"count": 3})
    (told,) = unjudged(two, validation, np.where(scratches, 1 + np.arange(len(chips)) % 2, 0), three).values()
    assert told.endswith("set folds.validation=1, a fold with some, or lower folds.count")


def test_a_metric_that_does_not_exist_is_refused_with_the_nearest(command, made):
    said = command("decide", made.folder, "--metric", "mean_dise")
    assert said.code == 2
    assert said.err.startswith("segsmith: override 'decide.metric=mean_dise'")
    assert "did you mean 'mean_dice'?" in said.err
    said = command("decide", made.folder, "--metric", "f2_object")
    (line,) = said.err.splitlines()
    assert "decide.metric: Input should be 'mean_dice', 'mean_iou'," in line
    assert line.endswith("or 'f2_objects' (got 'f2_object'); did you mean 'f2_objects'?")


HEAD = "network.heads={border: {kind: border}}"


def moored(count: int, *, touching: bool = True) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Pairs of ships side by side: their numbers at each pixel, and levels of the class and of the border; below the
    level of the ships, a rim."""
    truths, planes = [], []
    for number in range(count):
        truth, plane = np.zeros((24, 30), np.int32), np.zeros((2, 24, 30), np.uint8)
        middle, bottom = 12 + number % 5, 14 + number % 3
        truth[4:bottom, 5:middle] = 1
        truth[4:bottom, middle + (not touching) : 25] = 2
        plane[0, 3 : bottom + 1, 4:26] = 60
        plane[0][truth > 0] = 200
        plane[1, :, middle - 1 : middle + 1] = 180 if touching else 0
        truths.append(truth)
        planes.append(plane)
    return truths, planes


def test_ships_that_touch_are_taken_apart_by_what_was_learnt_of_borders(make_run):
    made = make_run(
        *moored(24), "folds.count=3", "folds.held_out=1", HEAD, "decide.metric=f2_objects", "decide.gate=none"
    )
    plain = decide(made.folder)
    assert plain.cells[0].depth == 0
    assert plain.score < 0.2, "of a pair, one ship at most has half the pixels"
    decision = decide(made.folder, separate="border")
    assert decision.separate_by == "border"
    assert decision.cells[0].depth > 0
    assert 60 < decision.cells[0].level <= 200
    assert decision.cells[0].level % 16 == 0, "a level that was scored"
    assert decision.score == decision.cross_fitted_score == 1
    evaluation = evaluate(made.folder)
    assert evaluation.score("f2_objects").value == 1, "on other images, by the same decision"
    on_validation = evaluate(made.folder, on="validation").score("f2_objects")
    assert (on_validation.value, on_validation.all_empty) == (decision.cross_fitted_score, decision.all_empty)
    assert decide(made.folder, separate="distance").cells[0].depth == 0, "the outline of a pair is that of one"


def test_nothing_is_taken_apart_where_that_does_not_help(make_run):
    options = ("folds.count=2", HEAD, "decide.metric=f2_objects", "decide.gate=none", "decide.separate=border")
    decision = decide(make_run(*moored(12, touching=False), *options).folder)
    assert (decision.cells[0].depth, decision.score) == (0, 1)
    assert {cell.depth for part in decision.parts for cell in part} == {0}


def test_what_cannot_be_taken_apart_is_refused(make_run):
    made = make_run(*scenes(8, (12, 14)), "folds.count=2", *SEARCH)
    with pytest.raises(RunError, match=r"decided by f2_objects.*the metric is mean_dice"):
        decide(made.folder, separate="distance")
    with pytest.raises(RunError, match="learnt no borders; train with a head of kind border, or try distance"):
        decide(made.folder, metric="f2_objects", separate="border")


def test_polygons_that_touch_are_two_true_objects(tmp_path):
    """Of scenes cut into chips; of run lengths in chips, what is connected."""
    (tmp_path / "area").mkdir()
    profile = {"driver": "GTiff", "height": 32, "width": 32, "count": 3, "dtype": "uint8", "crs": "EPSG:32631"}
    place = rasterio.transform.from_origin(500_000, 5_000_000, 1, 1)
    with rasterio.open(tmp_path / "area" / "a.tif", "w", **profile, transform=place) as file:
        file.write(np.zeros((3, 32, 32), np.uint8))
    places = ((24, 30), (4, 20), (12, 20))  # of which the first is in the lower chip alone
    houses = [shapely.box(500_000 + x, 5_000_000 - y, 500_000 + x + 8, 5_000_010 - y) for x, y in places]
    pyogrio.raw.write(
        tmp_path / "area" / "area.gpkg", shapely.to_wkb(houses), [], [], geometry_type="Polygon", crs="EPSG:32631"
    )
    chips = cut(ingest(tmp_path), Data(fit="chip", input_hw=(16, 32)))
    for chip, top in enumerate(chips.top.tolist()):
        truth = chips.truth(chip)[0]
        labels = true_objects(chips, chip, 0, truth)
        expected = np.zeros((32, 32), int)
        for number, (x, y) in enumerate(places):
            expected[y - 10 : y, x : x + 8] = number + (top > 0)
        assert (labels == expected[top : top + 16]).all()
