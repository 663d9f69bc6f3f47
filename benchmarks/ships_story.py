"""Claim: the ships system's story on made ships: how Dice goes with the share of empty images in a batch, and the loss.

The original saw Dice 0.474, 0.490, 0.537, 0.539 at shares of 0.25, 0.15, 0.10, 0.00 of empty images (of the images it
validated on, all of them filled), and 0.539 with Dice, 0.759 with focal, 0.001 with Lovasz, 0.821 with binary
cross-entropy after 5 epochs. Each row is one training of five epochs, `ships-demo` otherwise; scores are those of the
validation fold at the best threshold of all its images, empty ones included.

    python benchmarks/ships_story.py FOLDER
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd

from segsmith.data.scenes import make_ships
from segsmith.eda.inspect import inspect
from segsmith.modeling.train import train
from segsmith.recipe_files import load_recipe

EMPTY_SHARES = (0.65, 0.25, 0.15, 0.10, 0.0)
LOSSES = ("dice", "focal", "lovasz", "bce")
SEEDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where images and runs are written; a second call goes on there")
    folder = parser.parse_args().folder
    if not (folder / "dataset").exists():
        make_ships(folder / "raw", train_images=600, test_images=4, size=128, seed=3)
        inspect(folder / "raw", folder / "dataset", audit=False)
    print(f"{'loss':8s} {'empty':>6s}  {'Dice':>15s}  {'with ships':>15s}  {'empty images':>15s}  threshold  minutes")
    for loss, empty in [("focal", share) for share in EMPTY_SHARES] + [(name, 0.10) for name in LOSSES]:
        began = time.perf_counter()
        last = pd.DataFrame([_trained(folder, loss, empty, seed) for seed in range(SEEDS)])
        minutes = (time.perf_counter() - began) / 60
        shown = [
            f"{last[name].mean():.3f} ({last[name].min():.3f}-{last[name].max():.3f})"
            for name in ("mean_dice", "dice_foreground", "dice_empty")
        ]
        threshold = f"{np.median(last['threshold']):9.2f}"
        print(f"{loss:8s} {empty:6.2f}  {'  '.join(shown)}  {threshold}  {minutes:7.1f}", flush=True)


def _trained(folder: Path, loss: str, empty: float, seed: int) -> "pd.Series[float]":
    """The last epoch of one training."""
    mix = f"{{empty: {empty}, single: {0.6 * (1 - empty):.3f}, multi: {0.4 * (1 - empty):.3f}}}"
    options = [
        f"seed={seed}",
        "folds.held_out=null",
        "data.input_hw=[128,128]",
        "train.stages.0.epochs=5",
        "train.stages.0.images_per_epoch=800",
    ]
    options += [f"train.stages.0.mix={mix}", f"train.stages.0.loss={{{loss}: 1}}", "train.workers=0"]
    run = folder / "runs" / f"{loss}-{empty}-{seed}"
    train(folder / "dataset", load_recipe("ships-demo", options), run)
    return pd.read_csv(run / "metrics.csv").iloc[-1]


if __name__ == "__main__":
    main()
