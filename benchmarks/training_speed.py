"""Claim: U-Net ResNet-18 trains on 256 x 256 samples of ships (JPEG of 768 x 768 and run lengths, decoded, augmented)
at four times the images a second of a script as practitioners write it, data included, with the same workers.

The other side is that script: OpenCV decodes, a mask of full size is filled run by run, albumentations resizes, flips,
moves and colours (where it is installed or `--libraries` names a folder with it; else both sides only flip), a
DataLoader of two workers, segmentation_models.pytorch in fp32, Adam, BCE. Ours is `segsmith train` as it comes, with
its cache of decoded samples. Each side trains by itself, in turns; images a second are those of all epochs but the
first, in which either side warms up. Medians and their ratio. Scores are not compared here.

    python benchmarks/training_speed.py [--turns 3] [--libraries FOLDER]
"""

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np

SIDE, INPUT, BATCH, WORKERS, EPOCHS = 768, 256, 16, 2, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--images", type=int, default=128, help="of an epoch")
    parser.add_argument("--libraries", type=Path, help="folder that albumentations was installed into")
    parser.add_argument("--plain", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.libraries:
        sys.path.append(str(args.libraries))
    if args.plain:
        print(json.dumps(plain(args.plain, chain())))
        return
    from segsmith.data.scenes import make_ships
    from segsmith.eda.inspect import inspect

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_ships(folder / "raw", train_images=args.images, test_images=1, size=SIDE)
        inspect(folder / "raw", folder / "dataset", audit=False)
        print(f"{args.images} images, {os.cpu_count()} processors; albumentations: {'yes' if has_chain() else 'no'}")
        found: dict[str, list[float]] = {"plain": [], "segsmith": []}
        for turn in range(args.turns):
            command = [sys.executable, __file__, "--plain", str(folder / "raw")]
            command += ["--libraries", str(args.libraries)] if args.libraries else []
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found["plain"].append(json.loads(out.splitlines()[-1]))
            found["segsmith"].append(ours(folder / "dataset", folder / f"run-{turn}", args.images))
            print(f"turn {turn + 1}: " + ", ".join(f"{side} {of[-1]:.1f} images/s" for side, of in found.items()))
    middle = {side: median(of) for side, of in found.items()}
    print(f"ratio of medians {middle['segsmith'] / middle['plain']:.2f} (claimed: 4)")


def ours(dataset: Path, run: Path, images: int) -> float:
    """Images a second of a training as the command does it."""
    changes = "{hflip: 0.5, affine: 0.5, shift: 0.1, scale: 0.2, rotate: 45, colour: 0.5}"
    options = [
        f"data.input_hw=[{INPUT},{INPUT}]", "network.encoder=resnet18", "network.encoder_weights=null",
        "network.encoder_depth=5", "network.decoder_channels=[256,128,64,32,16]", f"train.batch_size={BATCH}",
        f"train.workers={WORKERS}", "train.cache=true", "folds.count=8", "folds.held_out=null", "train.ema_decay=0",
        f"train.stages=[{{epochs: {EPOCHS}, images_per_epoch: {images}, loss: {{bce: 1}}, "
        f"augment: {changes if has_chain() else '{hflip: 0.5}'}}}]",
    ]  # fmt: skip
    subprocess.run(
        [sys.executable, "-m", "segsmith", "train", str(dataset), str(run), "-r", "ships-demo", *options],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    with (run / "metrics.csv").open() as lines:
        rows = list(csv.DictReader(lines))[1:]
    return sum(int(row["images"]) for row in rows) / sum(
        int(row["images"]) / float(row["images_per_second"]) for row in rows
    )


def has_chain() -> bool:
    try:
        import albumentations  # noqa: F401
    except ImportError:
        return False
    return True


def chain() -> Callable[..., dict[str, np.ndarray]]:
    """The changes of the script; without albumentations it resizes and flips."""
    if not has_chain():

        def flipped(image: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
            image, mask = cv2.resize(image, (INPUT, INPUT)), cv2.resize(mask, (INPUT, INPUT), interpolation=0)
            turned = random.random() < 0.5
            return {"image": image[:, ::-1] if turned else image, "mask": mask[:, ::-1] if turned else mask}

        return flipped
    import albumentations as A

    return A.Compose(  # type: ignore[no-any-return]
        [
            A.Resize(INPUT, INPUT),
            A.HorizontalFlip(p=0.5),
            A.Affine(translate_percent=(-0.1, 0.1), scale=(0.8, 1.2), rotate=(-45, 45), p=0.5),
            A.RandomBrightnessContrast(0.1, 0.1, p=0.5),
        ]
    )


def plain(raw: Path, change: Callable[..., dict[str, np.ndarray]]) -> float:
    """Images a second of the script."""
    import segmentation_models_pytorch as smp
    import torch
    from torch.utils.data import DataLoader, Dataset

    texts: dict[str, list[str]] = {}
    with next(raw.glob("train*.csv")).open() as lines:
        for row in csv.DictReader(lines):
            texts.setdefault(row["ImageId"], []).append(row["EncodedPixels"])
    paths = {path.name: path for path in raw.rglob("*.jpg")}
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])

    class Ships(Dataset[Any]):
        def __len__(self) -> int:
            return len(texts)

        def __getitem__(self, index: int) -> Any:
            name = list(texts)[index]
            image = cv2.cvtColor(cv2.imread(str(paths[name])), cv2.COLOR_BGR2RGB)
            flat = np.zeros(SIDE * SIDE, np.uint8)
            for text in texts[name]:
                numbers = np.asarray(text.split() if text and text != "0" else [], dtype=int)
                for first, length in zip(numbers[0::2] - 1, numbers[1::2], strict=True):
                    flat[first : first + length] = 1
            changed = change(image=image, mask=flat.reshape(SIDE, SIDE).T)
            scaled = ((changed["image"] / 255.0 - mean) / std).astype(np.float32)
            return torch.from_numpy(scaled.transpose(2, 0, 1).copy()), torch.from_numpy(
                changed["mask"][None].astype(np.float32)
            )

    loader = DataLoader(Ships(), BATCH, shuffle=True, num_workers=WORKERS, drop_last=True)
    model = smp.Unet("resnet18", encoder_weights=None, classes=1)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    loss_of = torch.nn.BCEWithLogitsLoss()
    images, began = 0, 0.0
    for epoch in range(EPOCHS):
        if epoch == 1:
            began = time.perf_counter()
        for batch, mask in loader:
            optimizer.zero_grad()
            loss_of(model(batch), mask).backward()
            optimizer.step()
            images += len(batch) if epoch else 0
    return images / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
