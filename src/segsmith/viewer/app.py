"""The viewer's HTTP side: its pages, what they may load, and who may ask."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles
from starlette.middleware.trustedhost import TrustedHostMiddleware

from segsmith.errors import SegsmithError
from segsmith.viewer.folders import recognised
from segsmith.viewer.review_routes import review_routes
from segsmith.viewer.run_routes import refusal, run_routes

PAGE = Path(__file__).parent / "page"
LOADS = "default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
"""No outside host, no script within a page: names of files and ids are never code."""


def make_viewer(folders: Sequence[Path]) -> FastAPI:
    """The viewer of some runs and predictions as an ASGI application, to be listened at on loopback alone. Raises
    RunError for a folder that is neither."""
    known = recognised(folders)
    app = FastAPI(title="segsmith view", docs_url=None, redoc_url=None, openapi_url=None)
    # another site's page can have its own name resolved to this machine, and then read what is answered
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]", "testserver"])

    @app.middleware("http")
    async def guarded(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        origin = request.headers.get("origin")
        if request.method not in ("GET", "HEAD") and origin and origin != str(request.base_url).rstrip("/"):
            return PlainTextResponse("only the viewer's own pages may change anything", 403)
        response = await answer(request)
        response.headers["Content-Security-Policy"] = LOADS
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    @app.get("/", include_in_schema=False)
    def root() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    @app.get("/api/folders")
    def folders_named() -> list[dict[str, object]]:
        return [{"number": of.number, "kind": of.kind, "name": of.name, "path": str(of.path)} for of in known]

    app.include_router(review_routes(known))
    app.include_router(run_routes(known))
    app.add_exception_handler(SegsmithError, lambda _, error: refusal(error))
    app.mount("/page", StaticFiles(directory=PAGE))
    return app
