"""Bright squares on noise, and a recipe with all that training can do, of a network so small that it takes a second."""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from segsmith.data.ingest_rle import ingest
from segsmith.data.rle import encode, to_text
from segsmith.modeling.run import Run
from segsmith.modeling.train import train
from segsmith.modeling.training import Step
from segsmith.recipe import Recipe
from segsmith.recipe_files import load_recipe

MakeSquares = Callable[..., Path]

TINY = """\
data: {input_hw: [32, 32], normalise: measured}
folds: {count: 3}
network:
  {encoder: tu-test_resnet, encoder_weights: null, encoder_depth: 3, decoder_channels: [8, 8, 8], dropout: 0.2}
train:
  batch_size: 4
  accumulate: 2
  keep_best: 2
  keep_best_by: [global_iou]
  ema_decay: 0.9
  workers: 0
  stages:
    - epochs: 2
      images_per_epoch: 12
      mix: {empty: 1, single: 1, multi: 1}
      hard: 3
      optimizer: {name: adamw, lr: 0.01}
      schedule: {name: plateau, patience: 0}
      augment: {hflip: 0.5, affine: 1, colour: 1, noise: 1}
    - epochs: 2
      loss: {bce: 0.5, dice: 1, focal: 1, lovasz: 0.1}
      optimizer: {name: sgd, lr: 0.1}
      schedule: {name: cosine, cycles: 2}
      snapshots: true
      swa: 1
"""


@pytest.fixture(scope="session")
def make_squares() -> MakeSquares:
    def make(folder: Path, objects: Sequence[int] = (0, 0, 1, 2) * 6, *, side: int = 32, bands: int = 3) -> Path:
        """A dataset of images with so many bright squares (two at most) on dark noise; its raw files lie beside it."""
        raw = folder / "raw"
        raw.mkdir(parents=True)
        noise = np.random.default_rng(0)
        rows = ["ImageId,EncodedPixels"]
        for number, count in enumerate(objects):
            name = f"{number:02}.png"
            image = noise.integers(40, 120, (side, side, bands)).astype(np.uint8)
            for half in range(count):
                top, left = noise.integers(0, side // 2 - 9), half * side // 2 + noise.integers(0, side // 2 - 9)
                mask = np.zeros((side, side), bool)
                mask[top : top + 9, left : left + 9] = True
                image[mask] = noise.integers(170, 250, (81, bands))
                rows.append(f"{name},{to_text(encode(mask))}")
            if not count:
                rows.append(f"{name},")
            cv2.imwrite(str(raw / name), image)
        (raw / "train.csv").write_text("\n".join(rows) + "\n")
        ingest(raw).write(folder / "dataset")
        return folder / "dataset"

    return make


@pytest.fixture(scope="session")
def squares(make_squares: MakeSquares, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 24 images of 32 x 32 pixels: 12 empty, 6 with one square, 6 with two. Not to be changed."""
    return make_squares(tmp_path_factory.mktemp("squares"))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """Two stages of two epochs: a mix, hard images, steps in two passes, plateau and cosine with restarts (the first of
    them within an epoch), dropout, a running average, a mean of weights, snapshots, the best two epochs kept."""
    file = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    file.write_text(TINY)
    return load_recipe(file)


@pytest.fixture(scope="session")
def undisturbed(squares: Path, tiny: Recipe, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[Step]]:
    """The run of `tiny` on `squares`, and what its watcher was told. Not to be changed."""
    steps: list[Step] = []
    return train(squares, tiny, tmp_path_factory.mktemp("undisturbed") / "run", watch=steps.append), steps
