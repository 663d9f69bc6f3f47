"""Claim: from a JPEG of 768 x 768 pixels and run lengths to an augmented sample of 256 x 256, per core, samples are
made twice as fast as the ships system made them from raw files, and 15 times as fast from the cache.

    python benchmarks/feeding.py [RAW] [--rounds N] [--libraries FOLDER]

RAW is a folder of the ships contest; images in that form are made where none is given. The other side is written as
that system was: OpenCV decodes, colours are swapped to RGB, a mask of full size is filled run by run for each ship,
both are resized, and albumentations changes them. It is no dependency: --libraries names a folder that it was
installed into, and where it is not found, samples that are not changed are all that is compared. The lists of changes
are none; flip, affine and colour as recipe `ships` has them; and all that the system tried, each with probability 0.5.
Normalising and putting batches together is left out on both sides. Processor time of one thread, in turns of all
images, so that a busy machine disturbs little; medians, and means, in which changes that are rare and slow count.
"""

import argparse
import csv
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torchvision.io  # noqa: F401 (as every training does: it then decodes JPEG)

from segsmith import recipe
from segsmith.data.ingest_rle import ingest
from segsmith.data.scenes import make_ships
from segsmith.samples.cache import SampleCache
from segsmith.samples.chips import cut
from segsmith.samples.sampling import plan_epochs
from segsmith.samples.stage_samples import StageSamples

SIDE, INPUT = 768, 256
LISTS: dict[str, dict[str, float]] = {
    "no changes": {"hflip": 0},
    "flip, affine, colour": {"affine": 0.5, "shift": 0.1, "scale": 0.2, "rotate": 45, "colour": 0.5, "gamma": 0},
    "the whole list": {
        "hflip": 0, "affine": 0.5, "shift": 0.1, "scale": 0.2, "rotate": 45, "blur": 0.5, "elastic": 0.5, "noise": 0.5,
        "cutout": 0.5, "cutout_size": 1 / 16, "colour": 0.5, "gamma": 0, "hue": 0.2, "saturation": 0.1, "optical": 0.5,
    },
}  # fmt: skip
Pair = tuple[np.ndarray, np.ndarray]


def original(raw: Path, name: str, texts: list[str], chain: Callable[..., dict[str, np.ndarray]]) -> Pair:
    """One sample as the system had it: each ship's runs one after the other, on pixels that are then turned over."""
    image = cv2.cvtColor(cv2.imread(str(raw / name)), cv2.COLOR_BGR2RGB)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for text in texts:
        if text and text != "0":
            numbers = text.split()
            starts, lengths = (np.asarray(half, dtype=int) for half in (numbers[0::2], numbers[1::2]))
            flat = np.zeros(SIDE * SIDE, np.uint8)
            for first, length in zip(starts - 1, lengths, strict=True):
                flat[first : first + length] = 1
            mask |= flat.reshape(SIDE, SIDE).T
    changed = chain(image=image, mask=mask)
    return changed["image"], changed["mask"]


def resized(image: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
    """What is left of the pipeline where nothing is changed."""
    hw = (INPUT, INPUT)
    return {"image": cv2.resize(image, hw), "mask": cv2.resize(mask, hw, interpolation=cv2.INTER_NEAREST)}


def pipeline(name: str) -> Callable[..., dict[str, np.ndarray]]:
    """The same changes by albumentations. Raises ImportError where it is not installed."""
    if name == "no changes":
        return resized
    import albumentations as A

    steps: list[Any] = [A.Resize(INPUT, INPUT)]
    affine = A.Affine(translate_percent=(-0.1, 0.1), scale=(0.8, 1.2), rotate=(-45, 45), p=0.5)
    if name == "the whole list":
        steps += [
            affine,
            A.GaussianBlur(blur_limit=(3, 5), p=0.5),
            A.ElasticTransform(alpha=120, sigma=6, p=0.5),
            A.GaussNoise(std_range=(10**0.5 / 255, 20**0.5 / 255), p=0.5),
            A.CoarseDropout((1, 1), (16, 16), (16, 16), p=0.5),
            A.ColorJitter((0.9, 1.1), (0.9, 1.1), (0.9, 1.1), (-0.2, 0.2), p=0.5),
            A.OpticalDistortion(distort_limit=0.5, p=0.5),
        ]
    else:
        steps += [A.HorizontalFlip(p=0.5), affine, A.RandomBrightnessContrast(0.1, 0.1, p=0.5)]
    return A.Compose(steps)  # type: ignore[no-any-return]


def measured(raw: Path, name: str, folder: Path, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each sample, the other side's, and ours from raw files and from the cache."""
    dataset, chain = ingest(raw), pipeline(name)
    chips = cut(dataset, recipe.Data(input_hw=(INPUT, INPUT)))
    stage = recipe.Stage(augment=recipe.Augment(**LISTS[name]))
    labelled = dataset.labelled.tolist()
    plan = plan_epochs(labelled, chips.strata(), 0, stage, 1, 0)
    texts: dict[str, list[str]] = {}
    with next(raw.glob("train*.csv")).open() as lines:
        for row in csv.DictReader(lines):
            texts.setdefault(row["ImageId"], []).append(row["EncodedPixels"])
    from_raw = StageSamples(chips, stage, plan)
    from_cache = StageSamples(chips, stage, plan, SampleCache.open(chips, chips.options, folder, print))
    paths, ids = list(dataset.images["path"]), list(dataset.images["image_id"])
    sides: dict[str, Callable[[int, int, int], Any]] = {
        "original": lambda epoch, place, chip: original(raw, paths[chip], texts[ids[chip]], chain),
        "raw": lambda epoch, place, chip: from_raw.sample((epoch, place, chip)),
        "cache": lambda epoch, place, chip: from_cache.sample((epoch, place, chip)),
    }
    times: dict[str, list[float]] = {side: [] for side in sides}
    for epoch in range(rounds + 1):  # the first round, in which the cache is filled, does not count
        for side, make in sides.items():
            for place, chip in enumerate(labelled):
                began = time.thread_time()
                make(epoch, place, chip)
                if epoch:
                    times[side].append(1e3 * (time.thread_time() - began))
    for place, chip in enumerate(labelled):
        assert (sides["raw"](0, place, chip).image == sides["cache"](0, place, chip).image).all()
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("raw", type=Path, nargs="?", help="folder of the ships contest; images are made without one")
    parser.add_argument("--rounds", type=int, default=20, help="how often each image is read")
    parser.add_argument("--libraries", type=Path, help="folder that albumentations was installed into")
    arguments = parser.parse_args()
    if arguments.libraries:
        sys.path.append(str(arguments.libraries))
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask the network for a newer version
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        raw = arguments.raw
        if raw is None:
            raw = Path(folder) / "raw"
            make_ships(raw, train_images=24, test_images=0, size=SIDE)
        for name in LISTS:
            try:
                times = measured(raw, name, Path(folder) / "cache", arguments.rounds)
            except ImportError:
                print(f"{name}: albumentations is not installed, so there is nothing to compare with")
                continue
            for figure in (np.median, np.mean):
                original_ms, raw_ms, cache_ms = (float(figure(each)) for each in times.values())
                print(
                    f"{name}, {figure.__name__}: original {original_ms:.2f} ms; from raw files {raw_ms:.2f} ms, "
                    f"{original_ms / raw_ms:.1f} times; from the cache {cache_ms:.2f} ms, "
                    f"{original_ms / cache_ms:.1f} times"
                )


if __name__ == "__main__":
    main()
