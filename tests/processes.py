"""Processes beside a test, and `segsmith ARGUMENTS` in one of them, that a test can kill at any moment.

They are forks of a server that has loaded the libraries and done nothing else. A fork of the test's own process would
hold what that has begun and cannot go on with: locks of threads that are gone, pools of runtimes, a browser's pipes.
"""

import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable
from itertools import count
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from signal import SIGKILL
from typing import Any

import cloudpickle

from segsmith.cli import main
from segsmith.modeling.run import Run

SERVER = multiprocessing.get_context("forkserver")
LOADED = ("modeling.train", "decision.decide", "delivery.predict_rasters")
SERVER.set_forkserver_preload([f"segsmith.{name}" for name in LOADED])


def begun(work: Callable[..., Any], *arguments: Any) -> ForkServerProcess:
    """A process that does `work`, a function of any kind. What a test has patched is as ever there."""
    process = SERVER.Process(target=_do, args=(cloudpickle.dumps(work), *arguments))
    process.start()
    return process


def _do(work: bytes, *arguments: Any) -> None:
    multiprocessing.set_start_method("fork", force=True)  # as a command begun by hand would have it here
    cloudpickle.loads(work)(*arguments)


def in_child(work: Callable[[], Any], kill_when: Callable[[], bool] | None = None) -> Any:
    """What `work` returns in a process of its own; its exit code if it does not live to return.

    The process gets SIGKILL as soon as `kill_when` says so.
    """
    receiver, sender = SERVER.Pipe(duplex=False)
    child = begun(lambda to: to.send(work()), sender)
    sender.close()
    while kill_when and child.is_alive():
        if kill_when():
            child.kill()
        time.sleep(0.01)
    try:
        found = receiver.recv()
    except EOFError:
        found = None
    child.join()
    return found if child.exitcode == 0 else child.exitcode


class Command:
    """`segsmith ARGUMENTS` in a process of its own; killed at its n-th write, or on a disk with little room."""

    def __init__(self, arguments: list[str], kill_at_write: int | None = None, largest_file: int | None = None):
        self.output, printed_to = SERVER.Pipe(duplex=False)
        self.process = begun(_run, arguments, printed_to, kill_at_write, largest_file)
        printed_to.close()

    def ended(self) -> int | None:
        """Its exit code, once it has ended, though its workers may live on; minus the signal that killed it."""
        began = time.monotonic()
        while self.process.exitcode is None and time.monotonic() - began < 300:
            time.sleep(0.005)
        return self.process.exitcode

    def end(self) -> None:
        """Kill it if it still lives, and let go of it."""
        self.process.kill()
        self.process.join()
        self.output.close()

    def printed(self) -> str:
        """What it said, on standard output and standard error."""
        os.set_blocking(self.output.fileno(), False)
        return os.read(self.output.fileno(), 2**16).decode()

    def wait_for_checkpoint(self, run: Run) -> None:
        """Return when it has written another checkpoint."""

        def checkpoint() -> int:
            return run.last.stat().st_ino if run.last.exists() else 0

        before, began = checkpoint(), time.monotonic()
        while checkpoint() == before:
            assert self.process.is_alive(), "it ended before it wrote a checkpoint"
            assert time.monotonic() - began < 300
            time.sleep(0.001)


def _run(arguments: list[str], printed_to: Connection, kill_at_write: int | None, largest_file: int | None) -> None:
    for stream in (1, 2):
        os.dup2(printed_to.fileno(), stream)
    sys.stdout = sys.stderr = os.fdopen(1, "w", buffering=1)
    if kill_at_write:
        writes, fsync = count(1), os.fsync
        os.fsync = lambda file: os.kill(os.getpid(), SIGKILL) if next(writes) == kill_at_write else fsync(file)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))
    sys.argv = ["segsmith", *arguments]
    main()
