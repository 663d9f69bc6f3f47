"""A raw folder of made patches, well labelled, in which a test plants what is wrong."""

from pathlib import Path

import cv2
import numpy as np

from segsmith.data import rle

SIDE = 40
COUNT = 72


def picture(number: int) -> tuple[np.ndarray, np.ndarray]:
    """A bright slanted ellipse on darker, soft ground, and its mask; every fourth is without one."""
    draw = np.random.default_rng([7, number])
    grey = 90 + 12 * cv2.GaussianBlur(draw.normal(0, 6, (SIDE, SIDE)), (0, 0), 2) + draw.normal(0, 3, (SIDE, SIDE))
    mask = np.zeros((SIDE, SIDE), np.uint8)
    if number % 4:
        centre, axes = draw.integers([8, 20], [18, 32]), draw.integers([4, 7], [6, 11])
        cv2.ellipse(mask, (centre.tolist(), (2 * axes).tolist(), float(draw.integers(20, 70))), 1, -1)
        grey[mask > 0] += 80
    return np.clip(grey, 0, 255).astype(np.uint8), mask > 0


class Patches:
    """A raw folder of pictures; what a test changes is written before it is read."""

    def __init__(self, folder: Path, count: int = COUNT):
        self.folder = folder
        self.images: dict[str, np.ndarray] = {}
        self.masks: dict[str, np.ndarray] = {}
        for number in range(count):
            self.images[f"p{number:03}"], self.masks[f"p{number:03}"] = picture(number)
        self.levels = dict.fromkeys(self.masks, 255)

    def write(self) -> Path:
        for folder in ("train", "masks"):
            (self.folder / folder).mkdir(parents=True, exist_ok=True)
        rows = ["id,rle_mask"]
        for name, image in self.images.items():
            cv2.imwrite(str(self.folder / "train" / f"{name}.png"), image)
            cv2.imwrite(str(self.folder / "masks" / f"{name}.png"), self.masks[name] * np.uint8(self.levels[name]))
            rows.append(f"{name},{rle.to_text(rle.encode(self.masks[name]))}")
        (self.folder / "train.csv").write_text("\n".join(rows) + "\n")
        return self.folder
