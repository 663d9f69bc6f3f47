"""Labels painted in a real browser: the corrections, and the dataset, hold exactly those pixels."""

import numpy as np
from browser import PHONE, accessibility_faults
from reviewing import HW, mask, reads, said, shows, told

from segsmith.data.dataset import Dataset


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
    reads(page, "size", "1 px")


def test_what_is_painted_at_any_zoom_is_what_the_dataset_holds(reviewed, address, open_page, command):
    page = open_page(address)
    shows(page, reviewed.ids[0])
    page.click("#from-empty")
    thinnest(page)
    fitted = page.locator("#zoom").text_content()
    page.keyboard.press("b")
    page.keyboard.press("+")  # around the middle
    page.wait_for_function("before => document.getElementById('zoom').textContent !== before", arg=fitted)
    drag(page, (8, 10), (8, 22), (15, 22), (15, 10), (8, 10))
    page.keyboard.press("0")
    page.wait_for_function("before => document.getElementById('zoom').textContent === before", arg=fitted)
    page.keyboard.press("f")
    page.mouse.click(*place(page, 12, 15))
    page.keyboard.press("s")
    shows(page, reviewed.ids[1])
    wanted = np.zeros(HW, bool)
    wanted[8:16, 10:23] = True
    verdict, runs = said(reviewed)[reviewed.ids[0]]
    assert verdict == "replace"
    assert (mask(runs) == wanted).all()

    ended = command("correct", reviewed.dataset, reviewed.file)
    assert ended.code == 0, ended.err
    corrected = Dataset.open(reviewed.dataset)
    assert (corrected.mask(list(corrected.images["image_id"]).index(reviewed.ids[0]))[0] == wanted).all()


def test_undo_redo_eraser_and_fill(reviewed, address, open_page):
    page = open_page(address)
    shows(page, reviewed.ids[0])
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
    shows(page, reviewed.ids[1])
    wanted = np.zeros(HW, bool)
    wanted[3, 3:10] = wanted[21, 30] = True
    assert (mask(said(reviewed)[reviewed.ids[0]][1]) == wanted).all()


def test_everything_goes_by_keys_alone(reviewed, address, open_page):
    page = open_page(address)
    shows(page, reviewed.ids[0])
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
    shows(page, reviewed.ids[1])
    wanted = np.zeros(HW, bool)
    wanted[6, 20:25] = True
    assert (mask(said(reviewed)[reviewed.ids[0]][1]) == wanted).all()


def test_a_finger_paints_and_two_zoom(reviewed, address, open_page):
    page = open_page(address, PHONE, has_touch=True, is_mobile=True)
    shows(page, reviewed.ids[0])
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
    page.wait_for_function("before => document.getElementById('zoom').textContent !== before", arg=before)
    page.tap("#save")
    shows(page, reviewed.ids[1])
    wanted = np.zeros(HW, bool)
    wanted[10, 4:13] = True
    assert (mask(said(reviewed)[reviewed.ids[0]][1]) == wanted).all(), "two fingers left a dot"
    assert not accessibility_faults(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
