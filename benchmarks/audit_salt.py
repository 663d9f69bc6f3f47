"""Claim: 30 faults planted in a copy of the salt patches are all among the first 40 findings.

    python benchmarks/audit_salt.py RAW_FOLDER [--seed N]

RAW_FOLDER holds train.csv (id,rle_mask), train/images and train/masks. Each fault is planted in file and table alike,
on images drawn by the seed.
"""

import argparse
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from segsmith.audit.examine import examine
from segsmith.data import rle
from segsmith.data.ingest import ingest

SIDE = 101


class Planter:
    """A copy of the patches, and the images whose fault is planted in it."""

    def __init__(self, raw: Path, copy: Path, seed: int):
        shutil.copytree(raw, copy)
        self.raw = copy
        self.draw = np.random.default_rng(seed)
        self.table = pd.read_csv(copy / "train.csv", dtype=str, keep_default_na=False).set_index("id")["rle_mask"]
        self.planted: dict[str, str] = {}
        lengths = self.table.map(lambda text: sum(map(int, text.split()[1::2])))
        share = lengths / SIDE**2
        order = self.draw.permutation(len(self.table))
        self.any = list(self.table.index[order])
        self.sizeable = [i for i in self.any if 0.15 < share[i] < 0.7]

    def take(self, fault: str, sizeable: bool = False) -> str:
        """The next image without a fault, which now has this one."""
        image_id = next(i for i in (self.sizeable if sizeable else self.any) if i not in self.planted)
        self.planted[image_id] = fault
        return image_id

    def mask(self, image_id: str) -> np.ndarray:
        return rle.decode(rle.parse(self.table[image_id], (SIDE, SIDE)), (SIDE, SIDE))

    def set_mask(self, image_id: str, mask: np.ndarray) -> None:
        self.table[image_id] = rle.to_text(rle.encode(mask))
        level = np.uint16(65535) if mask.any() else np.uint8(0)
        cv2.imwrite(str(self.raw / "train/masks" / f"{image_id}.png"), mask * level)

    def set_image(self, image_id: str, grey: np.ndarray) -> None:
        pixels = np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
        cv2.imwrite(str(self.raw / "train/images" / f"{image_id}.png"), pixels)

    def plant(self) -> None:
        draw, shape = self.draw, (SIDE, SIDE)
        for _ in range(4):
            level = draw.integers(40, 220)
            self.set_image(self.take("uniform"), np.rint(level + draw.normal(0, 1, shape)))
        for _ in range(3):
            self.set_image(self.take("noise"), draw.integers(0, 256, shape))
        for _ in range(4):
            mask = np.zeros(shape, bool)
            top, left = draw.integers(5, 50, 2)
            height, width = draw.integers(20, 45, 2)
            mask[top : top + height, left : left + width] = True
            self.set_mask(self.take("rectangle"), mask)
        for _ in range(3):
            mask = np.zeros(shape, bool)
            left = draw.integers(5, 60)
            mask[:, left : left + draw.integers(3, 30)] = True
            self.set_mask(self.take("full columns"), mask)
        for _ in range(3):
            mask = np.zeros(shape, bool)
            mask[tuple(draw.integers(2, SIDE - 2, 2))] = True
            self.set_mask(self.take("single pixel"), mask)
        for _ in range(3):
            image_id = self.take("transposed", sizeable=True)
            self.set_mask(image_id, self.mask(image_id).T)
        one, other = self.take("swapped", sizeable=True), self.take("swapped", sizeable=True)
        first, second = self.mask(one), self.mask(other)
        self.set_mask(one, second)
        self.set_mask(other, first)
        for _ in range(3):
            file = self.raw / "train/images" / f"{self.take('truncated')}.png"
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        for _ in range(2):
            image_id = self.take("mask of 8 bits", sizeable=True)
            cv2.imwrite(str(self.raw / "train/masks" / f"{image_id}.png"), self.mask(image_id) * np.uint8(255))
        for _ in range(2):
            image_id = self.take("other size", sizeable=True)
            file = str(self.raw / "train/images" / f"{image_id}.png")
            mask = cv2.resize(self.mask(image_id).view(np.uint8), (128, 128), interpolation=cv2.INTER_NEAREST) > 0
            cv2.imwrite(file, cv2.resize(cv2.imread(file), (128, 128)))
            self.set_mask(image_id, mask)
        file = self.raw / "train/images" / f"{self.take('one band')}.png"
        cv2.imwrite(str(file), cv2.imread(str(file), cv2.IMREAD_GRAYSCALE))
        self.table.reset_index().to_csv(self.raw / "train.csv", index=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("raw", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        planter = Planter(arguments.raw, Path(folder, "raw"), arguments.seed)
        planter.plant()
        start = time.perf_counter()
        findings = examine(lambda out: ingest(planter.raw, exclude=out), ["undecodable"]).findings
        seconds = time.perf_counter() - start
    place: dict[str, int] = {}
    for number, found in enumerate(findings, start=1):
        place.setdefault(found.image_id, number)
    for image_id, fault in planter.planted.items():
        told = [f"{found.kind} {found.severity:.2f}" for found in findings if found.image_id == image_id]
        print(f"{fault:16} {image_id}  place {place.get(image_id, 'none')}  {'; '.join(told)}")
    for first in (30, 40, 60, 100):
        found_early = [i for i in planter.planted if place.get(i, len(findings) + 1) <= first]
        print(f"{len(found_early)} of {len(planter.planted)} planted faults among the first {first} findings")
    missed = Counter(fault for i, fault in planter.planted.items() if place.get(i, 10**9) > 40)
    print(f"not among the first 40: {dict(missed)}")
    others = Counter(found.kind for found in findings[:40] if found.image_id not in planter.planted)
    print(f"findings of images as they came, among the first 40: {dict(others)}")
    print(f"{len(findings)} findings in {seconds:.0f} s, of which indexing is a part")


if __name__ == "__main__":
    main()
