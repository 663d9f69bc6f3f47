"""Bundles and runs made by hand: what a test says about scores does not depend on how well a network was trained."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import by_hand
import cv2
import numpy as np
import pytest
import torch

from segsmith.data.ingest_rle import LAYOUTS, ingest
from segsmith.modeling.bundle import Bundle, Cell, Decision
from segsmith.modeling.run import Run
from segsmith.networks.networks import build_network
from segsmith.prediction.probabilities import ProbabilityFiles
from segsmith.recipe_files import load_recipe
from segsmith.samples.chips import cut
from segsmith.samples.split import split

METRICS_CSV = """\
stage,epoch,images,lr,loss,validation_loss,mean_dice,threshold,dice_foreground,dice_empty,accuracy,precision,recall,f1,iou,seconds,images_per_second
1,1,32,0.001,0.9,0.8,0.5,0.5,0.4,nan,0.9,0.5,0.5,0.5,0.333,1.0,32.0
2,1,32,0.0005,0.7,0.75,0.6,0.5,0.45,nan,0.95,0.6,0.6,0.6,0.429,1.0,32.0
"""
LOSSES_CSV = """\
stage,epoch,step,loss
1,1,1,1.0
1,1,2,0.8
2,1,1,0.75
2,1,2,0.65
"""

MakeBundle = Callable[..., Bundle]


@dataclass(frozen=True)
class MadeRun:
    """A run folder, and what was put into it: truth and probabilities of each image, in the order of the labels."""

    folder: Path
    dataset: Path
    truths: dict[str, np.ndarray]
    probabilities: dict[str, np.ndarray]

    def fold(self, number: int) -> list[str]:
        """Ids of a fold, in the order of the labels."""
        rows = [line.rsplit(",", 2) for line in (self.folder / "folds.csv").read_text().splitlines()[1:]]
        return [image_id.strip('"') for image_id, fold, _ in rows if int(fold) == number]


MakeRun = Callable[..., MadeRun]


@pytest.fixture(scope="module", autouse=True)
def few_resamples() -> Iterator[None]:
    """A tenth of the bootstrap's draws: with every shape checked, a thousand take seconds."""
    with patch("segsmith.decision.evaluate.RESAMPLES", 100):
        yield


@pytest.fixture(scope="session")
def make_bundle() -> MakeBundle:
    """`make_bundle("predict.flips=none", bands=1, level=100)`: random weights, the same ones every time."""

    def make(
        *overrides: str, bands: int = 3, layout: str = "rle-objects", level: int = 128, smallest_area: int = 0
    ) -> Bundle:
        network = ("encoder=tu-test_resnet", "encoder_depth=3", "decoder_channels=[8,8,8]")
        recipe = load_recipe("ships-demo", [*(f"network.{option}" for option in network), *overrides])
        torch.manual_seed(0)
        built = build_network(recipe.network, 1, (0.5,) * bands, (0.25,) * bands)
        return Bundle(
            members=(built.state_dict(),),
            recipe=recipe,
            mean=(0.5,) * bands,
            std=(0.25,) * bands,
            classes=recipe.data.classes or ("object",),
            layout=next(known for known in LAYOUTS if known.name == layout),
            fingerprint="0123456789abcdef",
            decision=Decision((Cell(level, smallest_area),)),
        )

    return make


@pytest.fixture(scope="session")
def make_run(tmp_path_factory: pytest.TempPathFactory, make_bundle: MakeBundle) -> MakeRun:
    """`make_run(truths, probabilities, "folds.count=2")`: trained and not decided, as far as any command can tell.
    Truths are masks, or the number of the object at each pixel; probabilities a plane, or those of the bundle."""

    def make(
        truths: Sequence[np.ndarray], probabilities: Sequence[np.ndarray], *overrides: str, names: Sequence[str] = ()
    ) -> MadeRun:
        folder = tmp_path_factory.mktemp("made")
        (folder / "raw" / "train").mkdir(parents=True)
        noise = np.random.default_rng(0)
        ids = list(names) or [f"i{number:02}.png" for number in range(len(truths))]
        rows = ["ImageId,EncodedPixels"]
        for image_id, truth in zip(ids, truths, strict=True):
            _, png = cv2.imencode(".png", noise.integers(0, 256, (*truth.shape, 3), np.uint8))
            (folder / "raw" / "train" / image_id).write_bytes(png.tobytes())
            numbered = [by_hand.pixels(truth == number) for number in range(1, int(truth.max(initial=0)) + 1)]
            each = by_hand.objects(truth) if truth.dtype == bool else numbered
            texts = [by_hand.encode(_only(one, truth.shape)) for one in each]
            rows += [f"{image_id},{text}" for text in texts or [""]]
        (folder / "raw" / "train.csv").write_text("\n".join(rows) + "\n")
        dataset = ingest(folder / "raw")
        dataset.write(folder / "dataset")

        bundle = make_bundle("folds.held_out=null", *overrides)
        run = Run(folder / "run")
        facts = {"hardware": "two quiet cores", "precision": "fp32", "versions": {"segsmith": "0.1.0"}}
        chips = cut(dataset, bundle.recipe.data)
        parts = split(chips, bundle.recipe.folds, bundle.recipe.seed)
        run.begin(folder / "dataset", chips, parts, bundle.recipe, facts)
        replace(bundle, layout=dataset.layout, fingerprint=dataset.fingerprint).write(run.bundle)
        (run.folder / "metrics.csv").write_text(METRICS_CSV)
        (run.folder / "losses.csv").write_text(LOSSES_CSV)
        files = ProbabilityFiles(run.probabilities, bundle.planes)
        for image_id, plane in zip(ids, probabilities, strict=True):
            files.write(image_id, plane.reshape(-1, *plane.shape[-2:]))
        return MadeRun(
            run.folder,
            folder / "dataset",
            dict(zip(ids, truths, strict=True)),
            dict(zip(ids, probabilities, strict=True)),
        )

    return make


def _only(chosen: set[by_hand.Pixel], hw: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(hw, bool)
    for pixel in chosen:
        mask[pixel] = True
    return mask
