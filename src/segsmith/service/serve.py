"""`segsmith serve`: a bundle's networks, listening, until a signal ends them after the last answer."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from segsmith.errors import ModelError, RunError
from segsmith.listening import LOOPBACK, listen
from segsmith.modeling.bundle import Bundle, bundle_file
from segsmith.prediction.backends import choose_backend
from segsmith.service.limits import Limits


def serve(
    bundle: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    backend: str = "auto",
    limits: Limits | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Answer requests by a bundle file, or that of a run folder, until SIGINT or SIGTERM; then requests in flight are
    answered, and no further ones taken.

    `port` 0 takes a free one; `say` is told where the service listens, and what runs the networks: `backend`
    (backends.py). With a `token`, requests must carry it. Raises ModelError for a bundle that does not read, for a
    backend that cannot be used and where an extra is not installed, RunError for an empty token and where the address
    cannot be listened at.
    """
    if find_spec("prometheus_client") is None:
        raise ModelError("serve needs prometheus_client, not installed here: pip install 'segsmith[serve]'")
    if token is not None and not token.strip():
        raise RunError("the token is empty, which would let everyone in; set SEGSMITH_TOKEN to one, or unset it")
    from segsmith.service.app import make_app

    limits = limits or Limits()
    file = bundle_file(bundle)
    opened = Bundle.read(file)
    chosen = choose_backend(file, opened, backend)

    def ready(address: str, port: int) -> None:
        if host not in LOOPBACK and not token:
            say(f"whoever reaches port {port} of this machine may use it: set SEGSMITH_TOKEN to ask for a token")
        say(f"{bundle} at {address} (Ctrl-C ends it after the last answer)")
        say(f"backend {chosen.name}: {chosen.why}")

    listen(make_app(opened, limits, token, chosen), host, port, answer_s=limits.seconds, ready=ready)
    say("ended; every request that was taken is answered")
