"""Reading ahead of a computation, and writing behind it, each in a thread of its own."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")

_END: Any = object()


def ahead(items: Iterable[Item], depth: int = 2) -> Iterator[Item]:
    """The items in order, made in a thread of their own, at most `depth` of them before they are asked for. What the
    items raise is raised in their place."""
    remaining = iter(items)
    with ThreadPoolExecutor(1) as thread:
        waiting = deque(thread.submit(next, remaining, _END) for _ in range(depth))
        while (item := waiting.popleft().result()) is not _END:
            waiting.append(thread.submit(next, remaining, _END))
            yield item


@contextmanager
def behind(work: Callable[[Item], None], depth: int = 2) -> Iterator[Callable[[Item], None]]:
    """A function that does `work` on what it is given, in a thread of its own and in order; at most `depth` items wait
    for it. When the block ends all is done; what it raises is raised at a later call, or then."""
    waiting: deque[Future[None]] = deque()

    def give(item: Item) -> None:
        while len(waiting) >= depth or (waiting and waiting[0].done()):
            waiting.popleft().result()
        waiting.append(thread.submit(work, item))

    with ThreadPoolExecutor(1) as thread:
        yield give
        while waiting:
            waiting.popleft().result()
