"""Labels reviewed in a real browser: what is said there is what the corrections, and the dataset, hold."""

from browser import DESKTOP, accessibility_faults
from reviewing import reads, said, shows, told

from segsmith.data.dataset import Dataset


def test_each_verdict_is_written_at_once_and_can_be_taken_back(reviewed, address, open_page):
    page = open_page(address)
    first, second, third, fourth = reviewed.ids[:4]
    for image_id, key in ((first, "a"), (second, "p"), (third, "x"), (fourth, "o")):
        shows(page, image_id)
        page.keyboard.press(key)
    shows(page, reviewed.ids[4])
    verdicts = said(reviewed)
    assert [verdicts[image_id][0] for image_id in (first, third, fourth)] == ["keep", "leave out", "empty"]
    shown = page.request.get(f"{address.split('/page')[0]}/api/runs/0/review/image?id={second}").json()
    assert (verdicts[second][1] or "") == shown["labels"][0]["prediction"]
    assert "4 of 6 judged" in page.locator("#judged").text_content()

    page.reload()
    shows(page, reviewed.ids[4])
    page.keyboard.press("ArrowLeft")
    shows(page, fourth)
    reads(page, "verdict", "Nothing here")
    page.keyboard.press("u")
    page.wait_for_selector("#back", state="hidden")
    assert fourth not in said(reviewed)
    page.keyboard.press("ArrowLeft")
    shows(page, third)
    page.keyboard.press("a")  # what is said of a class takes the image in again
    shows(page, fourth)
    assert said(reviewed)[third] == ("keep", "")
    assert not accessibility_faults(page)


def test_two_tabs_do_not_lose_what_the_other_said(reviewed, address, open_page):
    one, two = open_page(address), open_page(address)
    for page in (one, two):
        shows(page, reviewed.ids[0])
    one.keyboard.press("a")
    shows(one, reviewed.ids[1])
    one.keyboard.press("o")
    shows(one, reviewed.ids[2])
    two.keyboard.press("ArrowRight")
    two.keyboard.press("ArrowRight")
    shows(two, reviewed.ids[2])
    two.keyboard.press("o")
    shows(two, reviewed.ids[3])
    assert list(said(reviewed)) == reviewed.ids[:3]


def test_a_tab_that_shows_what_was_judged_since_says_so_and_changes_nothing(reviewed, address, open_page, chromium):
    one, two = open_page(address), chromium.new_page()  # a browser says on its console that it was refused
    two.goto(address)
    for page in (one, two):
        shows(page, reviewed.ids[0])
    one.keyboard.press("a")
    shows(one, reviewed.ids[1])
    two.keyboard.press("o")
    told(two, "something else was said of it")
    assert said(reviewed) == {reviewed.ids[0]: ("keep", "")}
    reads(two, "verdict", "Label accepted")
    shows(two, reviewed.ids[0])
    two.keyboard.press("o")
    shows(two, reviewed.ids[1])
    assert said(reviewed) == {reviewed.ids[0]: ("empty", "")}
    two.close()


def test_corrections_are_put_beside_the_dataset(reviewed, address, open_page):
    page = open_page(address, DESKTOP, color_scheme="dark")
    shows(page, reviewed.ids[0])
    page.keyboard.press("o")
    shows(page, reviewed.ids[1])
    page.click("#put")
    page.click("#ask button[value=put]")
    told(page, "Train a new run")
    assert page.locator("#put").is_disabled()
    corrected = Dataset.open(reviewed.dataset)
    assert not corrected.mask(list(corrected.images["image_id"]).index(reviewed.ids[0])).any()
    page.keyboard.press("ArrowLeft")  # and can be gone on with
    shows(page, reviewed.ids[0])
    assert not accessibility_faults(page)


def test_a_run_that_is_not_ranked_says_how_it_is_ranked_and_shows_any_image_that_is_named(reviewed, address, open_page):
    (reviewed.folder / "review.csv").unlink()
    page = open_page(address)
    page.wait_for_selector(".state")
    assert f"segsmith review {reviewed.folder}" in page.locator(".state").text_content()
    page = open_page(f"{address}&image={reviewed.ids[2]}")
    shows(page, reviewed.ids[2])
    page.keyboard.press("a")
    page.wait_for_selector("#back")
    assert said(reviewed)[reviewed.ids[2]] == ("keep", "")
