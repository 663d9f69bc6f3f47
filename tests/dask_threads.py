"""A Dask cluster whose workers are threads of the process that tests."""

from collections.abc import Iterator
from contextlib import contextmanager

from distributed import LocalCluster, Scheduler

_KNOWN: list[Scheduler] = []
"""Dask ends the process of a worker that does not close within half a minute, whoever else lives in it; not where it
knows of a scheduler there, since then it takes itself to be tested."""


@contextmanager
def cluster_of_threads(workers: int) -> Iterator[LocalCluster]:
    with LocalCluster(n_workers=workers, processes=False, threads_per_worker=1, dashboard_address=None) as cluster:
        _KNOWN.append(cluster.scheduler)
        yield cluster
