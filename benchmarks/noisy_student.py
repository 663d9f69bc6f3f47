"""Claim: with 400 labelled patches of the salt contest and the rest unlabelled, one round of teacher and student gains
at least 0.02 on held-out images over a supervised training that sees as many images as both of them together.

Teacher, student and supervised model are one small network (U-Net on a ResNet of 0.2 million weights, 48 x 48). For
each seed other patches are labelled, other weights begun with; a fifth of the contest's labelled patches is held out,
the same ones for all seeds, and stands in no folder that anything is trained, tuned or labelled from. The score is the
contest's, with the decision that each run tuned on its own validation fold, a fifth of the labelled patches. To be
equal in compute, the supervised model also gets the images that labelling looks at, a view as a third of a training
image; to be equal in noise, its images are changed as the student's are. Intervals of a seed are over images, in pairs
(bootstrap); that of all seeds is of their mean (Student's t).

    python benchmarks/noisy_student.py FOLDER RUNS
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from segsmith.audit.folds import make_folds
from segsmith.data.dataset import Dataset
from segsmith.decision.decide import decide
from segsmith.decision.label import label
from segsmith.decision.masks import decided_by
from segsmith.eda.inspect import inspect
from segsmith.modeling.bundle import Bundle
from segsmith.modeling.metrics import Counts, image_scores
from segsmith.modeling.run import Run
from segsmith.modeling.train import train
from segsmith.prediction.probabilities import Predictor, ProbabilityFiles, predict_chips
from segsmith.recipe import Folds
from segsmith.recipe_files import load_recipe
from segsmith.samples.chips import cut

RECIPE = """
name: salt-student
data: {classes: [salt], input_hw: [48, 48], fit: resize, normalise: measured}
folds: {stratify_by: coverage}
network:
  encoder: tu-test_resnet
  encoder_weights: null
  encoder_depth: 4
  decoder_channels: [48, 32, 24, 16]
  attention: scse
train:
  batch_size: 16
  ema_decay: 0.99
  keep: last
  gradient_clip: 5
  workers: 0
  stages:
    - images_per_epoch: 500
      loss: {bce: 1, dice: 1}
      optimizer: {name: adamw, lr: 2e-3}
      schedule: {name: onecycle, final: 0.01}
      augment: {hflip: 0.5, affine: 0.5, shift: 0.06, scale: 0.1, rotate: 8, colour: 0.5}
decide: {metric: mean_iou_map}
"""
SOFT = ['train.stages.0.mix={"source:taught": 1, rest: 1}', "train.stages.0.loss={kl: 1, dice: 1}"]
"""What the student's first two thirds differ in from the supervised model: half of what it sees has soft labels."""
NOISE = (
    "{hflip: 0.5, affine: 0.8, shift: 0.1, scale: 0.2, rotate: 12, colour: 0.8, brightness: 0.2, contrast: 0.2, "
    "cutout: 0.5, cutout_size: 0.3}"
)
NOISIER = [f"train.stages.0.augment={NOISE}"]
"""What both differ in from the teacher: images are changed more."""
FINE = f"""
    - images_per_epoch: 500
      mix: {{"source:taught": 0, rest: 1}}
      loss: {{bce: 1, dice: 1}}
      optimizer: {{name: adamw, lr: 1e-3}}
      schedule: {{name: onecycle, final: 0.01}}
      start_from: last
      augment: {NOISE}
decide:"""
"""The student's last third: labelled images alone, as `segsmith teach` does it."""
SURE, AGREE = 0.8, 0.8
OF_LABELLING = 1 / 3
"""What a view that labelling looks at costs, in training images: a pass forward, and none back."""
T_95 = {1: np.nan, 2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="raw folder of the salt contest")
    parser.add_argument("runs", type=Path, help="where runs are written; a second call goes on there")
    parser.add_argument("--seeds", type=int, default=3, choices=sorted(T_95))
    parser.add_argument("--labelled", type=int, default=400, help="patches whose labels are known")
    parser.add_argument(
        "--images", type=int, default=8000, help="that the teacher is trained on; the student on three times as many"
    )
    parser.add_argument("--unlabelled", type=int, help="patches without labels, at the most")
    args = parser.parse_args()
    print(f"{'':8s}{'supervised':>12s}{'teacher':>12s}{'student':>12s}{'gain':>10s}  95 %", flush=True)
    gains = []
    for seed in range(args.seeds):
        data = _Data(args.folder, args.runs, seed, args.labelled, args.unlabelled)
        teacher, student, supervised = _trained(args.runs, seed, data, args.images)
        scores = {run.folder: data.scores(run) for run in (supervised, teacher, student)}
        gain = scores[student.folder] - scores[supervised.folder]
        drawn = np.random.default_rng(0).integers(0, len(gain), (2000, len(gain)))
        low, high = np.percentile(gain[drawn].mean(axis=1), [2.5, 97.5])
        told = "".join(f"{of_run.mean():12.4f}" for of_run in scores.values())
        print(f"seed {seed:<3d}{told}{gain.mean():+10.4f}  {low:+.4f} {high:+.4f}", flush=True)
        gains.append(gain.mean())
    half = T_95[len(gains)] * np.std(gains, ddof=1) / len(gains) ** 0.5 if len(gains) > 1 else np.nan
    mean = float(np.mean(gains))
    print(f"{'mean':44s}{mean:+10.4f}  {mean - half:+.4f} {mean + half:+.4f}", flush=True)


