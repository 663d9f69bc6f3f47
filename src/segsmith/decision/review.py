"""A decided run -> its labels, those least likely to be right first: review.csv, and a page to judge them on."""

from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float

from segsmith.data import rle
from segsmith.data.images import as_rgb
from segsmith.decision.decide import decided_bundle
from segsmith.decision.masks import decided_by
from segsmith.eda.page import JUDGE, Judged, Section, judged_grid, legend, render_page
from segsmith.eda.pictures import image_uri, panels
from segsmith.errors import RunError
from segsmith.files import write_text
from segsmith.modeling.bundle import Bundle
from segsmith.modeling.run import Run
from segsmith.prediction.out_of_fold import predict_part
from segsmith.prediction.probabilities import ProbabilityFiles
from segsmith.samples.chips import Chips
from segsmith.types import ClassMask

TEMPERATURE = 0.2
"""On real steel with a sixth of the masks emptied, swapped, mirrored or cut, 16.8 of 24 stand among the first 24; with
the 0.1 of the paper 14.4, ranked by the mean probability of the label 13.2, by IoU 13.8."""


def review(run: Path, *, top: int = 60) -> pd.DataFrame:
    """Rank the labels of the images a run was not trained on by how far its networks disagree with them; write
    review.csv (all) and review.html (the first `top`) into the run. Returns the table, worst first.

    `quality` is 0..1 (`label_quality`); 1: the networks would have labelled it so. Raises RunError for a run that is
    not decided, learnt its images by heart, or whose chips are parts of images.
    """
    opened = Run(run)
    recipe, chips = opened.recipe(), opened.chips()
    if recipe.folds.by_heart:
        raise RunError(
            f"{run}: was trained on all its images, so it agrees with their labels; set folds.by_heart=false"
        )
    if recipe.data.fit == "chip":
        raise RunError(f"{run}: its chips are parts of images; labels are corrected by image, so look at its report")
    opened.check_trained()
    with opened.locked():
        bundle = decided_bundle(opened)
        validation, files = predict_part(opened, bundle, chips, "validation")
        indices = sorted({*validation, *predict_part(opened, bundle, chips, "held_out")[0]})
        table = _ranked(chips, indices, files)
        write_text(opened.folder / "review.csv", table.to_csv(index=False))
        write_text(opened.folder / "review.html", _page(opened, chips, bundle, files, table.head(top)))
    return table


def label_quality(probabilities: Float[np.ndarray, "height width"], truth: ClassMask, valid: ClassMask) -> float:
    """How likely the labels of a class of an image are right, 0..1: the softmin over its usable pixels of the
    probability of what they were labelled as (Lad & Mueller 2023, arXiv 2307.05080). 1 where no pixel is usable."""
    of_label = np.where(truth, probabilities, 1 - probabilities)[valid]
    weights = np.exp((1 - of_label) / TEMPERATURE)
    return float((weights * of_label).sum() / weights.sum()) if of_label.size else 1.0


def _ranked(chips: Chips, indices: list[int], files: ProbabilityFiles) -> pd.DataFrame:
    rows = []
    for index in indices:
        chip, classes = chips.read(index), chips.dataset.classes
        probabilities = files.read(chips.id(index))[: len(classes)] / 255.0
        for name, of_class, truth in zip(classes, probabilities, chip.mask, strict=True):
            quality = round(label_quality(of_class, truth, chip.valid), 6)
            rows.append({"image_id": chips.id(index), "class": name, "quality": quality, "row": index})
    return pd.DataFrame(rows).sort_values(["quality", "image_id", "class"], ignore_index=True)


def _page(run: Run, chips: Chips, bundle: Bundle, files: ProbabilityFiles, shown: pd.DataFrame) -> str:
    several = len(bundle.classes) > 1
    items = []
    for row in shown.to_dict("records"):
        class_id = chips.dataset.classes.index(row["class"])
        image_id = row["image_id"]
        levels, presence = files.read(image_id)[: len(bundle.classes)], files.presence(image_id)
        decided = decided_by(bundle.decision, levels, exclusive=chips.options.exclusive, presence=presence)
        prediction = decided[class_id]
        chip = chips.read(row["row"])
        picture = panels(as_rgb(chip.image), chip.mask[class_id], prediction)
        uri = image_uri(picture, max_side=1100, enlarge=2 if max(prediction.shape) <= 128 else 1)
        what = f"{row['image_id']}, class {row['class']}" if several else row["image_id"]
        runs = rle.to_text(rle.encode(prediction))
        items.append(Judged(uri, f"{what}: quality {row['quality']:.3f}", row["image_id"], row["class"], runs))
    how = (
        "Labels of images that the networks were not trained on, those they find least likely first. Each picture: "
        "image, label outlined, prediction in red, and where they differ. A label that differs is not wrong for that: "
        "look, and say what is right. What is said stays in this browser; 'Save corrections' writes corrections.csv, "
        "and 'segsmith correct DATASET corrections.csv' puts it beside the dataset."
    )
    return render_page(
        f"Labels to review: {run.recipe().name}",
        f"{len(shown):,} of {chips.dataset.raw.name}",
        [],
        [Section("Least likely labels", [how, legend(), judged_grid(items, run.facts()["fingerprint"])])],
        further_scripts=[JUDGE],
    )
