"""What the page of predicted rasters asks for: tiles and objects, by numbers. No path comes from a request."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, HTTPException, Query, Request, Response

from segsmith.errors import DataError
from segsmith.viewer.folders import Folder
from segsmith.viewer.map_objects import MOST_OUTLINES, ObjectsOnDemand, Order
from segsmith.viewer.overviews import ImageOverviews
from segsmith.viewer.predicted_rasters import PredictedRaster, predicted_rasters
from segsmith.viewer.tiles import Planes, coarsest, image_tile, level_tile, mask_tile, packed

THREADS = 2
"""That read files, each with a few of them open; GDAL's own memory is shared."""
MOST_WAITING = 512
"""Requests for tiles that may wait; a page that asks for more is told to come back."""
MOST_LISTED = 200

Found = TypeVar("Found")


class _Readers:
    """A few threads that read; whoever went away while waiting is not read for."""

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="rasters")
        self._free = asyncio.Semaphore(threads)
        self._waiting = 0

    async def read(self, request: Request, read: Callable[[], Found]) -> Found:
        """Raises HTTPException where too many wait, and whatever `read` raises."""
        if self._waiting >= MOST_WAITING:
            raise HTTPException(503, "too many tiles are asked for at once", {"Retry-After": "1"})
        self._waiting += 1
        try:
            async with self._free:
                if await request.is_disconnected():
                    raise HTTPException(499, "nobody waits for it any more")
                return await asyncio.get_running_loop().run_in_executor(self._threads, read)
        finally:
            self._waiting -= 1


def raster_routes(folders: Sequence[Folder]) -> APIRouter:
    """What pages ask of the predictions among some folders. Raises DataError for one that does not read."""
    router = APIRouter(prefix="/api/folders/{folder}/rasters")
    rasters = {of.number: predicted_rasters(of.path) for of in folders if of.kind == "prediction"}
    tiles, facts = _Readers(THREADS), _Readers(1)  # what is asked once does not wait behind tiles
    objects, overviews = ObjectsOnDemand(), ImageOverviews()

    def raster(folder: int, number: int) -> PredictedRaster:
        there = rasters.get(folder, [])
        if not 0 <= number < len(there):
            raise DataError(f"folder {folder}, raster {number}: there are {len(there)}, counted from 0")
        return there[number]

    def also_in(of: PredictedRaster) -> list[dict[str, int]]:
        """Other predictions of the same raster, by folder and number; one that does not read is left out."""
        found = []
        for folder, there in rasters.items():
            for number, other in enumerate(there):
                with suppress(DataError):
                    if other is not of and of.is_of_same(other):
                        found.append({"folder": folder, "raster": number})
        return found

    async def tile(
        request: Request, file: str | Path, make: Callable[[], bytes], kind: str, **headers: str
    ) -> Response:
        """A tile, unless the browser has it as the file is now."""
        tag = _tag(file, request.url.path)
        told = {"ETag": tag, "Cache-Control": "private, no-cache", **headers}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=told)
        return Response(await tiles.read(request, make), media_type=kind, headers=told)

    async def planes(request: Request, file: Path, make: Callable[[], Planes]) -> Response:
        zipped = {"Content-Encoding": "gzip"}
        return await tile(request, file, lambda: packed(make()), "application/octet-stream", **zipped)

    @router.get("")
    def listed(folder: int) -> list[dict[str, Any]]:
        return [{"name": of.name, "hw": of.told.get("hw")} for of in rasters.get(folder, [])]

    @router.get("/{number}")
    async def described(request: Request, folder: int, number: int) -> dict[str, Any]:
        of = raster(folder, number)

        def told() -> dict[str, Any]:
            try:
                of.check_image()
                awaited = overviews.awaited(of)
                image: dict[str, Any] = {"coarsest": coarsest(of, overviews.file(of)), "awaited": awaited}
            except DataError as error:
                image = {"missing": str(error)}
            shown = {"image": image, "has_objects": of.objects is not None, "also_in": also_in(of)}
            return {**of.described(), **shown}

        return await facts.read(request, told)

    @router.get("/{number}/image/{zoom}/{x}/{y}")
    async def image(request: Request, folder: int, number: int, zoom: int, x: int, y: int) -> Response:
        of = raster(folder, number)
        file = overviews.file(of)
        return await tile(request, file, partial(image_tile, of, file, zoom, x, y), "image/png")

    @router.get("/{number}/levels/{zoom}/{x}/{y}")
    async def levels(request: Request, folder: int, number: int, zoom: int, x: int, y: int) -> Response:
        of = raster(folder, number)
        return await planes(request, of.probabilities, partial(level_tile, of, zoom, x, y))

    @router.get("/{number}/masks/{zoom}/{x}/{y}")
    async def masks(request: Request, folder: int, number: int, zoom: int, x: int, y: int) -> Response:
        of = raster(folder, number)
        return await planes(request, of.masks, partial(mask_tile, of, zoom, x, y))

    @router.get("/{number}/view")
    async def in_view(
        request: Request,
        folder: int,
        number: int,
        box: Annotated[list[float], Query(min_length=4, max_length=4, description="left, top, right, bottom")],
        pixel: Annotated[float, Query(gt=0, description="pixels of the raster for each of the screen")],
    ) -> dict[str, Any]:
        of = raster(folder, number)

        def found() -> dict[str, Any]:
            if of.objects is None:
                return {"count": 0, "objects": []}
            table = objects.of(of.objects, of.facts)
            which = table.within((box[0], box[1], box[2], box[3]))
            if len(which) > MOST_OUTLINES:
                return {"count": len(which), "cells": table.counted(which, pixel)}
            rings = table.drawn(which, pixel)
            rows = [row._asdict() | {"rings": of_row} for row, of_row in zip(table.rows(which), rings, strict=True)]
            return {"count": len(which), "objects": rows}

        return await facts.read(request, found)

    @router.get("/{number}/objects")
    async def in_order(
        request: Request,
        folder: int,
        number: int,
        by: Order = "score",
        first: Annotated[int, Query(ge=0)] = 0,
        count: Annotated[int, Query(ge=1, le=MOST_LISTED)] = 50,
    ) -> dict[str, Any]:
        of = raster(folder, number)

        def found() -> dict[str, Any]:
            if of.objects is None:
                return {"count": 0, "objects": []}
            table = objects.of(of.objects, of.facts)
            rows = table.rows(table.ordered(by)[first : first + count])
            return {"count": len(table), "objects": [row._asdict() for row in rows]}

        return await facts.read(request, found)

    return router


def _tag(file: str | Path, path: str) -> str:
    """Another one when the file changed. Remote files are taken not to."""
    try:
        state = Path(file).stat()
        told = f"{state.st_mtime_ns} {state.st_size} {path}"
    except OSError:
        told = f"{file} {path}"
    return f'"{hashlib.blake2b(told.encode(), digest_size=12).hexdigest()}"'
