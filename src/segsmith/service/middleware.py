"""Around every request: count it, and take in what is left of its body before it is refused."""

import asyncio
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from segsmith.service.metrics import Metrics

PATHS = frozenset({"/predict/image", "/predict/raster", "/model", "/health", "/ready", "/metrics", "/openapi.json"})
DRAINED_S = 5.0


class Measuring:
    """Counts requests by path and status, and their seconds."""

    def __init__(self, app: ASGIApp, metrics: Metrics):
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noting)
        finally:
            path = scope["path"] if scope["path"] in PATHS else "other"
            self.metrics.requests.labels(path, status).inc()
            self.metrics.seconds.labels(path).observe(time.perf_counter() - began)


class Draining:
    """Before an answer begins, takes in and forgets the rest of a body that is refused, up to `at_most` bytes and
    DRAINED_S seconds: a client that is still sending when the connection closes is told of a broken connection, and
    never reads why."""

    def __init__(self, app: ASGIApp, at_most: int):
        self.app, self.at_most = app, at_most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        declared = headers.get(b"content-length", b"0")
        whole = b"expect" in headers or not declared.isdigit() or int(declared) > self.at_most
        seen = 0

        async def noting() -> Message:
            nonlocal whole, seen
            message = await receive()
            seen += len(message.get("body", b""))
            whole = whole or not message.get("more_body", False)
            return message

        async def draining(message: Message) -> None:
            if message["type"] == "http.response.start" and not whole:
                try:
                    async with asyncio.timeout(DRAINED_S):
                        while not whole and seen <= self.at_most:
                            await noting()
                except TimeoutError:
                    pass
            await send(message)

        await self.app(scope, noting, draining)
