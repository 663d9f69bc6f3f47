"""The page of a predicted raster, in a real browser: what it shows is what the files hold."""

import base64
import re
import time

import cv2
import numpy as np
import pytest
import shapely
from affine import Affine
from browser import PHONE, accessibility_faults, listening, pinch
from predictions import UTM, make_prediction
from rasterio.warp import transform as warp_points

from segsmith.delivery.polygons import FoundObject
from segsmith.viewer.app import make_viewer

HW = (700, 900)
DEEPEST = 2
PIXELS = """([pane, tile]) =>
  document.querySelector(`.leaflet-${pane}-pane canvas[data-tile="${tile}"]`).toDataURL("image/png")"""
ALONG = """([x, y]) => {
  const canvas = document.querySelector(".leaflet-objects-pane canvas"), box = canvas.getBoundingClientRect();
  const pixels = canvas.getContext("2d").getImageData(x - 70 - box.x, y - box.y, 20, 1).data;
  return [...pixels].filter((_, at) => at % 4 === 3);
}"""


def house(left: int, top: int, side: int, score: float) -> FoundObject:
    box = shapely.box(left, top, left + side, top + side)
    return FoundObject("class0", shapely.MultiPolygon([box]), side * side, score)


FOUND = [house(100, 100, 40, 0.5), house(600, 300, 60, 0.9), house(300, 500, 30, 0.7)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    draws = np.random.default_rng(0)
    image = np.kron(draws.integers(0, 256, (3, 70, 90), np.uint8), np.ones((1, 10, 10), np.uint8))
    levels = np.kron(draws.integers(0, 256, (1, 70, 90), np.uint8), np.ones((1, 10, 10), np.uint8))
    return make_prediction(tmp_path_factory.mktemp("made"), image, levels, objects=FOUND)


@pytest.fixture(scope="module")
def address(made):
    with listening(make_viewer([made.folder])) as listens:
        yield f"{listens}/page/raster.html#folder=0"


def until(page, holds: str) -> None:
    """Wait for what the page's own policy does not let playwright wait for: that is asked again and again."""
    end = time.monotonic() + 30
    while not page.evaluate(holds):
        assert time.monotonic() < end, holds
        page.wait_for_timeout(30)


def settled(page):
    """Once all tiles are there."""
    until(page, "!!document.querySelector('.objects, .leaflet-tile-loaded')")
    until(page, "!document.querySelector('.leaflet-tile:not(.leaflet-tile-loaded)')")
    return page


def pixels(page, pane: str, tile: str) -> np.ndarray:
    png = base64.b64decode(page.evaluate(PIXELS, [pane, tile]).split(",")[1])
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED), cv2.COLOR_BGRA2RGBA)


def image_at(page, x: int, y: int) -> list[int]:
    """What the tile of the image shows at a pixel of the raster, at its own size."""
    return page.evaluate(
        """async ([src, x, y]) => {
          const tile = [...document.querySelectorAll(".leaflet-image-pane img")].find((of) => of.src.endsWith(src));
          const canvas = new OffscreenCanvas(256, 256);
          const context = canvas.getContext("2d");
          context.drawImage(tile, 0, 0);
          return [...context.getImageData(x, y, 1, 1).data];
        }""",
        [f"/image/{DEEPEST}/{x // 256}/{y // 256}", x % 256, y % 256],
    )


def test_closer_asks_for_deeper_tiles_and_shows_the_rasters_pixels(open_page, address, made):
    page = settled(open_page(f"{address}&x=450&y=350&zoom=1"))
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.keyboard.press("+")
    until(
        page, f"!!document.querySelector('.leaflet-mask-pane canvas[data-tile=\"{DEEPEST}/1/1\"].leaflet-tile-loaded')"
    )
    settled(page)
    assert any(f"/image/{DEEPEST}/1/1" in url for url in asked)
    for x, y in ((256, 256), (300, 401), (511, 300)):
        assert image_at(page, x, y) == [*made.image[:, y, x].tolist(), 255]
    shown = pixels(page, "mask", f"{DEEPEST}/1/1")[..., 3] > 0
    assert (shown == (made.levels[0] >= 100)[256:512, 256:512]).all()


