"""Claim: three further heads (a mask by Dice, presence, scale) raise Jaccard on unseen ground by 0.05.

Two trainings of recipe `buildings` on real scenes of different resolution, from random weights, in what two slow cores
can carry: ResNet-18, chips of 128 x 128 at 0.3 m a pixel, 8 epochs; one with the recipe's heads, one with none of them.
Scored on blocks of ground that no training chip touches, each with its cross-fitted decision; the interval is of the
paired difference, by Bayesian bootstrap over chips.

    python benchmarks/buildings_heads.py FOLDER RUNS
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from segsmith.decision.decide import decide
from segsmith.decision.evaluate import evaluate
from segsmith.eda.inspect import inspect
from segsmith.modeling.train import train
from segsmith.recipe_files import load_recipe

OPTIONS = ["data.input_hw=[128,128]", "data.gsd_m=0.3", "data.sources={}", "folds.count=4", "predict.flips=none"]
OPTIONS += ["network.encoder=resnet18", "network.encoder_weights=null", "network.drop_path=0"]
OPTIONS += ["train.workers=0", "train.stages.0.epochs=8"]
DRAWS = 4000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="scenes with footprints, an area in each folder (train_tier_1)")
    parser.add_argument("runs", type=Path, help="where runs are written; a second call goes on there")
    args = parser.parse_args()
    if not (args.runs / "dataset").exists():
        inspect(args.folder, args.runs / "dataset", audit=False)
    tables = {}
    for name, further in (("all heads", []), ("the mask alone", ["network.heads={}"])):
        run = args.runs / name.replace(" ", "-")
        train(args.runs / "dataset", load_recipe("buildings", [*OPTIONS, *further]), run)
        decide(run)
        tables[name] = evaluate(run).images.sort_values("image_id", ignore_index=True)
        print(f"{name:16s} Jaccard {_jaccard(tables[name], np.ones(len(tables[name]))):.4f}", flush=True)
    weights = np.random.default_rng(0).exponential(size=(DRAWS, len(tables["all heads"])))
    several, alone = ([_jaccard(table, drawn) for drawn in weights] for table in tables.values())
    gains = np.subtract(several, alone)
    low, high = np.percentile(gains, [2.5, 97.5])
    print(f"gain: 95 % interval {low:+.4f} to {high:+.4f}, above 0 in {np.mean(gains > 0):.0%} of draws")


def _jaccard(images: pd.DataFrame, weights: np.ndarray) -> float:
    union = images["predicted_pixels"] + images["true_pixels"] - images["right_pixels"]
    return float(weights @ images["right_pixels"] / (weights @ union))


if __name__ == "__main__":
    main()
