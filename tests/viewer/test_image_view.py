"""One image: layers, zoom, two runs side by side, by mouse, keys and links."""

import re

import numpy as np
import pytest
from browser import PHONE, accessibility_faults, listening, pinch
from playwright.sync_api import expect

from segsmith.modeling.bundle import Bundle
from segsmith.prediction.probabilities import ProbabilityFiles
from segsmith.viewer.app import make_viewer


@pytest.fixture(scope="module")
def other(single, tmp_path_factory):
    """The same run, but that its networks are sure of everything."""
    import shutil

    folder = shutil.copytree(single.folder, tmp_path_factory.mktemp("other") / "sure")
    files = ProbabilityFiles(folder / "probabilities", Bundle.read(folder / "bundle.safetensors").planes)
    for image_id, plane in single.probabilities.items():
        files.write(image_id, np.full((1, *plane.shape), 255, np.uint8))
    return folder


@pytest.fixture(scope="module")
def address(single, other, double):
    with listening(make_viewer([single.folder, other, double])) as address:
        yield address


@pytest.fixture(scope="module")
def image_id(single) -> str:
    return max(single.fold(0), key=lambda of: int((single.truths[of] > 0).sum()))


def opened(open_page, address, image_id, more="", **options):
    page = open_page(f"{address}/#folder=0&image={image_id}{more}", **options)
    expect(page.locator("[data-score=dice]")).to_be_visible()
    expect(page.locator("#score-of-all")).to_contain_text("0.")
    return page


def picture(page) -> bytes:
    page.mouse.move(2, 2)
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return page.locator("canvas.zoom").screenshot()


def test_layers_are_laid_over_one_another_and_stand_in_the_link(open_page, address, image_id):
    page = opened(open_page, address, image_id)
    seen = {picture(page)}
    for key in "tpbei":
        page.keyboard.press(key)
        seen.add(picture(page))
    assert len(seen) == 6
    expect(page).to_have_url(re.compile("layers=0%2C0%2C0%2C75%2C100"))
    again = opened(open_page, address, image_id, "&layers=0,0,0,75,100")
    assert picture(again) == picture(page)
    assert not accessibility_faults(page)


def test_wheel_and_keys_zoom_and_a_link_keeps_the_view(open_page, address, image_id):
    page = opened(open_page, address, image_id)
    whole = picture(page)
    page.locator("canvas.zoom").hover(position={"x": 300, "y": 300})
    page.mouse.wheel(0, -600)
    expect(page).to_have_url(re.compile("view="))
    closer = picture(page)
    page.keyboard.press("Shift+ArrowLeft")
    assert len({whole, closer, picture(page)}) == 3
    page.keyboard.press("0")
    assert picture(page) == whole


def test_what_is_under_two_fingers_stays_there_as_they_pinch(open_page, address, image_id, single):
    """The one at the left stays where it is, the other moves away: twice as far, and no other way."""
    height, width = single.truths[image_id].shape
    page = opened(open_page, address, image_id, window=PHONE, has_touch=True)
    box = page.locator("canvas.zoom").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    fit = min((box["width"] - 24) / width, (box["height"] - 24) / height)
    left, right, further = -90.0, -10.0, 70.0  # px beside the middle
    pinch(
        page,
        [(middle[0] + at, middle[1]) for at in (left, right)],
        [(middle[0] + at, middle[1]) for at in (left, further)],
    )
    expect(page).to_have_url(re.compile("view="))
    x, y, scale = map(float, re.search(r"view=([\d.]+)%2C([\d.]+)%2C([\d.]+)", page.url).groups())
    assert scale == pytest.approx(2 * fit, rel=0.01)
    for before, after in ((left, left), (right, further)):
        assert x + after / scale == pytest.approx(width / 2 + before / fit, abs=0.15)
    assert y == pytest.approx(height / 2, abs=0.1)
    pinch(
        page,
        [(middle[0] - 80, middle[1]), (middle[0] + 80, middle[1])],
        [(middle[0] - 20, middle[1]), (middle[0] + 20, middle[1])],
    )
    expect(page).not_to_have_url(re.compile("view="))


def test_two_runs_are_swiped_by_drag_and_by_keys(open_page, address, image_id, single):
    page = opened(open_page, address, image_id, "&beside=1")
    divider = page.get_by_role("slider", name="Divider between the runs")
    expect(divider).to_have_attribute("aria-valuenow", "50")
    box, stage = divider.bounding_box(), page.locator("canvas.zoom").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, 300)
    page.mouse.down()
    page.mouse.move(stage["x"] + stage["width"] / 4, 300)
    page.mouse.up()
    expect(divider).to_have_attribute("aria-valuenow", "25")
    page.keyboard.press(".")
    expect(divider).to_have_attribute("aria-valuenow", "27")
    divider.press("End")
    left = picture(page)
    divider.press("Home")
    assert picture(page) != left
    of_sure = page.locator("tr", has_text="Predicted pixels").locator("td").last
    expect(of_sure).to_have_text(f"{single.truths[image_id].size:,}")
    page.keyboard.press("s")
    expect(divider).to_be_hidden()


def test_a_run_on_another_dataset_is_not_laid_beside(open_page, address, image_id):
    page = opened(open_page, address, image_id, "&beside=2")
    expect(page.get_by_text("is a run on another dataset")).to_be_visible()


def test_what_the_network_says_of_a_pixel_is_read_to_the_level(open_page, address, image_id, single):
    page = opened(open_page, address, image_id)
    box = page.locator("canvas.zoom").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    said = page.locator(".pointed").inner_text()
    row, column, level = map(int, re.fullmatch(r"row (\d+), column (\d+): [\d.]+ \((\d+)\)", said).groups())
    assert level == single.probabilities[image_id][row, column]


def test_it_works_on_a_phone(open_page, address, image_id):
    page = opened(open_page, address, image_id, window=PHONE, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
    page.get_by_role("button", name="Next image").tap()
    expect(page.locator("h1.image-id")).not_to_have_text(image_id)
    assert not accessibility_faults(page)
