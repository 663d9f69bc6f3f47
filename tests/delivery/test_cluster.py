"""Many jobs on the workers of a Dask cluster: none lost, none done twice, none idle while others wait."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from by_hand import files_in
from test_predict_rasters import CHIPS, noise, save

from segsmith.delivery import cluster
from segsmith.delivery.cluster import opened_cluster, spread
from segsmith.errors import DataError, RunError

WITHOUT_DASK = "Dask is not installed: pip install 'segsmith[cluster]'"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, make_bundle):
    path = tmp_path_factory.mktemp("bundle") / "bundle.safetensors"
    make_bundle(*CHIPS, level=100).write(path)
    return path


@pytest.fixture
def rasters(tmp_path):
    """Of mixed sizes, the largest of which is not the first by name."""
    for number, hw in enumerate([(40, 50), (300, 130), (64, 64), (150, 130)]):
        save(tmp_path / "in" / f"r{number}.tif", noise(*hw, seed=number))
    return tmp_path / "in"


@dataclass
class Killer:
    """Kills a worker process (kill -9) as soon as `when` says so; `killed` says which."""

    when: Callable[[], bool]
    killed: int = 0

    def __enter__(self):
        self.before = set(multiprocessing.active_children())
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _watch(self):
        while not self.over.is_set():
            workers = [child for child in multiprocessing.active_children() if child not in self.before]
            if self.when() and workers:
                self.killed = workers[0].pid or 0
                os.kill(self.killed, signal.SIGKILL)
                return
            time.sleep(0.002)

    def __exit__(self, *error):
        self.over.set()
        self.thread.join()


def test_with_a_worker_killed_midway_the_same_bytes(tmp_path, bundle, rasters, command):
    pytest.importorskip("distributed", reason=WITHOUT_DASK)
    asked = ["predict", bundle, rasters, "--vectors", "none"]
    assert command(*asked, "--to", tmp_path / "alone").code == 0
    progress = tmp_path / ".out.progress" / "work"
    largest = progress / "r1" / "probabilities"
    with Killer(lambda: len(list(largest.glob("*.tif"))) >= 2) as killer:
        said = command(*asked, "--to", tmp_path / "out", "--cluster", "local", "--workers", 2)
    assert said.code == 0, said.err
    assert killer.killed
    assert files_in(tmp_path / "out") == files_in(tmp_path / "alone")
    assert not progress.parent.exists()


def note(folder: Path, job: int) -> None:
    """Which worker did a job, and how many jobs were done before it began."""
    from distributed import get_worker

    began = len(list(folder.iterdir()))
    time.sleep(0.005 + 0.0002 * (200 - job))
    (folder / f"{job}").write_text(f"{get_worker().name} {began}")


@pytest.fixture
def two_workers():
    """In this process, which is quick."""
    pytest.importorskip("distributed", reason=WITHOUT_DASK)
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as local,
        Client(local) as client,
    ):
        yield client


def test_both_workers_are_busy_to_the_end(tmp_path, two_workers):
    """200 jobs, the first of which are the longest. While a worker waits the other one goes on, so jobs are done ahead
    of those that begin; counted over all, hardly any are."""
    done = list(spread(two_workers, partial(note, tmp_path), range(200)))
    assert sorted(done) == list(range(200))
    facts = {int(file.name): file.read_text().split() for file in tmp_path.iterdir()}
    before = [int(facts[job][1]) for job in range(200)]
    assert all(count >= job - 1 for job, count in enumerate(before)), "in their order, one at a time on each worker"
    assert sum(count - job for job, count in enumerate(before) if count > job) <= 10
    assert {facts[job][0] for job in range(190, 200)} == {"0", "1"}, "both are at work to the end"


def fail(job: int) -> None:
    if job == 3:
        raise DataError("three: is not to be read")


def end_the_worker(job: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_worker_raises_ends_all(two_workers):
    done = []
    with pytest.raises(DataError, match="three: is not to be read"):
        done += spread(two_workers, fail, range(50))
    assert len(done) < 50


def test_a_job_that_ends_its_workers_is_given_up():
    pytest.importorskip("distributed", reason=WITHOUT_DASK)
    with opened_cluster("local", 2) as client, pytest.raises(RunError, match="3 workers were lost over the same job"):
        list(spread(client, end_the_worker, [1]))


# Refused


def test_a_missing_dask_is_told_before_anything_is_written(monkeypatch, tmp_path, bundle, rasters, command):
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    said = command("predict", bundle, rasters, "--to", tmp_path / "out", "--cluster", "local")
    assert said.code == 2
    assert "--cluster local needs Dask, which is not installed: pip install 'segsmith[cluster]'" in said.err
    assert {path.name for path in tmp_path.iterdir()} == {"in"}


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (["--workers", 2], "--workers 2: is for --cluster local"),
        (["--cluster", "tcp://127.0.0.1:9", "--workers", 2], "workers of tcp://127.0.0.1:9 are started where it is"),
        (["--cluster", "nonsense://x"], "--cluster nonsense://x: no Dask scheduler answers there"),
    ],
)
def test_a_cluster_that_cannot_be_had(tmp_path, bundle, rasters, command, asked, says):
    pytest.importorskip("distributed", reason=WITHOUT_DASK)
    said = command("predict", bundle, rasters, "--to", tmp_path / "out", *asked)
    assert said.code == 2
    assert says in said.err
    assert {path.name for path in tmp_path.iterdir()} == {"in"}


def test_images_without_place_are_not_spread(tmp_path, bundle, command):
    save(tmp_path / "in" / "a.tif", np.zeros((40, 50, 3), np.uint8), crs=None, transform=None)
    said = command("predict", bundle, tmp_path / "in", "--to", tmp_path / "out", "--cluster", "local")
    assert said.code == 2
    assert "--cluster local: is for rasters" in said.err
