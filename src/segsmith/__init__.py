"""segsmith: from labelled images of rare things to a segmentation model, and from the model to the files to hand in.

    dataset -> samples -> batches -> model -> probabilities -> masks -> files

The commands of the journey are plain functions; each has the same options as its command:

    inspect    raw folder -> dataset folder with profile.json and report.html
    plan       dataset folder -> a recipe for it, with reasons
    preview    dataset folder + recipe -> a page of batches as the network sees them
    train      dataset folder + recipe -> run folder with a bundle
    decide     run folder -> threshold and smallest area, stored in its bundle
    evaluate   run folder -> scores
    compare    evaluated runs -> which is better, and how sure that is
    predict    bundle + images -> submission.csv, masks, overlays
    check      any submission -> what is wrong with it, and its scores where the truth is known
    demo       all of it on made data

Dataset.open(folder) opens what inspect wrote; profile(dataset) measures it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segsmith.data.dataset import Dataset
    from segsmith.decision.combine import combine
    from segsmith.decision.compare import compare
    from segsmith.decision.decide import decide
    from segsmith.decision.evaluate import evaluate
    from segsmith.delivery.check import check
    from segsmith.delivery.predict import predict
    from segsmith.delivery.predict_rasters import predict_rasters
    from segsmith.eda.inspect import inspect
    from segsmith.eda.preview import preview
    from segsmith.eda.profile import profile
    from segsmith.journey import demo
    from segsmith.modeling.plan import plan
    from segsmith.modeling.train import train
    from segsmith.recipe import Recipe
    from segsmith.recipe_files import load_recipe

__all__ = [
    "Dataset", "Recipe", "check", "combine", "compare", "decide", "demo", "evaluate", "inspect", "load_recipe", "plan",
    "predict", "predict_rasters", "preview", "profile", "train",
]  # fmt: skip
__version__ = "0.1.0"

_HOMES = {
    "Dataset": "data.dataset",
    "Recipe": "recipe",
    "check": "delivery.check",
    "combine": "decision.combine",
    "compare": "decision.compare",
    "decide": "decision.decide",
    "demo": "journey",
    "evaluate": "decision.evaluate",
    "inspect": "eda.inspect",
    "load_recipe": "recipe_files",
    "plan": "modeling.plan",
    "predict": "delivery.predict",
    "predict_rasters": "delivery.predict_rasters",
    "preview": "eda.preview",
    "profile": "eda.profile",
    "train": "modeling.train",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: torch takes seconds, `segsmith --help` must not."""
    if name not in _HOMES:
        raise AttributeError(f"module 'segsmith' has no attribute '{name}'")
    return getattr(import_module(f"segsmith.{_HOMES[name]}"), name)
