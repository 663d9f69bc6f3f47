"""The pictures of a run's ground: every part where its chips lie, and nowhere else."""

import base64

import by_hand
import cv2
import numpy as np
import pytest
from html_page import Page

from segsmith.decision.ground import PARTS, ground_sections
from segsmith.eda.page import render_page
from segsmith.eda.pictures import CLASSES
from segsmith.modeling.run import Run

SIDE, CHIP = 128, 16


@pytest.fixture(scope="module")
def on_chips(make_run):
    """Runs on one image of 8 x 8 chips, in blocks of two by two."""
    draw = np.random.default_rng(5)
    truth = cv2.resize(draw.integers(0, 2, (8, 8), np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_NEAREST) > 0
    chips = ["data.fit=chip", f"data.input_hw=[{CHIP},{CHIP}]", "folds.block=2", "folds.count=3"]

    def run_with(*overrides):
        return Run(make_run([truth], [np.zeros_like(truth, np.uint8)], *chips, *overrides).folder)

    return run_with


def drawn(run):
    """The words of the section, and its one picture, RGB."""
    page = Page(render_page("", "", [], ground_sections(run, run.chips())))
    (uri,) = [attributes["src"] for tag, attributes in page.elements if tag == "img"]
    data = np.frombuffer(base64.b64decode(uri.split(",")[1]), np.uint8)
    return page, cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB).astype(float)


def painted(run, picture, colours):
    """Of each chip, the name of the colour it comes nearest to, once the grey beneath is taken off; None for grey."""
    chips = run.chips()
    tints = {None: np.zeros(3)} | {name: (np.array(rgb) - np.mean(rgb)) / 2 for name, rgb in colours.items()}
    names = []
    for top, left in zip(chips.top, chips.left, strict=True):
        pixels = picture[top : top + CHIP, left : left + CHIP]
        tint = pixels.mean(axis=(0, 1)) - pixels.mean()
        names.append(min(tints, key=lambda name: np.abs(tints[name] - tint).sum()))
    return names


def test_each_part_is_painted_where_its_chips_lie(on_chips):
    run = on_chips("folds.held_out=2")
    chips = run.chips()
    _, picture = drawn(run)
    assert picture.shape == (SIDE, SIDE, 3)
    part_of = {chip: name for name in PARTS for chip in run.part(chips, name)}
    assert set(part_of.values()) == set(PARTS)
    colours = {name: colour for name, (colour, _) in PARTS.items()}
    assert painted(run, picture, colours) == [part_of.get(chip) for chip in range(len(chips))]


def test_folds_that_validate_in_turn_have_a_colour_each(on_chips):
    run = on_chips("folds.validation=all")
    page, picture = drawn(run)
    fold_of = run.folds(run.chips())
    assert set(fold_of.values()) == {0, 1, 2}
    assert [text for _, text in page.texts if text.startswith("fold ")] == ["fold 0", "fold 1", "fold 2"]
    assert painted(run, picture, dict(enumerate(CLASSES[:3]))) == [fold_of.get(c) for c in range(len(run.chips()))]


def test_whole_images_have_no_ground(make_run):
    truths, probabilities = by_hand.scenes(8, (12, 14))
    run = Run(make_run(truths, probabilities, "folds.count=2").folder)
    assert ground_sections(run, run.chips()) == []
