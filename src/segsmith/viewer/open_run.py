"""A run folder -> what pages show of it: its chips with their scores, and what is known of each."""

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from segsmith.data.findings import KINDS
from segsmith.decision.decide import Seen, areas_to_try, seen_images
from segsmith.errors import RunError
from segsmith.modeling.bundle import Bundle, Cell, Decision
from segsmith.modeling.run import Run
from segsmith.prediction.probabilities import ProbabilityFiles
from segsmith.recipe import Recipe
from segsmith.samples.chips import Chips

PARTS = ("validation", "held_out")
MEASURED = ("dice", "iou", "iou_map", "f2_objects", "true_pixels", "predicted_pixels", "right_pixels")
"""Columns of images.csv, of each image and class, that pages sort and filter by."""
MADE_OF = ("recipe.yaml", "run.json", "bundle.safetensors", "images.csv", "scores.json")
"""Files of a run that say when it has to be read anew."""


class NotShownError(RunError):
    """A run that there is nothing to show of yet, or something of it; `command` is what helps, if one does."""

    def __init__(self, message: str, command: str | None = None):
        super().__init__(message)
        self.command = command


@dataclass(frozen=True, eq=False)
class OpenRun:
    """A decided run, read once. `chips_shown` are those of the validation and held-out parts, ascending; there is one
    at least."""

    folder: Path
    recipe: Recipe
    chips: Chips
    fingerprint: str
    decision: Decision
    files: ProbabilityFiles
    folds: pd.DataFrame
    """A row for each of `chips_shown`: `chip`, `id`, `fold`, `part` ('validation' or 'held_out')."""
    scores: pd.DataFrame
    """images.csv; no rows where the run is not evaluated."""
    scored: Mapping[str, Any]
    """scores.json; empty where the run is not evaluated."""
    version: str
    """Changes whenever a page has to ask anew."""

    @staticmethod
    def read(folder: Path) -> "OpenRun":
        """Raises NotShownError for a run that is not trained or decided, or judges no image, SegsmithError for what
        does not read."""
        version = _version(folder)
        run = Run(folder)
        recipe = run.recipe()
        facts = run.facts()
        if not run.bundle.exists():
            raise NotShownError(
                f"{folder}: its training is not finished, so there is nothing to look at yet. The train command that "
                "began it continues it:",
                f"segsmith train {facts['dataset']} {folder} --recipe {folder / 'recipe.yaml'}",
            )
        bundle = Bundle.read(run.bundle)
        if bundle.decision.metric is None:
            raise NotShownError(
                f"{folder}: is trained, but no threshold is decided yet. Decide first:", f"segsmith decide {folder}"
            )
        chips = run.chips()
        folds = _folds(folder, chips)
        if not len(folds):
            raise NotShownError(
                f"{folder}: by its folds.csv no image was validated on or held out, so there is none that it can be "
                "judged by. Train a run with a fold that has images."
            )
        table, scored = folder / "images.csv", folder / "scores.json"
        evaluated = table.is_file() and scored.is_file()
        return OpenRun(
            folder=folder,
            recipe=recipe,
            chips=chips,
            fingerprint=str(facts["fingerprint"]),
            decision=bundle.decision,
            files=ProbabilityFiles(run.probabilities, bundle.planes),
            folds=folds,
            scores=pd.read_csv(table, dtype={"image_id": str, "class": str}) if evaluated else pd.DataFrame(),
            scored=json.loads(scored.read_text()) if evaluated else {},
            version=version,
        )

    @property
    def classes(self) -> tuple[str, ...]:
        return self.chips.dataset.classes

    @property
    def cells(self) -> tuple[Cell, ...]:
        """What is decided of each class."""
        return self.decision.cells_of(len(self.classes))

    @property
    def by_objects(self) -> bool:
        """Whether objects are scored: `evaluate` does where they are what it was decided by."""
        return self.decision.metric == "f2_objects"

    @cached_property
    def reading(self) -> threading.Lock:
        """Held by whoever reads chips: what a dataset keeps of them is not made for several threads."""
        return threading.Lock()

    @cached_property
    def areas(self) -> Int[np.ndarray, " areas"]:
        """Smallest areas that pages offer, ascending: those tried, with that of every class."""
        tried = self.decision.areas or areas_to_try(self.chips.hw(int(self.folds["chip"].iloc[0])))
        return np.array(sorted({*tried, *(cell.smallest_area for cell in self.decision.cells)}))

    @cached_property
    def place_of(self) -> dict[str, int]:
        """Of each id, its row among `folds`."""
        return {chip_id: place for place, chip_id in enumerate(self.folds["id"])}

    def of_part(self, part: str) -> list[int]:
        """Chip numbers of a part, ascending."""
        return [int(chip) for chip in self.folds.loc[self.folds["part"] == part, "chip"]]

    def seen(self, chip: int) -> Seen:
        """A chip as decisions see it. Raises NotShownError where its probabilities are missing."""
        chip_id = self.chips.id(chip)
        if not self.files.has(chip_id):
            part = self.folds.loc[self.folds["chip"] == chip, "part"].iloc[0]
            raise NotShownError(
                f"{chip_id}: the run has no probabilities of it. They are made by:",
                f"segsmith evaluate {self.folder} --on {part}",
            )
        with self.reading:
            return next(iter(seen_images(self.recipe, self.chips, [chip], self.files)))

    def scored_rows(self, chip_id: str) -> pd.DataFrame:
        """Rows of images.csv of a chip, one for each class; none where it was not scored."""
        rows = self._rows_of.get(chip_id)
        return self.scores.iloc[rows] if rows is not None else self.scores.iloc[:0]

    @cached_property
    def _rows_of(self) -> dict[str, Int[np.ndarray, " rows"]]:
        if not len(self.scores):
            return {}
        found = self.scores.groupby("image_id", sort=False).indices
        return {str(chip_id): np.asarray(rows) for chip_id, rows in found.items()}

    def measured(self) -> dict[str, list[float | None]]:
        """Of each column MEASURED that images.csv has, the values of all chips of the first class, then of the second
        and so on; None where not scored."""
        if not len(self.scores):
            return {}
        class_number = {name: number for number, name in enumerate(self.classes)}
        place = self.scores["image_id"].map(self.place_of)
        number = self.scores["class"].map(class_number)
        known = (place.notna() & number.notna()).to_numpy()
        at = (number * len(self.folds) + place)[known].astype(int).to_numpy()
        columns = {}
        for name in MEASURED:
            if name not in self.scores:
                continue
            digits = 4 if self.scores[name].dtype.kind == "f" else None
            column: list[float | None] = [None] * (len(self.folds) * len(self.classes))
            for index, value in zip(at.tolist(), self.scores[name].to_numpy()[known].tolist(), strict=True):
                column[index] = round(value, digits) if digits else value
            columns[name] = column
        return columns

    def findings(self) -> tuple[list[str], list[int]]:
        """Kinds of findings that the audit of the dataset has of any shown chip's image, and of each chip which of
        them, as bits."""
        file = Path(Run(self.folder).facts()["dataset"]) / "findings.csv"
        if not file.is_file():
            return [], [0] * len(self.folds)
        table = pd.read_csv(file, dtype=str, usecols=["kind", "image_id"]).dropna()
        kinds_of = table.groupby("image_id")["kind"].agg(set).to_dict()
        image_ids = self.chips.dataset.images["image_id"].to_numpy(str)[self.chips.image[self.folds["chip"]]]
        each = [kinds_of.get(image_id, set()) for image_id in image_ids.tolist()]
        present = set().union(*each)
        kinds = [kind for kind in KINDS if kind in present]
        return kinds, [sum(1 << number for number, kind in enumerate(kinds) if kind in of) for of in each]

    def strata(self) -> tuple[list[str], list[int]]:
        """Strata that tell shown chips apart, in the words of a batch mix, and of each chip which of them, as bits."""
        strata = self.chips.strata()
        mixes = [stage.mix for stage in self.recipe.train.stages if stage.mix]
        names = ["empty", "single", "multi", *(f"class:{name}" for name in self.classes if len(self.classes) > 1)]
        names += [f"source:{name}" for name in strata.sources if len(strata.sources) > 1]
        names += [name for mix in mixes for name in mix if name != "rest"]
        numbers = self.folds["chip"].to_numpy()
        bits, told = np.zeros(len(numbers), np.int64), list[str]()
        for name in dict.fromkeys(names):
            fits: Bool[np.ndarray, " shown"] = strata.of(name)[numbers]
            if fits.any() and not fits.all() and len(told) < 30:
                bits |= fits.astype(np.int64) << len(told)
                told.append(name)
        return told, bits.tolist()


