"""Folders a user named -> runs and predictions of rasters, by what lies in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from segsmith.errors import RunError

Kind = Literal["run", "prediction"]


@dataclass(frozen=True)
class Folder:
    """What one of the folders is."""

    number: int
    """By which pages ask for it."""
    kind: Kind
    name: str
    """The last part of its path, or as much of it as tells it from the others."""
    path: Path


def recognised(folders: Sequence[Path]) -> list[Folder]:
    """Each folder, in the order given. Raises RunError for one that is neither a run nor a prediction."""
    kinds = [_kind(folder) for folder in folders]
    return [
        Folder(number, kind, name, folder)
        for number, (kind, name, folder) in enumerate(zip(kinds, _names(folders), folders, strict=True))
    ]


def _kind(folder: Path) -> Kind:
    if (folder / "recipe.yaml").is_file():
        return "run"
    if (folder / "prediction.json").is_file():
        return "prediction"
    what = "neither a run nor a prediction of rasters lies here" if folder.is_dir() else "no such folder"
    raise RunError(f"{folder}: {what}; name a folder that train or predict wrote")


def _names(folders: Sequence[Path]) -> list[str]:
    parts = [folder.resolve().parts for folder in folders]
    most = max(map(len, parts), default=1)
    for length in range(1, most + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            break
    return names if folders else []
