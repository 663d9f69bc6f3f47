"""`segsmith find-batch`: the largest that fits, and none tried that could not."""

import pytest

from segsmith.errors import ModelError
from segsmith.recipe_files import override, to_yaml
from segsmith.tuning import find_batch as batches
from segsmith.tuning.find_batch import Tried, smallest_near_best, timed_batches


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

    def perf_counter(self):
        """Seconds, if those are all that passes: three steps of each batch at 10 images/s."""
        return sum(3 * batch / 10.0 for batch in self.asked)


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


def test_of_several_rounds_the_fastest_stands_and_the_smallest_near_the_best_is_taken(monkeypatch, recipe):
    machine = Machine(monkeypatch, gib_an_image=0.01)
    rates = {4: [50.0, 80.0, 60.0], 8: [96.0, 90.0, 20.0], 16: [70.0, 99.0, 98.0], 32: [100.0, 10.0, 10.0]}

    def rate(recipe, bands, classes, *, batch, steps):
        machine.asked.append(batch)
        return rates[batch].pop(0)

    monkeypatch.setattr(batches, "training_rate", rate)
    tried = timed_batches(recipe, 3, 1, [4, 8, 16, 32], seconds=1e6, memory_gib=100.0)
    assert machine.asked == [4, 8, 16, 32] * 3
    assert {one.batch: one.images_per_second for one in tried} == {4: 80.0, 8: 96.0, 16: 99.0, 32: 100.0}
    assert smallest_near_best(tried).batch == 8


def test_only_what_fits_into_memory_and_time_is_timed(monkeypatch, recipe):
    machine = Machine(monkeypatch, gib_an_image=1.0)
    monkeypatch.setattr(batches, "time", machine)
    tried = timed_batches(recipe, 3, 1, [4, 8, 16, 32], seconds=1e6, memory_gib=10.0)
    assert [(one.batch, one.fits) for one in tried] == [(4, True), (8, True), (16, False)]
    assert set(machine.asked) == {4, 8}, "what will not fit is not tried"
    assert smallest_near_best(tried).batch == 4
    machine.asked.clear()
    timed_batches(recipe, 3, 1, [4, 8, 16, 32], seconds=9.0, memory_gib=100.0)  # three steps of 4, 8, 16 take 8.4
    assert machine.asked == [4, 8, 16]
    machine.asked.clear()
    timed_batches(recipe, 3, 1, [4, 8, 16, 32], seconds=0.0, memory_gib=100.0)
    assert machine.asked == [4, 8]
    with pytest.raises(ModelError, match="not even 4 images of 32 x 32 pixels fit into 2 GiB"):
        timed_batches(recipe, 3, 1, [4, 8], seconds=6.0, memory_gib=2.0)
