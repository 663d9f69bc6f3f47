"""Kinds of images and sizes of objects in the run report: every image and object is counted once in each way."""

import numpy as np
import pytest
from by_hand import scenes
from html_page import Page

from segsmith.decision.decide import decide
from segsmith.decision.evaluate import evaluate
from segsmith.decision.kinds_report import kind_sections
from segsmith.decision.report import METRIC_NAMES
from segsmith.modeling.run import Run


@pytest.fixture(scope="module")
def told(make_run):
    """The evaluation of a run, and the rows of both tables of its report by what stands in their first cell."""
    made = make_run(*scenes(60, (12, 14)), "folds.count=3", "decide.areas=[0,2,5]", "decide.metric=mean_iou_map")
    decide(made.folder)
    evaluation = evaluate(made.folder)
    tables = []
    for section in kind_sections(Run(made.folder).chips(), evaluation, METRIC_NAMES):
        page = Page("<section>" + "".join(map(str, section.parts)))
        width, cells = len(page.all("th")), page.all("td")
        tables.append({cells[at]: cells[at + 1 : at + width] for at in range(0, len(cells), width)})
    return evaluation, *tables


def test_each_image_is_of_one_number_of_objects(told):
    evaluation, images, _ = told
    by_objects = [int(cells[0]) for kind, cells in images.items() if "object" in kind]
    assert len(by_objects) > 2
    assert sum(by_objects) == int(images["all"][0]) == len(evaluation.images)
    filled = evaluation.images[evaluation.images["true_pixels"] > 0]
    assert sum(int(cells[0]) for kind, cells in images.items() if "foreground" in kind) == len(filled)


def test_scores_of_a_kind_are_means_of_its_images(told):
    evaluation, images, _ = told
    table = evaluation.images
    single = table[table["objects"] == 1]
    expected = [single[name].mean() for name in ("iou_map", "dice", "iou")]
    assert [float(cell) for cell in images["1 object"][1:4]] == pytest.approx(expected, abs=5e-4)
    missed = ((single["true_pixels"] > 0) & (single["predicted_pixels"] == 0)).sum()
    assert int(images["1 object"][4].split()[0]) == missed
    empty = table[table["true_pixels"] == 0]
    assert images["no object"][4] == "-"
    assert int(images["no object"][5].split()[0]) == (empty["predicted_pixels"] > 0).sum()


def test_each_object_is_of_one_size_and_found_met_or_missed(told):
    evaluation, _, sizes = told
    objects = evaluation.objects
    true, predicted = objects[objects["side"] == "true"], objects[objects["side"] == "predicted"]
    counts = np.array([[int(cell.split()[0].replace("-", "0")) for cell in cells] for cells in sizes.values()])
    assert len(counts) > 1
    assert (counts[:, 0] == counts[:, 1:4].sum(axis=1)).all()
    assert counts.sum(axis=0).tolist() == [
        len(true), (true["iou"] > 0.5).sum(), true["iou"].between(0, 0.5, "right").sum(), (true["iou"] == 0).sum(),
        len(predicted), (predicted["iou"] == 0).sum(),
    ]  # fmt: skip
