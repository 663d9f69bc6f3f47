"""Run + images -> a dataset with what the run gets wrong, or is sure to be empty, as further negatives to train on.

A false alarm is one only where something else than the model says that the image is empty: its labels, or a person. Of
images that nobody looked at, those without a trace of foreground are taken for empty: that is the model's own belief,
kept apart from the rest. Where the model sees something in an image that nobody looked at, nothing is learnt; such
images are listed for a person to look at.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from segsmith.cluster import opened_cluster, spread
from segsmith.data.dataset import Dataset
from segsmith.decision.candidates import Candidate, Seen, of_dataset, of_folder, read, seen_with, with_images
from segsmith.decision.gates import gate_values
from segsmith.decision.masks import decided_by
from segsmith.errors import DataError, WriteError
from segsmith.modeling.bundle import Bundle
from segsmith.modeling.run import Run
from segsmith.prediction.probabilities import Predictor
from segsmith.progress import track

KNOWN, BELIEVED = "mined", "mined-believed"
"""Sources of mined images: known to be empty, and taken for empty by the model."""
COLUMNS = ["image_id", "path", "kind", "known_by", "value", "false_pixels", "run"]
JOB_BATCHES = 8
"""What a worker of a cluster is given at once."""


@dataclass(frozen=True)
class Mined:
    """What was found. Tables have a row per image: image_id, path, kind, known_by, value, false_pixels, run."""

    folder: Path
    looked_at: int
    kept: pd.DataFrame
    """False alarms, the most confident first, then empties, the surest first."""
    unknown: pd.DataFrame
    """Images of unknown truth in which the model sees something, the most confident first."""


def mine(
    run: Path,
    images: Path,
    to: Path,
    *,
    known_empty: bool = False,
    sure: float = 0.05,
    most: int | None = None,
    cluster: str | None = None,
    workers: int | None = None,
) -> Mined:
    """Look at images with a run's bundle; write its dataset with those that were mined, as the dataset `to`.

    `images` is a folder of images of unknown truth, of which `known_empty` says that a person knows them to be without
    foreground; or a dataset, whose labels say. Kept are, at most `most` of each:

        false alarm   known to be empty, and the bundle's decision finds something
        empty         unknown, the decision finds nothing, and the value is at most `sure`

    The value of an image is the mean of its `decide.top_k` most probable pixels, 0..1, of its most probable class.
    Mined images are of source 'mined', or 'mined-believed' where only the model says so; folds and scores stay those
    of the run's dataset, since mined images are only trained on. Images of the run's own dataset that raise false
    alarms get that source and keep their fold. With `cluster` (cluster.py) its workers look at the images; they must
    see the run and the images by the same paths. Raises RunError for a run without bundle and a cluster that is not to
    be had, DataError for rasters and ids that the dataset has already, ModelError for other bands, WriteError.
    """
    opened = Run(run)
    opened.check_trained()
    bundle, dataset = Bundle.read(opened.bundle), opened.dataset()
    if to.exists() and not (to / "mined.csv").is_file():
        raise WriteError(f"{to}: exists, and no earlier mining wrote it; choose a new folder")
    given = Dataset.open(images) if (images / "dataset.json").is_file() else None
    if given is not None and known_empty:
        raise DataError(f"{images}: is a dataset, whose labels say what is empty; leave out --known-empty")
    candidates = of_folder(images, dataset, known_empty=known_empty) if given is None else _of_dataset(given, dataset)
    seen = seen_with(candidates, dataset, bundle)
    with opened_cluster(cluster, workers) as client:
        # Whole batches, those that there would be anyway: what is said of an image may depend on those beside it.
        size = JOB_BATCHES * bundle.recipe.predict.batch_size if client else max(1, len(seen))
        jobs = [seen[first : first + size] for first in range(0, len(seen), size)]
        looking = partial(_looking, opened.bundle.resolve(), run.resolve().name, sure)
        needs = [opened.bundle, *(of.path for of in candidates[:1])]
        rows = [row for _, found in spread(client, looking, jobs, "groups of images", needs=needs) for row in found]
    table = pd.DataFrame(rows, columns=COLUMNS)
    alarms = _first(table[table["kind"] == "false alarm"], most, ascending=False)
    empties = _first(table[table["kind"] == "empty"], most, ascending=True)
    unknown = _first(table[table["kind"] == "unknown"], None, ascending=False)
    kept = pd.concat([alarms, empties], ignore_index=True)
    found = Mined(to, len(candidates), kept, unknown)
    before = Path(opened.facts()["dataset"]) / "mined.csv"
    noted = pd.concat([pd.read_csv(before, dtype={"image_id": str}), kept]) if before.is_file() else kept
    mined = _with(dataset, candidates, kept, f"mined with {run.resolve().name}: {len(alarms)} false alarms, "
                  f"{len(empties)} images taken for empty")  # fmt: skip
    mined.write(to, {"mined.csv": noted.to_csv(index=False), "unknown.csv": unknown.to_csv(index=False)})
    return found


def _of_dataset(given: Dataset, dataset: Dataset) -> list[Candidate]:
    """The images of a dataset that are empty or unlabelled."""
    table = given.images
    wanted = ~table["labelled"].to_numpy(bool) | (table["foreground"].to_numpy() == 0)
    return of_dataset(given, dataset, np.flatnonzero(wanted & ~given.mined).tolist(), "mining")


def _looking(file: Path, run: str, sure: float) -> Callable[[Seen], list[dict[str, Any]]]:
    """In whichever process: what looks at images, and tells a row of the tables for each that is of interest."""
    bundle = Bundle.read(file)
    predictor = Predictor(bundle)

    def look(images: Seen) -> list[dict[str, Any]]:
        rows = []
        stream = predictor.stream(read(images, predictor.bands))
        for candidate, _, found in track(stream, "images", len(images)):
            levels, presence = found.levels[: len(bundle.classes)], found.presence
            mask = decided_by(bundle.decision, levels, exclusive=bundle.recipe.data.exclusive, presence=presence)
            value = float(max(gate_values(levels, "top_k", bundle.recipe.decide.top_k))) / 255
            seen = bool(mask.any())
            known = candidate.known_by != "model"
            if seen or (not known and value <= sure):
                rows.append(
                    {
                        "image_id": candidate.image_id,
                        "path": str(candidate.path),
                        "kind": ("false alarm" if known else "unknown") if seen else "empty",
                        "known_by": candidate.known_by,
                        "value": round(value, 4),
                        "false_pixels": int(mask.any(axis=0).sum()),
                        "run": run,
                    }
                )
        return rows

    return look


def _first(table: pd.DataFrame, most: int | None, *, ascending: bool) -> pd.DataFrame:
    return table.sort_values(["value", "image_id"], ascending=[ascending, True])[:most]


def _with(dataset: Dataset, candidates: list[Candidate], kept: pd.DataFrame, note: str) -> Dataset:
    """The dataset with what was mined: rows of its own get another source, others are added behind them."""
    chosen = set(kept["image_id"])
    changed = with_images(dataset, [candidate for candidate in candidates if candidate.image_id in chosen])
    table = changed.images.copy()
    table["mined"] = changed.mined
    place = {image_id: row for row, image_id in enumerate(table["image_id"])}
    for row in kept.itertuples():
        at = place[str(row.image_id)]
        table.loc[at, "source"] = BELIEVED if row.known_by == "model" else KNOWN
        if row.known_by == "model" or at >= len(dataset):  # what others say of it may be trained on, and judges nothing
            table.loc[at, ["labelled", "mined"]] = True
    return replace(changed, images=table, notes=(*dataset.notes, note))
