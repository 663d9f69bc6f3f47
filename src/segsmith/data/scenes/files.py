"""Rows and pixels -> files of made-up raw data; seed -> names and shares drawn by lot.

Every draw is a function of (seed, stream, number), never of what was drawn before it or of the number of threads.
"""

import csv
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

TRAIN, TEST, DEPTHS_ONLY, EMPTY, ORDER, NAMES, LABELS, REPEATS, NOISY = range(9)
"""Streams of a seed."""

_Done = TypeVar("_Done")


def in_threads(draw: Callable[[int], list[_Done]], numbers: Sequence[int]) -> list[_Done]:
    """What `draw` lists for each of the numbers, in their order, joined."""
    # OpenCV and NumPy let go of the interpreter's lock in the long loops.
    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        return [one for some in threads.map(draw, numbers) for one in some]


def write_image(
    path: Path, image: NDArray[np.uint8] | NDArray[np.uint16] | cv2.typing.MatLike, quality: int = 90
) -> None:
    """Grey, or blue green red, in the form of the suffix; `quality` is that of a JPEG."""
    _, data = cv2.imencode(path.suffix, image, (cv2.IMWRITE_JPEG_QUALITY, quality) if path.suffix == ".jpg" else ())
    path.write_bytes(data.tobytes())


def write_table(path: Path, header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    with path.open("w", newline="", encoding="ascii") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def hex_names(count: int, digits: int, seed: int, stream: int) -> list[str]:
    """`count` hexadecimal names that look drawn by lot; none occurs twice in all the streams of a seed."""
    bits = 4 * digits
    keep = np.uint64(2**bits - 1)
    odd = np.random.default_rng([seed, NAMES]).integers(0, 2**bits, 2, np.uint64) | np.uint64(1)
    # The stream takes the upper four bits; products with odd numbers and folded shifts map one to one.
    number = np.arange(count, dtype=np.uint64) + np.uint64(stream * 2 ** (bits - 4) + 1)
    for factor in odd:
        number = number * factor & keep
        number ^= number >> np.uint64(bits // 2)
    return [f"{n:0{digits}x}" for n in number.tolist()]


def spread(count: int, share: float, seed: int, stream: int, block: int) -> NDArray[np.bool_]:
    """True for exactly round(share * count) of `count` places, evenly over the blocks, by lot within a block."""
    chosen = np.zeros(count, bool)
    for start in range(0, count, block):
        end = min(start + block, count)
        lots = np.random.default_rng([seed, EMPTY, stream, start // block]).random(block)[: end - start]
        chosen[start + np.argsort(lots)[: round(share * end) - round(share * start)]] = True
    return chosen
