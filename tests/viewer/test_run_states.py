"""A run that cannot be shown, or not all of it, has a page that says so and names the command that helps."""

import shutil
from dataclasses import replace

import pytest
from browser import accessibility_faults, listening
from playwright.sync_api import expect

from segsmith.errors import RunError
from segsmith.modeling.bundle import Bundle, Decision
from segsmith.viewer.app import make_viewer


def undecided(run):
    path = run / "bundle.safetensors"
    replace(Bundle.read(path), decision=Decision()).write(path)


def judging_none(run):
    """Trained on every image of its dataset."""
    bundle = Bundle.read(run / "bundle.safetensors")
    decision = replace(bundle.decision, areas=())
    replace(bundle, decision=decision).write(run / "bundle.safetensors")
    folds = (run / "folds.csv").read_text()
    (run / "folds.csv").write_text(folds.replace("validation", "train").replace("held_out", "train"))


STATES = {
    "untrained": (lambda run: (run / "bundle.safetensors").unlink(), "its training is not finished", "segsmith train"),
    "undecided": (undecided, "no threshold is decided yet", "segsmith decide"),
    "of another version": (lambda run: (run / "recipe.yaml").write_text("nonsense: 1"), "nonsense", None),
    "judging none": (judging_none, "no image was validated on or held out", None),
    "not evaluated": (lambda run: (run / "images.csv").unlink(), "Not evaluated yet", "segsmith evaluate"),
}


def test_each_state_has_a_page(open_page, single, copied):
    runs = []
    for name, (change, _, _) in STATES.items():
        runs.append(copied(single.folder, name))
        change(runs[-1])
    with listening(make_viewer(runs)) as address:
        page = open_page(address)
        for number, (_, said, command) in enumerate(STATES.values()):
            page.goto(f"{address}/#folder={number}")
            expect(page.locator("main")).to_contain_text(said)
            if command:
                expect(page.locator("main pre")).to_contain_text(f"{command} ")
            assert not accessibility_faults(page), said
        page.close()


def test_what_there_is_not_has_a_page_that_keeps_nobody_out(open_page, single, tmp_path):
    none = tmp_path / "none"
    none.mkdir()
    (none / "prediction.json").write_text("[]")
    pages = {
        "/#folder=7": "No folder has the number 7",
        "/#folder=0&image=none.png": "none.png is none of the images",
        "/page/raster.html#folder=0": "holds no prediction of rasters",
        "/page/raster.html#folder=1": "This prediction holds none",
        "/page/review.html#folder=0": "This run has no ranking yet",
        "/page/review.html#folder=1": "folder 1: is none of the runs looked at",
    }
    with listening(make_viewer([single.folder, none])) as address, listening(make_viewer([])) as nothing:
        page = open_page(nothing)
        expect(page.locator("main")).to_contain_text("No folder was named")
        assert not accessibility_faults(page)
        page.close()
        for path, said in pages.items():
            page = open_page(f"{address}{path}")
            expect(page.locator("main")).to_contain_text(said)
            assert not accessibility_faults(page), path
            page.close()


def test_probabilities_that_are_gone_are_named_with_the_command(open_page, single, copied):
    run = copied(single.folder, "run")
    shutil.rmtree(run / "probabilities")
    with listening(make_viewer([run])) as address:
        page = open_page(f"{address}/#folder=0&image={single.fold(1)[0]}")
        expect(page.get_by_role("alert")).to_contain_text(f"segsmith evaluate {run} --on held_out")
        assert not accessibility_faults(page)
        page.close()


@pytest.mark.parametrize("name", ["empty", "absent"])
def test_a_folder_that_is_no_run_is_refused(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=r"neither a run nor a prediction|no such folder"):
        make_viewer([tmp_path / name])
