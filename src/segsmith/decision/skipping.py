"""Validation fold -> what predictions may skip after a first look, for a share of the foreground that may be lost."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from segsmith.decision.risk import skipped_below
from segsmith.errors import RunError
from segsmith.modeling.bundle import Bundle, Skip
from segsmith.modeling.run import Run
from segsmith.prediction.probabilities import Predictor
from segsmith.progress import track
from segsmith.samples.chips import Chips
from segsmith.samples.samples import fit_image


def skipping(run: Run, bundle: Bundle, chips: Chips, loss: float, look: float) -> Skip:
    """What images, or chips, may be skipped so that of new ones that hold a class no larger share than `loss` is, on
    average; of each class. Judged by the highest probability that the first network finds of any class in an image that
    is shrunk to `look` of its sides, see `first_values`; by images alone that this network was not trained on.

    Raises RunError for a first look that the network cannot take, since it knows one size, and for combined runs of
    which the first one validated on all folds in turn.
    """
    first = bundle
    while first.parts:
        first = first.parts[0].bundle
    validation = run.part(chips, "validation")
    if first.recipe.folds.validation == "all":
        if bundle.parts:
            raise RunError(
                f"{run.folder}: its first run was trained on all folds in turn, so few of its images were not trained "
                "on by the network that looks first; combine with a run of one fold as the first"
            )
        fold_of, own = run.folds(chips), first.recipe.folds.validated[0]
        validation = [chip for chip in validation if fold_of[chip] == own]
    if first.recipe.data.normalise == "mean_image" and look != 1:
        raise RunError(
            f"{run.folder}: takes off the mean image, which is of one size, so its network cannot look at shrunk "
            "images; choose --look 1"
        )
    predictor = Predictor(replace(first, members=first.members[:1]))
    values = np.array(list(_values(predictor, chips, validation, look)), np.float32)
    present, objects = chips.present[validation], chips.objects[validation]
    # the promise to each class is kept by whatever skips fewer than that class could bear
    below = min(skipped_below(values[of_class], loss) for of_class in present.T)
    skipped = values < below
    return Skip(
        loss=loss,
        below=below,
        scale=look,
        filled=tuple(present.sum(axis=0).tolist()),
        looked_at=len(validation),
        skipped=int(skipped.sum()),
        objects=int(objects.sum()),
        lost=int(objects[skipped].sum()),
    )


def _values(predictor: Predictor, chips: Chips, indices: list[int], look: float) -> Iterator[float]:
    """Of each image or chip, as networks see it."""
    together = predictor.recipe.predict.batch_size
    for begin in track(range(0, len(indices), together), "first looks", -(-len(indices) // together)):
        some = indices[begin : begin + together]
        images = [fit_image(chips.read(index).image, predictor.recipe.data) for index in some]
        yield from predictor.first_look(images, [chips.extra(index) for index in some], look).tolist()
