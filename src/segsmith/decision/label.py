"""Run + images -> its dataset with those that it is sure of, and its probabilities as their labels, to teach a student.

Soft labels are what all networks of the run say on average, in all views of the recipe (predict.flips, predict.scales):
levels of 8 bits, as probabilities are everywhere. A student of them must not be judged on what its teacher knows, so
the dataset keeps of every image whether the teacher, or one of its own teachers, was trained or tuned on it, and
`samples/split.py` refuses folds that would.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
from jaxtyping import Int

from segsmith.data.dataset import TRAINED_ON, TUNED_ON, Dataset, soft_planes
from segsmith.decision.candidates import Candidate, of_dataset, of_folder, read, seen_with, with_images
from segsmith.decision.gates import top_k_mean
from segsmith.errors import DataError, RunError, WriteError
from segsmith.files import replacing_folder
from segsmith.modeling.bundle import Bundle
from segsmith.modeling.run import Run
from segsmith.prediction.average import averaged_levels
from segsmith.prediction.probabilities import VIEWS, Levels, Predictor, ProbabilityFiles, View
from segsmith.progress import track
from segsmith.types import ClassMask, Image, Mask, Probabilities

TAUGHT = "taught"
"""Source of images with soft labels."""
FILE = "taught.csv"


@dataclass(frozen=True)
class Labelled:
    """What was labelled. `table`, which is taught.csv as well, has a row for each image looked at: image_id, path,
    kept, confidence, agreement, objects, foreground (pixels), soft (a digest of the label), run."""

    folder: Path
    table: pd.DataFrame

    @property
    def kept(self) -> int:
        return int(self.table["kept"].sum())


class Voice(NamedTuple):
    """One network in one view of the images: all of them together are the ensemble."""

    network: Predictor
    view: View
    weight: float


class SoftLabel(NamedTuple):
    """What an ensemble says of an image."""

    levels: Probabilities
    """Of each class, and of the borders in each behind them."""
    confidence: float
    """0..1, of the class it is least sure of: the Dice to be expected of the mask, were the probabilities right; of an
    empty mask 1 less the mean of the `decide.top_k` most probable pixels."""
    agreement: float
    """0..1, of the class that there is least on: the mean Dice of each voice's mask and that of all."""


def label(run: Path, images: Path, to: Path, *, sure: float = 0.8, agree: float = 0.8) -> Labelled:
    """Label images with a run's bundle; write its dataset with those it is sure of, as the dataset `to`.

    `images` is a folder of images that nobody labelled, or a dataset, of which those are taken that are unlabelled or
    have soft labels; it may be the run's own. Kept are images of a confidence of `sure` and an agreement of `agree` at
    least (see SoftLabel). They are of source 'taught', are only trained on, and change no fold; the rest of the images
    looked at is unlabelled, and so is what had soft labels in the run's dataset and is not looked at.

    Raises RunError for a run without bundle, or of all folds in turn; DataError for chips whose folds are blocks,
    rasters, and ids that the dataset has already; ModelError for other bands; WriteError.
    """
    opened = Run(run)
    opened.check_trained()
    bundle, dataset = Bundle.read(opened.bundle), opened.dataset()
    check_teacher(run, bundle)
    if to.exists() and (not (to / FILE).is_file() or to.resolve() == Path(opened.facts()["dataset"])):
        raise WriteError(f"{to}: exists, and is the run's own dataset or nothing that label wrote; choose a new folder")
    candidates = _candidates(images, dataset)
    voices, rows = voices_of(bundle), []
    planes = soft_planes(len(bundle.classes), borders=len(bundle.planes) > len(bundle.classes))
    with replacing_folder(to) as folder:
        files = ProbabilityFiles(folder / "soft", planes)
        files.folder.mkdir()
        bands = len(bundle.mean) - len(bundle.extra)
        looked_at = track(read(seen_with(candidates, dataset, bundle), bands), "images", len(candidates))
        while batch := list(islice(looked_at, bundle.recipe.predict.batch_size)):
            found = soft_labels(voices, [image for _, image, _ in batch], [extra for _, _, extra in batch], bundle)
            for (candidate, _, _), soft in zip(batch, found, strict=True):
                kept = soft.confidence >= sure and soft.agreement >= agree
                if kept:
                    files.write(candidate.image_id, soft.levels)
                mask = soft.levels[: len(bundle.classes)] >= 128
                rows.append(
                    {
                        "image_id": candidate.image_id,
                        "path": str(candidate.path),
                        "kept": kept,
                        "confidence": round(soft.confidence, 4),
                        "agreement": round(soft.agreement, 4),
                        "objects": sum(cv2.connectedComponents(plane)[0] - 1 for plane in mask.view(np.uint8)),
                        "foreground": int(mask.any(axis=0).sum()),
                        "soft": hashlib.blake2b(soft.levels.tobytes(), digest_size=8).hexdigest(),
                        "run": run.resolve().name,
                    }
                )
        result = Labelled(to, pd.DataFrame(rows))
        note = f"{result.kept:,} of {len(rows):,} images labelled by {run.resolve().name}"
        taught = _taught(with_images(dataset, candidates), result.table, known_by(opened))
        taught = replace(taught, soft_labels=to.resolve() / "soft", notes=(*dataset.notes, note))
        taught.write_into(folder, {FILE: result.table.to_csv(index=False)})
    return result