class Runs:
    """Runs by the number pages ask for, each read when it is asked for and again when its files have changed."""

    def __init__(self, folders: Mapping[int, Path]):
        self.folders = folders
        self._read: dict[int, OpenRun] = {}
        self._lock = threading.Lock()

    def __getitem__(self, number: int) -> OpenRun:
        """Raises NotShownError for a number that is none's, and what `OpenRun.read` raises."""
        folder = self.folders.get(number)
        if folder is None:
            raise NotShownError(f"folder {number}: is no run")
        with self._lock:
            found = self._read.get(number)
            if found is None or found.version != _version(folder):
                found = self._read[number] = OpenRun.read(folder)
            return found


def _version(folder: Path) -> str:
    times = [(folder / name).stat().st_mtime_ns if (folder / name).exists() else 0 for name in MADE_OF]
    return format(hash(tuple(times)) & (2**64 - 1), "x")


def _folds(folder: Path, chips: Chips) -> pd.DataFrame:
    table = pd.read_csv(folder / "folds.csv", dtype={"chip": str}).rename(columns={"chip": "id"})
    table["part"] = [next((part for part in PARTS if part in parts.split("+")), "") for parts in table["part"]]
    if chips.whole:
        ids = chips.dataset.images["image_id"].astype(str).tolist()
    else:
        ids = [chips.id(chip) for chip in range(len(chips))]
    numbers = {chip_id: chip for chip, chip_id in enumerate(ids)}
    table = table[table["part"] != ""]
    table["chip"] = table["id"].map(numbers).astype(int)
    return table.sort_values("chip", ignore_index=True)[["chip", "id", "fold", "part"]]
