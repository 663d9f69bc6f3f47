"""A folder that was given to be predicted -> its files, without those that predictions wrote or are writing."""

from os import walk
from pathlib import Path


def given_files(folder: Path) -> list[Path]:
    """Every file below a folder, pipes and links to nothing among them, in the order of their paths; none where the
    folder is not there.

    Left out are folders below it that `predict` wrote, of rasters (`prediction.json`) or of images (`submission.csv`
    and `objects.csv`), and those it works in (`.NAME.progress`, `.NAME.partial`): a prediction that is written among
    its images is not predicted the next time.
    """
    found: list[Path] = []
    for top, folders, names in walk(folder):
        folders[:] = [name for name in folders if not _is_of_prediction(Path(top, name))]
        found += [Path(top, name) for name in names]
    return sorted(found)


def _is_of_prediction(folder: Path) -> bool:
    if folder.name.startswith(".") and folder.suffix in {".progress", ".partial"}:
        return True
    rasters = (folder / "prediction.json").is_file()
    return rasters or all((folder / name).is_file() for name in ("submission.csv", "objects.csv"))
