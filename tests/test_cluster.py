"""Many jobs on the workers of a Dask cluster: none lost, none done twice, none idle while others wait."""

import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from segsmith import cluster
from segsmith.cluster import opened_cluster, spread
from segsmith.errors import DataError, RunError

pytest.importorskip("distributed", reason="Dask is not installed: pip install 'segsmith[cluster]'")
import dask
from dask_threads import cluster_of_threads
from distributed import get_worker


def noting(folder: Path) -> Callable[[int], tuple[str, int]]:
    """What takes the longer the smaller the number is, and says which worker it is, and what was done before it began;
    `folder` gets a file for each that is made, and for each job that is done."""
    (folder / f"made-{time.monotonic_ns()}").touch()

    def do(job: int) -> tuple[str, int]:
        began = len(list(folder.glob("job-*")))
        time.sleep(0.005 + 0.0002 * (200 - job))
        (folder / f"job-{job}").touch(exist_ok=False)
        return str(get_worker().name), began

    return do


def test_both_workers_are_busy_to_the_end(tmp_path, two_workers):
    """200 jobs, the first of which are the longest. While a worker waits the other one goes on, so jobs are done ahead
    of those that begin; counted over all, hardly any are."""
    with opened_cluster(two_workers) as client:
        done = dict(spread(client, partial(noting, tmp_path), range(200), "jobs"))
    assert sorted(done) == list(range(200))
    assert len(list(tmp_path.glob("made-*"))) <= 2, "once in each process, which the two workers may share"
    before = [done[job][1] for job in range(200)]
    assert all(count >= job - 1 for job, count in enumerate(before)), "in their order, one at a time on each worker"
    assert sum(count - job for job, count in enumerate(before) if count > job) <= 10
    assert {done[job][0] for job in range(190, 200)} == {"0", "1"}, "both are at work to the end"


def test_without_a_cluster_this_process_does_them():
    with opened_cluster(None) as client:
        assert list(spread(client, lambda: abs, [-3, 1], "jobs")) == [(-3, 3), (1, 1)]


def failing() -> Callable[[int], None]:
    def do(job: int) -> None:
        if job == 3:
            raise DataError("three: is not to be read")

    return do


def test_what_a_worker_raises_ends_all(two_workers):
    done = []
    with opened_cluster(two_workers) as client, pytest.raises(DataError, match="three: is not to be read"):
        done += spread(client, failing, range(50), "jobs")
    assert len(done) < 50


def ending_its_worker() -> Callable[[int], None]:
    return lambda job: os.kill(os.getpid(), signal.SIGKILL)


def test_a_job_that_ends_its_workers_is_given_up(monkeypatch):
    monkeypatch.setattr(cluster, "MOST_LOST", 2)
    with opened_cluster("local", 1) as client, pytest.raises(RunError, match="2 workers were lost over the same job"):
        list(spread(client, ending_its_worker, [1], "jobs"))


def test_where_no_worker_is_left_one_is_waited_for(tmp_path, capsys):
    with cluster_of_threads(0) as local:
        later = threading.Timer(1, local.scale, [1])
        later.start()
        with opened_cluster(local.scheduler_address) as client:
            assert len(list(spread(client, partial(noting, tmp_path), range(3), "jobs"))) == 3
        later.join()
    assert capsys.readouterr().err == "waiting for a worker of the cluster; Ctrl-C ends this\n"


def test_a_scheduler_that_is_lost_ends_all(tmp_path):
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        cluster_of_threads(1) as local,
        opened_cluster(local.scheduler_address) as client,
    ):
        done = spread(client, partial(noting, tmp_path), range(200), "jobs")
        next(done)
        local.close()
        with pytest.raises(RunError, match="the scheduler of the cluster does not answer any more"):
            list(done)


# Refused


def test_a_worker_that_does_not_see_the_files(tmp_path, two_workers):
    with (
        opened_cluster(two_workers) as client,
        pytest.raises(DataError, match=r"gone: is not there for the worker on .* have at the same place"),
    ):
        list(spread(client, failing, [1], "jobs", needs=[tmp_path, tmp_path / "gone"]))


def test_a_worker_of_another_version(monkeypatch, two_workers):
    here = threading.current_thread()
    monkeypatch.setattr(cluster, "version", lambda name: "2.0" if threading.current_thread() is here else "1.0")
    with opened_cluster(two_workers) as client, pytest.raises(RunError, match=r"has segsmith 1\.0, not 2\.0"):
        list(spread(client, failing, [1], "jobs"))


def test_a_missing_dask(monkeypatch):
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    with (
        pytest.raises(RunError, match=r"--cluster local needs Dask, .*: pip install 'segsmith\[cluster\]'"),
        opened_cluster("local"),
    ):
        pass


@pytest.mark.parametrize(
    ("address", "workers", "says"),
    [
        (None, 2, "--workers 2: is for --cluster local"),
        ("tcp://127.0.0.1:9", 2, "--workers 2: the workers of tcp://127.0.0.1:9 are started where it is"),
        ("nonsense://x", None, "--cluster nonsense://x: no Dask scheduler answers there"),
        ("tcp://127.0.0.1:9", None, "--cluster tcp://127.0.0.1:9: no Dask scheduler answers there"),
    ],
)
def test_a_cluster_that_cannot_be_had(address, workers, says):
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(RunError, match=says),
        opened_cluster(address, workers),
    ):
        pass
