"""Kills worker processes of `--cluster local` while they are at their jobs."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from distributed import Client

Seen = TypeVar("Seen")
BEFORE = 3
"""Jobs that were given out when the first worker is killed: two workers have done one, and are at the others."""


@contextmanager
def workers_killed(most: int, look: Callable[[], Seen | None]) -> Iterator[list[Seen]]:
    """Within it, once BEFORE jobs of a command were given out, the worker that is at the latest of them is killed, and
    so on, `most` times, each time as soon as `look` sees something; the list fills with what it saw."""
    seen: list[Seen] = []
    over = threading.Event()
    killer = threading.Thread(target=_kill, args=(most, look, seen, over))
    killer.start()
    try:
        yield seen
    finally:
        over.set()
        killer.join()


def _kill(most: int, look: Callable[[], Seen | None], seen: list[Seen], over: threading.Event) -> None:
    given_out: dict[str, None] = {}
    ended: set[str] = set()
    while not over.is_set() and len(seen) < most:
        time.sleep(0.002)
        for pid, jobs in _busy():
            given_out |= dict.fromkeys(jobs)
            if len(given_out) >= BEFORE and (latest := list(given_out)[-1]) in jobs and latest not in ended:
                there = look()
                if there is not None:
                    os.kill(pid, signal.SIGKILL)
                    ended.add(latest)
                    seen.append(there)


def _busy() -> Iterator[tuple[int, list[str]]]:
    """The process of each worker, and the jobs that it is at; nothing while there is no cluster."""
    try:
        client = Client.current()
    except ValueError:
        return
    if client is not None:  # it is none for a moment when one ends
        for nanny in list(client.cluster.workers.values()):
            worker = client.cluster.scheduler.workers.get(nanny.worker_address)
            if worker is not None and nanny.pid:
                yield nanny.pid, [task.key for task in list(worker.processing)]
