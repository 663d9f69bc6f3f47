"""Run -> probabilities of its validation or held-out images, none by a network that was trained on the image."""

from typing import Literal

from segsmith.errors import RunError
from segsmith.modeling.bundle import Bundle
from segsmith.modeling.run import Run
from segsmith.prediction.probabilities import Predictor, ProbabilityFiles, predict_chips
from segsmith.samples.chips import Chips

Part = Literal["validation", "held_out"]


def predict_part(run: Run, bundle: Bundle, chips: Chips, part: Part) -> tuple[list[int], ProbabilityFiles]:
    """Chip numbers of a part, ascending, and the files of their probabilities, of which those that are not there yet
    are made.

    Where folds validate in turn, an image is predicted by the networks of its own fold alone. Raises RunError for a
    combined run that lacks some of its validation images.
    """
    indices, files = run.part(chips, part), ProbabilityFiles(run.probabilities, bundle.planes)
    missing = [index for index in indices if not files.has(chips.id(index))]
    if not missing:
        return indices, files
    if part == "validation" and bundle.parts:
        raise RunError(
            f"{run.folder}: probabilities of {len(missing)} validation images are gone, such as "
            f"{chips.id(missing[0])}; combine the runs again, into a new folder"
        )
    if part == "validation" and bundle.recipe.folds.validation == "all":
        fold_of = run.folds(chips)
        for fold in bundle.recipe.folds.validated:
            of_fold = [index for index in missing if fold_of[index] == fold]
            predict_chips(Predictor(bundle.of_fold(fold)), chips, of_fold, files, f"images of fold {fold}")
    else:
        predict_chips(Predictor(bundle), chips, missing, files, f"{part} images")
    return indices, files