def test_the_threshold_acts_on_the_levels_in_the_browser(open_page, address, made):
    """Nothing is asked of the viewer; the mask is exactly what is at the level or higher."""
    page = settled(open_page(f"{address}&x=450&y=350&zoom=2&layers=image:0,mask:0,threshold:100,objects:0"))
    here = made.levels[0][256:512, 256:512]
    assert page.locator("#threshold").input_value() == "100", "the decision's, which prediction.json tells"
    assert ((pixels(page, "threshold", "2/1/1")[..., 3] > 0) == (here >= 100)).all()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    for level in (1, 37, 201, 255):
        page.locator("#threshold").fill(str(level))
        drawn = pixels(page, "threshold", "2/1/1")
        assert ((drawn[..., 3] > 0) == (here >= level)).all()
        assert (drawn[here >= level] == (230, 159, 0, 255)).all()
    page.get_by_role("button", name="As decided").click()
    page.keyboard.press("]")
    assert ((pixels(page, "threshold", "2/1/1")[..., 3] > 0) == (here >= 101)).all()
    assert not asked


def test_coordinates_are_those_of_the_pixel_under_the_pointer(open_page, address, made):
    page = settled(open_page(f"{address}&x=450&y=350&zoom=2&layers=probability:100"))
    box = page.locator(".board").bounding_box()
    middle_x, middle_y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(middle_x + 50.5, middle_y - 20.5)
    x, y = 500, 329
    said = page.locator(".readout").inner_text()
    assert f"x {x}  y {y}" in said
    assert f"class0 {made.levels[0, y, x] / 255:.2f}" in said
    east, north = map(float, re.search(r"(\d+\.\d+), (\d+\.\d+)", said).groups())
    assert (east, north) == pytest.approx(UTM @ (x + 0.5, y + 0.5), abs=0.5)
    ((longitude,), (latitude,)) = warp_points("EPSG:32631", "EPSG:4326", [east], [north])
    degrees = re.search(r"([\d.]+)° N, ([\d.]+)° E", said).groups()
    assert tuple(map(float, degrees)) == pytest.approx((latitude, longitude), abs=2e-6)
    page.mouse.move(box["x"] + 5, box["y"] + 400)
    until(page, "document.querySelector('.readout').textContent === ''")


def test_objects_stand_where_they_belong_and_tell_of_themselves(open_page, address):
    page = settled(open_page(f"{address}&x=630&y=330&zoom=3&layers=image:0,mask:0,objects:100"))
    until(page, "document.querySelector('.side').textContent.includes('1 in view')")
    box = page.locator(".board").bounding_box()
    middle_x, middle_y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    # 60 pixels at twice their size: its edge is 60 away from the middle of the screen
    drawn = page.evaluate(ALONG, [middle_x, middle_y])
    assert np.argmax(drawn) in (9, 10)
    assert max(drawn) > 100
    assert not any(drawn[:7] + drawn[14:])
    page.mouse.click(middle_x, middle_y)
    facts = page.locator(".details").inner_text()
    assert "class0 2" in facts
    assert "0.9000" in facts
    assert "901 m²" in facts  # 60 x 60 of half a metre, at UTM's scale
    assert "x 630.0, y 330.0" in facts
    page.mouse.move(middle_x + 3, middle_y + 3)
    assert "score 0.90" in page.locator(".leaflet-tooltip").inner_text()


