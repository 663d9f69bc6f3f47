"""Labels reviewed in a real browser: what is said and painted there is what the corrections, and the dataset, hold."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from browser import DESKTOP, PHONE, accessibility_faults, listening
from by_hand import scenes

from segsmith.data.corrections import read_corrections
from segsmith.data.dataset import Dataset
from segsmith.data.rle import decode, parse
from segsmith.decision.decide import decide
from segsmith.decision.review import review
from segsmith.viewer.app import make_viewer

HW = (32, 40)


@pytest.fixture(scope="module")
def ranked(make_run):
    """A decided run of twelve images, half of them ranked."""
    truths, probabilities = scenes(12, HW, seed=3)
    made = make_run(truths, probabilities, "folds.count=2", "folds.validation=1")
    decide(made.folder)
    review(made.folder)
    return made


@pytest.fixture
def run(ranked, tmp_path):
    """A copy of it that may be written to, its labels worst first."""
    shutil.copytree(ranked.folder, tmp_path / "run")
    shutil.copytree(ranked.dataset, tmp_path / "dataset")
    facts = json.loads((tmp_path / "run" / "run.json").read_text()) | {"dataset": str(tmp_path / "dataset")}
    (tmp_path / "run" / "run.json").write_text(json.dumps(facts))
    rows = (tmp_path / "run" / "review.csv").read_text().splitlines()[1:]
    return SimpleNamespace(
        folder=tmp_path / "run",
        dataset=tmp_path / "dataset",
        file=tmp_path / "run" / "corrections.csv",
        ids=[row.split(",")[0] for row in rows],
        truths=ranked.truths,
    )


@pytest.fixture
def address(run):
    with listening(make_viewer([run.folder])) as root:
        yield f"{root}/page/review.html#folder=0"


def said(run):
    return {found.image_id: (found.verdict, found.runs) for found in read_corrections(run.file)}


def mask(text):
    return decode(parse(text, HW), HW)


def shows(page, image_id):
    page.wait_for_function("id => document.getElementById('name').textContent === id", arg=image_id)


def told(page, words):
    page.wait_for_function("words => document.getElementById('told').textContent.includes(words)", arg=words)


def place(page, row, column):
    """Where the middle of a pixel of the image is on the screen, as long as it fits in whole."""
    box = page.locator("#board").bounding_box()
    scale = float(page.locator("#zoom").text_content().removesuffix("%")) / 100
    left, top = (box["width"] - HW[1] * scale) / 2, (box["height"] - HW[0] * scale) / 2
    return box["x"] + left + (column + 0.5) * scale, box["y"] + top + (row + 0.5) * scale


def drag(page, *pixels):
    page.mouse.move(*place(page, *pixels[0]))
    page.mouse.down()
    for pixel in pixels[1:]:
        page.mouse.move(*place(page, *pixel), steps=3)
    page.mouse.up()


def thinnest(page):
    while page.locator("#smaller").is_enabled():
        page.keyboard.press("[")
    assert page.locator("#size").text_content() == "1 px"


def test_what_is_painted_at_any_zoom_is_what_the_dataset_holds(run, address, open_page, command):
    page = open_page(address)
    shows(page, run.ids[0])
    page.click("#from-empty")
    thinnest(page)
    page.keyboard.press("b")
    page.keyboard.press("-")  # 1.5 times smaller, and still around the middle
    drag(page, (5, 8), (5, 20), (12, 20), (12, 8), (5, 8))
    page.keyboard.press("+")
    page.keyboard.press("f")
    page.mouse.click(*place(page, 9, 15))
    page.keyboard.press("s")
    shows(page, run.ids[1])
    wanted = np.zeros(HW, bool)
    wanted[5:13, 8:21] = True
    verdict, runs = said(run)[run.ids[0]]
    assert verdict == "replace"
    assert (mask(runs) == wanted).all()

    ended = command("correct", run.dataset, run.file)
    assert ended.code == 0, ended.err
    corrected = Dataset.open(run.dataset)
    assert (corrected.mask(list(corrected.images["image_id"]).index(run.ids[0]))[0] == wanted).all()


def test_each_verdict_is_written_at_once_and_can_be_taken_back(run, address, open_page):
    page = open_page(address)
    first, second, third, fourth = run.ids[:4]
    for image_id, key in ((first, "a"), (second, "p"), (third, "x"), (fourth, "o")):
        shows(page, image_id)
        page.keyboard.press(key)
    shows(page, run.ids[4])
    verdicts = said(run)
    assert [verdicts[image_id][0] for image_id in (first, third, fourth)] == ["keep", "leave out", "empty"]
    shown = page.request.get(f"{address.split('/page')[0]}/api/runs/0/review/image?id={second}").json()
    assert (verdicts[second][1] or "") == shown["labels"][0]["prediction"]
    assert "4 of 6 judged" in page.locator("#judged").text_content()

    page.reload()
    shows(page, run.ids[4])
    page.keyboard.press("ArrowLeft")
    shows(page, fourth)
    assert page.locator("#verdict").text_content() == "Nothing here"
    page.keyboard.press("u")
    page.wait_for_selector("#back", state="hidden")
    assert fourth not in said(run)
    page.keyboard.press("ArrowLeft")
    shows(page, third)
    page.keyboard.press("a")  # what is said of a class takes the image in again
    shows(page, fourth)
    assert said(run)[third] == ("keep", "")
    assert not accessibility_faults(page)


def test_undo_redo_eraser_and_fill(run, address, open_page):
    page = open_page(address)
    shows(page, run.ids[0])
    page.click("#from-empty")
    thinnest(page)
    page.keyboard.press("b")
    drag(page, (3, 3), (3, 9))
    page.keyboard.press("e")
    drag(page, (3, 5), (3, 6))
    page.keyboard.press("z")
    page.keyboard.press("z")
    page.keyboard.press("y")
    page.keyboard.press("b")
    page.mouse.click(*place(page, 20, 30), button="right")  # erases where nothing is: that is no edit to undo
    page.mouse.click(*place(page, 21, 30))
    page.keyboard.press("f")
    page.mouse.click(*place(page, 21, 30))  # what is connected goes
    page.keyboard.press("Control+z")
    page.keyboard.press("ArrowRight")
    page.click("#ask button[value=save]")
    shows(page, run.ids[1])
    wanted = np.zeros(HW, bool)
    wanted[3, 3:10] = wanted[21, 30] = True
    assert (mask(said(run)[run.ids[0]][1]) == wanted).all()


def test_everything_goes_by_keys_alone(run, address, open_page):
    page = open_page(address)
    shows(page, run.ids[0])
    page.click("#from-empty")
    thinnest(page)
    page.keyboard.press("c")
    told(page, "row 17, column 21")
    page.keyboard.press("Shift+ArrowUp")
    page.keyboard.press("Space")
    page.keyboard.press("d")
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("d")
    page.keyboard.press("ArrowDown")
    told(page, "row 8, column 25, not in the mask")
    page.keyboard.press("Escape")
    page.keyboard.press("s")
    shows(page, run.ids[1])
    wanted = np.zeros(HW, bool)
    wanted[6, 20:25] = True
    assert (mask(said(run)[run.ids[0]][1]) == wanted).all()


def test_two_tabs_do_not_lose_what_the_other_said(run, address, open_page):
    one, two = open_page(address), open_page(address)
    for page in (one, two):
        shows(page, run.ids[0])
    one.keyboard.press("a")
    shows(one, run.ids[1])
    one.keyboard.press("o")
    shows(one, run.ids[2])
    two.keyboard.press("ArrowRight")
    two.keyboard.press("ArrowRight")
    shows(two, run.ids[2])
    two.keyboard.press("o")
    shows(two, run.ids[3])
    assert list(said(run)) == run.ids[:3]


def test_a_finger_paints_and_two_zoom(run, address, open_page):
    page = open_page(address, PHONE, has_touch=True, is_mobile=True)
    shows(page, run.ids[0])
    page.tap("#from-empty")
    page.tap("[data-tool=brush]")
    while page.locator("#smaller").is_enabled():
        page.tap("#smaller")
    fingers = page.context.new_cdp_session(page)

    def touch(kind, *points):
        at = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        fingers.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": at})

    touch("Start", place(page, 10, 4))
    touch("Move", place(page, 10, 12))
    touch("End")
    before = page.locator("#zoom").text_content()
    left, right = place(page, 16, 15), place(page, 16, 25)
    touch("Start", left)
    touch("Start", left, right)
    touch("Move", (left[0] - 40, left[1]), (right[0] + 40, right[1]))
    touch("End")
    assert page.locator("#zoom").text_content() != before
    page.tap("#save")
    shows(page, run.ids[1])
    wanted = np.zeros(HW, bool)
    wanted[10, 4:13] = True
    assert (mask(said(run)[run.ids[0]][1]) == wanted).all(), "two fingers left a dot"
    assert not accessibility_faults(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]


def test_corrections_are_put_beside_the_dataset(run, address, open_page):
    page = open_page(address, DESKTOP, color_scheme="dark")
    shows(page, run.ids[0])
    page.keyboard.press("o")
    shows(page, run.ids[1])
    page.click("#put")
    page.click("#ask button[value=put]")
    told(page, "Train a new run")
    assert page.locator("#put").is_disabled()
    corrected = Dataset.open(run.dataset)
    assert not corrected.mask(list(corrected.images["image_id"]).index(run.ids[0])).any()
    page.keyboard.press("ArrowLeft")  # and can be gone on with
    shows(page, run.ids[0])
    assert not accessibility_faults(page)


def test_a_run_that_is_not_ranked_says_how_it_is_ranked_and_shows_any_image_that_is_named(run, address, open_page):
    (run.folder / "review.csv").unlink()
    page = open_page(address)
    page.wait_for_selector(".state")
    assert f"segsmith review {run.folder}" in page.locator(".state").text_content()
    page = open_page(f"{address}&image={run.ids[2]}")
    shows(page, run.ids[2])
    page.keyboard.press("a")
    page.wait_for_selector("#back")
    assert said(run)[run.ids[2]] == ("keep", "")