def known_by(teacher: Run) -> Int[np.ndarray, " images"]:
    """Of every image of a run's dataset, whether its labels are known to the run or to a teacher before it: TRAINED_ON,
    TUNED_ON, or 0."""
    chips = teacher.chips()
    dataset = chips.dataset
    known = np.where(dataset.images["labelled"].to_numpy(bool) & ~dataset.taught, TRAINED_ON, 0)
    # what stands in no part counts as trained on: of combined runs, some of them were
    for part, least in (("validation", TUNED_ON), ("held_out", 0), ("training", TRAINED_ON)):
        known[chips.image[teacher.part(chips, part)]] = least
    known[dataset.taught] = 0
    return np.asarray(np.maximum(known, dataset.known), np.int8)


def voices_of(bundle: Bundle) -> list[Voice]:
    """Every network of a bundle in every view of its recipe, and what it says itself (no CRF); weights sum to 1."""
    if bundle.parts:
        return [
            voice._replace(weight=voice.weight * weight) for weight, part in bundle.parts for voice in voices_of(part)
        ]
    views = VIEWS[bundle.recipe.predict.flips]
    predict = bundle.recipe.predict.model_copy(update={"flips": "none", "crf": None})
    recipe = bundle.recipe.model_copy(update={"predict": predict})
    networks = [Predictor(replace(bundle, members=(weights,), recipe=recipe)) for weights in bundle.members]
    weight = 1 / (len(networks) * len(views))
    return [Voice(network, view, weight) for network in networks for view in views]


def soft_labels(voices: Sequence[Voice], images: list[Image], extra: list[Levels], bundle: Bundle) -> list[SoftLabel]:
    """What the voices say of images together, averaged as predict.average says, at the images' own size."""
    classes = len(bundle.classes)
    each = [
        [_turned_back(levels, view) for levels in network([_turned(image, view) for image in images], extra)]
        for network, view, _ in voices
    ]
    weights, found = [voice.weight for voice in voices], []
    for of_image in zip(*each, strict=True):
        exclusive = classes if bundle.recipe.data.exclusive else 0
        levels = averaged_levels(of_image, weights, bundle.recipe.predict.average, exclusive=exclusive)
        masks = [said[:classes] >= 128 for said in of_image]
        found.append(
            SoftLabel(levels, _confidence(levels[:classes], bundle), _agreement(masks, levels[:classes] >= 128))
        )
    return found


def check_teacher(run: Path, bundle: Bundle) -> None:
    """Raise RunError or DataError for a run of which it cannot be told what would judge a student fairly."""
    for part in bundle.parts:
        check_teacher(run, part.bundle)
    recipe = bundle.recipe
    if recipe.folds.validation == "all":
        raise RunError(
            f"{run}: validates on all folds in turn, so some of its networks were trained on any image that could "
            f"judge a student; take that of one fold, {run / 'folds' / str(recipe.folds.validated[0])}, and a student "
            "that validates on it"
        )
    if recipe.data.fit == "chip" and recipe.folds.split == "blocks":
        raise DataError(
            f"{run}: its folds are blocks of images, and what a teacher knows is told by image; train it with "
            "folds.split=images"
        )


def _candidates(images: Path, dataset: Dataset) -> list[Candidate]:
    if not (images / "dataset.json").is_file():
        return of_folder(images, dataset)
    given = Dataset.open(images)
    wanted = np.flatnonzero(~given.images["labelled"].to_numpy(bool) | given.taught)
    if not len(wanted):
        raise DataError(f"{images}: all images of this dataset are labelled, so there is nothing to label")
    return of_dataset(given, dataset, wanted.tolist(), "labelling")


def _taught(dataset: Dataset, table: pd.DataFrame, known: Int[np.ndarray, " own"]) -> Dataset:
    """The dataset, its last images perhaps new ones, with the soft labels of a table alone."""
    images = dataset.images.copy()
    images["known"] = np.pad(known, (0, len(images) - len(known)))
    images["soft"] = ""
    images["mined"] = dataset.mined & ~dataset.taught
    images.loc[dataset.taught, "labelled"] = False
    rows = pd.Index(images["image_id"]).get_indexer(table["image_id"])
    images.loc[rows, "source"] = TAUGHT
    kept = table[table["kept"]]
    rows = rows[table["kept"].to_numpy(bool)]
    images.loc[rows, ["labelled", "mined"]] = True
    for name in ("objects", "foreground", "soft"):
        images.loc[rows, name] = kept[name].astype(images[name].dtype).to_numpy()
    return replace(dataset, images=images)


def _confidence(levels: Probabilities, bundle: Bundle) -> float:
    return min(
        2 * float(plane[plane >= 128].sum()) / (float(plane.sum()) + 255 * int((plane >= 128).sum()))
        if (plane >= 128).any()
        else 1 - top_k_mean(plane, bundle.recipe.decide.top_k) / 255
        for plane in levels
    )


def _agreement(masks: Sequence[Mask], together: Mask) -> float:
    return min(float(np.mean([_dice(mask[number], plane) for mask in masks])) for number, plane in enumerate(together))


def _dice(one: ClassMask, other: ClassMask) -> float:
    """1 where both are empty."""
    pixels = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / pixels if pixels else 1.0


def _turned(image: Image, view: View) -> Image:
    transpose, upside_down, mirror = view
    image = image.transpose(1, 0, 2) if transpose else image
    return np.ascontiguousarray(image[:: -1 if upside_down else 1, :: -1 if mirror else 1])


def _turned_back(levels: Probabilities, view: View) -> Probabilities:
    transpose, upside_down, mirror = view
    levels = levels[:, :: -1 if upside_down else 1, :: -1 if mirror else 1]
    return levels.transpose(0, 2, 1) if transpose else levels
