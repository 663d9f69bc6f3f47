"""`segsmith serve`: a bundle's networks, listening, until a signal ends them after the last answer."""

import signal
import socket
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from segsmith.errors import ModelError, RunError
from segsmith.modeling.bundle import Bundle
from segsmith.service.limits import Limits

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(
    bundle: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    limits: Limits | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Answer requests by a bundle file, or that of a run folder, until SIGINT or SIGTERM; then requests in flight are
    answered, and no further ones taken.

    `port` 0 takes a free one; `say` is told where the service listens. With a `token`, requests must carry it. Raises
    ModelError for a bundle that does not read and where an extra is not installed, RunError for an empty token and
    where the address cannot be listened at.
    """
    missing = [name for name in ("fastapi", "uvicorn", "prometheus_client") if find_spec(name) is None]
    if missing:
        raise ModelError(f"serve needs {' and '.join(missing)}, not installed here: pip install 'segsmith[serve]'")
    if token is not None and not token.strip():
        raise RunError("the token is empty, which would let everyone in; set SEGSMITH_TOKEN to one, or unset it")
    import uvicorn

    from segsmith.service.app import make_app

    limits = limits or Limits()
    opened = Bundle.read(bundle / "bundle.safetensors" if bundle.is_dir() else bundle)
    app = make_app(opened, limits, token)
    with _listening(host, port) as listener:
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
            timeout_graceful_shutdown=int(limits.seconds) + 5,
        )
        if host not in LOOPBACK and not token:
            say(f"whoever reaches port {port} of this machine may use it: set SEGSMITH_TOKEN to ask for a token")
        say(f"{bundle} at http://{f'[{host}]' if ':' in host else host}:{port} (Ctrl-C ends it after the last answer)")
        before = signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it once more when all is answered
        try:
            uvicorn.Server(config).run(sockets=[listener])
        except KeyboardInterrupt:
            pass
        finally:
            signal.signal(signal.SIGTERM, before)
    say("ended; every request that was taken is answered")


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        raise RunError(f"{host}:{port}: cannot be listened at ({error}); choose another --host or --port") from None
