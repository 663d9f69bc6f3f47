"""Raw folder -> Dataset, whatever its layout: recognised by looking, and said why."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from segsmith.data import ingest_coco, ingest_masks, ingest_rle, ingest_vector
from segsmith.data.cleaning import Cleaning
from segsmith.data.dataset import Dataset
from segsmith.data.index import read_header
from segsmith.errors import DataError, listed
from segsmith.types import HW

Family = Literal["rle", "masks", "coco", "vector"]
"""The layouts by what their labels are: run lengths in a CSV, mask files, COCO's JSON, or vector files of rasters."""

NAMES: tuple[Family, ...] = get_args(Family)
LOOKED_FOR: dict[Family, str] = {
    "rle": ingest_rle.LOOKED_FOR,
    "masks": ingest_masks.LOOKED_FOR,
    "coco": ingest_coco.LOOKED_FOR,
    "vector": ingest_vector.LOOKED_FOR,
}


def ingest(
    raw: Path,
    *,
    layout: Family | None = None,
    labels: Path | None = None,
    assume_hw: HW | None = None,
    classes: Path | None = None,
    foreground: ingest_masks.Foreground | None = None,
    class_field: str | None = None,
    exclude: Mapping[str, str] | None = None,
    smallest_file: int = 0,
) -> Dataset:
    """The dataset of a raw folder, which stays untouched; its first note says which layout was recognised, and why.

    `layout` says which when several fit, `labels` which label file. `assume_hw` indexes run lengths alone, without
    images. `classes` is a table of class names (see class_table.py), `foreground` the one of two levels of masks that
    is the class, `class_field` the field of vector labels that holds theirs. `exclude` holds ids of images to leave
    out, each with its reason; labelled images of fewer than `smallest_file` bytes are left out as well; the notes
    count both. Raises DataError when no layout or several fit, and naming what is wrong with files and labels.
    """
    raw, cleaning = raw.resolve(), Cleaning(exclude or {}, smallest_file)
    if not raw.is_dir():
        raise DataError(f"{raw}: no such folder")
    family, why = _choose(raw, layout, labels)
    if assume_hw and family != "rle":
        raise DataError(f"{raw}: --assume-size wants the run lengths of a CSV; found {family}: {why}")
    if foreground and family != "masks":
        raise DataError(f"{raw}: --foreground says what mask files mean; found {family}: {why}")
    if class_field and family != "vector":
        raise DataError(f"{raw}: --class-field names a field of vector labels; found {family}: {why}")
    match family:
        case "rle":
            dataset = ingest_rle.ingest(raw, labels=labels, assume_hw=assume_hw, classes=classes, cleaning=cleaning)
        case "masks":
            dataset = ingest_masks.ingest(raw, classes=classes, foreground=foreground, cleaning=cleaning)
        case "coco":
            dataset = ingest_coco.ingest(raw, labels=labels, classes=classes, cleaning=cleaning)
        case "vector":
            dataset = ingest_vector.ingest(raw, class_field=class_field, cleaning=cleaning)
    return replace(dataset, notes=(f"layout {dataset.layout.name}: {why}", *dataset.notes))


def recognised(raw: Path, labels: Path | None = None) -> dict[Family, str]:
    """Every layout that fits a raw folder, and what of it was seen; given `labels`, those that this file fits."""
    seen: dict[Family, str | None] = {
        "rle": None if labels and labels.suffix.lower() == ".json" else ingest_rle.recognise(raw, labels),
        "masks": None if labels else ingest_masks.recognise(raw),
        "coco": ingest_coco.recognise(raw, labels),
        "vector": None if labels else ingest_vector.recognise(raw),
    }
    return {family: why for family, why in seen.items() if why}


def _choose(raw: Path, layout: Family | None, labels: Path | None) -> tuple[Family, str]:
    found = recognised(raw, labels)
    if layout:
        if layout not in found:
            raise DataError(f"{raw}: no layout {layout} here; looked for {LOOKED_FOR[layout]}{_seen(raw, labels)}")
        return layout, f"{found[layout]}, as said"
    if "rle" in found and "masks" in found:
        del found["masks"]  # mask files beside run lengths say the same, and are compared with them
    if len(found) == 1:
        return next(iter(found.items()))
    if found:
        fits = [f"{family}: {why}" for family, why in found.items()]
        raise DataError(f"{raw}: several layouts fit:\n{listed(fits)}\nsay which with --layout NAME")
    looked_for = [f"{family}: {what}" for family, what in LOOKED_FOR.items()]
    there = _seen(raw, labels) + ingest_vector.unread(raw)
    raise DataError(f"{raw}: no layout recognised; looked for:\n{listed(looked_for)}{there}")


def _seen(raw: Path, labels: Path | None) -> str:
    """The columns of the CSV files there are, since a wrong header is the most common reason."""
    files = [labels] if labels else sorted(raw.glob("*.csv"))
    columns = [f"{file.name}: {','.join(read_header(file)) or 'empty file'}" for file in files if file.suffix == ".csv"]
    return f"\ncolumns of the CSV files:\n{listed(columns)}" if columns else ""
