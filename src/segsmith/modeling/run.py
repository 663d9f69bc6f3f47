"""A run is a folder: what was trained, on what, how far, and what came of it. Whoever holds it open holds it alone.

recipe.yaml          as resolved; running it again gives the same weights
run.json             dataset folder and fingerprint, hardware, versions
folds.csv            fold and part of every chip: of whole images, or of windows of large ones
chips.parquet        where each chip lies and what it holds, so that only training's beginning reads them all
metrics.csv          one row per epoch;  losses.csv  one per step;  tensorboard/  the same for TensorBoard
averaged.csv         one row per mean of weights (swa), scored likewise
checkpoints/         last.pt, to go on from; weights alone: best/, snapshots/, averaged/, and those kept for good
failed-batch.json    images of the batch at which the loss exploded
bundle.safetensors   what prediction needs;  bundle.export/  its networks for other runtimes
probabilities/       of the images decide and evaluate looked at, as 8-bit PNG
presence/            likewise, how probable each class is to be there at all, of networks with a presence head
folds/FOLD/          with folds.validation=all: the run of each fold, by the fold it was validated on
decision.json  scores.json  images.csv  report.html
"""

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch

from segsmith.data.dataset import Dataset
from segsmith.errors import RunError, listed
from segsmith.files import held, write_bytes, write_text
from segsmith.recipe import Data, Recipe
from segsmith.recipe_files import load_recipe, to_yaml
from segsmith.samples.chips import Chips, chips_of, cut
from segsmith.samples.split import Split

FREE = frozenset(
    {"train.workers", "train.cache", "train.checkpoint_minutes", "train.keep_every", "train.mlflow", "train.shard"}
)
"""Options that do not change the weights, so that a run may be continued with others."""

_WRITTEN_FIRST = frozenset(
    {".lock", ".recipe.yaml.partial"}
    | {name for file in ("chips.parquet", "folds.csv", "run.json") for name in (file, f".{file}.partial")}
)


