"""Dataset + recipe -> run folder with a bundle: one training, or one for each fold, in one process or several."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

from segsmith.data.dataset import Dataset
from segsmith.errors import ModelError, listed
from segsmith.modeling.bundle import Bundle
from segsmith.modeling.mlflow_run import check_mlflow
from segsmith.modeling.optim import encoder_of
from segsmith.modeling.processes import Processes, joined
from segsmith.modeling.run import Run, differing_options, flat_options
from segsmith.modeling.training import Step, Training
from segsmith.modeling.trouble import memory_told
from segsmith.networks.encoders import check_encoder
from segsmith.networks.networks import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    build_network,
    check_input_hw,
)
from segsmith.networks.weights import read_weights
from segsmith.recipe import Recipe
from segsmith.samples.cache import cache_folder
from segsmith.samples.chips import Chips
from segsmith.samples.samples import enlarged
from segsmith.samples.split import split


def train(dataset: Path, recipe: Recipe, run: Path, *, watch: Callable[[Step], None] = lambda step: None) -> Run:
    """Train, or go on training, until the recipe's last epoch, and write the bundle. Returns the run.

    With folds.validation=all that is one training for each fold that is not held out, in turn, each a run of its own
    below `run`; the bundle holds the networks of all.

    A run of the same recipe and dataset is continued, a finished one returned as it is. Raises RecipeError, DataError,
    ModelError before anything is written; RunError if the folder holds something else; WriteError for a full disk,
    after which the run can be continued; ModelError when the loss explodes, with the last good checkpoint kept and the
    batch's images in failed-batch.json, or when memory runs out; TrainingStopped after SIGINT or SIGTERM, with the
    state saved.

    Started by torchrun, or by `launch.py`, several processes train one network: the same samples in the same
    order, losses and norms over the whole batch; the first one writes. Raises RunError when another of them ended.
    """
    recipe = recipe.model_copy(update={"search": None})  # no part of what a run is
    check_recipe(recipe)
    with joined() as processes:
        data = Dataset.open(dataset).named(recipe.data.classes)
        _check_unseen(recipe, data)
        opened = Run(run)
        _train(dataset, opened.chips_for(data, recipe.data), recipe, opened, watch, processes)
    return opened


def _train(
    dataset: Path, chips: Chips, recipe: Recipe, run: Run, watch: Callable[[Step], None], processes: Processes
) -> None:
    """Train one network, or with folds.validation=all one for each fold, in a run of its own."""
    folds = recipe.folds.validated
    # of several, the first tells what is wrong with any
    cache = cache_folder(dataset, recipe.train.cache)
    training = Training(chips, _of_fold(recipe, folds[0]), run, watch, processes, cache)
    processes.same(run.check_free)
    with run.locked() if processes.first else nullcontext():
        facts = {
            "hardware": training.hardware.name,
            "precision": training.hardware.precision,
            "versions": {name: version(name) for name in ("segsmith", "torch", "segmentation-models-pytorch", "timm")},
        }
        in_turn = recipe.folds.validation == "all"
        parts = split(chips, recipe.folds, recipe.seed) if in_turn else training.split
        processes.same(lambda: run.begin(dataset, chips, parts, recipe, facts))
        if processes.same(run.bundle.exists):
            return
        if not in_turn:
            with memory_told(recipe, training.workers), processes.answering():
                training.go()
            return
        del training
        for number, fold in enumerate(folds, start=1):
            told = partial(_tell_of_fold, watch, f"fold {fold}, {number} of {len(folds)}")
            _train(dataset, chips, _of_fold(recipe, fold), run.of_fold(fold), told, processes)
        processes.same(lambda: _bundle_together(run, recipe))


def _bundle_together(run: Run, recipe: Recipe) -> None:
    """Write the networks of all folds, in the order of these, into one bundle."""
    bundles = [Bundle.read(run.of_fold(fold).bundle) for fold in recipe.folds.validated]
    members = tuple(weights for bundle in bundles for weights in bundle.members)
    replace(bundles[0], members=members, recipe=recipe).write(run.bundle)


def _of_fold(recipe: Recipe, fold: int) -> Recipe:
    folds = recipe.folds.model_copy(update={"validation": fold})
    return recipe.model_copy(update={"folds": folds})


def _tell_of_fold(watch: Callable[[Step], None], fold: str, step: Step) -> None:
    watch(replace(step, fold=fold))


def _check_weights(option: str, given: str | None, remedy: str) -> None:
    if given is None:
        return
    if not Path(given).is_file():
        raise ModelError(f"network.{option}: {given}: no such file; give {remedy}")
    read_weights(Path(given))


def _check_unseen(recipe: Recipe, data: Dataset) -> None:
    """Raise ModelError for weights of a bundle that was trained on images of this dataset which would be judged."""
    weights = recipe.network.weights
    if weights is None or recipe.folds.by_heart:
        return
    try:
        begun = Bundle.read(Path(weights))
    except ModelError:
        return  # other files do not tell what they were trained on
    if begun.fingerprint != data.fingerprint:
        return
    there, now = (flat_options(of.model_dump(mode="json", include={"seed", "folds"})) for of in (begun.recipe, recipe))
    differing = differing_options(there, now)
    said = f"network.weights: {weights}: trained on images of this very dataset that would now be judged"
    if "all" in (there["folds.validation"], now["folds.validation"]):
        raise ModelError(f"{said}; take the bundle of one fold, and that fold as folds.validation")
    if differing:
        raise ModelError(f"{said}:\n{listed(differing)}\nset seed and folds as there")


def check_recipe(recipe: Recipe) -> None:
    """Raise ModelError for what can be told to be wrong from the recipe alone, before any data is read."""
    options = recipe.network
    check_mlflow(recipe.train)
    check_encoder(options.encoder)
    encoder_weights = None if options.encoder_weights == "imagenet" else options.encoder_weights
    _check_weights("encoder_weights", encoder_weights, "a .safetensors or .pth file, imagenet or null")
    _check_weights("weights", options.weights, "a bundle, a .safetensors or .pth file, or null")
    classes = len(recipe.data.classes or ("object",))
    network = build_network(options, classes, IMAGENET_MEAN, IMAGENET_STD, weights=False)
    check_input_hw(network, recipe.data.input_hw)
    for scale in () if recipe.data.fit == "chip" else recipe.predict.scales:
        seen = enlarged(recipe.data, scale, recipe.data.input_hw, network.stride)
        check_input_hw(network, seen.input_hw, f"predict.scales: {scale:g} times data.input_hw")
    for number, stage in enumerate(recipe.train.stages):
        if stage.input_hw is not None and stage.input_hw != recipe.data.input_hw:
            if recipe.data.normalise == "mean_image":
                raise ModelError(
                    f"train.stages.{number}.input_hw: data.normalise=mean_image is an image of data.input_hw, and "
                    "goes with no other size; set data.normalise=measured"
                )
            check_input_hw(network, stage.input_hw, f"train.stages.{number}.input_hw")
        rates = (stage.optimizer.encoder_lr, stage.optimizer.layer_decay)
        if rates != (1, 1) and encoder_of(network) is None:
            raise ModelError(
                f"train.stages.{number}.optimizer: encoder_lr and layer_decay are for networks with an encoder, which "
                f"{options.architecture} has not; leave them at 1"
            )
