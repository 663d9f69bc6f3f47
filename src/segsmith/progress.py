"""Long loops -> a bar on a terminal; elsewhere a plain line now and then, once a loop turns out to be long."""

import sys
import time
from collections.abc import Iterable, Iterator
from threading import current_thread, main_thread
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

QUIET_S = 5.0
"""Seconds after which a loop whose standard error is no terminal says that it goes on."""
BETWEEN_S = 60.0

Item = TypeVar("Item")


def track(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """The items; while they pass, standard error tells how far they are: by a bar if it is a terminal, else by a line
    after QUIET_S seconds and then one a minute, so that logs stay short. Only the main thread draws a bar: workers of a
    cluster work in others, and several of them share a terminal."""
    if not sys.stderr.isatty() or current_thread() is not main_thread():
        yield from _told(items, what, total)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield from bar.track(items, total=total, description=what)


def _told(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    began = time.monotonic()
    due = began + QUIET_S
    for done, item in enumerate(items):
        now = time.monotonic()
        if now >= due:
            left = (now - began) * (total - done) / max(1, done)
            print(f"{what}: {done:,} of {total:,}, about {left:.0f} s to go", file=sys.stderr, flush=True)
            due = now + BETWEEN_S
        yield item