class Run:
    """The paths of a run folder, and its parts read and written."""

    def __init__(self, folder: Path):
        self.folder = folder

    @property
    def bundle(self) -> Path:
        return self.folder / "bundle.safetensors"

    @property
    def probabilities(self) -> Path:
        return self.folder / "probabilities"

    def of_fold(self, fold: int) -> "Run":
        """With folds.validation=all, the run that was validated on a fold."""
        return Run(self.folder / "folds" / str(fold))

    @property
    def last(self) -> Path:
        return self.folder / "checkpoints" / "last.pt"

    def best_weights(self, stage: int, epoch: int) -> Path:
        """Weights of an epoch that is among the best; like all that follow, stages, epochs, cycles are from 1."""
        return self.last.parent / "best" / f"stage-{stage}-epoch-{epoch}.pt"

    def snapshot(self, stage: int, cycle: int) -> Path:
        """Weights at the end of a cycle."""
        return self.last.parent / "snapshots" / f"stage-{stage}-cycle-{cycle}.pt"

    def averaged(self, stage: int) -> Path:
        """The mean of a stage's weights (swa)."""
        return self.last.parent / "averaged" / f"stage-{stage}.pt"

    def kept_for_good(self, stage: int, epoch: int) -> Path:
        """Weights of one of every keep_every epochs."""
        return self.last.parent / f"stage-{stage}-epoch-{epoch}.pt"

    def recipe(self) -> Recipe:
        """The recipe of the run. Raises RunError if the folder holds no run."""
        file = self.folder / "recipe.yaml"
        if not file.is_file():
            raise RunError(f"{self.folder}: no run here (recipe.yaml is missing); make one with: segsmith train")
        return load_recipe(file)

    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads((self.folder / "run.json").read_text())
        return facts

    def dataset(self) -> Dataset:
        """The dataset of the run, its classes named by the recipe. Raises RunError if it changed since, DataError if
        it is gone."""
        recipe = self.recipe()
        facts = self.facts()
        dataset = Dataset.open(Path(facts["dataset"]))
        if dataset.fingerprint != facts["fingerprint"]:
            raise RunError(
                f"{facts['dataset']}: changed since the run began (fingerprint {dataset.fingerprint}, was "
                f"{facts['fingerprint']}); train a new run on it"
            )
        return dataset.named(recipe.data.classes)

    def chips(self) -> Chips:
        """The chips of the run, read from what it kept of them. Raises like `recipe` and `dataset`."""
        return self.chips_for(self.dataset(), self.recipe().data)

    def chips_for(self, dataset: Dataset, options: Data) -> Chips:
        """What `cut` gives, without reading the images if a run is here and began with the same dataset and options.
        Raises like `cut`."""
        file = self.folder / "chips.parquet"
        begun = (self.folder / "recipe.yaml").is_file() and file.is_file()
        if begun and self.facts()["fingerprint"] == dataset.fingerprint and self.recipe().data == options:
            return chips_of(pq.read_table(file), dataset, options)
        return cut(dataset, options)

    def part(self, chips: Chips, name: str) -> list[int]:
        """Chip numbers of 'training', 'validation' or 'held_out', ascending, as the run began with."""
        table = pd.read_csv(self.folder / "folds.csv", dtype={"chip": str})
        chosen = set(table.loc[[name in parts.split("+") for parts in table["part"]], "chip"])
        return [chip for chip in range(len(chips)) if chips.id(chip) in chosen]

    def folds(self, chips: Chips) -> dict[int, int]:
        """The fold of each chip that lies in one."""
        table = pd.read_csv(self.folder / "folds.csv", dtype={"chip": str})
        fold_of = dict(zip(table["chip"], table["fold"].tolist(), strict=True))
        return {chip: fold_of[chips.id(chip)] for chip in range(len(chips)) if fold_of.get(chips.id(chip), -1) >= 0}

    def check_trained(self) -> None:
        """Raise RunError if the training of the run is not finished."""
        if not self.bundle.exists():
            raise RunError(f"{self.folder}: its training is not finished; the same train command continues it")

    def check_free(self) -> None:
        """Raise RunError if the folder holds something other than a run, or the beginning of one."""
        if self.folder.is_dir() and not (self.folder / "recipe.yaml").exists():
            foreign = sorted(path.name for path in self.folder.iterdir() if path.name not in _WRITTEN_FIRST)
            if foreign:
                raise RunError(f"{self.folder}: holds {foreign[0]}, and no run; choose a new folder")

    def begin(self, dataset_folder: Path, chips: Chips, parts: Split, recipe: Recipe, facts: dict[str, Any]) -> None:
        """Start the run, or check that what is here is the same run. Raises RunError naming the options that differ."""
        dataset = chips.dataset
        if (self.folder / "recipe.yaml").exists():
            self._check_same(dataset, recipe)
            return
        labelled = np.isin(chips.image, dataset.labelled)
        ids = [chips.id(chip) for chip in range(len(chips))]
        folds = pd.DataFrame({"chip": ids, "fold": parts.fold, "part": parts.part()})[labelled]
        write_text(self.folder / "folds.csv", folds.to_csv(index=False))
        table = io.BytesIO()
        pq.write_table(chips.table(), table, compression="zstd")
        write_bytes(self.folder / "chips.parquet", table.getvalue())
        known = {"dataset": str(dataset_folder.resolve()), "fingerprint": dataset.fingerprint, **facts}
        write_text(self.folder / "run.json", json.dumps(known, indent=2))
        write_text(
            self.folder / "recipe.yaml", to_yaml(recipe, explained=True)
        )  # last: its presence makes the folder a run

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder; raises RunError when another process does, WriteError when it cannot be made."""
        with held(self.folder, "run folder"):
            yield

    def _check_same(self, dataset: Dataset, recipe: Recipe) -> None:
        was, now = flat_options(self.recipe().model_dump(mode="json")), flat_options(recipe.model_dump(mode="json"))
        if differing := differing_options(was, now):
            raise RunError(
                f"{self.folder}: holds a run of another recipe:\n{listed(differing)}\n"
                "choose another run folder, or say the same recipe"
            )
        if self.facts()["fingerprint"] != dataset.fingerprint:
            raise RunError(
                f"{self.folder}: holds a run on another dataset ({self.facts()['dataset']}); choose another run folder"
            )


def differing_options(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """For people, what differs between two recipes as flat options, of all that changes weights."""
    return [
        f"{key}: {was.get(key, 'absent')} there, {now.get(key, 'absent')} now"
        for key in dict.fromkeys([*was, *now])
        if key not in FREE and was.get(key) != now.get(key)
    ]


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values, whole or not at all. Raises WriteError."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_bytes(path, buffer.getvalue())


def load_state(path: Path) -> dict[str, Any]:
    """What save_state wrote, on the CPU. Raises RunError if it does not read."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds for a broken file
        raise RunError(f"{path}: does not read as a checkpoint ({error}); train a new run") from error
    return state


def flat_options(tree: Any, prefix: str = "") -> dict[str, Any]:
    """What a recipe says as plain values, by dotted key; empty lists and sections are values as well."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    flat = {k: v for key, value in pairs for k, v in flat_options(value, f"{prefix}{key}.").items()}
    return flat or {prefix.rstrip("."): tree}
