"""Jobs -> each done once by a worker of a Dask cluster, the first of them first; those of lost workers done again."""

import os
import sys
import time
from asyncio import CancelledError
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, TypeVar

import cv2
import torch

from segsmith.errors import RunError

LOCAL = "local"
MOST_LOST = 3
"""Workers that may be lost over one job before it is taken to be what ends them."""
LOOK_AGAIN_S = 1.0
"""How often it is looked whether workers came or went while all are busy."""

Job = TypeVar("Job")
Client = Any
"""Of Dask, which is an extra."""


@contextmanager
def opened_cluster(address: str, workers: int | None = None) -> Iterator[Client]:
    """A client of the cluster whose scheduler is at `address`; with `local` of `workers` processes of this machine,
    which share its cores and end with the block. Without `workers` there is one for each four cores, two at least.

    Raises RunError where Dask is not installed, nothing answers at the address, or `workers` is said of a cluster
    whose workers are started elsewhere.
    """
    if find_spec("distributed") is None:
        raise RunError(f"--cluster {address} needs Dask, which is not installed: pip install 'segsmith[cluster]'")
    if workers is not None and address != LOCAL:
        raise RunError(f"--workers {workers}: the workers of {address} are started where it is; leave --workers out")
    from distributed import Client, LocalCluster

    if address != LOCAL:
        try:
            client = Client(address)
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise RunError(
                f"--cluster {address}: no Dask scheduler answers there ({reason}); give {LOCAL}, or the address that "
                "`dask scheduler` prints, such as tcp://HOST:8786"
            ) from error
        with client:
            yield client
        return
    cores = os.cpu_count() or 1
    count = workers or max(2, cores // 4)
    with (
        LocalCluster(
            n_workers=count,
            threads_per_worker=max(1, cores // count),
            memory_limit=None,  # jobs lie on the disk, not in Dask, which would end a worker for what a network needs
            dashboard_address=None,
            silence_logs="CRITICAL",
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def spread(client: Client, do: Callable[[Job], object], jobs: Sequence[Job]) -> Iterator[Job]:
    """Do every job, in their order, one at a time on each worker, and tell which are done as they are done.

    A worker computes with as many threads as Dask gave it. Workers may join while others are at work. The job of a
    worker that is lost is begun again by the next that is free, so `do` must take up what it finds, and must itself
    hold what it writes against a worker that goes on although Dask lost it. What `do` returns is not handed over.
    Raises what `do` raises, and RunError where MOST_LOST workers were lost over one job, or the scheduler is.
    """
    from distributed import wait

    waiting = deque(enumerate(jobs))
    running: dict[Any, tuple[str, int, Job]] = {}
    lost: Counter[int] = Counter()
    told = False
    try:
        while waiting or running:
            threads = _threads_of_workers(client)
            for future, (worker, number, job) in list(running.items()):
                if future.status == "finished":
                    del running[future]
                    yield job
                elif future.status == "error":
                    raise _what_went_wrong(future.exception(), worker)
                elif worker not in threads or future.status in ("cancelled", "lost"):
                    del running[future]
                    future.cancel()
                    lost[number] += 1
                    if lost[number] == MOST_LOST:
                        raise RunError(
                            f"{MOST_LOST} workers were lost over the same job, the last of them {worker}; see in its "
                            "log whether memory ran out, and run the same command again"
                        )
                    waiting.appendleft((number, job))
            busy = {worker for worker, _, _ in running.values()}
            for worker in [worker for worker in threads if worker not in busy][: len(waiting)]:
                number, job = waiting.popleft()
                running[client.submit(_do, do, job, workers=[worker], pure=False)] = (worker, number, job)
            if running:
                _wait(wait, list(running))
            elif waiting:
                if not told:
                    print("waiting for a worker of the cluster", file=sys.stderr, flush=True)
                told = True
                time.sleep(LOOK_AGAIN_S)
    finally:
        for future in running:
            future.cancel()


def _do(do: Callable[[Job], object], job: Job) -> None:
    """On a worker: do a job with the threads that are its share of the machine."""
    from distributed import get_worker

    threads = get_worker().state.nthreads
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    do(job)


def _threads_of_workers(client: Client) -> dict[str, int]:
    """Which workers there are now."""
    try:
        return dict(client.nthreads())
    except OSError as error:
        raise RunError(f"the scheduler of the cluster does not answer any more ({error}); run the same command again, "
                       "it goes on where it was") from error  # fmt: skip


def _wait(wait: Callable[..., object], futures: list[Any]) -> None:
    """Until one of them is done, or it is time to look for workers again."""
    try:
        wait(futures, timeout=LOOK_AGAIN_S, return_when="FIRST_COMPLETED")
    except (TimeoutError, CancelledError):
        return


def _what_went_wrong(error: BaseException, worker: str) -> BaseException:
    if isinstance(error, ImportError):
        return RunError(f"worker {worker}: {error}; install the same segsmith there, with what it needs")
    return error
