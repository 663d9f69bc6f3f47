"""Uploads -> masks: decoded in threads, through the networks in batches, decided as `segsmith predict` does."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event
from typing import TypeVar

import numpy as np
import pandas as pd

from segsmith.data.extra import extra_levels
from segsmith.data.images import decode_image, encoded_hw
from segsmith.delivery.predict import Masked, masked
from segsmith.errors import ModelError, ResolutionError
from segsmith.modeling.bundle import Bundle
from segsmith.prediction.network_calls import Calls
from segsmith.prediction.probabilities import Levels, Predictor
from segsmith.service.batching import Batches, NetworkThread
from segsmith.service.limits import Limits, Place
from segsmith.service.metrics import Metrics
from segsmith.service.rasters import RasterQuestion, needed, predict_upload
from segsmith.service.scratch import scratch
from segsmith.service.uploads import check_crs, check_one_file
from segsmith.types import HW

Made = TypeVar("Made")

THE_IMAGE = "the image"
"""As messages name an upload, whatever its sender calls it."""


class Predictions:
    """A bundle's networks, ready to predict what is uploaded while `running`."""

    def __init__(self, bundle: Bundle, limits: Limits, metrics: Metrics, calls: Calls):
        self.bundle, self.limits, self.metrics = bundle, limits, metrics
        self._networks = NetworkThread()
        self._predictor = Predictor(bundle, calls, turn=self._networks)
        self._threads = ThreadPoolExecutor(os.cpu_count() or 1, "images")
        self._one_raster = asyncio.Semaphore(1)
        whole = all(part.recipe.data.fit != "chip" for part in (bundle, *(part.bundle for part in bundle.parts)))
        self._batches = Batches(
            self._predictor.predict,
            self._networks,
            bundle.recipe.predict.batch_size if whole else 1,  # chips of one image are a batch already
            limits.gather_ms / 1000 if whole else 0.0,
            metrics.batches.observe,
        )
        self._scratch = Path()
        self._tasks: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        with scratch() as self._scratch:
            self._tasks = [asyncio.create_task(self._batches.run()), asyncio.create_task(self._warm_up())]
            try:
                yield
            finally:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)
                self._threads.shutdown()
                self._networks.executor.shutdown()

    @property
    def ready(self) -> bool:
        """Whether the networks have predicted once, which takes longest, and go on."""
        batches, warm_up = self._tasks
        return warm_up.done() and not warm_up.exception() and not batches.done()

    async def image(self, content: bytes, extra: Levels, place: Place) -> Masked:
        """The mask of an encoded image. Raises RefusedError, DataError, ModelError."""
        if (gsd_m := self.bundle.recipe.data.gsd_m) is not None:
            raise ResolutionError(
                f"{THE_IMAGE}: does not say how many metres a pixel is, and the model sees {gsd_m:g}; send a GeoTIFF "
                "to /predict/raster, with scale=FACTOR where it has no CRS"
            )
        place.take(needed(self.bundle, await self.in_thread(lambda: self._looked_at(content))))
        image = await self.in_thread(lambda: decode_image(content, THE_IMAGE))
        bands = len(self.bundle.mean) - len(self.bundle.extra)
        if image.shape[2] != bands:
            raise ModelError(f"{THE_IMAGE}: number of bands is {image.shape[2]}, the model was trained on {bands}")
        predicted = await self._batches.predicted(image, extra)
        self.metrics.pixels.inc(image.shape[0] * image.shape[1])
        return await self.in_thread(lambda: masked(self.bundle, predicted))

    async def raster(self, content: bytes, question: RasterQuestion, extra: Levels, place: Place) -> bytes | Masked:
        """The file that answers a question about a GeoTIFF, or its mask. Rasters are predicted one after the other,
        their chips in turn with the images of others. Raises RefusedError, DataError, ModelError."""
        stop = Event()
        async with self._one_raster:
            own_thread = ThreadPoolExecutor(1, "raster")  # GDAL's open files belong to it, and go with it
            try:
                await self.in_thread(lambda: check_one_file(content))
                await self.in_thread(lambda: check_crs(content))
                return await asyncio.get_running_loop().run_in_executor(
                    own_thread, predict_upload, self.bundle, self._predictor, content, question, extra, self.limits,
                    place, self._scratch, stop,
                )  # fmt: skip
            finally:
                stop.set()
                own_thread.shutdown(wait=False)

    async def in_thread(self, work: Callable[[], Made]) -> Made:
        """What `work` makes, outside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def extra(self, numbers: Sequence[float]) -> Levels:
        """The levels of the numbers that the model was trained with beside an image, in their order."""
        columns = self.bundle.recipe.data.extra
        if not columns:
            return np.empty(0, np.uint8)
        table = pd.DataFrame([numbers], columns=list(columns))
        return np.asarray(extra_levels(table, columns, self.bundle.extra)[0])

    def _looked_at(self, content: bytes) -> HW:
        check_one_file(content)
        hw = encoded_hw(content, THE_IMAGE)
        self.limits.check_pixels(hw, THE_IMAGE)
        return hw

    async def _warm_up(self) -> None:
        bands = len(self.bundle.mean) - len(self.bundle.extra)
        image = np.zeros((*self.bundle.recipe.data.input_hw, bands), np.uint8)
        await self._batches.predicted(image, np.zeros(len(self.bundle.extra), np.uint8))
