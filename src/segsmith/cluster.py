"""Jobs -> each done once, by this process or by the workers of a Dask cluster; those of lost workers done again."""

import logging
import os
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Generic, TypeVar
from uuid import uuid4

from segsmith.errors import DataError, RunError, SegsmithError
from segsmith.progress import track

LOCAL = "local"
MOST_LOST = 3
"""Workers that may be lost over one job before it is taken to be what ends them."""
LOOK_AGAIN_S = 1.0
"""How often it is looked whether workers came or went while all are busy."""

Job = TypeVar("Job")
Result = TypeVar("Result")
Client = Any
"""Of Dask, which is an extra."""


@contextmanager
def opened_cluster(address: str | None, workers: int | None = None) -> Iterator[Client | None]:
    """A client of the cluster whose scheduler is at `address`; with `local` of `workers` processes of this machine,
    which share its cores and end with the block; none without an address. Without `workers` there is one for each four
    cores, two at least.

    Raises RunError where Dask is not installed, nothing answers at the address, or `workers` is said of anything but
    `local`.
    """
    if workers is not None and address != LOCAL:
        where = f"the workers of {address} are started where it is" if address else f"is for --cluster {LOCAL}"
        raise RunError(f"--workers {workers}: {where}; leave --workers out")
    if address is None:
        yield None
        return
    if find_spec("distributed") is None:
        raise RunError(f"--cluster {address} needs Dask, which is not installed: pip install 'segsmith[cluster]'")
    from distributed import Client, LocalCluster
    from distributed.utils import silence_logging_cmgr

    if address != LOCAL:
        try:
            client = Client(address)
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise RunError(
                f"--cluster {address}: no Dask scheduler answers there ({reason}); give {LOCAL}, or the address that "
                "`dask scheduler` prints, such as tcp://HOST:8786"
            ) from error
        with silence_logging_cmgr(logging.CRITICAL), client:  # what a lost scheduler means is said below, in one line
            yield client
        return
    cores = os.cpu_count() or 1
    count = workers or max(2, cores // 4)
    with (
        LocalCluster(
            n_workers=count,
            threads_per_worker=max(1, cores // count),
            memory_limit=None,  # jobs lie on the disk, not in Dask, which would end a worker for what a network needs
            dashboard_address="127.0.0.1:0",  # any that is free; without one Dask takes 8787, or warns
            silence_logs="CRITICAL",
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def spread(
    client: Client | None,
    make: Callable[[], Callable[[Job], Result]],
    jobs: Sequence[Job],
    what: str,
    *,
    needs: Sequence[Path] = (),
) -> Iterator[tuple[Job, Result]]:
    """Do every job, in their order, and tell each with its result when it is done: without a client one after the
    other, else one at a time on each worker of its cluster. Give the largest first, and none waits long at the end.

    `make` is called once in each process, and what it returns does the jobs: of modules, not within functions, since
    both are sent. `needs` are files and folders that all machines must have at the same place; `what` are the jobs.

    A worker computes with as many threads as Dask gave it. Workers may join while others are at work. The job of a
    worker that is lost is begun again by the next that is free, so it must take up what it finds, and must itself hold
    what it writes against a worker that goes on although Dask lost it (`held`, waiting).

    Raises what jobs raise; DataError for a worker that does not see what it needs; RunError where MOST_LOST workers
    were lost over one job, the scheduler is lost, or a worker has another segsmith.
    """
    if client is None:
        do = make()
        yield from ((job, do(job)) for job in jobs)
    else:
        work = _Work(uuid4().hex, make, tuple(path.resolve() for path in needs), version("segsmith"))
        yield from track(_spread(client, work, jobs), what, len(jobs))


@dataclass(frozen=True)
class _Work(Generic[Job, Result]):
    """What is sent to workers beside a job."""

    key: str
    make: Callable[[], Callable[[Job], Result]]
    needs: tuple[Path, ...]
    version: str


def _spread(client: Client, work: _Work[Job, Result], jobs: Sequence[Job]) -> Iterator[tuple[Job, Result]]:
    """By us and not by Dask's queues: those hand a worker the next job before the last is done, and as many at once as
    it has threads."""
    waiting = deque(range(len(jobs)))
    running: dict[Any, tuple[str, int]] = {}
    lost: Counter[int] = Counter()
    try:
        while waiting or running:
            workers = _workers(client)
            for future, (worker, number) in list(running.items()):
                if future.status == "error":
                    raise _what_went_wrong(future.exception())
                if future.status == "finished":
                    try:
                        result = future.result(timeout=LOOK_AGAIN_S)
                    except TimeoutError:  # its worker is lost, and the result with it: it is not finished any more
                        continue
                    del running[future]
                    yield jobs[number], result
                elif worker not in workers or future.status in ("cancelled", "lost"):
                    del running[future]
                    future.cancel()
                    lost[number] += 1
                    if lost[number] == MOST_LOST:
                        raise RunError(
                            f"{MOST_LOST} workers were lost over the same job, the last of them {worker}; see in its "
                            "log whether memory ran out, and run the same command again"
                        )
                    waiting.appendleft(number)
            if waiting and not workers:
                print("waiting for a worker of the cluster; Ctrl-C ends this", file=sys.stderr, flush=True)
                while not (workers := _workers(client)):
                    time.sleep(LOOK_AGAIN_S)
            busy = {worker for worker, _ in running.values()}
            for worker in [worker for worker in workers if worker not in busy][: len(waiting)]:
                number = waiting.popleft()
                running[client.submit(_do, work, jobs[number], workers=[worker], pure=False)] = (worker, number)
            _wait(list(running))
    finally:
        for future in running:
            future.cancel()


_ready: dict[str, Callable[[Any], Any]] = {}
"""What does the jobs of the last work that this process, a worker, was given."""


def _do(work: _Work[Job, Result], job: Job) -> Result:
    """On a worker."""
    try:
        return _made(work)(job)
    except SegsmithError as error:
        error.__cause__ = error.__context__ = None  # errors of libraries, some of which cannot be sent
        raise


def _made(work: _Work[Job, Result]) -> Callable[[Job], Result]:
    """What does the jobs in this process, with the threads that are its share of the machine."""
    import cv2
    import torch
    from distributed import get_worker

    do: Callable[[Job], Result] | None = _ready.get(work.key)
    if do is None:
        here = f"the worker on {socket.gethostname()}"
        if version("segsmith") != work.version:
            raise RunError(f"{here} has segsmith {version('segsmith')}, not {work.version}; install the same there")
        for path in work.needs:
            if not path.exists():
                raise DataError(
                    f"{path}: is not there for {here}; what is read and written has to lie on disks that all machines "
                    "of the cluster have at the same place"
                )
        threads = get_worker().state.nthreads
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
        do = work.make()
        _ready.clear()
        _ready[work.key] = do
    return do


def _workers(client: Client) -> list[str]:
    """Which there are now."""
    try:
        return list(client.nthreads())
    except OSError as error:
        raise RunError(
            f"the scheduler of the cluster does not answer any more ({error}); run the same command again"
        ) from error


def _wait(running: Sequence[Any]) -> None:
    """Until one of them is done, or it is time to look for workers again."""
    from distributed import wait

    try:
        wait(running, timeout=LOOK_AGAIN_S, return_when="FIRST_COMPLETED")
    except (TimeoutError, CancelledError):
        return


def _what_went_wrong(error: BaseException) -> BaseException:
    """What to raise for what a job raised; the scheduler, which reads it as well, says so by a cause."""
    for missing in (error, error.__cause__):
        if isinstance(missing, ImportError):
            return RunError(
                f"the cluster has no segsmith, or another one ({missing}); install the same wherever its scheduler and "
                "workers run, with what it needs"
            )
    return error
