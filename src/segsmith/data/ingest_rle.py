"""Folder of images + run-length CSV -> Dataset. The layout is recognised by the CSV's columns, and said.

rle-objects   ImageId,EncodedPixels   one row per object, ids with suffix, an empty image is a row without pixels
rle-masks     id,rle_mask             one row per image, ids without suffix; mask files and tables of numbers may
              stand by
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from os import walk
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd

from segsmith.data import rle
from segsmith.data.dataset import Dataset, Layout
from segsmith.data.findings import BrokenFilesError, Finding, left_out
from segsmith.data.images import ImageFacts, is_image, read_mask
from segsmith.data.index import LabelledImage, LabelledObject, in_threads, index, look_at_all, read_csv, read_header
from segsmith.errors import DataError, RunLengthError, listed
from segsmith.progress import track
from segsmith.types import HW, Runs

LAYOUTS = (
    Layout("rle-objects", "ImageId", "EncodedPixels", one_row_per="object", id_has_suffix=True),
    Layout("rle-masks", "id", "rle_mask", one_row_per="image", id_has_suffix=False),
)
MASK_FOLDERS = frozenset({"mask", "masks"})


def ingest(
    raw: Path,
    *,
    labels: Path | None = None,
    assume_hw: HW | None = None,
    exclude: Mapping[str, str] = MappingProxyType({}),
) -> Dataset:
    """The dataset of a raw folder; every image is decoded once, every run length checked.

    `labels` says which CSV when several fit. `assume_hw` indexes the labels alone, without images, taking every image
    to be of that size. `exclude` are image ids to leave out, and why; their files are not opened and their rows not
    read. Raises DataError naming every file and row that is wrong, at most ten at a time.
    """
    raw = raw.resolve()
    if not raw.is_dir():
        raise DataError(f"{raw}: no such folder")
    csv_file, layout = _find_labels(raw, labels)
    table = _read_table(csv_file, layout)
    first_row: dict[str, int] = {}
    for row, image_id in enumerate(table[layout.id_column], start=2):
        if image_id not in exclude:
            first_row.setdefault(image_id, row)
    ids = list(first_row)
    if not ids:
        raise DataError(f"{csv_file}: all its images were left out; leave out fewer")

    notes = []
    if assume_hw:
        paths = ids
        facts = [ImageFacts(assume_hw, 0, 0, (), ())] * len(ids)
        labelled_count = len(ids)
        notes.append(f"labels alone: no image was opened, all are taken to be {assume_hw[0]} x {assume_hw[1]}")
        masks_folder = None
    else:
        labelled_paths, other_paths, masks_folder = _find_images(raw, csv_file, layout, first_row)
        other_paths = [path for path in other_paths if layout.image_id(Path(path)) not in exclude]
        labelled_count = len(labelled_paths)
        paths = labelled_paths + other_paths
        facts = look_at_all(raw, paths, [layout.image_id(Path(path)) for path in paths])
        if other_paths:
            folders = Counter(str(Path(path).parent) for path in other_paths)
            notes.append("unlabelled: " + ", ".join(f"{count} in {folder}" for folder, count in folders.items()))

    row_of = {image_id: row for row, image_id in enumerate(ids)}
    objects = _read_objects(csv_file, layout, table, row_of, facts)
    if masks_folder:
        _check_masks(masks_folder, csv_file, ids, facts, objects)
        notes.append(f"{masks_folder.relative_to(raw)}: mask files agree with {csv_file.name}")

    image_ids = ids if assume_hw else [layout.image_id(Path(path)) for path in paths]
    dataset = index(
        raw,
        layout,
        ("object",),
        [
            LabelledImage(image_id, path, number < labelled_count)
            for number, (image_id, path) in enumerate(zip(image_ids, paths, strict=True))
        ],
        facts,
        objects,
        (),
    )
    images = dataset.images
    for file, extra in _extra_tables(csv_file, layout):
        if taken := [name for name in extra.columns if name in images]:
            raise DataError(f"{file}: column {taken[0]} would stand twice in the index; rename it")
        missing = int((~images["image_id"].isin(extra.index)).sum())
        beyond = int((~extra.index.isin(images["image_id"])).sum())
        images = images.join(extra, on="image_id")
        names = ", ".join(extra.columns)
        notes.append(
            f"{file.name}: {names} for {len(images) - missing} images, none for {missing}, {beyond} rows of other ids"
        )

    if exclude:
        notes.append(left_out(exclude))
    first = f"{csv_file.name}: {len(table)} rows, {len(ids)} images, {len(objects)} with pixels"
    return replace(dataset, images=images, notes=(first, *notes))


def _find_labels(raw: Path, labels: Path | None) -> tuple[Path, Layout]:
    files = [labels] if labels else sorted(f for f in raw.glob("*.csv") if not f.name.startswith("sample_submission"))
    headers = {file: read_header(file) for file in files}
    found = [(f, layout) for f in files for layout in LAYOUTS if headers[f] == [layout.id_column, layout.runs_column]]
    if len(found) == 1:
        return found[0][0].absolute(), found[0][1]
    if found:
        names = ", ".join(file.name for file, _ in found)
        raise DataError(f"{raw}: several label files ({names}); say which with --labels FILE")
    known = "; ".join(
        f"{layout.id_column},{layout.runs_column} (one row per {layout.one_row_per})" for layout in LAYOUTS
    )
    if not files:
        raise DataError(f"{raw}: no CSV file with labels here; known columns: {known}")
    seen = [f"{file.name}: {','.join(header) or 'empty file'}" for file, header in headers.items()]
    raise DataError(f"{raw}: no CSV file with known columns\n{listed(seen)}\nknown columns: {known}")


def _read_table(csv_file: Path, layout: Layout) -> pd.DataFrame:
    table = read_csv(csv_file, dtype=str, keep_default_na=False, skip_blank_lines=False)
    table = table.fillna("")  # a row cut short has no second field at all
    if table.empty:
        raise DataError(f"{csv_file}: has no rows below its header")
    table[layout.id_column] = table[layout.id_column].str.strip()
    if (table[layout.id_column] == "").any():
        row = int(np.argmax(table[layout.id_column] == "")) + 2
        raise DataError(f"{csv_file}, row {row}: no {layout.id_column}")
    return table


def _find_images(
    raw: Path, csv_file: Path, layout: Layout, first_row: dict[str, int]
) -> tuple[list[str], list[str], Path | None]:
    """Paths of the labelled images in the order of the labels, of the others by name, and the folder of mask files if
    any."""
    ids = list(first_row)
    folders: dict[Path, dict[str, Path]] = {}
    for top, names, files in walk(raw):
        names.sort()
        if Path(top).name.startswith("."):
            continue
        found: dict[str, Path] = {}
        for path in (Path(top, name) for name in sorted(files) if is_image(Path(name))):
            twin = found.setdefault(layout.image_id(path), path)
            if twin is not path:
                raise DataError(f"{top}: {twin.name} and {path.name} have the same id; move one of them away")
        if found:
            folders[Path(top)] = found
    masks = [folder for folder in folders if folder.name in MASK_FOLDERS]
    pictures = {folder: found for folder, found in folders.items() if folder not in masks}
    if not pictures:
        raise DataError(f"{raw}: no image files; to index the labels alone: --assume-size HEIGHTxWIDTH")
    best = max(pictures, key=lambda folder: sum(i in pictures[folder] for i in ids))
    missing = [i for i in ids if i not in pictures[best]]
    if missing:
        rows = [f"row {first_row[image_id]}: {image_id}" for image_id in missing]
        raise DataError(
            f"{csv_file.name} names {len(missing)} images of {len(ids)} that are not in {best}:\n{listed(rows)}\n"
            "add the files or remove their rows"
        )
    of_labels = set(ids)
    others = [
        path
        for found in pictures.values()
        for i, path in found.items()
        if found is not pictures[best] or i not in of_labels
    ]
    clashes = [i for i, n in Counter(layout.image_id(path) for path in others).items() if n > 1 or i in of_labels]
    if clashes:
        raise DataError(
            f"{raw}: the same id in two folders:\n{listed(clashes)}\nids must be unique; move one of the folders away"
        )
    masks_folder = next((folder for folder in masks if folder.parent in (best.parent, raw)), None)
    return (
        [str(pictures[best][i].relative_to(raw)) for i in ids],
        [str(path.relative_to(raw)) for path in others],
        masks_folder,
    )


def _read_objects(
    csv_file: Path, layout: Layout, table: pd.DataFrame, row_of: dict[str, int], facts: Sequence[ImageFacts]
) -> list[LabelledObject]:
    """One object per CSV row with pixels."""
    problems: list[str] = []
    objects: list[LabelledObject] = []
    seen: dict[tuple[str, str], int] = {}
    rows_of: dict[str, list[tuple[int, bool]]] = {}
    for row, (image_id, text) in enumerate(
        zip(table[layout.id_column], table[layout.runs_column], strict=True), start=2
    ):
        if image_id not in row_of:  # left out
            continue
        here = row_of[image_id]
        try:
            found = rle.parse(text, facts[here].hw)
        except RunLengthError as error:
            problems.append(f"{csv_file.name}, row {row}, {image_id}: {error}")
            continue
        earlier = rows_of.setdefault(image_id, [])
        if earlier and layout.one_row_per == "image":
            problems.append(
                f"{csv_file.name}, row {row}: {image_id} already stands in row {earlier[0][0]}; one row per image"
            )
        elif earlier and not (len(found) and all(filled for _, filled in earlier)):
            problems.append(
                f"{csv_file.name}, row {row}: {image_id} also stands in row {earlier[0][0]}, yet one has no pixels"
            )
        elif (image_id, text) in seen:
            problems.append(
                f"{csv_file.name}, row {row}: {image_id} with the same pixels as row {seen[image_id, text]}"
            )
        earlier.append((row, len(found) > 0))
        if len(found):
            seen[image_id, text] = row
            objects.append(LabelledObject(here, 0, row, found))
    if problems:
        raise DataError(f"{len(problems)} of {len(table)} rows are wrong:\n{listed(problems)}\ncorrect or remove them")
    return objects


def _check_masks(
    folder: Path,
    csv_file: Path,
    ids: Sequence[str],
    facts: Sequence[ImageFacts],
    objects: Sequence[LabelledObject],
) -> None:
    """Raise DataError if a mask file is missing, broken, of another size than its image, or says other than the CSV."""
    files = {path.stem: path for path in folder.iterdir() if is_image(path)}
    runs_of: dict[int, list[Runs]] = {}
    for found in objects:
        runs_of.setdefault(found.image, []).append(found.runs)

    def look(row: int) -> Finding | None:
        file = files.get(Path(ids[row]).stem)
        if file is None:
            return broken(row, "mask-mismatch", f"{ids[row]}: no mask file in {folder}")
        try:
            mask = read_mask(file)
        except DataError as error:
            return broken(row, "undecodable", str(error))
        hw = facts[row].hw
        if mask.shape != hw:
            what = f"is {mask.shape[0]} x {mask.shape[1]} pixels, its image {hw[0]} x {hw[1]}"
            return broken(row, "mask-mismatch", f"{file}: {what}")
        truth = rle.decode(np.concatenate(runs_of.get(row, [np.empty((0, 2), np.int32)])), hw)
        wrong = int((mask != truth).sum())
        if wrong:
            return broken(row, "mask-mismatch", f"{file}: differs from {csv_file.name} in {wrong} pixels")
        return None

    def broken(row: int, kind: str, reason: str) -> Finding:
        return Finding(kind, 1.0, ids[row], files.get(Path(ids[row]).stem, folder).name, reason)

    looked = track(in_threads(look, range(len(ids))), "masks", len(ids))
    problems = [found for found in looked if found]
    if problems:
        kinds = " or ".join(f"--exclude {kind}" for kind in sorted({found.kind for found in problems}))
        raise BrokenFilesError(
            f"{len(problems)} of {len(ids)} mask files cannot be used:\n"
            f"{listed([found.reason for found in problems])}\n"
            f"correct them, move {folder.name}/ away to go by {csv_file.name} alone, or leave them out with {kinds}",
            problems,
        )


def _extra_tables(csv_file: Path, layout: Layout) -> Iterator[tuple[Path, pd.DataFrame]]:
    """Other CSVs beside the labels that give numbers per image id, such as a depth."""
    for file in sorted(csv_file.parent.glob("*.csv")):
        header = read_header(file)
        if file == csv_file or len(header) < 2 or header[0] != layout.id_column or layout.runs_column in header:
            continue
        table = read_csv(file, dtype={layout.id_column: str})
        twice = table[layout.id_column].duplicated()
        if twice.any():
            row = int(np.argmax(twice)) + 2
            raise DataError(f"{file}, row {row}: {table[layout.id_column].iloc[row - 2]} stands there twice")
        words = [name for name in header[1:] if not pd.api.types.is_numeric_dtype(table[name])]
        if words:
            raise DataError(f"{file}: column {words[0]} holds something other than numbers")
        yield file, table.set_index(layout.id_column)
