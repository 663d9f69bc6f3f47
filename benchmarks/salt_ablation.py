"""Claim: what each trick of the salt contest is worth on its patches, from random weights, in little time.

One small network (U-Net on a ResNet of 0.2 million weights), patches resized to 64 x 64, the same images seen in every
training, one fold held out; every row changes one thing, but the last two, which are to be held against each other:
what a patch of 101 x 101 is made 112 x 112 by. The score is the contest's, with a decision tuned on other images than
the ones scored. The interval is of the mean over seeds (Student's t); the gain is against the first row, seed by seed.

    python benchmarks/salt_ablation.py FOLDER RUNS --seeds 3
"""

import argparse
from pathlib import Path

import numpy as np

from segsmith.decision.decide import decide
from segsmith.eda.inspect import inspect
from segsmith.modeling.train import train
from segsmith.recipe_files import load_recipe

# What a row changes -> overrides of the recipe below.
ONE = "train.stages.0."
TWO = "train.stages.1."
CHANGES: dict[str, list[str]] = {
    "as it is": [],
    "no attention": ["network.attention=null"],
    "cbam for scse": ["network.attention=cbam"],
    "hypercolumn": ["network.hypercolumn=true"],
    "deep supervision": ["network.heads={deep: {kind: deep, weight: 0.2, images: filled}}"],
    "presence head": ["network.heads={presence: {kind: presence, weight: 0.1}}"],
    "bce + dice to the end": [f"{TWO}loss={{bce: 1, dice: 1}}"],
    "lovasz as published": [f"{TWO}loss.lovasz_slope=relu"],
    "symmetric lovasz": [f"{TWO}loss.lovasz_symmetric=true"],
    "no averaging": ["train.ema_decay=null"],
    "flips alone": [f"{ONE}augment={{hflip: 0.5}}", f"{TWO}augment={{hflip: 0.5}}"],
    "first pooling removed": ["network.first_pool=false"],
    "resized to 112": ["data.input_hw=[112,112]"],
    "padded to 112": ["data.input_hw=[112,112]", "data.fit=pad"],
}
RECIPE = """
name: salt-ablation
data: {classes: [salt], input_hw: [64, 64], fit: resize, normalise: measured}
folds: {stratify_by: coverage}
network:
  encoder: tu-test_resnet
  encoder_weights: null
  encoder_depth: 4
  decoder_channels: [64, 48, 32, 16]
  attention: scse
train:
  batch_size: 8
  ema_decay: 0.99
  keep: last
  gradient_clip: 5
  workers: 0
  stages:
    - images_per_epoch: 2000
      loss: {bce: 1, dice: 1}
      optimizer: {name: adamw, lr: 2e-3}
      schedule: {name: onecycle, final: 0.1}
      augment: {hflip: 0.5, affine: 0.5, shift: 0.06, scale: 0.1, rotate: 8, colour: 0.5}
    - images_per_epoch: 2000
      start_from: last
      loss: {bce: 0.1, lovasz: 0.9}
      optimizer: {name: adamw, lr: 5e-4}
      schedule: {name: cosine, warmup: 0.05, final: 0.01}
      augment: {hflip: 0.5, affine: 0.5, shift: 0.06, scale: 0.1, rotate: 8, colour: 0.5}
decide: {metric: mean_iou_map}
"""
T_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}
"""Student's t for a 95 % interval of the mean of so many seeds."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="raw folder of the salt contest")
    parser.add_argument("runs", type=Path, help="where runs are written; a second call goes on there")
    parser.add_argument("--seeds", type=int, default=3, choices=sorted(T_95))
    parser.add_argument("--epochs", type=int, default=3, help="of 2000 images, in each of two stages")
    parser.add_argument("--only", nargs="*", default=list(CHANGES), choices=list(CHANGES), metavar="ROW")
    args = parser.parse_args()
    if not (args.runs / "dataset").exists():
        inspect(args.folder, args.runs / "dataset", audit=False)
    print(f"{'':24s}{'score':>8s}  {'95 % of the mean':>17s}  {'gain':>8s}  {'95 %':>17s}", flush=True)
    base: np.ndarray | None = None
    for name in args.only:
        scores = np.array([_score(args.runs, name, seed, args.epochs) for seed in range(args.seeds)])
        base = scores if base is None else base
        gains = scores - base
        print(f"{name:24s}{_interval(scores)}  {_interval(gains) if name != args.only[0] else ''}", flush=True)


def _interval(values: np.ndarray) -> str:
    half = T_95[len(values)] * values.std(ddof=1) / len(values) ** 0.5
    return f"{values.mean():+8.4f}  {values.mean() - half:+8.4f} {values.mean() + half:+8.4f}"


def _score(runs: Path, name: str, seed: int, epochs: int) -> float:
    run = runs / f"{name.replace(' ', '-')}-{seed}"
    train(runs / "dataset", load_recipe(_recipe(runs), [f"seed={seed}", *_epochs(epochs), *CHANGES[name]]), run)
    score = decide(run).cross_fitted_score
    assert score is not None
    return score


def _epochs(epochs: int) -> list[str]:
    return [f"{stage}epochs={epochs}" for stage in (ONE, TWO)]


def _recipe(runs: Path) -> Path:
    file = runs / "recipe.yaml"
    file.write_text(RECIPE)
    return file


if __name__ == "__main__":
    main()
