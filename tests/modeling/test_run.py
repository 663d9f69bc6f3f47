"""A run folder: begun once, continued by the same recipe on the same dataset alone, held by one process at a time."""

import json
import os
import re
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch
from processes import SERVER, begun

from segsmith.data.dataset import Dataset
from segsmith.errors import DataError, RunError, WriteError
from segsmith.modeling.run import FREE, Run, load_state, save_state
from segsmith.recipe import Recipe
from segsmith.recipe_files import override
from segsmith.samples.chips import cut
from segsmith.samples.split import split

FACTS = {"hardware": "an abacus"}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "runs" / "run")


@pytest.fixture
def begin(run: Run, squares: Path, tiny: Recipe) -> Callable[..., None]:
    """Begins the run, with overrides of the recipe, or on another dataset."""

    def beginning(*overrides: str, dataset: Path = squares) -> None:
        run.check_free()
        with run.locked():
            recipe = override(tiny, overrides)
            chips = cut(Dataset.open(dataset), recipe.data)
            run.begin(dataset, chips, split(chips, recipe.folds, recipe.seed), recipe, FACTS)

    return beginning


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# beginning


def test_a_run_keeps_what_it_began_with(run, begin, squares, tiny):
    begin()
    dataset = Dataset.open(squares)
    assert run.recipe() == tiny
    assert run.facts() == FACTS | {"dataset": str(squares), "fingerprint": dataset.fingerprint}
    assert run.dataset().fingerprint == dataset.fingerprint
    chips = cut(dataset, tiny.data)
    parts = split(chips, tiny.folds, tiny.seed)
    for name in ("training", "validation", "held_out"):
        assert run.part(chips, name) == getattr(parts, name).tolist()
    assert set(parts.fold) == {0, 1, 2}
    assert len(run.part(chips, "training")) > len(run.part(chips, "validation")) > 0


def test_images_that_came_later_belong_to_no_part(run, begin, squares, make_squares, tmp_path, tiny):
    begin()
    more = cut(Dataset.open(make_squares(tmp_path / "more", (0, 0, 1, 2) * 7)), tiny.data)
    before = cut(Dataset.open(squares), tiny.data)
    for name in ("training", "validation"):
        assert run.part(more, name) == run.part(before, name)


@pytest.mark.parametrize("data", [[], ["data.fit=chip", "data.input_hw=[16,16]", "data.scales=[1,0.5]"]])
def test_the_chips_of_a_run_are_those_it_began_with_and_no_image_is_read_again(run, make_squares, tmp_path, tiny, data):
    dataset = make_squares(tmp_path)
    recipe = override(tiny, data)
    chips = cut(Dataset.open(dataset), recipe.data)
    with run.locked():
        run.begin(dataset, chips, split(chips, recipe.folds, recipe.seed), recipe, FACTS)
    for image in (tmp_path / "raw").glob("*.png"):
        image.unlink()
    kept = run.chips()
    assert len(kept) == len(chips) > 0
    for name in ("image", "top", "left", "scale", "objects", "foreground", "present", "extra_levels", "judged"):
        was, now = getattr(chips, name), getattr(kept, name)
        assert (was.dtype, was.tolist()) == (now.dtype, now.tolist()), name
    other = override(recipe, ["data.fit=chip", "data.input_hw=[8,8]"])
    with pytest.raises(DataError, match=r"\.png"):
        run.chips_for(Dataset.open(dataset), other.data)


def test_chips_of_another_dataset_are_cut_anew(run, begin, make_squares, tmp_path, tiny):
    begin("data.fit=chip")
    more = Dataset.open(make_squares(tmp_path / "more", (0, 1) * 9))
    recipe = override(tiny, ["data.fit=chip"])
    assert run.chips_for(more, recipe.data).image.tolist() == cut(more, recipe.data).image.tolist()


def test_beginning_again_changes_nothing(run, begin):
    begin()
    before = contents(run.folder)
    begin()
    assert contents(run.folder) == before


def test_another_recipe_is_refused_and_what_differs_is_listed(run, begin):
    begin()
    before = contents(run.folder)
    with pytest.raises(RunError) as caught:
        begin("seed=7", "train.stages.1.optimizer.lr=0.5", "train.stages.0.mix=null", "train.workers=2")
    listed = re.findall("^  - (.*)$", str(caught.value), re.MULTILINE)
    assert listed == [
        "seed: 0 there, 7 now",
        "train.stages.0.mix.empty: 1.0 there, absent now",
        "train.stages.0.mix.single: 1.0 there, absent now",
        "train.stages.0.mix.multi: 1.0 there, absent now",
        "train.stages.1.optimizer.lr: 0.1 there, 0.5 now",
    ]
    assert str(run.folder) in str(caught.value)
    assert contents(run.folder) == before