def test_keys_go_from_object_to_object_by_score(open_page, address):
    page = settled(open_page(address))
    page.wait_for_selector(".objects button")
    listed = page.locator(".objects button").all_inner_texts()
    assert [text.split()[1] for text in listed] == ["2", "3", "1"]
    heading = page.locator(".details h3")
    for key, number in (("n", 2), ("n", 3), ("n", 1), ("n", 2), ("p", 1)):
        page.keyboard.press(key)
        until(page, f"document.querySelector('.details h3')?.textContent === 'class0 {number}'")
    assert heading.inner_text() == "class0 1"
    until(page, "location.hash.includes('x=120.0&y=120.0')")
    page.get_by_label("Order of objects").select_option("id")
    until(page, "document.querySelector('.objects button').textContent.startsWith('class0 1')")


def test_an_address_shows_the_same_again(open_page, address):
    page = settled(open_page(address))
    page.get_by_label("Opacity of mask").fill("30")
    page.keyboard.press("2")
    page.locator("#threshold").fill("77")
    page.keyboard.press("+")
    until(page, "location.hash.includes('thresholds=77') && location.hash.includes('zoom=3')")
    again = settled(open_page(page.url))
    assert again.locator("#threshold").input_value() == "77"
    assert again.get_by_label("Opacity of mask").input_value() == page.get_by_label("Opacity of mask").input_value()
    assert again.get_by_label("Probability", exact=True).is_checked()
    again.keyboard.press("5")
    until(again, "decodeURIComponent(location.hash).includes('objects:0')")
    places = [re.search(r"x=[\d.]+&y=[\d.]+&zoom=\d+", of.url)[0] for of in (page, again)]
    assert places[0] == places[1]


def test_two_fingers_bring_it_closer_about_what_is_between_them(open_page, address):
    page = settled(open_page(f"{address}&x=450&y=350&zoom=1", PHONE, has_touch=True, is_mobile=True))
    box = page.locator(".board").bounding_box()
    x, y = box["x"] + box["width"] / 2 + 40, box["y"] + box["height"] / 2
    spread = [[(x - side, y), (x + side, y)] for side in (20, 80)]
    pinch(page, *spread)
    until(page, "location.hash.includes('zoom=3')")
    at = re.search(r"x=([\d.]+)&y=([\d.]+)", page.url).groups()
    # 40 px are 80 pixels at first and 20 at last: what is between the fingers has stayed
    assert tuple(map(float, at)) == pytest.approx((450 + 80 - 20, 350), abs=2)
    pinch(page, *spread[::-1])
    until(page, "location.hash.includes('zoom=1')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_kept_out(open_page, address, scheme):
    page = settled(open_page(address, color_scheme=scheme))
    page.wait_for_selector(".objects button")
    page.keyboard.press("n")
    page.wait_for_selector(".details h3")
    assert not accessibility_faults(page)


def test_it_fits_a_phone(open_page, address):
    page = settled(open_page(address, PHONE, has_touch=True, is_mobile=True))
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
    stage, side = (page.locator(of).bounding_box() for of in (".stage", ".side"))
    assert stage["height"] >= 0.4 * PHONE[1]
    assert side["y"] >= stage["y"] + stage["height"] - 1
    page.touchscreen.tap(PHONE[0] / 2, stage["y"] + stage["height"] / 2)
    assert page.locator(".readout").inner_text().startswith("x ")
    assert not accessibility_faults(page)


def test_pixels_alone_where_there_is_no_place_and_no_image(open_page, tmp_path):
    made = make_prediction(
        tmp_path, np.zeros((3, 300, 300), np.uint8), np.full((1, 300, 300), 200, np.uint8),
        crs=None, transform=Affine.identity(), threshold=None,
    )  # fmt: skip
    made.raster.unlink()
    with listening(make_viewer([made.folder])) as listens:
        page = settled(open_page(f"{listens}/page/raster.html#folder=0"))
        text = page.locator(".side").inner_text()
        assert "no CRS" in text
        assert "The image is not shown" in text
        assert "field.tif: no such file" in text
        box = page.locator(".board").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        until(page, "document.querySelector('.readout').textContent.includes('class0 0.78')")
        assert "°" not in page.locator(".readout").inner_text()
        assert page.locator(".scale").inner_text().endswith("px")
