"""`segsmith find-batch`: the largest that fits, and none tried that could not."""

import pytest

from segsmith.modeling import find_batch as batches
from segsmith.modeling.find_batch import Tried
from segsmith.recipe_files import override, to_yaml


@pytest.fixture
def recipe(tiny):
    return override(tiny, ["train.stages=[{}]", "train.ema_decay=null"])


class Machine:
    """A machine on which every image takes some memory, and no training is timed."""

    def __init__(self, monkeypatch, gib_an_image, gib_in_all=1.0):
        self.gib, self.base, self.asked = gib_an_image, gib_in_all, []
        monkeypatch.setattr(batches, "training_rate", self.rate)
        monkeypatch.setattr(batches, "_forget_peak", lambda gpu: None)
        monkeypatch.setattr(batches, "_peak", lambda gpu: self.base + self.gib * self.asked[-1])

    def rate(self, recipe, bands, classes, *, batch, steps):
        self.asked.append(batch)
        return 10.0


def test_the_largest_batch_is_told_and_none_that_could_not_fit_is_tried(
    monkeypatch, command, squares, recipe, tmp_path
):
    machine = Machine(monkeypatch, gib_an_image=0.25)
    (tmp_path / "job.yaml").write_text(to_yaml(recipe))
    said = command("find-batch", squares, "--recipe", tmp_path / "job.yaml", "--memory", 12)
    assert said.code == 0, said.err
    assert "train.batch_size=44 train.accumulate=1" in said.out, "11 GiB of 0.25 each"
    assert max(machine.asked) == 44
    assert "batch   64: 17.00 GiB to be expected, does not fit" in said.out
    assert "batch   44: 10.0 images/s, 12.00 GiB, fits" in said.out


def test_memory_for_nothing(monkeypatch, command, squares, recipe, tmp_path):
    Machine(monkeypatch, gib_an_image=9)
    (tmp_path / "job.yaml").write_text(to_yaml(recipe))
    said = command("find-batch", squares, "--recipe", tmp_path / "job.yaml", "--memory", 4)
    assert said.code == 2
    assert "not even 2 images of 32 x 32 pixels fit into 4 GiB" in said.err


def test_memory_that_runs_out_on_the_way_is_a_size_that_does_not_fit(monkeypatch, squares, recipe):
    Machine(monkeypatch, gib_an_image=0.01)
    told: list[Tried] = []

    def rate(recipe, bands, classes, *, batch, steps):
        if batch > 20:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return 10.0

    monkeypatch.setattr(batches, "training_rate", rate)
    monkeypatch.setattr(batches, "_peak", lambda gpu: 1.0)
    assert batches.find_batch(squares, recipe, memory_gib=100.0, tell=told.append).batch == 20
    assert [tried.batch for tried in told if tried.fits] == [2, 4, 8, 16, 20]


def test_memory_is_measured(monkeypatch, squares, recipe):
    monkeypatch.setattr(batches, "LARGEST", 4)
    found = batches.find_batch(squares, recipe, memory_gib=batches._used() + 1)
    assert found.images_per_second > 0
    assert 0.1 < found.gib <= batches._used() + 1.2
