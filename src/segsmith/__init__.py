"""segsmith: from labelled images of rare things to a segmentation model, and from the model to the files to hand in.

    dataset -> samples -> batches -> model -> probabilities -> masks -> files

The commands of the journey are plain functions; each has the same options as its command:

    inspect    raw folder -> dataset folder with profile.json and report.html
    plan       dataset folder -> a recipe for it, with reasons
    preview    dataset folder + recipe -> a page of batches as the network sees them
    find_rate  dataset folder + recipe -> learning rate and weight decay to begin with
    find_batch dataset folder + recipe -> the largest batch that fits
    train      dataset folder + recipe -> run folder with a bundle
    search     dataset folder + recipe with values to try -> many runs, the best of them as a recipe
    decide     run folder -> threshold and smallest area, stored in its bundle
    evaluate   run folder -> scores
    compare    evaluated runs -> which is better, and how sure that is
    runs       folders -> the runs in them, side by side
    mine       run folder + images -> its dataset with further negatives
    label      run folder + unlabelled images -> its dataset with soft labels for them
    teach      likewise -> students, round by round, as long as that surely helps
    export     run folder -> its networks for other runtimes, checked and timed
    predict    bundle + images -> submission.csv, masks, overlays
    check      any submission -> what is wrong with it, and its scores where the truth is known
    serve      bundle -> an HTTP service that answers images and GeoTIFFs with their masks
    demo       all of it on made data

Dataset.open(folder) opens what inspect wrote; profile(dataset) measures it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segsmith.data.corrections import correct
    from segsmith.data.dataset import Dataset
    from segsmith.decision.combine import combine
    from segsmith.decision.compare import compare
    from segsmith.decision.decide import decide
    from segsmith.decision.evaluate import evaluate
    from segsmith.decision.label import label
    from segsmith.decision.mine import mine
    from segsmith.decision.review import review
    from segsmith.decision.teach import teach
    from segsmith.delivery.check import check
    from segsmith.delivery.export import export
    from segsmith.delivery.predict import predict
    from segsmith.delivery.predict_rasters import predict_rasters
    from segsmith.eda.inspect import inspect
    from segsmith.eda.preview import preview
    from segsmith.eda.profile import profile
    from segsmith.journey import demo
    from segsmith.modeling.runs import runs
    from segsmith.modeling.train import train
    from segsmith.recipe import Recipe
    from segsmith.recipe_files import load_recipe
    from segsmith.service.serve import serve
    from segsmith.tuning.find_batch import find_batch
    from segsmith.tuning.find_rate import find_rate
    from segsmith.tuning.plan import plan
    from segsmith.tuning.search import search

__all__ = [
    "Dataset", "Recipe", "check", "combine", "compare", "correct", "decide", "demo", "evaluate", "export",
    "find_batch", "find_rate", "inspect", "label", "load_recipe", "mine", "plan", "predict", "predict_rasters",
    "preview", "profile", "review", "runs", "search", "serve", "teach", "train",
]  # fmt: skip
__version__ = "0.1.0"

_HOMES = {
    "Dataset": "data.dataset",
    "Recipe": "recipe",
    "check": "delivery.check",
    "combine": "decision.combine",
    "compare": "decision.compare",
    "correct": "data.corrections",
    "decide": "decision.decide",
    "demo": "journey",
    "evaluate": "decision.evaluate",
    "export": "delivery.export",
    "find_batch": "tuning.find_batch",
    "find_rate": "tuning.find_rate",
    "inspect": "eda.inspect",
    "label": "decision.label",
    "load_recipe": "recipe_files",
    "mine": "decision.mine",
    "plan": "tuning.plan",
    "predict": "delivery.predict",
    "predict_rasters": "delivery.predict_rasters",
    "preview": "eda.preview",
    "profile": "eda.profile",
    "review": "decision.review",
    "runs": "modeling.runs",
    "search": "tuning.search",
    "serve": "service.serve",
    "teach": "decision.teach",
    "train": "modeling.train",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: torch takes seconds, `segsmith --help` must not."""
    if name not in _HOMES:
        raise AttributeError(f"module 'segsmith' has no attribute '{name}'")
    return getattr(import_module(f"segsmith.{_HOMES[name]}"), name)
