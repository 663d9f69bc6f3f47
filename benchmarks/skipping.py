"""Claim: on made rasters of sea with few ships, `predict --skip` is three times as fast as without it, and loses at
most 5 % of the ships that are found without it.

A small network is trained for a minute or two on images of 128 x 128, and decided with `--skip-loss 0.05`. Rasters of
1024 x 1024 with one to ten ships each are then predicted with four flips, by turns in full and skipping. A ship is
found where the mask holds any of its pixels.

    python benchmarks/skipping.py FOLDER
    python benchmarks/skipping.py FOLDER --rasters 8 --turns 5 --loss 0.02 --look 1
"""

import argparse
import time
from pathlib import Path

import numpy as np
import rasterio

from segsmith.data.scenes import make_ships
from segsmith.data.scenes.ships import draw_scene
from segsmith.decision.decide import decide
from segsmith.delivery.predict_rasters import predict_rasters
from segsmith.eda.inspect import inspect
from segsmith.modeling.train import train
from segsmith.recipe_files import load_recipe

CHIP, IMAGES, RASTER = 128, 800, 1024
OPTIONS = [
    f"data.input_hw=[{CHIP},{CHIP}]",
    "folds.count=3",
    "folds.held_out=null",
    "network.encoder_depth=4",
    "network.decoder_channels=[48,32,24,16]",
    "train.stages.0.images_per_epoch=400",
    "train.workers=0",
    "decide.gate=none",
    "predict.flips=both",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where images and the run are written; a second call goes on there")
    parser.add_argument("--epochs", type=int, default=4, help="of 400 images")
    parser.add_argument("--loss", type=float, default=0.05)
    parser.add_argument("--look", type=float, default=0.5)
    parser.add_argument("--rasters", type=int, default=4)
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    folder = args.folder
    if not (folder / "dataset").exists():
        make_ships(folder / "raw", train_images=IMAGES, test_images=1, size=CHIP, seed=11)
        inspect(folder / "raw", folder / "dataset", audit=False)
    recipe = load_recipe("ships-demo", [*OPTIONS, f"train.stages.0.epochs={args.epochs}"])
    run = train(folder / "dataset", recipe, folder / f"run-{args.epochs}")
    decision = decide(run.folder, skip_loss=args.loss, look=args.look)
    print(f"{decision.metric} {decision.score:.3f} on the validation fold; {decision.skip}", flush=True)
    truths = [ship for number in range(args.rasters) for ship in _made(folder / f"rasters-{args.rasters}", number)]

    seconds: dict[bool, list[float]] = {False: [], True: []}
    found = {}
    for turn in range(args.turns):
        for skip in (False, True):
            out = folder / f"out-{'skipping' if skip else 'full'}"
            began = time.perf_counter()
            done = predict_rasters(run.bundle, folder / f"rasters-{args.rasters}", out, vectors=(), skip=skip)
            seconds[skip].append(time.perf_counter() - began)
            found[skip] = [_marks(out / "masks" / f"{number}.tif", ship) for number, ship in truths]
        print(f"turn {turn}: {seconds[False][-1]:.1f} s in full, {seconds[True][-1]:.1f} s skipping", flush=True)
    full, skipping = (np.array(found[skip]) for skip in (False, True))
    chips, skipped = sum(of.chips for of in done), sum(of.skipped for of in done)
    ratios = np.divide(seconds[False], seconds[True])
    print(f"{skipped} of {chips + skipped} chips skipped")
    print(f"{np.median(ratios):.2f} times as fast (turns {ratios.min():.2f} to {ratios.max():.2f})")
    print(f"of {len(truths)} ships {full.sum()} are found in full, of which {(full & ~skipping).sum()} are lost")


def _made(folder: Path, number: int) -> list[tuple[int, np.ndarray]]:
    """A raster with ships, the same one for a number; its number and mask for each ship."""
    image, ships = draw_scene(np.random.default_rng((12, number)), RASTER, empty=False)
    folder.mkdir(exist_ok=True)
    place = rasterio.transform.from_origin(500_000 + 10_000 * number, 5_000_000, 1.5, 1.5)
    with rasterio.open(
        folder / f"{number}.tif", "w", driver="GTiff", height=RASTER, width=RASTER, count=3, dtype="uint8",
        crs="EPSG:32631", transform=place,
    ) as file:  # fmt: skip
        file.write(image[:, :, ::-1].transpose(2, 0, 1))
    return [(number, ship) for ship in ships]


def _marks(mask: Path, ship: np.ndarray) -> bool:
    with rasterio.open(mask) as file:
        return bool((file.read(1)[ship] == 1).any())


if __name__ == "__main__":
    main()
