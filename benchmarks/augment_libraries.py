"""Claim: the systems' whole list of changes to an image and its mask takes a fifth of the time of the fastest of
albumentations, torchvision and kornia, on one core, at 256 x 256 and 768 x 768 pixels, of 1 to 12 bands.

Every change comes with probability 0.5, in its own library's way: flip; shift, scale and rotation; elastic, grid and
optical distortion; brightness, contrast and gamma; blur; noise; a blanked square. torchvision and kornia have no grid
and no optical distortion, so they do less. Images come and go as arrays of bytes, masks of one class; kornia gets
batches of eight, as it is meant to, and tensors of floats already. Processor time of one thread, in turns; medians, and
means, in which changes that are rare and slow count. albumentations (2.0.8, the last under MIT) and kornia are no
dependencies: --libraries names folders that they were installed into, and one that is not found is left out.

    python benchmarks/augment_libraries.py [--samples 60] [--libraries FOLDER FOLDER]
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec

import cv2
import numpy as np
import torch

from segsmith import recipe
from segsmith.samples.augment import draw_change

OURS = recipe.Augment(
    hflip=0.5, affine=0.5, elastic=0.5, grid=0.5, optical=0.5, colour=0.5, blur=0.5, noise=0.5, cutout=0.5,
    cutout_size=1 / 16,
)  # fmt: skip
KORNIA_BATCH = 8
Change = Callable[[np.ndarray, np.ndarray, int], object]


def segsmith(side: int, bands: int) -> Change:
    def change(image: np.ndarray, mask: np.ndarray, seed: int) -> object:
        return draw_change(OURS, (side, side), np.random.default_rng(seed)).apply(image, mask[None], None, "reflect")

    return change


def albumentations(side: int, bands: int) -> Change:
    import albumentations as A

    square = (side // 16, side // 16)
    steps = A.Compose(
        [
            A.HorizontalFlip(p=0.5),
            A.Affine(translate_percent=(-0.1, 0.1), scale=(0.8, 1.2), rotate=(-45, 45), p=0.5),
            A.ElasticTransform(alpha=120, sigma=6, p=0.5),
            A.GridDistortion(p=0.5),
            A.OpticalDistortion(distort_limit=0.5, p=0.5),
            A.RandomBrightnessContrast(0.1, 0.1, p=0.5),
            A.RandomGamma((90, 110), p=0.5),
            A.GaussianBlur(blur_limit=(3, 5), p=0.5),
            A.GaussNoise(std_range=(0.0, 4 / 255), p=0.5),
            A.CoarseDropout((1, 1), square, square, p=0.5),
        ]
    )
    return lambda image, mask, seed: steps(image=image, mask=mask.view(np.uint8))


def torchvision(side: int, bands: int) -> Change:
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    jitter = [v2.ColorJitter(0.1, 0.1)] if bands in (1, 3) else []  # it knows images of one or three bands alone
    steps = v2.Compose(
        [
            v2.RandomHorizontalFlip(0.5),
            v2.RandomApply([v2.RandomAffine(45, (0.1, 0.1), (0.8, 1.2))], 0.5),
            v2.RandomApply([v2.ElasticTransform(120.0, 6.0)], 0.5),
            *(v2.RandomApply([one], 0.5) for one in jitter),
            v2.RandomApply([v2.GaussianBlur(5, (0.1, 1.0))], 0.5),
            v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
            v2.RandomApply([v2.GaussianNoise(sigma=4 / 255)], 0.5),
            v2.RandomErasing(0.5, (1 / 256, 1 / 256), (1, 1)),
            v2.ToDtype({tv_tensors.Image: torch.uint8, "others": None}, scale=True),
        ]
    )

    def change(image: np.ndarray, mask: np.ndarray, seed: int) -> object:
        planes = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        found = steps(tv_tensors.Image(planes), tv_tensors.Mask(torch.from_numpy(mask.view(np.uint8)[None])))
        return np.ascontiguousarray(found[0].numpy().transpose(1, 2, 0)), found[1].numpy()

    return change


def kornia_steps() -> Callable[[torch.Tensor, torch.Tensor], list[torch.Tensor]]:
    """Of images as floats in 0..1, and their masks."""
    import kornia.augmentation as K

    steps: Callable[[torch.Tensor, torch.Tensor], list[torch.Tensor]] = K.AugmentationSequential(
        K.RandomHorizontalFlip(p=0.5),
        K.RandomAffine(45.0, (0.1, 0.1), (0.8, 1.2), p=0.5),
        K.RandomElasticTransform((63, 63), (6.0, 6.0), (1.0, 1.0), p=0.5),
        K.RandomBrightness((0.9, 1.1), p=0.5),
        K.RandomContrast((0.9, 1.1), p=0.5),
        K.RandomGamma((0.9, 1.1), p=0.5),
        K.RandomGaussianBlur((5, 5), (0.1, 1.0), p=0.5),
        K.RandomGaussianNoise(std=4 / 255, p=0.5),
        K.RandomErasing((1 / 256, 1 / 256), (1.0, 1.0), p=0.5),
        data_keys=["input", "mask"],
    )
    return steps


def kornia(side: int, bands: int) -> Change:
    steps = kornia_steps()

    def change(image: np.ndarray, mask: np.ndarray, seed: int) -> object:
        planes = torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32) / 255)
        batch = planes.expand(KORNIA_BATCH, -1, -1, -1)
        return steps(batch, torch.from_numpy(mask.astype(np.float32)).expand(KORNIA_BATCH, 1, -1, -1))

    return change


SIDES = {"segsmith": segsmith, "albumentations": albumentations, "torchvision": torchvision, "kornia": kornia}


def measured(side: int, bands: int, samples: int, names: list[str]) -> dict[str, np.ndarray]:
    """Milliseconds of each sample, by library, in turns."""
    rng = np.random.default_rng(0)
    image = np.stack([cv2.GaussianBlur(rng.integers(0, 256, (side, side), np.uint8), (0, 0), 2)] * bands, axis=2)
    mask = cv2.GaussianBlur(rng.random((side, side)), (0, 0), 8) > 0.5
    changes = {name: SIDES[name](side, bands) for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    for seed in range(samples + 3):
        for name, change in changes.items():
            began = time.thread_time()
            change(image, mask, seed)
            took = 1e3 * (time.thread_time() - began)
            if seed >= 3:
                times[name].append(took / (KORNIA_BATCH if name == "kornia" else 1))
    return {name: np.array(of) for name, of in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=60)
    parser.add_argument("--libraries", nargs="*", default=[], help="folders that the others were installed into")
    args = parser.parse_args()
    sys.path.extend(args.libraries)
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask the network for a newer version
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    names = [name for name in SIDES if find_spec(name)]
    print(f"not installed: {', '.join(SIDES.keys() - set(names)) or 'none'}")
    for side in (256, 768):
        for bands in (1, 3, 12):
            found = measured(side, bands, args.samples, names)
            told = ", ".join(f"{name} {np.median(of):.2f} (mean {of.mean():.2f})" for name, of in found.items())
            ours = found.pop("segsmith")
            fastest = min(found, key=lambda name: np.median(found[name]))
            ratio, of_means = np.median(found[fastest]) / np.median(ours), found[fastest].mean() / ours.mean()
            print(f"{side} x {side}, {bands:2d} bands, ms: {told}; {fastest} {ratio:.1f} times (means {of_means:.1f})")


if __name__ == "__main__":
    main()
