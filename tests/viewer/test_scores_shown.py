"""The scores that sliders show are those that `evaluate` computes with that decision."""

import csv
import json
import re
from dataclasses import replace

import by_hand
import numpy as np
import pytest
from browser import listening
from playwright.sync_api import expect

from segsmith.decision.decide import decide
from segsmith.decision.evaluate import evaluate
from segsmith.modeling.bundle import Bundle, Cell, Decision
from segsmith.prediction.probabilities import ProbabilityFiles
from segsmith.viewer.app import make_viewer


def evaluated_with(run, cells, decision: Decision, part: str) -> tuple[dict[str, float], dict[str, list[dict]]]:
    """Scores by name, and rows of images.csv by id, of a run whose decision is other cells."""
    path = run / "bundle.safetensors"
    replace(Bundle.read(path), decision=replace(decision, cells=cells, parts=())).write(path)
    evaluate(run, on=part)
    rows: dict[str, list[dict]] = {}
    for row in csv.DictReader((run / "images.csv").open()):
        rows.setdefault(row["image_id"], []).append(row)
    scores = json.loads((run / "scores.json").read_text())["scores"]
    return {name: score["value"] for name, score in scores.items()}, rows


def of_all(page, run: str = "") -> str:
    """The score of all images of the run at the left, or of that `beside-` it."""
    return page.locator(f"#{run}score-of-all").evaluate("element => element.firstChild.textContent")


def of_image(page, name: str) -> str:
    return page.locator(f"[data-score={name}]").inner_text()


def slide(page, level: int, area: int, run: str = "") -> None:
    page.locator(f"#{run}level").fill(str(level))
    page.locator(f"#{run}area").fill(str(area))


@pytest.mark.parametrize("part", ["validation", "held_out"])
def test_sliders_show_what_evaluate_scores(open_page, single, copied, part):
    areas, run = [0, 2, 5, 9], copied(single.folder, "run")
    image_id = max(single.fold(0 if part == "validation" else 1), key=lambda of: int((single.truths[of] > 0).sum()))
    decision = Bundle.read(run / "bundle.safetensors").decision
    gate = decision.cells[0].gate
    with listening(make_viewer([single.folder])) as address:
        page = open_page(f"{address}/#folder=0&image={image_id}")
        expect(page.locator("#score-of-all")).to_contain_text("0.")
        for level, place in [(90, 2), (200, 3), (31, 0)]:
            slide(page, level, place)
            scores, rows = evaluated_with(run, (Cell(level, areas[place], gate),), decision, part)
            for metric in ("mean_dice", "mean_iou_map", "global_iou", "global_precision"):
                page.get_by_label("Score of all images").first.select_option(metric)
                assert of_all(page) == f"{scores[metric]:.4f}", (level, metric)
            (row,) = rows[image_id]
            for name in ("dice", "iou", "iou_map"):
                assert of_image(page, name) == f"{float(row[name]):.4f}"
        page.close()


def test_each_class_has_sliders_of_its_own(open_page, double, copied):
    areas, run = [0, 2, 5, 9], copied(double, "run")
    decision = Bundle.read(run / "bundle.safetensors").decision
    image_id = next(
        row["image_id"] for row in csv.DictReader((double / "images.csv").open()) if float(row["dice"]) > 0.3
    )
    with listening(make_viewer([double])) as address:
        page = open_page(f"{address}/#folder=0&image={image_id}&look=0")
        expect(page.locator("#score-of-all")).to_contain_text("0.")
        slide(page, 70, 3)
        page.keyboard.press("Escape")
        page.keyboard.press("2")
        expect(page.get_by_role("button", name="scratch")).to_have_attribute("aria-pressed", "true")
        slide(page, 120, 1)
        scores, rows = evaluated_with(run, (Cell(70, areas[3]), Cell(120, areas[1])), decision, "validation")
        for metric in ("mean_dice", "mean_iou", "global_dice", "global_accuracy"):
            page.get_by_label("Score of all images").first.select_option(metric)
            assert of_all(page) == f"{scores[metric]:.4f}", metric
        dice = [float(row["dice"]) for row in rows[image_id]]
        assert of_image(page, "dice") == f"{sum(dice) / 2:.4f}"
        expect(page).to_have_url(re.compile("level=70%2C120"))
        page.close()


