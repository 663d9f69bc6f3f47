"""Claim: 18 000 masks are written and read back identically; run lengths are as fast as those of pycocotools.

    [PYTHONPATH=FOLDER_OF_PYCOCOTOOLS] python benchmarks/run_lengths.py [--images N] [--turns N]

The submission is that of the salt contest: made masks of 101 x 101 pixels, one row each, about four in ten of them
empty. It is read back as `segsmith predict` reads its own, and what was decoded is encoded again to the same bytes.

Times are medians over turns in which either library encodes and decodes the same made mask, one thread. Masks come
and go in the order of their rows, as images do; pycocotools wants them in that of columns, so turning them over is
counted on both sides, and its decoding is also told without. pycocotools is no part of the tool: where it is absent,
our own times stand alone.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from segsmith.data import rle
from segsmith.data.ingest_rle import LAYOUTS
from segsmith.delivery.submission import Key, MaskProofs, check_submission, mask_rows, read_rows, write_submission
from segsmith.types import HW, ClassMask

try:
    from pycocotools import mask as coco
except ImportError:
    coco = None

SALT: HW = (101, 101)
KINDS: dict[str, tuple[HW, float, float]] = {
    "ships": ((768, 768), 8, 0.005),
    "salt": (SALT, 8, 0.25),
    "steel": ((256, 1600), 8, 0.05),
}
"""Size, how smooth, and which share is foreground."""


def blobs(hw: HW, smooth: float, share: float, seed: int) -> ClassMask:
    field = cv2.GaussianBlur(np.random.default_rng(seed).standard_normal(hw), (0, 0), smooth)
    return np.asarray(field > np.quantile(field, 1 - share))


def salt_mask(seed: int) -> ClassMask:
    share = max(0.0, np.random.default_rng((seed, 1)).uniform(-0.4, 0.6))
    return blobs(SALT, 8, share, seed)


def megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def submission(images: int) -> None:
    layout = next(layout for layout in LAYOUTS if layout.columns == ["id", "rle_mask"])
    keys = [Key(f"{number:010x}") for number in range(images)]
    before, seconds = megabytes(), dict.fromkeys(("encoded", "written", "read back and compared"), 0.0)
    rows: dict[Key, list[str]] = {}
    proofs, empty = MaskProofs(), 0
    for seed, key in enumerate(keys):
        mask = salt_mask(seed)
        began = time.perf_counter()
        proofs.note(key, mask)
        rows[key] = mask_rows(mask, layout)
        seconds["encoded"] += time.perf_counter() - began
        empty += not mask.any()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "submission.csv"
        began = time.perf_counter()
        write_submission(path, layout, rows, keys)
        seconds["written"] = time.perf_counter() - began
        began = time.perf_counter()
        check_submission(path, layout, keys, dict.fromkeys((key.image_id for key in keys), SALT), proofs)
        seconds["read back and compared"] = time.perf_counter() - began
        peak = megabytes()
        found, problems = read_rows(path, layout)
        assert not problems
        again = {key: mask_rows(rle.decode(rle.parse(row.text, SALT), SALT), layout) for key, (row,) in found.items()}
        write_submission(Path(folder) / "again.csv", layout, again, list(found))
        assert (Path(folder) / "again.csv").read_bytes() == path.read_bytes()
        size = path.stat().st_size / 2**20
    told = ", ".join(f"{of:.1f} s {what}" for what, of in seconds.items())
    print(f"{images} images, {empty} empty, {size:.1f} MB: identical. {told}; peak {peak:.0f} MB, {before:.0f} before")


def in_turn(ways: dict[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Median microseconds of each way."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(turns):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            taken[name].append(time.perf_counter() - began)
    return {name: 1e6 * float(np.median(of[turns // 10 :])) for name, of in taken.items()}


def compared(name: str, hw: HW, smooth: float, share: float, turns: int) -> None:
    mask = blobs(hw, smooth, share, seed=0)
    runs = rle.encode(mask)
    assert (rle.decode(runs, hw) == mask).all()
    encoding: dict[str, Callable[[], object]] = {"ours": lambda: rle.encode(mask)}
    decoding: dict[str, Callable[[], object]] = {"ours": lambda: rle.decode(runs, hw)}
    if coco is not None:
        theirs = coco.encode(np.asfortranarray(mask.view(np.uint8)))
        assert (coco.decode(theirs) == mask).all()
        encoding["pycocotools"] = lambda: coco.encode(np.asfortranarray(mask.view(np.uint8)))
        decoding["pycocotools"] = lambda: np.ascontiguousarray(coco.decode(theirs))
        decoding["pycocotools, left in columns"] = lambda: coco.decode(theirs)
    for what, ways in (("encoded", encoding), ("decoded", decoding)):
        told = ", ".join(f"{way} {of:.0f} us" for way, of in in_turn(ways, turns).items())
        print(f"{name}, {hw[0]} x {hw[1]}, {len(runs)} runs, {what}: {told}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=18_000, help="rows of the submission")
    parser.add_argument("--turns", type=int, default=400, help="that the medians are taken of")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    submission(args.images)
    if coco is None:
        print("pycocotools is not installed, so nothing stands beside our times")
    for name, (hw, smooth, share) in KINDS.items():
        compared(name, hw, smooth, share, args.turns)


if __name__ == "__main__":
    main()
