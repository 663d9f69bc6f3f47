"""Runs to look at: one of a single class, with holes filled and a gate; one of two classes that exclude each other."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import by_hand
import cv2
import numpy as np
import pytest
from made_runs import MadeRun, MakeBundle, MakeRun

from segsmith.data.ingest_rle import ingest
from segsmith.decision.decide import decide
from segsmith.decision.evaluate import evaluate
from segsmith.modeling.run import Run
from segsmith.prediction.probabilities import ProbabilityFiles
from segsmith.samples.chips import cut
from segsmith.samples.split import split

HW = (20, 26)


@pytest.fixture(scope="session")
def single(make_run: MakeRun) -> MadeRun:
    """Validated on fold 0 and with fold 1 held out, decided and evaluated on both, last on validation."""
    options = ("folds.count=3", "folds.held_out=1", "decide.fill_holes=true", "decide.gate=top_k", "decide.top_k=9")
    made = make_run(*by_hand.scenes(36, HW), *options, "decide.areas=[0,2,5,9]", "decide.parts=2")
    decide(made.folder)
    evaluate(made.folder, on="held_out")
    evaluate(made.folder, on="validation")
    return made


@pytest.fixture(scope="session")
def double(tmp_path_factory: pytest.TempPathFactory, make_bundle: MakeBundle) -> Path:
    """The folder of a decided and evaluated run of two classes, of which a pixel is of one at most."""
    folder = tmp_path_factory.mktemp("double")
    (folder / "raw" / "train").mkdir(parents=True)
    rust, scratch = by_hand.scenes(24, HW), by_hand.scenes(24, HW, 1)
    rows = ["ImageId,ClassId,EncodedPixels"]
    for number, (one, other) in enumerate(zip(rust[0], scratch[0], strict=True)):
        _, png = cv2.imencode(".png", np.random.default_rng(number).integers(0, 256, (*HW, 3), np.uint8))
        (folder / "raw" / "train" / f"s{number:02}.png").write_bytes(png.tobytes())
        texts = [by_hand.encode(one), by_hand.encode(other & ~one)]
        rows += [f"s{number:02}.png,{of},{text}" for of, text in enumerate(texts, start=1) if text]
    (folder / "raw" / "train.csv").write_text("\n".join(rows) + "\n")
    dataset = ingest(folder / "raw")
    dataset.write(folder / "dataset")
    loss = "train.stages=[{epochs: 1, images_per_epoch: 8, loss: {cross_entropy: 1}}]"
    options = (loss, "data.classes=[rust,scratch]", "data.exclusive=true", "folds.held_out=null", "folds.count=2")
    bundle = make_bundle(*options, "decide.gate=none", "decide.areas=[0,2,5,9]", "decide.parts=2")
    chips = cut(dataset.named(bundle.classes), bundle.recipe.data)
    run = Run(folder / "run")
    facts = {"hardware": "two quiet cores", "precision": "fp32", "versions": {}}
    run.begin(folder / "dataset", chips, split(chips, bundle.recipe.folds, 0), bundle.recipe, facts)
    replace(bundle, layout=dataset.layout, fingerprint=dataset.fingerprint).write(run.bundle)
    files = ProbabilityFiles(run.probabilities, bundle.classes)
    for number, planes in enumerate(zip(rust[1], scratch[1], strict=True)):
        files.write(f"s{number:02}.png", np.stack(planes))
    decide(run.folder)
    evaluate(run.folder)
    return run.folder


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[Path, str], Path]:
    """`copied(run, "name")` is a copy of a run's folder, to be changed."""
    return lambda run, name: shutil.copytree(run, tmp_path / name)
