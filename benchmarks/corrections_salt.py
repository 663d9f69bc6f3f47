"""Question: does a dense CRF, or agreement with neighbours of the same mosaic, mend predictions of salt?

    segsmith train ... RUN && segsmith decide RUN
    python benchmarks/corrections_salt.py RUN

Scores are cross-fitted, on the validation images of a run, each correction with a decision of its own. Neighbours are
scored on the images that have any: once by what is predicted of those, once by their labels where they have some.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from segsmith.audit.mosaics import find_mosaics
from segsmith.decision.cells import CellScores, found_together
from segsmith.decision.decide import areas_to_try
from segsmith.decision.masks import count_areas, decided
from segsmith.modeling.bundle import Bundle
from segsmith.modeling.metrics import Counts, image_scores
from segsmith.modeling.run import Run
from segsmith.prediction.crf import refined
from segsmith.prediction.joints import agreed
from segsmith.prediction.probabilities import ProbabilityFiles
from segsmith.recipe import Crf
from segsmith.samples.chips import Chips

SURE = np.array([25, 230], np.uint8)
"""Levels of labels: not so sure that one neighbour outweighs an image."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    run = Run(parser.parse_args().run)
    cv2.setNumThreads(1)
    chips = run.chips()
    files = ProbabilityFiles(run.probabilities, chips.dataset.classes)
    levels = {chip: files.read(chips.id(chip)) for chip in run.part(chips, "validation")}
    score = cross_fitted(run, chips, levels)
    print(f"{len(levels)} validation images: {score:.4f} as they are", flush=True)
    for alike, near, reach in ((0.5, 0.0, 5), (0.5, 0.5, 10), (1.0, 0.0, 10), (2.0, 1.0, 10), (1.0, 1.0, 20)):
        options = Crf(alike=alike, near=near, reach_px=reach)
        changed = {
            chip: np.rint(255 * refined(of / np.float32(255), chips.pixels(chip), options, exclusive=False)).astype(
                np.uint8
            )
            for chip, of in levels.items()
        }
        found = cross_fitted(run, chips, changed)
        print(f"crf, alike {alike}, near {near}, reach {reach} px: {found:.4f} ({found - score:+.4f})", flush=True)

    joints = find_mosaics(chips.dataset).joints
    labelled = set(chips.dataset.labelled.tolist())
    pairs = [(joint, [chips.truth(n)[0] for n in joint[:2]]) for joint in joints if {*joint[:2]} <= labelled]
    edges = [(a[-1], b[0]) if joint.below else (a[:, -1], b[:, 0]) for joint, (a, b) in pairs if a.any() or b.any()]
    contradict = sum(np.mean(a == b) < 0.5 for a, b in edges)
    print(f"of {len(edges)} joints between labelled images that are not both empty, labels contradict at {contradict}")
    cell = Bundle.read(run.bundle).decision.cells[0]
    met = {chip for joint in joints for chip in joint[:2]} & levels.keys()
    neighbours = {n for joint in joints for n in joint[:2] if {*joint[:2]} & met} - levels.keys()
    told = {n: SURE[chips.truth(n).astype(int)] for n in neighbours & labelled}
    for name, known in (("predictions", levels), ("predictions and labels", levels | told)):
        after = agreed(known, joints)
        changed = [chip for chip in sorted(met) if not np.array_equal(after[chip], levels[chip])]
        means = [
            np.mean([contest_score(decided(of[chip][0], cell), chips.truth(chip)[0]) for chip in changed])
            for of in (levels, after)
        ]
        print(f"neighbours, by {name}: {len(changed)} images, {means[0]:.4f} as they are, {means[1]:.4f} made to agree")


def cross_fitted(run: Run, chips: Chips, levels: Mapping[int, np.ndarray]) -> float:
    options = run.recipe().decide
    truths = {chip: chips.truth(chip)[0] for chip in levels}
    areas = np.array(areas_to_try(next(iter(truths.values())).shape))
    scores = CellScores(options.metric, areas, np.array([0]), parts=options.parts)
    for place, (chip, of_image) in enumerate(levels.items()):
        truth = truths[chip]
        scores.add(place, 0, *count_areas(of_image[0], truth, areas), int(truth.sum()), truth.size)
    found = found_together([scores]).cross_fitted_score
    assert found is not None
    return float(found)


def contest_score(mask: np.ndarray, truth: np.ndarray) -> float:
    counts = Counts(*(np.array(n) for n in ((mask & truth).sum(), mask.sum(), truth.sum(), truth.size)))
    return float(image_scores("mean_iou_map", counts))


if __name__ == "__main__":
    main()
