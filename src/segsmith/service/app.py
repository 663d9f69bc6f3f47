"""The service's HTTP side: routes, questions, who may ask, and what is refused how."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field, create_model

from segsmith.delivery.predict import Masked
from segsmith.errors import DataError, ModelError
from segsmith.modeling.bundle import Bundle
from segsmith.prediction.backends import TORCH, Backend
from segsmith.service.answers import MaskRuns, png_answer, runs_answer
from segsmith.service.limits import Limits, RefusedError, Room
from segsmith.service.metrics import Metrics
from segsmith.service.middleware import Draining, Measuring
from segsmith.service.predictions import Predictions
from segsmith.service.rasters import LEAST_SCALE, RasterAnswer, RasterQuestion
from segsmith.service.uploads import read_body

IMAGE_TYPES = ("image/png", "image/jpeg", "image/tiff", "image/bmp", "image/webp")
BINARY = {"schema": {"type": "string", "format": "binary"}}


class Refusal(BaseModel):
    """Why there is no answer."""

    detail: str


class State(BaseModel):
    """How the service is."""

    state: Literal["alive", "ready", "starting"]


class Model(BaseModel):
    """What the service predicts, and from what."""

    classes: list[str]
    bands: int = Field(description="Of an image.")
    numbers: list[str] = Field(description="Beside an image: number_NAME=... in each question.")
    metric: str | None = Field(description="That its decision was tuned for.")
    fingerprint: str = Field(description="Of the dataset it was trained on.")


REFUSALS: dict[int, str] = {
    401: "The token is missing or wrong.",
    408: "The upload did not end in time.",
    413: "Too many bytes or pixels.",
    415: "A form, where the file itself is to be the body.",
    422: "The question is none, or the upload is no image that the model can see.",
    429: "Busy: come again after the seconds that Retry-After says.",
    503: "Not answered in time.",
}


def make_app(bundle: Bundle, limits: Limits, token: str | None = None, backend: Backend = TORCH) -> FastAPI:
    """The service as an ASGI application, its networks run by a backend that was chosen for the bundle. With a token,
    all but `/health`, `/ready` and the OpenAPI document ask for it."""
    metrics = Metrics(backend.name)
    room = Room(limits)
    predictions = Predictions(bundle, limits, metrics, backend.calls)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with predictions.running():
            yield

    bearer = HTTPBearer(auto_error=False, description="The token that the service was started with.")

    def authorised(given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> None:
        if token and not (given and secrets.compare_digest(given.credentials.encode(), token.encode())):
            raise RefusedError(401, "send the token of this service: 'Authorization: Bearer TOKEN'")

    guarded = [Depends(authorised)] if token else []
    app = FastAPI(
        title="segsmith",
        version=version("segsmith"),
        summary="Images and GeoTIFFs in, masks out.",
        lifespan=lifespan,
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
    )
    app.add_middleware(Draining, at_most=limits.upload_bytes)
    app.add_middleware(Measuring, metrics=metrics)

    @app.exception_handler(RefusedError)
    async def refused(_: Request, error: RefusedError) -> JSONResponse:
        headers = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": "1"}, 503: {"Retry-After": "5"}}
        return JSONResponse({"detail": error.why}, error.status, headers.get(error.status))

    @app.exception_handler(DataError)
    @app.exception_handler(ModelError)
    async def no_use(_: Request, error: DataError | ModelError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 422)

    @app.exception_handler(RequestValidationError)
    async def no_question(_: Request, error: RequestValidationError) -> JSONResponse:
        said = "; ".join(f"{found['loc'][-1]}: {found['msg']}" for found in error.errors())
        return JSONResponse({"detail": said}, 422)

    @app.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": "the service failed at this request; its log says how"}, 500)

    def told(*statuses: int) -> dict[int | str, dict[str, Any]]:
        wanted = (*statuses, *((401,) if token else ()))
        return {status: {"model": Refusal, "description": REFUSALS[status]} for status in sorted(wanted)}

    image_question, raster_question = _questions(bundle)

    async def answer(request: Request, asked: Any, raster: bool) -> Response:
        until = asyncio.get_running_loop().time() + limits.seconds
        extra = predictions.extra([getattr(asked, f"number_{place}") for place in range(len(bundle.extra))])
        with room.place() as place:
            metrics.at_once.inc()
            try:
                content = await read_body(request.stream(), dict(request.headers), limits, place, until)
                async with asyncio.timeout_at(until):
                    if raster:
                        question = RasterQuestion(asked.answer, asked.scale, asked.square)
                        found = await predictions.raster(content, question, extra, place)
                    else:
                        found = await predictions.image(content, extra, place)
                    return await predictions.in_thread(lambda: _response(found, asked))
            except TimeoutError:
                raise RefusedError(503, f"not answered within {limits.seconds:g} s; come again, or send less") from None
            finally:
                metrics.at_once.dec()

    def _response(found: bytes | Masked, asked: Any) -> Response:
        if isinstance(found, bytes):
            return Response(found, media_type="application/geo+json" if asked.answer == "geojson" else "image/tiff")
        if asked.answer == "png":
            return Response(png_answer(found, bundle, asked.of_class), media_type="image/png")
        runs = runs_answer(found, bundle.layout, bundle.classes, asked.of_class)
        return Response(runs.model_dump_json(), media_type="application/json")

    def answers(*kinds: str) -> dict[int | str, dict[str, Any]]:
        content = {kind: {"schema": {"type": "object"}} if "json" in kind else BINARY for kind in kinds}
        ok = {200: {"model": MaskRuns, "description": "The mask.", "content": content}}
        return ok | told(408, 413, 415, 422, 429, 503)

    def body(*kinds: str) -> dict[str, Any]:
        return {"requestBody": {"required": True, "content": dict.fromkeys(kinds, BINARY)}}

    @app.post(
        "/predict/image",
        response_class=Response,
        responses=answers("image/png"),
        openapi_extra=body(*IMAGE_TYPES),
        dependencies=guarded,
        summary="An image -> its mask, as run lengths or PNG.",
    )
    async def predict_image(request: Request, asked: Annotated[image_question, Query()]) -> Response:  # type: ignore[valid-type]
        """The body is the image file itself; what it is called, and as which type it is sent, does not matter."""
        return await answer(request, asked, raster=False)

    @app.post(
        "/predict/raster",
        response_class=Response,
        responses=answers("application/geo+json", "image/tiff", "image/png"),
        openapi_extra=body("image/tiff"),
        dependencies=guarded,
        summary="A GeoTIFF -> its objects as GeoJSON, or its mask as GeoTIFF, run lengths or PNG.",
    )
    async def predict_raster(request: Request, asked: Annotated[raster_question, Query()]) -> Response:  # type: ignore[valid-type]
        """The body is the file itself. Bands may be of 8 or 16 bits or floats; its resolution is brought to the
        model's."""
        return await answer(request, asked, raster=True)

    @app.get("/model", responses=told(), dependencies=guarded, summary="What the model sees and finds.")
    async def model() -> Model:
        return Model(
            classes=list(bundle.classes),
            bands=len(bundle.mean) - len(bundle.extra),
            numbers=list(bundle.recipe.data.extra),
            metric=bundle.decision.metric,
            fingerprint=bundle.fingerprint,
        )

    @app.get("/health", summary="Whether the process lives.")
    async def health() -> State:
        return State(state="alive")

    @app.get("/ready", responses={503: {"model": State, "description": "Not yet."}}, summary="Whether it predicts.")
    async def ready(response: Response) -> State:
        response.status_code = 200 if predictions.ready else 503
        return State(state="ready" if predictions.ready else "starting")

    @app.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **told()},
        dependencies=guarded,
        summary="Counts for Prometheus.",
    )
    async def metrics_text() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    return app


