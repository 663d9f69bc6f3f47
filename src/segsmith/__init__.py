"""segsmith: from labelled images of rare things to a segmentation model, and from the model to the files to hand in.

    dataset -> samples -> batches -> model -> probabilities -> masks -> files

The commands of the journey are plain functions; each has the same options as its command:

    inspect    raw folder -> dataset folder with profile.json and report.html
    preview    dataset folder + recipe -> a page of batches as the network sees them
    train      dataset folder + recipe -> run folder with a bundle
    decide     run folder -> threshold and smallest area, stored in its bundle
    evaluate   run folder -> scores
    predict    bundle + images -> submission.csv, masks, overlays
    demo       all of it on made data

Dataset.open(folder) opens what inspect wrote; profile(dataset) measures it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segsmith.data.dataset import Dataset
    from segsmith.eda.inspect import inspect
    from segsmith.eda.preview import preview
    from segsmith.eda.profile import profile
    from segsmith.journey import demo
    from segsmith.modeling.train import train
    from segsmith.prediction.decide import decide
    from segsmith.prediction.evaluate import evaluate
    from segsmith.prediction.predict import predict
    from segsmith.recipe import Recipe
    from segsmith.recipe_files import load_recipe

__all__ = [
    "Dataset", "Recipe", "decide", "demo", "evaluate", "inspect", "load_recipe", "predict", "preview", "profile",
    "train",
]  # fmt: skip
__version__ = "0.1.0"

_HOMES = {
    "Dataset": "data.dataset",
    "Recipe": "recipe",
    "decide": "prediction.decide",
    "demo": "journey",
    "evaluate": "prediction.evaluate",
    "inspect": "eda.inspect",
    "load_recipe": "recipe_files",
    "predict": "prediction.predict",
    "preview": "eda.preview",
    "profile": "eda.profile",
    "train": "modeling.train",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: torch takes seconds, `segsmith --help` must not."""
    if name not in _HOMES:
        raise AttributeError(f"module 'segsmith' has no attribute '{name}'")
    return getattr(import_module(f"segsmith.{_HOMES[name]}"), name)
