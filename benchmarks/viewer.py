"""Claim: with 100 000 images in a run, the first view of `segsmith view` stands within two seconds.

    python benchmarks/viewer.py [--images N] [--turns N]

A run folder is made of N small images (hard links to a hundred files), all of the validation fold, with scores drawn at
random; no network is trained. The viewer runs as a process of its own; Chromium opens its page anew in each turn,
with nothing cached. Told are the time the viewer takes until it listens, and from asking for the page until the
images' names and scores stand in the grid, and until every picture in sight is drawn; then how long it takes to turn
the order round, and what is sent.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from playwright.sync_api import Page, sync_playwright

from segsmith.data.dataset import Dataset
from segsmith.data.ingest import ingest
from segsmith.data.scenes import make_ships
from segsmith.decision.masks import decided
from segsmith.files import write_text
from segsmith.modeling.bundle import Bundle, Cell, Decision
from segsmith.modeling.run import Run
from segsmith.networks.networks import build_network
from segsmith.prediction.probabilities import ProbabilityFiles
from segsmith.recipe_files import load_recipe
from segsmith.samples.chips import cut
from segsmith.samples.split import Split

DIFFERENT = 100


def repeated(dataset: Dataset, count: int) -> Dataset:
    """As many images as asked for, each a copy of one of a dataset by another id."""
    source = np.arange(count) % len(dataset)
    images = dataset.images.iloc[source].reset_index(drop=True)
    images["image_id"] = [f"{number:06}.jpg" for number in range(count)]
    first = dataset.first_object
    each = [np.arange(first[image], first[image + 1]) for image in source]
    objects = dataset.objects.iloc[np.concatenate(each)].reset_index(drop=True)
    objects["image"] = np.repeat(np.arange(count), [len(of) for of in each])
    runs = [dataset.runs[dataset.offsets[row] : dataset.offsets[row + 1]] for row in np.concatenate(each)]
    offsets = np.concatenate([[0], np.cumsum([len(of) for of in runs])])
    return replace(dataset, images=images, objects=objects, runs=np.concatenate(runs), offsets=offsets)


def make_run(folder: Path, count: int) -> Path:
    make_ships(folder / "raw", train_images=DIFFERENT, test_images=1, size=96, seed=1)
    small = ingest(folder / "raw")
    repeated(small, count).write(folder / "dataset")
    dataset = Dataset.open(folder / "dataset")
    recipe = load_recipe("ships-demo", ["network.encoder_weights=null"])
    chips, run = cut(dataset, recipe.data), Run(folder / "run")
    nobody, everybody = np.zeros(0, int), np.arange(count)
    facts = {"hardware": "none", "precision": "fp32", "versions": {}}
    run.begin(folder / "dataset", chips, Split(nobody, everybody, nobody, np.zeros(count, int)), recipe, facts)
    cell, rng = Cell(100, 8), np.random.default_rng(0)
    network = build_network(recipe.network, 1, (0.5,) * 3, (0.25,) * 3)
    torch.manual_seed(0)
    Bundle(
        (network.state_dict(),), recipe, (0.5,) * 3, (0.25,) * 3, dataset.classes, dataset.layout, dataset.fingerprint,
        decision=Decision((cell,), metric="mean_dice", score=0.5),
    ).write(run.bundle)  # fmt: skip
    files, rows = ProbabilityFiles(run.probabilities, dataset.classes), []
    for number in range(count):
        path = files.path(f"{number:06}.jpg", dataset.classes[0])
        if number < DIFFERENT:
            truth = chips.truth(number)[0]
            plane = np.clip(truth * 140 + rng.integers(0, 110, truth.shape), 0, 255).astype(np.uint8)
            files.write(f"{number:06}.jpg", plane[None])
            mask = decided(plane, cell)
            rows.append((int(truth.sum()), int(mask.sum()), int((mask & truth).sum())))
        else:
            os.link(files.path(f"{number % DIFFERENT:06}.jpg", dataset.classes[0]), path)
    true, predicted, right = np.array(rows)[np.arange(count) % DIFFERENT].T
    dice = rng.random(count)
    table = pd.DataFrame({"image_id": dataset.images["image_id"], "class": dataset.classes[0], "row": everybody})
    table = table.assign(true_pixels=true, predicted_pixels=predicted, right_pixels=right, part=-1)
    table = table.assign(dice=dice, iou=dice / (2 - dice), iou_map=np.floor(10 * dice) / 10)
    write_text(run.folder / "images.csv", table.to_csv(index=False))
    write_text(run.folder / "scores.json", '{"part": "validation", "scores": {}}')
    return run.folder


def first_view(page: Page, address: str) -> tuple[float, float, float, float]:
    """Seconds until the grid stands, until its pictures do, to turn it round; megabytes sent."""
    began = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.locator(".cell .value").first.wait_for()
    stands = time.perf_counter() - began
    while not page.evaluate("[...document.querySelectorAll('.cell img')].every(of => of.complete && of.naturalWidth)"):
        time.sleep(0.01)
    drawn = time.perf_counter() - began
    sent = page.evaluate("performance.getEntriesByType('resource').reduce((sum, of) => sum + of.transferSize, 0)")
    began = time.perf_counter()
    page.get_by_role("button", name="lowest first").click()
    page.get_by_role("button", name="highest first").wait_for()
    return stands, drawn, time.perf_counter() - began, sent / 1e6


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--images", type=int, default=100_000)
    arguments.add_argument("--turns", type=int, default=5)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as place:
        run = make_run(Path(place), options.images)
        began = time.perf_counter()
        command = [sys.executable, "-m", "segsmith", "view", str(run), "--port", "0", "--no-open"]
        viewer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert viewer.stdout is not None
            said = ""
            while not (found := re.search(r"http://\S+", said)):
                said += viewer.stdout.readline().strip()
            print(f"{options.images:,} images; listens after {time.perf_counter() - began:.1f} s")
            with sync_playwright() as driver:
                browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
                turns = []
                for turn in range(options.turns):
                    context = browser.new_context(viewport={"width": 1280, "height": 800})
                    turns.append(first_view(context.new_page(), found.group()))
                    context.close()
                    stands, drawn, turned, sent = turns[-1]
                    print(f"turn {turn + 1}: grid {stands:.2f} s, pictures {drawn:.2f} s, order turned {turned:.2f} s, "
                          f"{sent:.1f} MB", flush=True)  # fmt: skip
                browser.close()
        finally:
            viewer.terminate()
            viewer.wait()
    stands, drawn, turned, _ = (statistics.median(of) for of in zip(*turns, strict=True))
    print(f"median: grid {stands:.2f} s, pictures {drawn:.2f} s, order turned {turned:.2f} s")


if __name__ == "__main__":
    main()
