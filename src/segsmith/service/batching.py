"""Images of many requests -> batches -> the networks, which see one batch at a time, in a thread of their own."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from segsmith.prediction.probabilities import Levels, Predicted
from segsmith.types import Image

Made = TypeVar("Made")


class NetworkThread:
    """The one thread in which networks are called, whoever asks, in the order of asking.

    PyTorch spreads the work of one call over all processors; two calls at once would only get in each other's way, and
    each further thread that calls it keeps a team of workers of its own.
    """

    def __init__(self) -> None:
        self.executor = ThreadPoolExecutor(1, "networks", initializer=self._note)
        self._number: int | None = None

    def __call__(self, work: Callable[[], Made], /) -> Made:
        """What `work` makes, in that thread; waits for it, so never call it where an event loop runs."""
        return work() if threading.get_ident() == self._number else self.executor.submit(work).result()

    def _note(self) -> None:
        self._number = threading.get_ident()


class _Waiting(NamedTuple):
    image: Image
    extra: Levels
    since: float
    answer: "asyncio.Future[Predicted]"


Predict = Callable[[list[Image], Sequence[Levels]], list[Predicted]]


class Batches:
    """Gathers images that wait into batches of at most `size` for `predict`, in `thread`.

    An image that finds the networks idle waits `gather_s` at most for others; while a batch is computed the next one
    gathers. `told` gets the size of each. All but `predict` happens in the event loop that `run` runs in.
    """

    def __init__(
        self, predict: Predict, thread: NetworkThread, size: int, gather_s: float, told: Callable[[int], None]
    ):
        self._predict, self._thread, self._size, self._gather_s, self._told = predict, thread, size, gather_s, told
        self._waiting: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()

    async def predicted(self, image: Image, extra: Levels) -> Predicted:
        """What the networks say of an image. One that is no longer waited for is not computed."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(image, extra, loop.time(), loop.create_future())
        self._waiting.append(waiting)
        self._arrived.set()
        return await waiting.answer

    async def run(self) -> None:
        """Compute batches until cancelled."""
        while True:
            await self._arrived.wait()
            if len(self._waiting) < self._size and self._gather_s:
                due = self._waiting[0].since + self._gather_s
                await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
            batch: list[_Waiting] = []
            while self._waiting and len(batch) < self._size:
                waiting = self._waiting.popleft()
                if not waiting.answer.done():
                    batch.append(waiting)
            if not self._waiting:
                self._arrived.clear()
            if batch:
                self._told(len(batch))
                await self._compute(batch)

    async def _compute(self, batch: list[_Waiting]) -> None:
        def work() -> list[Predicted]:
            return self._predict([waiting.image for waiting in batch], [waiting.extra for waiting in batch])

        try:
            found = await asyncio.get_running_loop().run_in_executor(self._thread.executor, work)
        except Exception as error:
            if len(batch) > 1:  # whichever image it was, the others must not pay for it
                for waiting in batch:
                    await self._compute([waiting])
            elif not batch[0].answer.done():
                batch[0].answer.set_exception(error)
            return
        for waiting, predicted in zip(batch, found, strict=True):
            if not waiting.answer.done():
                waiting.answer.set_result(predicted)
