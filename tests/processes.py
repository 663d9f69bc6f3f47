"""`segsmith ARGUMENTS` in a process of its own, that a test can kill at any moment."""

import multiprocessing
import os
import resource
import sys
import threading
import time
from itertools import count
from signal import SIGKILL

from segsmith.cli import main
from segsmith.modeling.run import Run

FORKED = multiprocessing.get_context("fork")  # importing torch anew would take longer than all of these trainings


class Command:
    """`segsmith ARGUMENTS` in a process of its own; killed at its n-th write, or on a disk with little room."""

    def __init__(self, arguments: list[str], kill_at_write: int | None = None, largest_file: int | None = None):
        self.arguments, self.kill_at_write, self.largest_file = arguments, kill_at_write, largest_file
        self.output, self.printed_to = os.pipe()
        self.process = FORKED.Process(target=self.run)
        self.process.start()
        os.close(self.printed_to)

    def run(self) -> None:
        sys.stdout = sys.stderr = os.fdopen(self.printed_to, "w", buffering=1)
        os.dup2(self.printed_to, 1)
        os.dup2(self.printed_to, 2)
        if self.kill_at_write:
            writes, fsync = count(1), os.fsync
            os.fsync = lambda file: os.kill(os.getpid(), SIGKILL) if next(writes) == self.kill_at_write else fsync(file)
        if self.largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.largest_file, resource.RLIM_INFINITY))
        threading.excepthook = threading.__excepthook__  # pytest's would keep a thread's traceback to itself
        sys.argv = ["segsmith", *self.arguments]
        main()

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
        os.close(self.output)

    def printed(self) -> str:
        """What it said, on standard output and standard error."""
        os.set_blocking(self.output, False)
        return os.read(self.output, 2**16).decode()

    def wait_for_checkpoint(self, run: Run) -> None:
        """Return when it has written another checkpoint."""

        def checkpoint() -> int:
            return run.last.stat().st_ino if run.last.exists() else 0

        before, began = checkpoint(), time.monotonic()
        while checkpoint() == before:
            assert self.process.is_alive(), "it ended before it wrote a checkpoint"
            assert time.monotonic() - began < 300
            time.sleep(0.001)
