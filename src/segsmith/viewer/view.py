"""`segsmith view`: runs and predictions on a local web page, until a signal ends it."""

import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path

from segsmith.errors import RunError
from segsmith.listening import LOOPBACK, listen
from segsmith.viewer.app import make_viewer


def view(
    folders: Sequence[Path],
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    open_page: bool = True,
    say: Callable[[str], None] = print,
) -> None:
    """Show runs (folders that `train` wrote) and predictions of rasters (folders that `predict` wrote) until SIGINT or
    SIGTERM.

    `port` 0 takes a free one; `open_page` opens the browser of whoever sits at this machine. Raises RunError for a
    folder that is neither, and where the address cannot be listened at.
    """
    if host not in LOOPBACK:
        raise RunError(f"--host {host}: whoever reaches it could change labels; use ssh -L {port}:127.0.0.1:{port}")

    def ready(address: str, _: int) -> None:
        say(f"{', '.join(map(str, folders))} at {address} (Ctrl-C ends it)")
        if open_page:
            webbrowser.open(address)

    listen(make_viewer(folders), host, port, answer_s=5, ready=ready)
