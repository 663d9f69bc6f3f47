"""Claim: a recipe beats the plain script of its job (`salt_plain.py`, `steel_plain.py`) on the same held-out images.

Both are scored on the validation fold of our run, which neither was trained on, by the metric of the recipe: with the
threshold 0.5, and with threshold and smallest area tuned on other images of that fold than the ones scored
(cross-fitted in five parts). Every class of every image counts once.

    segsmith inspect FOLDER --to job.dataset
    segsmith train job.dataset runs/job --recipe RECIPE && segsmith decide runs/job
    python benchmarks/against_plain.py runs/job --held-out held_out.txt
    python benchmarks/salt_plain.py FOLDER held_out.txt plain.npz --images 40000
    python benchmarks/against_plain.py runs/job --plain plain.npz
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from segsmith.decision.cells import CellScores, found_together
from segsmith.decision.decide import areas_to_try
from segsmith.decision.masks import count_areas
from segsmith.modeling.metrics import Counts, image_scores
from segsmith.modeling.run import Run
from segsmith.prediction.probabilities import ProbabilityFiles
from segsmith.recipe import Metric
from segsmith.samples.chips import Chips, cut

RESAMPLES = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--plain", type=Path, help="probabilities that the plain script wrote")
    parser.add_argument("--held-out", type=Path, help="write the ids of the run's validation fold and stop")
    args = parser.parse_args()
    run = Run(args.run)
    recipe, dataset = run.recipe(), run.dataset()
    chips = cut(dataset, recipe.data)
    validation = run.part(chips, "validation")
    ids = [chips.id(chip) for chip in validation]
    if args.held_out:
        args.held_out.write_text("\n".join(ids) + "\n")
        return
    files = ProbabilityFiles(run.probabilities, dataset.classes)
    ours = {image_id: files.read(image_id) for image_id in ids}
    epochs = pd.read_csv(run.folder / "metrics.csv")
    seen, minutes = int(epochs["images"].sum()), epochs["seconds"].sum() / 60
    print(f"{len(ids)} held-out images; ours saw {seen:,} images in {minutes:.0f} minutes")
    metric = recipe.selected_by
    compared = {"segsmith": both_scores(metric, chips, validation, ours)}
    if args.plain:
        found = np.load(args.plain)
        levels = np.rint(255 * found["probabilities"]).astype(np.uint8)
        plain = dict(zip(found["ids"].tolist(), levels, strict=True))
        compared["plain script"] = both_scores(metric, chips, validation, plain)
    for name, (at_half, tuned) in compared.items():
        print(f"{name:13s} {metric}: threshold 0.5: {at_half.mean():.4f}   tuned on other images: {tuned.mean():.4f}")
    if args.plain:
        gain = (compared["segsmith"][1] - compared["plain script"][1]).mean(axis=1)
        rng = np.random.default_rng(0)
        means = [gain[rng.integers(0, len(gain), len(gain))].mean() for _ in range(RESAMPLES)]
        low, high = np.percentile(means, [2.5, 97.5])
        print(f"gain          {gain.mean():+.4f} (95 % interval of the paired difference {low:+.4f} to {high:+.4f})")


def both_scores(
    metric: Metric, chips: Chips, validation: list[int], maps: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The metric of each image (rows) and class at threshold 0.5, and with the cross-fitted decision."""
    areas = np.array(areas_to_try(chips.hw(validation[0])))
    at_half, grids = [], []
    counted = [CellScores(metric, areas, np.array([0]), parts=5) for _ in chips.dataset.classes]
    for place, chip in enumerate(validation):
        planes, truths = maps[chips.id(chip)], chips.truth(chip)
        of_image = []
        for one, plane, truth in zip(counted, planes, truths, strict=True):
            tp, predicted = count_areas(plane, truth, areas)
            one.add(place, 0, tp, predicted, int(truth.sum()), truth.size)
            of_image.append(image_scores(metric, Counts(tp, predicted, np.array(truth.sum()), np.array(truth.size))))
        grids.append(of_image)
        half = planes >= 128
        counts = Counts(*(mask.sum((1, 2)) for mask in (half & truths, half, truths)), np.array(truths[0].size))
        at_half.append(image_scores(metric, counts))
    parts = found_together(counted).parts
    tuned = [
        [
            grid[cell.level, np.searchsorted(areas, cell.smallest_area)]
            for grid, cell in zip(of_image, parts[place % len(parts)], strict=True)
        ]
        for place, of_image in enumerate(grids)
    ]
    return np.array(at_half), np.array(tuned)


if __name__ == "__main__":
    main()
