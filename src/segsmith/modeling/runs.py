"""Folders -> the runs in them: how far each is, what it scores, what tells its recipe from the others', which is best.

Only scores of one kind can be compared: by the same metric, made in the same way, of the same images of one dataset.
Runs are shown in groups of such.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from segsmith.errors import RunError, SegsmithError
from segsmith.modeling.next_hour import NextHour, of_training
from segsmith.modeling.run import FREE, Run, flat_options
from segsmith.recipe import Recipe


@dataclass(frozen=True)
class Kind:
    """What two scores must share to be compared."""

    dataset: str
    fingerprint: str
    metric: str
    how: str
    """'held_out' or 'validation' as `evaluate` scored it; 'epochs' is the best validation score while training."""
    images: str
    """Digits that change with the images scored."""


@dataclass(frozen=True)
class Standing:
    """A run, where it stands, and its score with its 95 % interval where `evaluate` gave one; None without epochs."""

    folder: Path
    kind: Kind
    stage: int
    stages: int
    epoch: int
    finished: bool
    score: float | None
    interval: tuple[float, float] | None
    recipe: Recipe
    next_hour: NextHour
    """What more training is expected to bring, by the score of its epochs."""
    combined: dict[Path, float]
    """Folder of each run that it combines, and its weight; empty for one that was trained."""

    @property
    def options(self) -> dict[str, Any]:
        """Of the recipe, by dotted key, but for what a combined run has from its parts."""
        tree = self.recipe.model_dump(mode="json", exclude={"network", "train"} if self.combined else None)
        return flat_options(tree)


@dataclass(frozen=True)
class Group:
    """Runs whose scores can be compared, the best first, and the keys of the recipe by which they differ."""

    kind: Kind
    standings: tuple[Standing, ...]
    differing: dict[str, tuple[Any, ...]]
    """Dotted key: its value in each run, in their order; None where a run's recipe has no such key."""

    @property
    def sure(self) -> bool:
        """Whether the best one's interval lies above the second one's; if not, `compare` says more."""
        if len(self.standings) < 2:
            return False
        best, second = (standing.interval for standing in self.standings[:2])
        return best is not None and second is not None and best[0] > second[1]


def runs(folders: Sequence[Path]) -> tuple[list[Group], list[str]]:
    """The runs in or below folders in groups, the largest first; and what was wrong with those that do not read.

    Raises RunError for a folder that is not there, or when there is no run at all.
    """
    found: list[Standing] = []
    broken: list[str] = []
    for folder in folders:
        if not folder.is_dir():
            raise RunError(f"{folder}: no such folder")
        for file in sorted(folder.rglob("run.json")):
            if not (file.parent / "recipe.yaml").is_file() or file.parent in [one.folder for one in found]:
                continue
            try:
                found.append(_standing(file.parent))
            except (SegsmithError, ValueError, KeyError) as error:
                broken.append(f"{file.parent}: {str(error).splitlines()[0]}")
    if not found and not broken:
        raise RunError(f"no run in {', '.join(map(str, folders))}; make one with: segsmith train")

    def order(standing: Standing) -> tuple[str, ...]:
        kind = standing.kind
        return kind.dataset, kind.fingerprint, kind.metric, kind.how, kind.images

    groups = [_group(list(same)) for _, same in groupby(sorted(found, key=order), key=order)]
    return sorted(groups, key=lambda group: -len(group.standings)), broken


def _standing(folder: Path) -> Standing:
    run = Run(folder)
    recipe, facts = run.recipe(), run.facts()
    rows = _table(folder / "metrics.csv")
    scored = folder / "scores.json"
    metric: str = recipe.selected_by
    how, score, interval = "epochs", None, None
    if scored.is_file():
        told = json.loads(scored.read_text())
        metric, how = recipe.decide.metric, told["part"]
        if metric not in told["scores"]:
            metric = recipe.metric_of_pixels
        of_metric = told["scores"][metric]
        score, interval = of_metric["value"], (of_metric["low"], of_metric["high"])
        images = _table(folder / "images.csv")["image_id"]
    else:
        folds = _table(folder / "folds.csv")
        images = folds.loc[["validation" in part.split("+") for part in folds["part"]], "chip"]
        score = float(rows[metric].max()) if len(rows) else None
    last = rows.iloc[-1] if len(rows) else {"stage": 1, "epoch": 0}
    digest = hashlib.blake2b("\n".join(sorted(set(images))).encode(), digest_size=4).hexdigest()
    return Standing(
        folder=folder,
        kind=Kind(Path(facts["dataset"]).name, facts["fingerprint"], metric, how, digest),
        stage=int(last["stage"]),
        stages=len(recipe.train.stages),
        epoch=int(last["epoch"]),
        finished=run.bundle.exists(),
        score=score,
        interval=interval,
        recipe=recipe,
        next_hour=of_training(recipe, rows),
        combined={Path(of["run"]): of["weight"] for of in facts.get("combined", [])},
    )


def _group(standings: list[Standing]) -> Group:
    ranked = sorted(standings, key=lambda one: -1.0 if one.score is None else one.score, reverse=True)
    options = [standing.options for standing in ranked]
    keys = dict.fromkeys(key for of_run in options for key in of_run if key not in FREE | {"name"})
    values = {key: tuple(of_run.get(key) for of_run in options) for key in keys}
    differing = {key: each for key, each in values.items() if len({json.dumps(value) for value in each}) > 1}
    return Group(ranked[0].kind, tuple(ranked), differing)


def _table(file: Path) -> pd.DataFrame:
    """A CSV with ids as text; an empty table where it is not there yet."""
    ids = {"image_id": str, "chip": str, "part": str}
    return pd.read_csv(file, dtype=ids) if file.is_file() else pd.DataFrame()
