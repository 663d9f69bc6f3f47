"""One command -> as many processes of it on this machine, which know of each other as torchrun's do."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

SECONDS_TO_END = 20.0
"""How long the others have to say what they have to say once a process ended in an error."""


def launch(arguments: Sequence[str], count: int) -> int:
    """Run `segsmith ARGUMENTS` in `count` processes of this machine that know of each other; the exit code of the one
    that failed first, or 0. When one fails, the others have some seconds to end by themselves."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared |= {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))}
    command = [sys.executable, "-m", "segsmith", *arguments]
    started = [
        subprocess.Popen(command, env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(count)
    ]
    try:
        return _first_failure(started)
    finally:
        for process in started:
            process.kill()


def _first_failure(started: list["subprocess.Popen[bytes]"]) -> int:
    """Wait for all of them."""
    failed, until = 0, float("inf")
    while any(process.poll() is None for process in started) and time.monotonic() < until:
        time.sleep(0.05)
        code = next((process.returncode for process in started if process.returncode), 0)
        if code and not failed:
            failed, until = code, time.monotonic() + SECONDS_TO_END
    failed = failed or next((process.returncode for process in started if process.returncode), 0)
    return failed if failed >= 0 else 128 - failed
