"""Claim: of 200 copies planted among 800 pictures of steel - flipped, turned, shifted by 5 %, re-compressed - at least
99 % are grouped with their original, and less than 1 % of the groups join pictures that have nothing in common.

    python benchmarks/duplicates_steel.py STEEL_FOLDER

STEEL_FOLDER holds train_images/ and train.csv (ImageId,ClassId,EncodedPixels).
"""

import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from segsmith.data.duplicates import find_duplicates, symmetric
from segsmith.data.ingest_rle import ingest

KINDS = ("flip", "turn", "reflected shift", "black shift", "cropped shift", "jpeg", "all")
SHIFT = 0.05


def plant(steel: Path, raw: Path, seed: int = 0) -> dict[str, tuple[str, str]]:
    """Copy the pictures and 200 altered ones into `raw`; the name of each altered one -> its original and kind."""
    (raw / "train_images").mkdir(parents=True)
    table = pd.read_csv(steel / "train.csv")
    table[["ImageId", "EncodedPixels"]].to_csv(raw / "train.csv", index=False)
    names = sorted(table["ImageId"].unique())
    for name in names:
        (raw / "train_images" / name).write_bytes((steel / "train_images" / name).read_bytes())
    rng = np.random.default_rng(seed)
    planted = {}
    for number, name in enumerate(rng.choice(names, 200, replace=False).tolist()):
        kind = KINDS[number % len(KINDS)]
        picture = cv2.imread(str(steel / "train_images" / name), cv2.IMREAD_UNCHANGED)
        copy = f"planted_{number:03d}.{'jpg' if kind in ('jpeg', 'all') else 'png'}"
        cv2.imwrite(
            str(raw / "train_images" / copy),
            altered(picture, kind, rng),
            [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(60, 86))],
        )
        planted[copy] = (name, kind)
    return planted


def altered(picture: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
    """A flip, a quarter turn or more, a shift along both axes with one of three fillings, all of it together, or none
    (re-compressed on writing)."""
    if kind in ("flip", "all"):
        picture = symmetric(picture, int(rng.integers(4, 8)))
    if kind == "turn":
        picture = symmetric(picture, int(rng.integers(1, 4)))
    if kind == "cropped shift":
        down, right = (round(SHIFT * side) for side in picture.shape[:2])
        return picture[down:, right:]
    if "shift" in kind or kind == "all":
        height, width = picture.shape[:2]
        signs = rng.choice([-1, 1], 2)
        move = np.array([[1, 0, signs[0] * SHIFT * width], [0, 1, signs[1] * SHIFT * height]], np.float32)
        filling = cv2.BORDER_CONSTANT if kind == "black shift" else cv2.BORDER_REFLECT
        picture = cv2.warpAffine(picture, move, (width, height), borderMode=filling)
    return picture


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder, "raw")
        planted = plant(Path(sys.argv[1]), raw)
        dataset = ingest(raw)
        start = time.perf_counter()
        found = find_duplicates(dataset)
        print(f"{len(dataset)} pictures, {len(found.pairs)} pairs in {time.perf_counter() - start:.0f} s")
        names = [Path(path).name for path in dataset.images["path"]]
        np.save(
            "/tmp/w/twins/found.npy",
            np.array(
                [(names[p.first], names[p.second], p.kind, p.fit.similarity, p.labels_iou) for p in found.pairs],
                dtype=object,
            ),
            allow_pickle=True,
        )
        import pickle

        pickle.dump(planted, open("/tmp/w/twins/planted.pkl", "wb"))
        together = {frozenset((names[p.first], names[p.second])) for p in found.pairs}
        for kind in KINDS:
            of_kind = [n for n, (_, k) in planted.items() if k == kind]
            print(kind, sum(frozenset((n, planted[n][0])) in together for n in of_kind), "of", len(of_kind))


if __name__ == "__main__":
    main()
