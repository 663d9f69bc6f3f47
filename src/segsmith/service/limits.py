"""What a service takes on: how much of one request, and of all together. What is more is refused, not queued."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from segsmith.types import HW

MIB = 2**20


class RefusedError(Exception):
    """A request that is not answered with a mask: its HTTP status, and a sentence on why."""

    def __init__(self, status: int, why: str):
        super().__init__(why)
        self.status, self.why = status, why


@dataclass(frozen=True)
class Limits:
    """What a service takes on. What is over the limit of one request is refused for good (413), what is over that of
    all together for now (429)."""

    upload_mb: float = 32
    """MiB of one upload, as it comes."""
    pixels: int = 2**24
    """Of one image; of a raster also as the networks see it."""
    requests: int = 128
    """That are uploaded, wait or are predicted at once."""
    memory_mb: float = 1024
    """MiB that all of them may need, by an estimate from their uploads and pixels."""
    seconds: float = 60
    """From the beginning of a request to its answer."""
    gather_ms: float = 5
    """That an image waits at most for others to go through the networks with, while these are idle."""

    @property
    def upload_bytes(self) -> int:
        return int(self.upload_mb * MIB)

    def check_pixels(self, hw: HW, what: str) -> None:
        """Raise RefusedError (413) for more pixels than are taken on."""
        if hw[0] * hw[1] > self.pixels:
            raise RefusedError(413, f"{what} is {hw[0]:,} x {hw[1]:,} pixels, more than {self.pixels:,}; cut it")


class Room:
    """What is left of the limits of all requests together; for any number of threads."""

    def __init__(self, limits: Limits):
        self._lock = threading.Lock()
        self.requests = limits.requests
        self.bytes = self.all_bytes = int(limits.memory_mb * MIB)

    @contextmanager
    def place(self) -> Iterator["Place"]:
        """A place for one more request, given back when the block ends. Raises RefusedError (429) for none."""
        with self._lock:
            if not self.requests:
                raise RefusedError(429, "the service has as many requests as it takes at once; come again in a second")
            self.requests -= 1
        place = Place(self)
        try:
            yield place
        finally:
            with self._lock:
                self.requests += 1
                self.bytes += place.bytes
                place.given_back = True

    def take(self, place: "Place", more: int) -> None:
        with self._lock:
            if place.given_back:
                raise RefusedError(503, "the request is no longer waited for")
            if place.bytes + more > self.all_bytes:
                raise RefusedError(413, "needs more memory than the service may take; send a smaller one")
            if more > self.bytes:
                raise RefusedError(429, "the service holds as much as it may at once; come again in a second")
            self.bytes -= more
            place.bytes += more


@dataclass
class Place:
    """What a request holds of the room."""

    room: Room
    bytes: int = field(default=0, init=False)
    given_back: bool = field(default=False, init=False)

    def take(self, more: int) -> None:
        """Hold so many more bytes. Raises RefusedError: 413 where the room has never so many, 429 where not now."""
        self.room.take(self, more)
