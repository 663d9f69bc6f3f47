"""Claim: one composed map and one table are faster than the same changes as separate OpenCV calls, at 256 and at 768.

    python benchmarks/augment_chain.py [--samples N]

Both chains do flip, affine, grid, lens, elastic, brightness, contrast and gamma to the same image of three bands and
its mask of one class or eight, with the same draws, one thread, in turn. The separate chain is written as one would
by hand: a flip, a warpAffine, and a remap for each distortion, whose full-resolution map it builds; a smoothed field
of uniform numbers; a table for each change of levels. Drawing is counted in both.
"""

import argparse
import time

import cv2
import numpy as np

from segsmith import recipe
from segsmith.samples.augment import Change, draw_change
from segsmith.samples.colour import level_table
from segsmith.samples.warp import Elastic

OPTIONS = recipe.Augment(hflip=1, affine=1, elastic=1, grid=1, optical=1, colour=1)
Pair = tuple[np.ndarray, np.ndarray]


def remapped(image: np.ndarray, mask: np.ndarray, right: np.ndarray, down: np.ndarray) -> Pair:
    border = {"borderMode": cv2.BORDER_REFLECT_101}
    return (
        cv2.remap(image, right, down, cv2.INTER_LINEAR, **border),
        cv2.remap(mask, right, down, cv2.INTER_NEAREST, **border),
    )


def separately(change: Change, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Pair:
    """Image and mask, both (height, width, channels), after one call for each change."""
    warp, (height, width) = change.warp, image.shape[:2]
    assert warp is not None
    assert isinstance(warp.elastic, Elastic)
    assert warp.cells is not None
    image, mask = cv2.flip(image, 1), cv2.flip(mask, 1)
    border = {"borderMode": cv2.BORDER_REFLECT_101}
    image = cv2.warpAffine(image, warp.matrix[:2], (width, height), flags=cv2.INTER_LINEAR, **border)
    mask = cv2.warpAffine(mask, warp.matrix[:2], (width, height), flags=cv2.INTER_NEAREST, **border)

    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    field = [
        cv2.GaussianBlur(2 * rng.random((height, width), np.float32) - 1, (0, 0), warp.elastic.sigma) for _ in "xy"
    ]
    image, mask = remapped(image, mask, columns + field[0] * warp.elastic.alpha, rows + field[1] * warp.elastic.alpha)
    camera = np.array([[width, 0, (width - 1) / 2], [0, height, (height - 1) / 2], [0, 0, 1.0]])
    lens = np.array([warp.lens, warp.lens, 0, 0, 0])
    image, mask = remapped(
        image, mask, *cv2.initUndistortRectifyMap(camera, lens, None, camera, (width, height), cv2.CV_32FC1)
    )
    lines = []
    for cells, side in zip(warp.cells, (height, width), strict=True):
        lay = np.concatenate([[0], np.cumsum(cells)]) * (side / cells.sum())
        lines.append(np.interp(np.arange(side), np.linspace(0, side, len(lay)), lay).astype(np.float32))
    right, down = np.meshgrid(lines[1], lines[0])
    image, mask = remapped(image, mask, right, down)
    for gamma, contrast, brightness in ((1.05, 1.0, 0.0), (1.0, 1.05, 0.0), (1.0, 1.0, 0.05)):
        image = cv2.LUT(image, level_table(gamma, contrast, brightness))
    return image, mask


def measured(side: int, classes: int, samples: int) -> tuple[float, float]:
    """Median milliseconds a sample, at once and separately."""
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.integers(0, 256, (side, side, 3), np.uint8), (0, 0), 2)
    mask = rng.random((classes, side, side)) < 0.3
    planes = np.ascontiguousarray(mask.transpose(1, 2, 0)).view(np.uint8)
    at_once, apart = [], []
    for seed in range(samples + 3):
        began = time.perf_counter()
        draw_change(OPTIONS, (side, side), np.random.default_rng(seed)).apply(image, mask, None, "reflect")
        between = time.perf_counter()
        draws = np.random.default_rng(seed)
        separately(draw_change(OPTIONS, (side, side), draws), image, planes, draws)
        at_once.append(between - began)
        apart.append(time.perf_counter() - between)
    return 1e3 * float(np.median(at_once[3:])), 1e3 * float(np.median(apart[3:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=40, help="samples that the medians are taken of")
    samples = parser.parse_args().samples
    cv2.setNumThreads(1)
    for side in (256, 768):
        for classes in (1, 8):
            ours, separate = measured(side, classes, samples)
            print(
                f"{side} x {side}, {classes} class{'es' * (classes > 1)}: {ours:.2f} ms at once, "
                f"{separate:.2f} ms separately: {separate / ours:.1f} times"
            )


if __name__ == "__main__":
    main()