def _trained(runs: Path, seed: int, data: "_Data", images: int) -> tuple[Run, Run, Run]:
    """Teacher, student, and the supervised model that costs as much as both."""
    (runs / "recipe.yaml").write_text(RECIPE)
    (runs / "student.yaml").write_text(RECIPE.replace("\ndecide:", FINE))
    of_student = 3 * images
    recipe = load_recipe(runs / "recipe.yaml", [f"seed={seed}", _epochs(images)])
    teacher = train(data.dataset, recipe, runs / f"teacher-{seed}")
    decide(teacher.folder)
    taught = runs / f"taught-{seed}"
    if not taught.exists():
        found = label(teacher.folder, data.dataset, taught, sure=SURE, agree=AGREE)
        print(f"  {found.kept} of {len(found.table)} kept")
    parts = [_epochs(of_student * 2 // 3), _epochs(of_student // 3, stage=1)]
    softly = load_recipe(runs / "student.yaml", [f"seed={seed}", *parts, *NOISIER, *SOFT])
    student = train(taught, softly, runs / f"student-{seed}")
    decide(student.folder)
    looked_at = len(pd.read_csv(taught / "taught.csv")) * 2 * OF_LABELLING
    as_many = _epochs(images + of_student + round(looked_at))
    longer = load_recipe(runs / "recipe.yaml", [f"seed={seed}", as_many, *NOISIER])
    supervised = train(data.dataset, longer, runs / f"supervised-{seed}")
    decide(supervised.folder)
    return teacher, student, supervised


def _epochs(images: int, stage: int = 0) -> str:
    return f"train.stages.{stage}.epochs={max(1, round(images / 500))}"


class _Data:
    """What the runs of a seed learn from, and what they are scored on."""

    def __init__(self, folder: Path, runs: Path, seed: int, labelled: int, unlabelled: int | None):
        if not (runs / "all").exists():
            inspect(folder, runs / "all", audit=False)
        everything = Dataset.open(runs / "all")
        self.chips = cut(everything, load_recipe("salt").data)
        fold = make_folds(everything, Folds(stratify_by="coverage"), 0)
        self.held_out = np.flatnonzero(fold == 4).tolist()
        self.dataset = runs / f"dataset-{seed}"
        if not self.dataset.exists():
            order = np.random.default_rng(seed).permutation(np.flatnonzero((fold >= 0) & (fold != 4)))
            others = [*order[labelled:].tolist(), *np.flatnonzero(fold < 0).tolist()]
            self._link(runs / f"raw-{seed}", folder, everything, order[:labelled].tolist(), others[:unlabelled])
            inspect(runs / f"raw-{seed}", self.dataset, audit=False)

    def scores(self, run: Run) -> np.ndarray:
        """Of each patch that is held out."""
        bundle = Bundle.read(run.bundle)
        files = ProbabilityFiles(run.folder / "held-out" / "probabilities", bundle.classes)
        predict_chips(Predictor(bundle), self.chips, self.held_out, files, "held-out patches")
        return np.array([self._score(patch, files, bundle) for patch in self.held_out])

    def _score(self, patch: int, files: ProbabilityFiles, bundle: Bundle) -> float:
        (mask,), (true,) = decided_by(bundle.decision, files.read(self.chips.id(patch))), self.chips.read(patch).mask
        counts = Counts(*(np.array(pixels.sum()) for pixels in (mask & true, mask, true, np.ones_like(true))))
        return float(image_scores("mean_iou_map", counts))

    @staticmethod
    def _link(to: Path, folder: Path, everything: Dataset, labelled: list[int], unlabelled: list[int]) -> None:
        """A raw folder in the contest's form, of links."""
        shutil.rmtree(to, ignore_errors=True)
        labels = pd.read_csv(folder / "train.csv")
        for rows, place in ((labelled, to / "train" / "images"), (unlabelled, to / "test" / "images")):
            place.mkdir(parents=True)
            for row in rows:
                (place / everything.path(row).name).symlink_to(everything.path(row).resolve())
        ids = set(everything.images["image_id"].iloc[labelled])
        labels[labels["id"].isin(ids)].to_csv(to / "train.csv", index=False)


if __name__ == "__main__":
    main()
