"""Claim: the search of all levels and areas by component tree equals brute force to the last digit, 20 times as fast.

    segsmith train ... RUN && segsmith decide RUN
    python benchmarks/decide_exact.py RUN [--images 200]

On the probabilities of up to so many validation images of a run that was decided, for each class. Brute force labels
every one of 256 levels with OpenCV, which also counts sizes; all 32 areas follow from these, so it is not slowed down
by asking it area by area (`--cell-by-cell` tells what that would cost, from three images). Compared are all counts, the
surfaces with gates, and the cell that is taken. Times are of the processor, one thread, both ways in turn.
"""

import argparse
import time
from pathlib import Path

import cv2
import numpy as np

from segsmith.decision.cells import CellScores, found_together
from segsmith.decision.decide import GATES_TRIED
from segsmith.decision.gates import gates_to_try, top_k_mean
from segsmith.decision.masks import count_areas, decided
from segsmith.losses.objective import most_probable
from segsmith.modeling.bundle import Cell
from segsmith.modeling.run import Run
from segsmith.prediction.probabilities import ProbabilityFiles

AREAS = 32
IN_TURN = 20
"""Images that are counted in one way, then in the other; times are medians over these turns."""
TOP_K = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--cell-by-cell", action="store_true")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    run = Run(args.run)
    chips, metric = run.chips(), run.recipe().decide.metric
    files = ProbabilityFiles(run.probabilities, chips.dataset.classes)
    validation = run.part(chips, "validation")[: args.images]
    planes = [files.read(chips.id(chip)) for chip in validation]
    if run.recipe().data.exclusive:
        planes = [most_probable(of_image) for of_image in planes]
    truths = [chips.truth(chip) for chip in validation]
    height, width = truths[0].shape[1:]
    areas = np.unique(np.rint(np.geomspace(1, 0.05 * height * width, 4 * AREAS)).astype(int))
    areas = np.array([0, *areas[np.linspace(0, len(areas) - 1, AREAS - 1).astype(int)]])
    print(f"{len(validation)} images, {height} x {width}, {chips.dataset.classes}, 256 levels x {len(areas)} areas")

    seconds: dict[str, list[float]] = {"component tree": [], "brute force": []}
    counted: dict[str, list[CellScores]] = {name: [] for name in seconds}
    for class_id in range(len(chips.dataset.classes)):
        gates = [top_k_mean(of_image[class_id], TOP_K) for of_image in planes]
        tried = np.array(gates_to_try(gates, GATES_TRIED))
        both = {name: CellScores(metric, areas, tried, parts=5) for name in seconds}
        pairs = [(of[class_id], true[class_id]) for of, true in zip(planes, truths, strict=True)]
        for first in range(0, len(pairs), IN_TURN):
            turn = pairs[first : first + IN_TURN]
            counts, took = {}, {}
            for name, count in (("component tree", count_areas), ("brute force", brute_force)):
                start = time.process_time()
                counts[name] = [count(plane, truth, areas) for plane, truth in turn]
                took[name] = time.process_time() - start
            for name, of_turn in counts.items():
                seconds[name].append(took[name] / len(turn))
                for place, of_image in enumerate(of_turn, start=first):
                    truth = pairs[place][1]
                    both[name].add(place, gates[place], *of_image, int(truth.sum()), truth.size)
            for place, (fast, slow) in enumerate(zip(*counts.values(), strict=True), start=first):
                assert np.array_equal(fast, slow), f"{chips.id(validation[place])}: counts differ"
        for name, one in both.items():
            counted[name].append(one)
    for fast, slow in zip(*counted.values(), strict=True):
        assert np.array_equal(fast.surface(fast.used), slow.surface(slow.used)), "surfaces differ"
    start = time.process_time()
    found = {name: found_together(of_classes) for name, of_classes in counted.items()}
    choosing = (time.process_time() - start) / 2
    fast, slow = ((of.places, of.parts, of.score, of.cross_fitted_score) for of in found.values())
    assert fast == slow, "another decision"
    for one, place in zip(counted["component tree"], found["component tree"].places, strict=True):
        print(f"{one.cell(place)}")
    print(f"{metric} {found['component tree'].score!r}, cross-fitted {found['component tree'].cross_fitted_score!r}")

    for name, taken in seconds.items():
        print(f"{name:15s} {1000 * np.median(taken):8.2f} ms an image and class")
    ratios = np.divide(seconds["brute force"], seconds["component tree"])
    print(f"equal to the last digit, {np.median(ratios):.1f} times as fast ({ratios.min():.1f} to {ratios.max():.1f})")
    print(f"then {choosing:.2f} s for choosing, however many images")
    if args.cell_by_cell:
        start = time.process_time()
        for of_image in planes[:3]:
            for level in range(256):
                for area in areas:
                    decided(of_image[0], Cell(level, int(area)))
        print(f"{'cell by cell':15s} {1000 * (time.process_time() - start) / 3:8.0f} ms an image and class")


def brute_force(plane: np.ndarray, truth: np.ndarray, areas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What count_areas gives, every level labelled."""
    tp, predicted = np.zeros((256, len(areas)), np.int64), np.zeros((256, len(areas)), np.int64)
    for level in range(256):
        mask = (plane >= level).view(np.uint8)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        sizes = stats[1:, cv2.CC_STAT_AREA].astype(np.int64)
        hits = np.bincount(labels[truth], minlength=count)[1:]
        kept = sizes >= areas[:, None]
        tp[level], predicted[level] = kept @ hits, kept @ sizes
    return tp, predicted


if __name__ == "__main__":
    main()
