"""Two predictions of a raster beside one another, in a real browser: each at its own side of the divider."""

import io
import re

import numpy as np
import pytest
import shapely
from browser import DESKTOP, PHONE, accessibility_faults, listening
from PIL import Image
from playwright.sync_api import expect
from predictions import make_prediction

from segsmith.delivery.polygons import FoundObject
from segsmith.viewer.app import make_viewer

HW = (300, 400)
ORANGE = np.array([230, 159, 0])
"""What a class is drawn in; nothing else here has a colour."""
SHOWN = "x=200&y=150&zoom=1&layers=image:0,mask:100,objects:0"


def grid(seed: int) -> np.ndarray:
    draws = np.random.default_rng(seed)
    return np.kron(draws.integers(0, 256, (1, 15, 20), np.uint8), np.ones((1, 20, 20), np.uint8))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two predictions of one raster, one decided at 100, the other at 180, and one of another raster."""
    image, box = np.full((3, *HW), 90, np.uint8), shapely.MultiPolygon([shapely.box(250, 100, 280, 130)])
    found = [FoundObject("class0", box, 900, 0.75)]
    folders = [tmp_path_factory.mktemp(name) for name in ("smaller", "larger", "elsewhere")]
    smaller, larger = (
        make_prediction(folder, image, grid(n), threshold=[100, 180][n], objects=[[], found][n])
        for n, folder in enumerate(folders[:2])
    )
    elsewhere = make_prediction(folders[2], image[:, :200], grid(2)[:, :200])
    return smaller, larger, elsewhere


@pytest.fixture(scope="module")
def address(made):
    with listening(make_viewer([of.folder for of in made])) as listens:
        yield f"{listens}/page/raster.html#folder=0&{SHOWN}"


def settled(page):
    """Once tiles of both sides are there, and no longer fade in."""
    expect(page.locator("[class*=-beside-pane] .leaflet-tile-loaded").first).to_be_attached()
    expect(page.locator(".leaflet-tile:not(.leaflet-tile-loaded)")).to_have_count(0)
    expect(page.locator(".leaflet-tile:not([style*='opacity: 1'])")).to_have_count(0)
    return page


def drawn(page) -> np.ndarray:
    """Which pixels of the raster the screen shows in the colour of the class, at the raster's own size, as it lies."""
    page.mouse.move(2, 2)
    board = page.locator(".board").bounding_box()
    left, top = (
        round(board[at] + board[size] / 2 - n / 2)
        for at, size, n in zip("xy", ("width", "height"), HW[::-1], strict=True)
    )
    clip = {"x": left, "y": top, "width": HW[1], "height": HW[0]}
    pixels = np.asarray(Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")).astype(int)
    return (np.abs(pixels - ORANGE) <= 3).all(axis=2)


def holds(page, left: np.ndarray, right: np.ndarray, column: int) -> None:
    """The screen shows the left mask at the left of a column of the raster and the right one at its right; the line
    itself hides some pixels, and its grip more."""
    seen = drawn(page)
    away = np.abs(np.arange(HW[1]) - column) > 18
    wanted = np.where(np.arange(HW[1]) < column, left, right)
    assert (seen == wanted)[:, away].all()
    assert wanted[:, away].any()


def drag(page, column: int) -> None:
    """The line to a column of the raster."""
    divider, board = (
        page.get_by_role("slider", name="Divider between the predictions"),
        page.locator(".board").bounding_box(),
    )
    box = divider.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, board["y"] + 100)
    page.mouse.down()
    page.mouse.move(board["x"] + board["width"] / 2 - HW[1] / 2 + column, board["y"] + 100, steps=3)
    page.mouse.up()


def test_each_side_of_the_divider_shows_its_prediction(open_page, address, made):
    first, second = made[0].levels[0] >= 100, made[1].levels[0] >= 180
    page = open_page(address)
    page.get_by_label("Beside it").select_option("1")
    expect(page.locator(".side-name.right")).to_be_visible()
    holds(settled(page), first, second, 200)
    for column in (90, 310):
        drag(page, column)
        holds(page, first, second, column)
    expect(page).to_have_url(re.compile(r"beside=1.*swipe=0\.61"))
    holds(settled(open_page(page.url)), first, second, 310)
    divider = page.get_by_role("slider", name="Divider between the predictions")
    divider.press("Home")
    assert (drawn(page)[:, 20:] == second[:, 20:]).all()
    divider.press("End")
    assert (drawn(page) == first).all()
    page.locator(".board").focus()
    page.keyboard.press("ArrowLeft")  # moved by 80 px: what is clipped moves along, the line stays
    expect(page).to_have_url(re.compile("x=120"))
    page.keyboard.press(",")
    expect(divider).to_have_attribute("aria-valuenow", "98")


def test_each_side_has_a_threshold_of_its_own(open_page, address, made):
    page = settled(open_page(f"{address.replace('mask:100', 'mask:0,threshold:100')}&beside=1"))
    of = [levels.levels[0] for levels in made[:2]]
    holds(page, of[0] >= 100, of[1] >= 180, 200)
    page.locator("#threshold").fill("60")
    page.keyboard.press("x")
    expect(page.locator("#threshold")).to_be_hidden()
    page.locator("#threshold-beside").fill("219")
    page.keyboard.press("]")
    holds(page, of[0] >= 60, of[1] >= 220, 200)
    expect(page).to_have_url(re.compile("beside_thresholds=220"))
    holds(settled(open_page(page.url)), of[0] >= 60, of[1] >= 220, 200)


def test_what_is_under_the_pointer_is_of_its_side(open_page, address, made):
    page = settled(open_page(f"{address}&beside=1"))
    board = page.locator(".board").bounding_box()
    middle, top = board["x"] + board["width"] / 2, board["y"] + board["height"] / 2 - 49.5
    for side, x in ((0, 110), (1, 290)):
        page.mouse.move(middle + x - 199.5, top)
        expect(page.locator(".readout")).to_contain_text(f"class0 {made[side].levels[0, 100, x] / 255:.2f}")


def test_objects_of_the_other_side_are_told_as_its_own(open_page, address, made):
    page = settled(open_page(f"{address.replace('objects:0', 'objects:100')}&beside=1"))
    expect(page.get_by_text("1 in view")).to_be_visible()
    board = page.locator(".board").bounding_box()
    page.mouse.click(board["x"] + board["width"] / 2 + 65, board["y"] + board["height"] / 2 - 35)
    expect(page.locator(".details")).to_contain_text("0.7500")
    expect(page.locator(".details dd").first).to_have_text(page.locator(".side-name.right").inner_text())


def test_a_prediction_of_another_raster_is_not_laid_beside(open_page, address):
    page = open_page(f"{address}&beside=2")
    expect(page.get_by_text("holds no prediction of this raster")).to_be_visible()
    assert page.get_by_label("Beside it").locator("option").count() == 2
    page.keyboard.press("s")
    expect(page.locator(".side-name.right")).to_be_visible()
    page.keyboard.press("s")
    expect(page.locator(".side-name.right")).to_have_count(0)


@pytest.mark.parametrize("window", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_nobody_is_kept_out_of_two(open_page, address, window):
    page = settled(open_page(f"{address}&beside=1", window, has_touch=window is PHONE))
    assert page.evaluate("document.documentElement.scrollWidth") <= window[0]
    assert not accessibility_faults(page)
