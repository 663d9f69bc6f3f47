"""Claim: on a GPU, the systems' whole list of changes to a batch of images and masks takes less time than kornia's.

Both get a batch that lies on the device - ours as bytes, kornia as floats, which it needs - and do the same list as
augment_libraries.py, where kornia lacks grid and optical distortion. Ours is told twice: with all that workers do for
it (drawing, and the nodes of maps) in the same thread, and without, as it is in a training, where workers do that
beside. Images a second, medians of turns, and the device waited for in each. kornia is no dependency: --libraries names
the folder that it was installed into; without it, ours is told alone. By default on a GPU if there is one.

    python benchmarks/augment_on_device.py [--device cuda] [--batch 64] [--turns 30] [--libraries FOLDER]
"""

import argparse
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec

import cv2
import numpy as np
import torch
from augment_libraries import OURS, kornia_steps

from segsmith.samples.augment import draw_change
from segsmith.samples.batch_changes import BatchChanges, Pixels
from segsmith.samples.device_batches import on_device

WARM_UP = 3


def sides_of(device: torch.device, batch: int, side: int, bands: int) -> dict[str, Callable[[int], object]]:
    """What changes a batch, by name, given the number of the turn."""
    rng = np.random.default_rng(0)
    image = np.stack([cv2.GaussianBlur(rng.integers(0, 256, (side, side), np.uint8), (0, 0), 2)] * bands)
    mask = cv2.GaussianBlur(rng.random((side, side)), (0, 0), 8) > 0.5
    images = torch.from_numpy(image).to(device).expand(batch, -1, -1, -1).contiguous()
    masks = torch.from_numpy(mask.view(np.uint8)[None]).to(device).expand(batch, -1, -1, -1).contiguous()
    pixels, as_floats = Pixels(images, masks, None, None), (images.float() / 255, masks.float())

    def drawn(turn: int) -> BatchChanges:
        changes = [draw_change(OURS, (side, side), np.random.default_rng([turn, n])) for n in range(batch)]
        return BatchChanges.of(changes, (side, side))

    beforehand = [drawn(turn) for turn in range(8)]
    found: dict[str, Callable[[int], object]] = {
        "segsmith, drawing in turn": lambda turn: on_device(drawn(turn), device).apply(pixels, "reflect"),
        "segsmith, drawn by workers": lambda turn: on_device(beforehand[turn % 8], device).apply(pixels, "reflect"),
    }
    if find_spec("kornia"):
        steps = kornia_steps()
        found["kornia"] = lambda turn: steps(*as_floats)
    return found


def measured(changes: dict[str, Callable[[int], object]], device: torch.device, turns: int) -> dict[str, float]:
    """Median seconds of a batch, in turns."""
    times: dict[str, list[float]] = {name: [] for name in changes}
    for turn in range(WARM_UP + turns):
        for name, change in changes.items():
            began = time.perf_counter()
            change(turn)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times[name].append(time.perf_counter() - began)
    return {name: float(np.median(of[WARM_UP:])) for name, of in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 768])
    parser.add_argument("--bands", type=int, nargs="+", default=[1, 3, 12])
    parser.add_argument("--libraries", nargs="*", default=[], help="folders that kornia was installed into")
    args = parser.parse_args()
    sys.path.extend(args.libraries)
    device = torch.device(args.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    beside = "" if find_spec("kornia") else "; kornia is not installed"
    print(f"{name}, batches of {args.batch}, median of {args.turns} turns{beside}")
    for side in args.sides:
        for bands in args.bands:
            found = measured(sides_of(device, args.batch, side, bands), device, args.turns)
            told = ", ".join(f"{name} {args.batch / seconds:.0f}" for name, seconds in found.items())
            ratios = ""
            if "kornia" in found:
                ours = [found["kornia"] / found[name] for name in found if name != "kornia"]
                ratios = f"; {' and '.join(f'{ratio:.1f}' for ratio in ours)} times kornia"
            print(f"{side} x {side}, {bands:2d} bands, images/s: {told}{ratios}", flush=True)


if __name__ == "__main__":
    main()