def _questions(bundle: Bundle) -> tuple[type[BaseModel], type[BaseModel]]:
    """What may be asked of an image and of a raster: with the classes, and the numbers beside an image, of a bundle.
    Anything else is refused, so that a question with a slip does not get the answer to another one."""
    strict = ConfigDict(extra="forbid")
    chosen: Any = Literal[bundle.classes]
    fields: dict[str, Any] = {
        "of_class": (chosen | None, Field(None, alias="class", description="Of a PNG of several; all of run lengths.")),
    }
    for place, name in enumerate(bundle.recipe.data.extra):
        fields[f"number_{place}"] = (
            float,
            Field(alias=f"number_{name}", allow_inf_nan=False, description=f"The image's {name}."),
        )
    image_answer: Any = Literal["runs", "png"]
    image = create_model(
        "ImageQuestion", __config__=strict, answer=(image_answer, Field("runs", description="Its form.")), **fields
    )
    raster = create_model(
        "RasterQuestion",
        __config__=strict,
        answer=(RasterAnswer, Field("geojson", description="Its form.")),
        scale=(
            float | None,
            Field(
                None, ge=LEAST_SCALE, le=100, description="Enlargement, in place of what its metres a pixel ask for."
            ),
        ),
        square=(bool, Field(False, description="Give polygons right angles, as buildings have.")),
        **fields,
    )
    return image, raster
