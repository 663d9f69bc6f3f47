"""Claim: flips, snapshots, folds and a tuned decision together beat the single network by at least 0.02 on images that
none of them saw, on the patches of the salt contest.

Small networks (U-Net on a ResNet of 0.2 million weights at 64 x 64, with a presence head), 3200 images each, from
random weights: four folds validate in turn, the fifth is held out. The score is the contest's, on the fifth, until
the step that decides at a threshold of 0.5. Each row is the one above with one thing more; below stands what else could
have been done. Intervals are over images (bootstrap); the gain is on the first row, image by image.

    python benchmarks/combining_salt.py FOLDER RUNS
"""

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from segsmith.decision.combine import combine
from segsmith.decision.decide import decide
from segsmith.decision.masks import decided_by
from segsmith.eda.inspect import inspect
from segsmith.modeling.bundle import Bundle, Decision
from segsmith.modeling.metrics import Counts, image_scores
from segsmith.modeling.run import Run
from segsmith.modeling.train import train
from segsmith.prediction.probabilities import Predictor, ProbabilityFiles, predict_chips
from segsmith.recipe_files import load_recipe, override, to_yaml
from segsmith.samples.chips import Chips

RECIPE = """
name: salt-combining
data: {classes: [salt], input_hw: [64, 64], fit: resize, normalise: measured}
folds: {stratify_by: coverage, held_out: 4, validation: all}
network:
  encoder: tu-test_resnet
  encoder_weights: null
  encoder_depth: 4
  decoder_channels: [48, 32, 24, 16]
  heads: {present: {kind: presence, weight: 0.1}}
train:
  batch_size: 8
  ema_decay: 0.99
  keep: snapshots
  gradient_clip: 5
  workers: 0
  stages:
    - epochs: 2
      images_per_epoch: 800
      loss: {bce: 1, dice: 1}
      optimizer: {name: adamw, lr: 2e-3}
      schedule: {name: onecycle, final: 0.1}
      augment: {hflip: 0.5, affine: 0.5, shift: 0.06, scale: 0.1, rotate: 8, colour: 0.5}
    - epochs: 2
      images_per_epoch: 800
      start_from: last
      loss: {bce: 0.1, lovasz: 0.9}
      optimizer: {name: adamw, lr: 1e-3}
      schedule: {name: cosine, warmup: 0, final: 0.01, cycles: 2}
      snapshots: true
      augment: {hflip: 0.5, affine: 0.5, shift: 0.06, scale: 0.1, rotate: 8, colour: 0.5}
decide: {metric: mean_iou_map}
"""
OTHER = ["data.input_hw=[80,80]", "folds.validation=0", "network.hypercolumn=true"]
"""What the run differs in that is combined with those of all folds, as one of them."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="raw folder of the salt contest")
    parser.add_argument("runs", type=Path, help="where runs are written; a second call goes on there")
    args = parser.parse_args()
    runs: Path = args.runs
    if not (runs / "dataset").exists():
        inspect(args.folder, runs / "dataset", audit=False)
    (runs / "recipe.yaml").write_text(RECIPE)
    recipe = load_recipe(runs / "recipe.yaml")
    folds = train(runs / "dataset", recipe, runs / "folds")
    train(runs / "dataset", override(recipe, OTHER), runs / "other")

    bundle, chips = Bundle.read(folds.bundle), folds.chips()
    of_fold = bundle.of_fold(0)
    last = replace(of_fold, members=of_fold.members[-1:])
    table = _Table(runs / "held-out", chips, folds.part(chips, "held_out"))
    table.add("one network", _predicting(last, "flips=none"), Decision())
    table.add("+ flips", last, Decision())
    table.add("+ snapshots", of_fold, Decision())
    table.add("+ folds", bundle, Decision())
    table.add("+ decide", bundle, decide(folds.folder))
    print("instead of the last row:", flush=True)
    for gate in ("none", "presence"):
        table.add(f"gate {gate}", bundle, decide(_deciding(folds, runs / f"gate-{gate}", f"gate={gate}").folder))
    for weights in (None, "fit"):
        to = runs / f"combined-{weights or 'equally'}"
        if not to.exists():
            print("weights", *combine([folds.folder, runs / "other"], to, weights=weights).weights)
        table.add(f"combined, {weights or 'equally'}", Bundle.read(Run(to).bundle), decide(to))
    print("instead of the fourth row:", flush=True)
    for average in ("geometric", "median"):
        table.add(average, _predicting(bundle, f"average={average}"), Decision())
    table.add("scales 0.75, 1, 1.25", _predicting(bundle, "scales=[0.75,1,1.25]"), Decision())


class _Table:
    """Scores bundles on the same images, each beside the first."""

    def __init__(self, folder: Path, chips: Chips, held_out: list[int]):
        self.folder, self.chips, self.held_out = folder, chips, held_out
        self.first: np.ndarray | None = None
        draws = np.random.default_rng(0)
        self.drawn = draws.integers(0, len(held_out), (2000, len(held_out)))
        print(f"{'':24s}{'score':>8s}  {'95 %':>17s}  {'gain':>8s}  {'95 %':>17s}", flush=True)

    def add(self, name: str, bundle: Bundle, decision: Decision) -> None:
        place = "+ folds" if name in ("+ decide", "gate none", "gate presence") else name  # the same probabilities
        files = ProbabilityFiles(self.folder / place / "probabilities", bundle.classes)
        predict_chips(Predictor(bundle), self.chips, self.held_out, files, name)
        scores = np.array([self._score(index, files, decision) for index in self.held_out])
        self.first = scores if self.first is None else self.first
        gain = "" if self.first is scores else self._interval(scores - self.first)
        print(f"{name:24s}{self._interval(scores)}  {gain}", flush=True)

    def _score(self, index: int, files: ProbabilityFiles, decision: Decision) -> float:
        chip, image_id = self.chips.read(index), self.chips.id(index)
        (mask,) = decided_by(decision, files.read(image_id), presence=files.presence(image_id))
        true = chip.mask[0] & chip.valid
        counts = Counts(*(np.array(pixels.sum()) for pixels in (mask & true, mask, true, chip.valid)))
        return float(image_scores("mean_iou_map", counts))

    def _interval(self, values: np.ndarray) -> str:
        low, high = np.percentile(values[self.drawn].mean(axis=1), [2.5, 97.5])
        return f"{values.mean():+8.4f}  {low:+8.4f} {high:+8.4f}"


def _predicting(bundle: Bundle, option: str) -> Bundle:
    return replace(bundle, recipe=override(bundle.recipe, [f"predict.{option}"]))


def _deciding(run: Run, to: Path, option: str) -> Run:
    """A copy of a run that decides otherwise."""
    if not to.exists():
        shutil.copytree(run.folder, to, ignore=shutil.ignore_patterns("folds", ".lock"))
        (to / "recipe.yaml").write_text(to_yaml(override(run.recipe(), [f"decide.{option}"])))
    return Run(to)


if __name__ == "__main__":
    main()
