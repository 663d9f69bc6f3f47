"""A ranked run to be reviewed, the page that it is reviewed on, and what tests ask of it."""

import json
import shutil
from types import SimpleNamespace

import pytest
from browser import listening
from by_hand import scenes

from segsmith.data.corrections import read_corrections
from segsmith.data.rle import decode, parse
from segsmith.decision.decide import decide
from segsmith.decision.review import review
from segsmith.viewer.app import make_viewer

HW = (32, 40)
"""Pixels of its images."""


@pytest.fixture(scope="session")
def ranked_run(make_run):
    """A decided run of twelve images, half of them ranked."""
    truths, probabilities = scenes(12, HW, seed=3)
    made = make_run(truths, probabilities, "folds.count=2", "folds.validation=1")
    decide(made.folder)
    review(made.folder)
    return made


@pytest.fixture
def reviewed(ranked_run, tmp_path):
    """A copy of it that may be written to, its labels worst first."""
    shutil.copytree(ranked_run.folder, tmp_path / "run")
    shutil.copytree(ranked_run.dataset, tmp_path / "dataset")
    facts = json.loads((tmp_path / "run" / "run.json").read_text()) | {"dataset": str(tmp_path / "dataset")}
    (tmp_path / "run" / "run.json").write_text(json.dumps(facts))
    rows = (tmp_path / "run" / "review.csv").read_text().splitlines()[1:]
    return SimpleNamespace(
        folder=tmp_path / "run",
        dataset=tmp_path / "dataset",
        file=tmp_path / "run" / "corrections.csv",
        ids=[row.split(",")[0] for row in rows],
    )


@pytest.fixture
def address(reviewed):
    with listening(make_viewer([reviewed.folder])) as root:
        yield f"{root}/page/review.html#folder=0"


def said(reviewed):
    return {found.image_id: (found.verdict, found.runs) for found in read_corrections(reviewed.file)}


def mask(text):
    return decode(parse(text, HW), HW)


def shows(page, image_id):
    page.wait_for_function(
        "id => document.getElementById('name').textContent === id && document.querySelector('[aria-busy=false]')",
        arg=image_id,
    )


def told(page, words):
    page.wait_for_function("words => document.getElementById('told').textContent.includes(words)", arg=words)


def reads(page, place, words):
    """Wait until an element, by its id, holds these words and nothing else."""
    page.wait_for_function(
        "([place, words]) => document.getElementById(place).textContent === words", arg=[place, words]
    )