def test_each_of_two_runs_has_sliders_of_its_own(open_page, single, copied):
    areas, runs = [0, 2, 5, 9], [copied(single.folder, name) for name in ("first", "second")]
    files = ProbabilityFiles(runs[1] / "probabilities", Bundle.read(runs[1] / "bundle.safetensors").planes)
    for image_id, plane in single.probabilities.items():
        files.write(image_id, np.stack([plane // 2 + 60]))  # a run that is less sure
    decide(runs[1])
    image_id = max(single.fold(0), key=lambda of: int((single.truths[of] > 0).sum()))
    decisions = [Bundle.read(run / "bundle.safetensors").decision for run in runs]
    with listening(make_viewer(runs)) as address:
        page = open_page(f"{address}/#folder=0&image={image_id}&beside=1")
        expect(page.locator("#beside-score-of-all")).to_contain_text("0.")
        slide(page, 90, 2)
        expect(page.locator("#beside-level")).to_be_hidden()
        page.keyboard.press("Escape")
        page.keyboard.press("x")
        expect(page.locator("#level")).to_be_hidden()
        slide(page, 149, 1, "beside-")
        page.keyboard.press("]")
        expect(page).to_have_url(re.compile("beside_level=150&beside_area=2"))
        again = open_page(page.url)  # as it is linked to
        expect(again.locator("#beside-score-of-all")).to_contain_text("0.")
        for number, (run, cell) in enumerate([("", Cell(90, areas[2])), ("beside-", Cell(150, areas[1]))]):
            cells = (cell._replace(gate=decisions[number].cells[0].gate),)
            scores, rows = evaluated_with(runs[number], cells, decisions[number], "validation")
            for metric in ("mean_dice", "global_iou"):
                for shown in (page, again):
                    shown.get_by_label("Score of all images").first.select_option(metric)
                    assert of_all(shown, run) == f"{scores[metric]:.4f}", (run, metric)
            of_this = page.locator("tr", has_text="Dice").first.locator("td").nth(number)
            expect(of_this).to_have_text(f"{float(rows[image_id][0]['dice']):.4f}")
        for shown in (page, again):
            shown.close()


@pytest.fixture(scope="module")
def by_objects(make_run):
    """A run that is decided by its objects."""
    options = (
        "folds.count=2",
        "decide.fill_holes=true",
        "decide.gate=top_k",
        "decide.top_k=9",
        "decide.areas=[0,2,5,9]",
    )
    made = make_run(*by_hand.scenes(24, (20, 26)), *options, "decide.metric=f2_objects", "decide.parts=2")
    decide(made.folder)
    evaluate(made.folder)
    return made


@pytest.mark.parametrize("depth", [0, 6], ids=["connected", "taken apart"])
def test_objects_are_scored_as_evaluate_scores_them(open_page, by_objects, copied, depth):
    areas, shown, run = [0, 2, 5, 9], copied(by_objects.folder, "shown"), copied(by_objects.folder, "run")
    bundle = Bundle.read(shown / "bundle.safetensors")
    (cell,) = bundle.decision.cells
    cells = (cell._replace(depth=depth),)
    decision = replace(bundle.decision, cells=cells, parts=(), separate_by="distance" if depth else "none")
    replace(bundle, decision=decision).write(shown / "bundle.safetensors")
    image_id = max(by_objects.fold(0), key=lambda of: len(by_hand.objects(by_objects.truths[of])))
    found = []
    with listening(make_viewer([shown])) as address:
        page = open_page(f"{address}/#folder=0&image={image_id}")
        expect(page.locator("#score-of-all")).to_contain_text("0.")
        for level, place in [(96, 1), (160, 2), (48, 0)]:
            slide(page, level, place)
            cells = (Cell(level, areas[place], cell.gate, depth),)
            scores, rows = evaluated_with(run, cells, decision, "validation")
            assert of_all(page) == f"{scores['f2_objects']:.4f}", level
            expect(page.locator("[data-score=f2_objects]")).to_have_text(
                f"{float(rows[image_id][0]['f2_objects']):.4f}"
            )
            found.append(scores["f2_objects"])
        connected, _ = evaluated_with(run, (cells[0]._replace(depth=0),), decision, "validation")
        assert (connected["f2_objects"] != found[-1]) == bool(depth), "or nothing was taken apart"
        slide(page, 54, 0)
        expect(page.get_by_text("scored at 0.188 (48)")).to_have_count(int(depth > 0))
        page.close()


def test_as_decided_is_one_key_away(open_page, single):
    decision = Bundle.read(single.folder / "bundle.safetensors").decision
    with listening(make_viewer([single.folder])) as address:
        page = open_page(f"{address}/#folder=0&image={single.fold(0)[0]}&level=3")
        expect(page.locator("output[for=level]")).to_have_text("0.012 (3)")
        expect(page.locator("#score-of-all")).to_contain_text("0.")
        page.keyboard.press("d")
        level = decision.cells[0].level
        expect(page.locator("output[for=level]")).to_have_text(f"{level / 255:.3f} ({level})")
        page.get_by_label("Score of all images").first.select_option("mean_dice")
        assert of_all(page) == f"{decision.score:.4f}"
        page.close()
