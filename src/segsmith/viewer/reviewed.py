"""A run -> its labels as a person reviews them: ranked, beside what the networks say, and what was said of them."""

import csv
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np

from segsmith.data import rle
from segsmith.data.corrections import (
    FILE,
    Correction,
    Verdict,
    correct,
    fixed,
    new_pixels,
    read_corrections,
    say,
    version_of,
)
from segsmith.data.dataset import Dataset
from segsmith.data.images import as_rgb
from segsmith.decision.decide import decided_bundle
from segsmith.decision.masks import decided_by
from segsmith.errors import DataError, ModelError, RunError
from segsmith.modeling.bundle import Decision
from segsmith.modeling.run import Run
from segsmith.prediction.probabilities import ProbabilityFiles, png
from segsmith.types import HW, ClassMask, Mask

MOST_PIXELS = 2**25
"""Of an image that is painted on: a page holds some ten bytes for each."""


SAYING = Lock()
"""A file is written by one thread at a time, even if a run is looked at by two names."""


class Ranked(NamedTuple):
    """A label in the order of review.csv; `quality` 0..1, 1: the networks would have labelled it so."""

    image_id: str
    class_id: int
    quality: float


class Label(NamedTuple):
    """A class of an image: its label as the dataset has it and the decided prediction, as run lengths, and what was
    said of it; None where nothing was predicted, or said."""

    label: str
    prediction: str | None
    verdict: Verdict | None
    runs: str


class Shown(NamedTuple):
    """An image as it is reviewed."""

    hw: HW
    labels: list[Label]
    """One for each class."""
    ignored: str
    """Run lengths of what its labels leave open."""
    fixed: str | None
    """Why nothing can be painted on it, if nothing can."""
    left_out: bool
    version: str
    """By which a verdict on it says that it is about what is shown here."""