def test_one_stage_more_is_another_recipe(run, begin, tiny):
    begin()
    stages = [*tiny.model_dump(mode="json")["train"]["stages"], {"epochs": 1}]
    with pytest.raises(RunError, match=r"train\.stages\.2\.epochs: absent there, 1 now"):
        begin(f"train.stages={json.dumps(stages)}")


@pytest.mark.parametrize("option", sorted(FREE))
def test_options_that_do_not_change_the_weights_may_differ(run, begin, option):
    begin()
    begin(f"{option}={'false' if option in ('train.mlflow', 'train.cache', 'train.shard') else 3}")


def test_another_dataset_is_refused(run, begin, make_squares, tmp_path):
    """Of other labels; the same one at another place is the same."""
    begin()
    begin(dataset=make_squares(tmp_path / "elsewhere"))
    with pytest.raises(RunError, match="holds a run on another dataset"):
        begin(dataset=make_squares(tmp_path / "other", (0, 1, 1, 2) * 6))


def test_a_folder_with_foreign_files_is_refused_and_stays_as_it_is(run, begin):
    run.folder.mkdir(parents=True)
    (run.folder / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match=r"holds thesis\.txt, and no run; choose a new folder"):
        begin()
    assert contents(run.folder) == {"thesis.txt": b"years of work"}


def test_a_file_in_the_place_of_the_folder(run, begin):
    run.folder.parent.mkdir()
    run.folder.write_text("a file")
    with pytest.raises(WriteError, match="cannot be used as a run folder"):
        begin()


def test_a_dataset_that_changed_or_went_is_named(run, begin, make_squares, tmp_path):
    dataset = make_squares(tmp_path / "mine")
    begin(dataset=dataset)
    dataset.rename(dataset.with_name("moved"))
    with pytest.raises(DataError, match=f"{dataset}: no dataset"):
        run.dataset()
    make_squares(tmp_path / "new", (1,) * 24).rename(dataset)
    with pytest.raises(RunError, match=f"{dataset}: changed since the run began"):
        run.dataset()


def test_no_run(run):
    with pytest.raises(RunError, match=r"no run here \(recipe\.yaml is missing\); make one with: segsmith train"):
        run.recipe()
    with pytest.raises(RunError, match="no run here"):
        run.dataset()


@pytest.mark.parametrize("write", [1, 2, 3])
def test_a_run_killed_while_it_began_can_begin_again(run, begin, squares, tiny, write):
    """folds.csv, run.json, recipe.yaml: killed while each of them was written."""

    def killed_at_write() -> None:
        writes = iter(range(1, 99))
        os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL) if next(writes) == write else None
        begin()

    process = begun(killed_at_write)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(contents(run.folder)) == 1 + write, "the lock, whole files, and the partial one"

    begin()
    assert run.recipe() == tiny
    assert run.dataset().fingerprint == Dataset.open(squares).fingerprint


# the lock


def holding(run: Run, told: Connection) -> None:
    with run.locked():
        told.send("held")
        told.recv()


def test_a_second_process_is_refused_until_the_first_ends(run):
    here, there = SERVER.Pipe()
    process = begun(holding, run, there)
    assert here.recv() == "held"
    with pytest.raises(RunError, match="another process is at work here"), run.locked():
        pytest.fail("two processes hold the folder")
    process.kill()
    process.join()
    with run.locked():
        pass  # whoever is killed holds nothing


def test_a_lock_is_given_back_after_an_error(run):
    with pytest.raises(ZeroDivisionError), run.locked():
        _ = 1 / 0
    with run.locked():
        pass


# states


def test_a_state_is_read_as_it_was_saved(tmp_path):
    state = {"weights": {"a": torch.arange(6).reshape(2, 3)}, "rows": [{"loss": 0.1 + 0.2}], "best": None}
    save_state(tmp_path / "sub" / "state.pt", state)
    read = load_state(tmp_path / "sub" / "state.pt")
    assert torch.equal(read["weights"]["a"], state["weights"]["a"])
    assert read | {"weights": 0} == state | {"weights": 0}


@pytest.mark.parametrize("content", [b"", b"text", None])
def test_a_broken_state_is_named(tmp_path, content):
    save_state(tmp_path / "state.pt", {"a": torch.ones(99)})
    whole = (tmp_path / "state.pt").read_bytes()
    (tmp_path / "state.pt").write_bytes(whole[:-200] if content is None else content)
    with pytest.raises(RunError, match=r"state\.pt: does not read as a checkpoint .*; train a new run"):
        load_state(tmp_path / "state.pt")
