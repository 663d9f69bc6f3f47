"""Seed -> the whole journey on made images of ships: raw files, dataset, run, scores, files to hand in, reports."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from segsmith.data.scenes import make_ships
from segsmith.decision.decide import decide
from segsmith.decision.evaluate import Evaluation, evaluate
from segsmith.decision.report import write_report
from segsmith.delivery.predict import Prediction, predict
from segsmith.eda.inspect import Inspection, inspect
from segsmith.modeling.train import train
from segsmith.modeling.training import Step
from segsmith.recipe_files import load_recipe

RECIPE = "ships-demo"
SIZE = 384
"""Pixels a side of the made images: a quarter of the area of the contest's, to be quick."""


@dataclass(frozen=True)
class Demo:
    """What the demo made, step by step."""

    inspection: Inspection
    run: Path
    evaluation: Evaluation
    report: Path
    prediction: Prediction


def demo(
    folder: Path,
    *,
    images: int = 800,
    seed: int = 0,
    watch: Callable[[Step], None] = lambda step: None,
    say: Callable[[str], None] = lambda line: None,
) -> Demo:
    """Make `images` raw training images and a tenth as many to predict, and run every step on them below `folder`.

    Scores are of a fold that neither training nor the decision saw. Stopped, it goes on where it was when called
    again with the same arguments. Raises what the steps raise.
    """
    raw, dataset, run, prediction = (folder / name for name in ("raw", "dataset", "run", "prediction"))
    made = folder / f"raw/.made-{images}-{seed}"
    if not made.exists():
        say(f"1  make {images} training and {images // 10} test images of sea, some with ships: {raw}")
        make_ships(raw, train_images=images, test_images=images // 10, size=SIZE, seed=seed)
        made.touch()
    say(f"2  inspect: segsmith inspect {raw} --to {dataset}")
    inspection = inspect(raw, dataset)
    say(f"3  train: segsmith train {dataset} {run} --recipe {RECIPE} seed={seed}")
    train(dataset, load_recipe(RECIPE, [f"seed={seed}"]), run, watch=watch)
    say(f"4  decide: segsmith decide {run}")
    decide(run)
    say(f"5  evaluate: segsmith evaluate {run}")
    evaluation = evaluate(run)
    report = write_report(run, evaluation)
    sample = raw / "sample_submission_v2.csv"
    say(f"6  predict: segsmith predict {run} {raw / 'test_v2'} --to {prediction} --sample-submission {sample}")
    predicted = predict(run, raw / "test_v2", prediction, sample_submission=sample)
    return Demo(inspection, run, evaluation, report, predicted)