class Reviewed:
    """The labels of a run's dataset, and the corrections of them that lie in the run until they are put beside the
    dataset. Several threads may ask at once.

    Labels are those that the dataset has now, corrections beside it included: one that was corrected since the run
    began can be reviewed further. Raises RunError for a run whose chips are parts of images, DataError where its
    dataset is gone.
    """

    def __init__(self, folder: Path):
        self.run = Run(folder)
        recipe = self.run.recipe()
        if recipe.data.fit == "chip":
            raise RunError(
                f"{folder}: its chips are parts of images; labels are corrected by image, so look at its report"
            )
        self.file = folder / FILE
        self.dataset_folder = Path(self.run.facts()["dataset"])
        self.exclusive = recipe.data.exclusive
        self._named = recipe.data.classes
        self._open()

    def _open(self) -> None:
        self.dataset = Dataset.open(self.dataset_folder)
        self.rows = {image_id: row for row, image_id in enumerate(self.dataset.images["image_id"])}
        self.classes = self.dataset.named(self._named).classes
        """As the recipe calls them; corrections call them as the dataset does."""

    @cached_property
    def _decided(self) -> tuple[Decision, ProbabilityFiles] | None:
        try:
            bundle = decided_bundle(self.run)
        except (ModelError, RunError):  # not trained, or not decided: labels can be corrected all the same
            return None
        return bundle.decision, ProbabilityFiles(self.run.probabilities, bundle.planes)

    def ranked(self) -> list[Ranked] | None:
        """The labels that review.csv ranks, the least likely first; None where there is no such file. Raises DataError
        for one that does not read."""
        file = self.run.folder / "review.csv"
        if not file.is_file():
            return None
        try:
            with file.open(newline="", encoding="utf-8") as lines:
                return [
                    Ranked(image_id, self.classes.index(row["class"]), float(row["quality"]))
                    for row in csv.DictReader(lines)
                    if (image_id := row["image_id"]) in self.rows
                ]
        except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{file}: does not read ({error}); make it again: segsmith review") from None

    def corrections(self) -> list[Correction]:
        """What was said so far, in the order it was."""
        return read_corrections(self.file) if self.file.exists() else []

    def class_id(self, correction: Correction) -> int | None:
        """The number of its class; None where it is of the whole image, or of none that the dataset has."""
        names = self.dataset.classes
        return names.index(correction.class_name) if correction.class_name in names else None

    def shown(self, row: int) -> Shown:
        """An image's labels, and what was said of them. Raises DataError for files that have gone or broken."""
        image_id, hw = self._id(row), self.dataset.hw(row)
        corrections = self.corrections()
        said = {self.class_id(found): found for found in corrections if found.image_id == image_id}
        predicted = self._predicted(row)
        labels = []
        for class_id, truth in enumerate(self.dataset.mask(row)):
            prediction = None if predicted is None else _text(predicted[class_id])
            found = said.get(class_id)
            labels.append(Label(_text(truth), prediction, found and found.verdict, found.runs if found else ""))
        fixed_by = fixed(self.dataset, row)
        if hw[0] * hw[1] > MOST_PIXELS:
            fixed_by = f"an image of {hw[0]} x {hw[1]} pixels is too large to be painted on"
        return Shown(
            hw=hw,
            labels=labels,
            ignored=_text(self.dataset.ignored(row)),
            fixed=fixed_by,
            left_out=Correction(image_id, "", "leave out") in corrections,
            version=version_of(corrections, image_id),
        )

    def picture(self, row: int) -> bytes:
        """An image as PNG, every pixel as it is. Raises DataError for a file that has gone or broken."""
        return png(np.ascontiguousarray(as_rgb(self.dataset.image(row))[:, :, ::-1]))

    def say(self, row: int, class_id: int | None, verdict: Verdict | None, runs: str, version: str) -> list[Correction]:
        """Write what is said of a class of an image, or of the whole of it, into the run's corrections; with no verdict
        take it back. Returns all that is said now.

        Raises DataError for what does not fit the dataset, StaleError where the image has another version by now.
        """
        if verdict is not None and (verdict == "leave out") != (class_id is None):
            raise DataError("an image is left out; a class of it is kept, empty or replaced")
        if runs and verdict != "replace":
            raise DataError(f"run lengths belong to 'replace', not to {verdict or 'what is taken back'}")
        class_name = "" if class_id is None else self.dataset.classes[class_id]
        said = Correction(self._id(row), class_name, verdict or "keep", runs)
        if verdict is not None:
            if not self.dataset.images["labelled"].iloc[row]:
                raise DataError(f"{said.image_id} has no labels, or was left out by {self.dataset_folder / FILE}")
            pixels = new_pixels(self.dataset, row, said)
            if pixels is not None:
                joined = rle.encode(rle.decode(pixels, self.dataset.hw(row)))
                said = said._replace(verdict="replace" if len(joined) else "empty", runs=rle.to_text(joined))
        with SAYING:
            return say(self.file, said, version, taken_back=verdict is None)

    def put_beside(self) -> list[Correction]:
        """Put the run's corrections beside its dataset, as `segsmith correct` does, and look at it corrected. Returns
        all that now stand there."""
        with SAYING:
            if not self.file.exists():
                raise DataError(f"{self.file}: nothing was said yet")
            corrections = correct(self.dataset_folder, self.file)
            self._open()
        return corrections

    def all_put(self) -> bool:
        """Whether all that was said stands beside the dataset already."""
        beside = self.dataset_folder / FILE
        return set(self.corrections()) <= set(read_corrections(beside) if beside.is_file() else [])

    def _id(self, row: int) -> str:
        return str(self.dataset.images["image_id"].iloc[row])

    def _predicted(self, row: int) -> Mask | None:
        if self._decided is None or not self._decided[1].has(image_id := self._id(row)):
            return None
        decision, files = self._decided
        levels = files.read(image_id)[: len(self.classes)]
        if levels.shape[1:] != self.dataset.hw(row):
            return None
        presence = files.presence(image_id)
        return decided_by(decision, levels, exclusive=self.exclusive, presence=presence)


def _text(mask: ClassMask) -> str:
    return rle.to_text(rle.encode(mask))
