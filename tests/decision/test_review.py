import json
import re

import numpy as np
import pandas as pd
import pytest
from by_hand import scenes

from segsmith.data.dataset import Dataset
from segsmith.decision.decide import decide
from segsmith.decision.review import label_quality, review

HW = (32, 40)
WRONG = (4,)


def quality_by_hand(probabilities, truth, valid):
    of_label = [p if t else 1 - p for p, t in zip(probabilities[valid], truth[valid], strict=True)]
    weights = [np.exp((1 - q) / 0.2) for q in of_label]
    return sum(w * q for w, q in zip(weights, of_label, strict=True)) / sum(weights)


def test_quality_is_the_softmin_over_usable_pixels():
    noise = np.random.default_rng(0)
    probabilities, truth, valid = noise.random(HW), noise.random(HW) < 0.3, noise.random(HW) < 0.9
    found = label_quality(probabilities, truth, valid)
    assert found == pytest.approx(quality_by_hand(probabilities, truth, valid), rel=1e-9)
    assert label_quality(truth.astype(float), truth, valid) == 1
    assert label_quality(1.0 - truth, truth, valid) == 0
    assert label_quality(probabilities, truth, np.zeros(HW, bool)) == 1


@pytest.fixture
def made(make_run):
    """Twelve images whose networks are nearly sure of the truth, but for one that is labelled as if it were empty."""
    truths = list(scenes(12, HW, seed=3)[0])
    probabilities = [np.where(truth, 220, 20).astype(np.uint8) for truth in truths]
    for number in WRONG:
        assert truths[number].any()
        truths[number] = np.zeros(HW, bool)
    return make_run(truths, probabilities, "folds.count=2", "folds.validation=1")


def test_the_label_that_is_wrong_stands_first_and_its_correction_is_what_the_page_says(made, command):
    decide(made.folder)
    table = review(made.folder)
    planted = {f"i{number:02}.png" for number in WRONG} & set(made.fold(1))
    assert planted, "none of them is one the run was not trained on"
    assert set(table["image_id"][: len(planted)]) == planted
    wrong = min(planted)
    assert table["quality"].is_monotonic_increasing
    assert sorted(table["image_id"]) == sorted(made.fold(1))
    pd.testing.assert_frame_equal(pd.read_csv(made.folder / "review.csv"), table)
    page = (made.folder / "review.html").read_text()
    runs = re.search(rf'data-id="{wrong}" data-class="\w+" data-runs="([\d ]+)"', page)[1]
    said = made.folder / "said.csv"
    name = json.loads((made.dataset / "dataset.json").read_text())["classes"][0]
    said.write_text(f"image_id,class,verdict,runs\n{wrong},{name},replace,{runs}\n")
    assert command("correct", made.dataset, said).code == 0
    corrected = Dataset.open(made.dataset)
    index = list(corrected.images["image_id"]).index(wrong)
    assert (corrected.mask(index)[0] == (made.probabilities[wrong] == 220)).all()


def test_what_cannot_be_reviewed(made, command):
    undecided = command("review", made.folder)
    assert undecided.code == 2
    assert "not decided yet; first: segsmith decide" in undecided.err
