"""An ASGI application -> one that listens until a signal ends it, after the last answer."""

import signal
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from segsmith.errors import RunError

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def listen(app: ASGIApp, host: str, port: int, *, answer_s: float, ready: Callable[[str, int], None]) -> None:
    """Listen until SIGINT or SIGTERM; requests in flight are then given `answer_s` seconds to be answered.

    `port` 0 takes a free one; `ready` is called with the address of the root page and the port once connections are
    taken. Raises RunError where it cannot be listened at.
    """
    with _listener(host, port) as listener:
        port = listener.getsockname()[1]
        config = uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="on",
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=int(answer_s) + 5,
        )
        ready(f"http://{f'[{host}]' if ':' in host else host}:{port}", port)
        before = signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it once more when all is answered
        try:
            uvicorn.Server(config).run(sockets=[listener])
        except KeyboardInterrupt:
            pass
        finally:
            signal.signal(signal.SIGTERM, before)


def _listener(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        raise RunError(f"{host}:{port}: cannot be listened at ({error}); choose another --host or --port") from None
