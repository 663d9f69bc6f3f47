"""Claim: of 200 copies planted among 800 pictures of steel - flipped, turned, shifted by 5 %, re-compressed - at least
99 % are grouped with their original; pairs of different pictures are listed, for the eye to judge.

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

from segsmith.audit.duplicates import find_duplicates
from segsmith.audit.fitting import symmetric
from segsmith.audit.groups import make_groups
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
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(60, 86))] if copy.endswith("jpg") else []
        cv2.imwrite(str(raw / "train_images" / copy), altered(picture, kind, rng), quality)
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
        of = dict(zip(names, make_groups(dataset, found).group.tolist(), strict=True))
        for kind in KINDS:
            of_kind = [copy for copy, (_, made) in planted.items() if made == kind]
            print(f"  {kind}: {sum(of[copy] == of[planted[copy][0]] for copy in of_kind)} of {len(of_kind)}")
        grouped = sum(of[copy] == of[name] for copy, (name, _) in planted.items())
        print(f"{grouped / len(planted):.1%} of {len(planted)} planted copies grouped (at least 99 %)")
        # The set itself holds shifted crops and pasted defects: whether other pairs are false, only the eye can say.
        source = [planted[name][0] if name in planted else name for name in names]
        own = [pair for pair in found.pairs if source[pair.first] != source[pair.second]]
        print(f"{len(own)} pairs of different pictures, to be looked at; the least similar:")
        for pair in sorted(own, key=lambda pair: pair.fit.similarity)[:20]:
            print(f"  {pair.fit.similarity:.2f} {names[pair.first]} {names[pair.second]} {pair.kind}")


if __name__ == "__main__":
    main()
