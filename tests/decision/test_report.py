"""The run report: complete, in one file, and with names that stay names."""

import re
from dataclasses import replace

import pytest
from by_hand import files_in, scenes
from html_page import Page

from segsmith.decision.decide import decide
from segsmith.decision.evaluate import evaluate
from segsmith.decision.report import METRIC_NAMES, write_report
from segsmith.modeling.bundle import Bundle, Cell
from segsmith.modeling.metrics import METRICS

HOSTILE = ["<img src=x onerror=alert(1)>.png", "a&amp;b.png", "'><b>.png", "c d.png"]


@pytest.fixture(scope="module")
def hostile(make_run):
    """A run on images with names that are code unless escaped, none of them empty; its evaluation; its report."""
    truths, probabilities = scenes(18, (12, 14))
    filled = [n for n, truth in enumerate(truths) if truth.any()]
    made = make_run(
        [truths[n] for n in filled],
        [probabilities[n] for n in filled],
        "folds.count=2",
        "decide.areas=[0,2,4]",
        names=[*HOSTILE, *(f"i{n}.png" for n in range(len(filled) - len(HOSTILE)))],
    )
    decide(made.folder)
    evaluation = evaluate(made.folder)
    path = write_report(made.folder, evaluation)
    assert path == made.folder / "report.html"
    return made, evaluation, path.read_text("utf-8")


@pytest.fixture(scope="module")
def trained(journey):
    return (journey.run / "report.html").read_text("utf-8")


@pytest.mark.parametrize("which", ["hostile", "trained"])
def test_nothing_is_fetched_from_outside(request, which):
    found = request.getfixturevalue(which)
    html = found if isinstance(found, str) else found[2]
    fetched = {"src", "href", "srcset", "poster", "data", "action", "xlink:href", "background"}
    links = [value for _, attributes in Page(html).elements for name, value in attributes.items() if name in fetched]
    assert links
    assert all(link.startswith(("#", "data:")) for link in links)
    assert "url(" not in html
    assert "@import" not in html
    outside = set(re.findall(r"https?://[^\"'\s<>&]+", html))
    assert outside <= {"http://www.w3.org/2000/svg"}


def test_names_of_images_are_text(hostile):
    made, _, html = hostile
    page = Page(html)
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert not [tag for tag, _ in page.elements if tag == "b"]
    shown = [attributes["alt"] for tag, attributes in page.elements if tag == "img"]
    hostile_ones = [image_id for image_id in made.fold(0) if image_id in HOSTILE]
    assert hostile_ones, "or the test would be empty"
    for image_id in hostile_ones:
        assert any(caption.startswith(f"{image_id}: Dice") for caption in shown)


def test_every_score_stands_beside_what_all_empty_scores(hostile):
    _, evaluation, html = hostile
    cells = Page(html).all("td")
    for found in evaluation.scores:
        at = cells.index(METRIC_NAMES[found.name])
        assert cells[at + 1 : at + 4] == [
            f"{found.value:.4f}", f"{found.low:.4f} to {found.high:.4f}", f"{found.all_empty:.4f}",
        ]  # fmt: skip
        skill = (found.value - found.all_empty) / (1 - found.all_empty)
        assert float(cells[at + 4]) == pytest.approx(skill, abs=5e-4)
    assert "dice_empty" not in {found.name for found in evaluation.scores}


def test_every_metric_has_a_name_for_people():
    assert set(METRICS) <= set(METRIC_NAMES)
    assert len(set(METRIC_NAMES.values())) == len(METRIC_NAMES)


def test_sections_without_an_image_are_left_out(hostile, make_run):
    _, _, html = hostile
    assert Page(html).all("h2") == [
        "Scores", "Scores by kind of image", "Objects by size", "Learning", "Decision", "Calibration",
        "Worst images", "Typical images", "Best images",
        "What was trained on what",
    ]  # fmt: skip
    made = make_run(*scenes(12, (12, 14)), "folds.count=2", "decide.areas=[0]")
    decision = decide(made.folder)
    file = made.folder / "bundle.safetensors"
    noisy = replace(decision, cells=(Cell(1),), parts=((Cell(1),),) * len(decision.parts))
    replace(Bundle.read(file), decision=noisy).write(file)  # at level 1 noise alone makes false alarms
    page = Page(write_report(made.folder, evaluate(made.folder)).read_text("utf-8"))
    assert page.all("h2")[7] == "False alarms on empty images"


def test_pictures_are_in_the_order_of_the_scores(hostile):
    _, evaluation, html = hostile
    shown = [caption.rsplit(": Dice", 1)[0] for caption in Page(html).all("figcaption")]
    ids = evaluation.images["image_id"].tolist()
    third = len(ids) // 3
    assert third >= 2
    assert shown[:third] == ids[:third], "worst images, worst first"
    assert shown[-third:] == ids[-third:][::-1], "best images, best first"
    assert len(shown) == len(set(shown)), "no image is both"


@pytest.mark.parametrize("images", [1, 2, 4, 5])
def test_of_few_images_none_is_shown_twice(make_run, images):
    truths, probabilities = scenes(12, (12, 14))
    filled = [n for n, truth in enumerate(truths) if truth.any()][: 2 * images]
    made = make_run(
        [truths[n] for n in filled], [probabilities[n] for n in filled], "folds.count=2", "decide.areas=[0]"
    )
    decide(made.folder)
    page = Page(write_report(made.folder, evaluate(made.folder)).read_text("utf-8"))
    shown = page.all("figcaption")
    assert "Worst images" in page.all("h2")
    assert 1 <= len(shown) == len(set(shown)) <= images


def test_of_what_was_trained_it_tells_all(journey, trained):
    page = Page(trained)
    for heading in ("Scores", "Learning", "Decision", "What was trained on what"):
        assert heading in page.all("h2")
    told = [text for _, text in page.texts]
    assert "30" in told[told.index("images trained on") :][:2], "of fifty, without validation and held-out folds"
    assert any("network:\n" in text for text in told), "the recipe"
    assert any(
        "By the epochs so far, what another hour would bring cannot be told: 1 epoch is" in text for text in told
    )
    assert "the held-out fold" in page.all("p")[0]
    assert sum(tag == "svg" for tag, _ in page.elements) >= 7, "scores, four of learning, two of the decision"


def test_written_again_it_is_the_same(hostile):
    made, evaluation, html = hostile
    before = files_in(made.folder)
    assert write_report(made.folder, evaluation).read_text("utf-8") == html
    assert files_in(made.folder) == before
