"""The gallery of a run: what it sorts, filters and finds, with a mouse, with keys, by a link, and on a phone."""

import csv
import re

import pytest
from browser import PHONE, accessibility_faults, listening
from playwright.sync_api import expect

from segsmith.viewer.app import make_viewer


@pytest.fixture(scope="module")
def address(single):
    with listening(make_viewer([single.folder])) as address:
        yield address


@pytest.fixture(scope="module")
def scored(single) -> list[str]:
    """Ids of the validation images, as evaluate lists them: the worst Dice first."""
    return [row["image_id"] for row in csv.DictReader((single.folder / "images.csv").open())]


def shown(page) -> list[str]:
    """Ids in sight, from the first on."""
    expect(page.locator(".cell").first).to_be_visible()
    cells = page.locator(".cell").evaluate_all(
        "cells => cells.map(cell => [new DOMMatrix(getComputedStyle(cell).transform), cell.dataset.id])"
        ".sort(([a], [b]) => a.f - b.f || a.e - b.e).map(([, id]) => id)"
    )
    return list(cells)


def dice(single) -> dict[str, float]:
    return {row["image_id"]: float(row["dice"]) for row in csv.DictReader((single.folder / "images.csv").open())}


def test_the_worst_of_the_run_stand_first_and_those_without_a_score_last(open_page, address, single, scored):
    page = open_page(address)
    ids, of = shown(page), dice(single)
    assert [of[image_id] for image_id in ids[: len(scored)]] == sorted(of.values())
    assert sorted(ids[len(scored) :]) == single.fold(1)
    expect(page.locator(".count")).to_have_text(f"{len(ids)} images")
    page.get_by_role("button", name="lowest first").click()
    page.get_by_role("button", name="highest first").wait_for()
    assert [of[image_id] for image_id in shown(page)[: len(scored)]] == sorted(of.values(), reverse=True)
    assert not accessibility_faults(page)


def test_filters_act_together_and_say_when_nothing_fits(open_page, address, single, scored):
    page = open_page(f"{address}/#folder=0&part=validation&stratum=empty")
    empty = [image_id for image_id in scored if not single.truths[image_id].any()]
    assert sorted(shown(page)) == sorted(empty)
    page.get_by_label("At most").fill("0.5")
    wrong = [image_id for image_id in empty if dice(single)[image_id] <= 0.5]
    expect(page.locator(".count")).to_have_text(re.compile(f"^{len(wrong)} of "))
    expect(page).to_have_url(re.compile("most=0.5"))
    page.get_by_placeholder("Search id").fill("no such id")
    expect(page.get_by_role("heading", name="Nothing fits")).to_be_visible()
    page.get_by_role("button", name="Clear filters").last.click()
    expect(page.locator(".cell").first).to_be_visible()


def test_one_is_found_by_its_id(open_page, address, scored):
    page = open_page(address)
    expect(page.locator(".cell").first).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type(scored[3][:-4])
    expect(page.locator(".count")).to_have_text(re.compile("^1 of"))
    assert shown(page) == [scored[3]]


def test_keys_go_to_an_image_and_back_to_where_one_was(open_page, address):
    page = open_page(address)
    ids = shown(page)
    page.keyboard.press("ArrowRight")
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator("h1.image-id")).to_have_text(ids[2])
    page.keyboard.press("ArrowRight")
    expect(page.locator("h1.image-id")).to_have_text(ids[3])
    page.go_back()
    expect(page.locator("h1.image-id")).to_have_text(ids[2])
    page.keyboard.press("Escape")
    expect(page.locator(f".cell[data-id='{ids[2]}']")).to_be_focused()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("turn the order round")


def test_on_a_phone_only_what_is_in_sight_is_there(open_page, address, single):
    page = open_page(address, (PHONE[0], 500))
    count = len(single.fold(0)) + len(single.fold(1))
    assert len(shown(page)) < count
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("End")
    expect(page.locator(".cell").last).to_be_focused()
    assert not accessibility_faults(page)
