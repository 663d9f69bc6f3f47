"""What the review page asks and says: labels of a run, and verdicts on them. No part of a request becomes a path."""

import json
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from functools import cache
from threading import Lock
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, ValidationError

from segsmith.data.corrections import Verdict
from segsmith.errors import DataError, SegsmithError, StaleError
from segsmith.viewer.folders import Folder
from segsmith.viewer.reviewed import Reviewed

MOST_BYTES = 2**24
"""Of a request: run lengths of a mask as ragged as any that a person paints take a hundredth of it."""


class Said(BaseModel):
    """A verdict on a class of an image; on the whole image without a class; taken back where it is null."""

    model_config = ConfigDict(extra="forbid", strict=True)
    image: str
    class_id: int | None
    verdict: Verdict | None
    runs: str = ""
    version: str


class TooLargeError(DataError):
    """A body that no mask is as large as."""


async def _body(request: Request) -> bytes:
    content = b""
    async for chunk in request.stream():
        content += chunk
        if len(content) > MOST_BYTES:
            raise TooLargeError(f"more than {MOST_BYTES >> 20} MiB; no mask that fits an image here is as large")
    return content


def review_routes(folders: Sequence[Folder]) -> APIRouter:
    """The routes of all runs among the folders. A run is opened when its page first is."""
    router = APIRouter(prefix="/api/runs/{number}/review", route_class=_Refusing)

    opening = Lock()

    @cache
    def opened(number: int) -> Reviewed:
        return Reviewed(folders[number].path)

    def run(number: int) -> Reviewed:
        if not 0 <= number < len(folders) or folders[number].kind != "run":
            raise DataError(f"folder {number}: is none of the runs looked at")
        with opening:
            return opened(number)

    @router.get("")
    def overview(number: int) -> Response:
        reviewed = run(number)
        ranked = reviewed.ranked()
        said = [found for found in reviewed.corrections() if found.image_id in reviewed.rows]
        told = {
            "classes": reviewed.classes,
            "labels": ranked or [],
            "verdicts": [(found.image_id, reviewed.class_id(found), found.verdict) for found in said],
            "all_put": reviewed.all_put(),
            "file": str(reviewed.file),
            "dataset": str(reviewed.dataset_folder),
            "command": f"segsmith review {reviewed.run.folder}" if ranked is None else None,
        }
        return Response(json.dumps(told), media_type="application/json")  # a framework's own way takes seconds for many

    @router.get("/image")
    def image(number: int, id: str) -> dict[str, object]:
        reviewed = run(number)
        shown = reviewed.shown(_row(reviewed, id))
        return shown._asdict() | {"labels": [label._asdict() for label in shown.labels]}

    @router.get("/picture")
    def picture(number: int, id: str) -> Response:
        reviewed = run(number)
        return Response(
            reviewed.picture(_row(reviewed, id)), media_type="image/png", headers={"Cache-Control": "max-age=600"}
        )

    @router.put("/verdict")
    def verdict(number: int, body: Annotated[bytes, Depends(_body)]) -> dict[str, object]:
        reviewed, said = run(number), _read(body)
        row = _row(reviewed, said.image)
        if said.class_id is not None and not 0 <= said.class_id < len(reviewed.classes):
            raise DataError(f"class {said.class_id}: there are {len(reviewed.classes)}, counted from 0")
        reviewed.say(row, said.class_id, said.verdict, said.runs, said.version)
        return image(number, said.image)

    @router.post("/correct")
    def put_beside(number: int) -> dict[str, int]:
        return Counter(found.verdict for found in run(number).put_beside())

    return router


class _Refusing(APIRoute):
    """Answers what a command would end with by the same sentence; where a page only asks, as the whole viewer does
    (`run_routes.refusal`)."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answered = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await answered(request)
            except SegsmithError as error:
                if request.method == "GET":
                    raise
                status = 409 if isinstance(error, StaleError) else 413 if isinstance(error, TooLargeError) else 422
                return JSONResponse({"said": str(error)}, status)

        return answer


def _read(body: bytes) -> Said:
    try:
        return Said.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(f"the body is no verdict: {where + ': ' if where else ''}{first['msg']}") from None


def _row(reviewed: Reviewed, image_id: str) -> int:
    if (row := reviewed.rows.get(image_id)) is None:
        raise DataError(f"no image {image_id[:200]} in {reviewed.dataset_folder}")
    return row
