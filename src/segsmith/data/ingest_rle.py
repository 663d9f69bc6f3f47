"""Folder of images + run-length CSV -> Dataset. The layout is recognised by the CSV's columns, and said.

rle-objects     ImageId,EncodedPixels           one row per object, ids with suffix, an empty image is a row without
                                                pixels
rle-masks       id,rle_mask                     one row per image, ids without suffix; mask files and tables of numbers
                                                may stand by
rle-classes     ImageId,ClassId,EncodedPixels   one row per image and class, ids with suffix; an image of the folder
                                                without rows is empty
rle-id-class    ImageId_ClassId,EncodedPixels   the same, id and class joined by an underscore; an image without rows
                                                is empty if no other row is without pixels, else it is unlabelled
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from os import walk
from pathlib import Path

import numpy as np
import pandas as pd

from segsmith.data import rle
from segsmith.data.class_table import read_class_table
from segsmith.data.cleaning import Cleaning
from segsmith.data.dataset import Dataset, Layout
from segsmith.data.findings import BrokenFilesError, Finding
from segsmith.data.images import ImageFacts, is_image, read_mask
from segsmith.data.index import LabelledImage, LabelledObject, in_threads, index, look_at_all, read_csv, read_header
from segsmith.errors import DataError, RunLengthError, listed
from segsmith.progress import track
from segsmith.types import HW, Runs

LAYOUTS = (
    Layout("rle-objects", "ImageId", "EncodedPixels", one_row_per="object", id_has_suffix=True),
    Layout("rle-masks", "id", "rle_mask", one_row_per="image", id_has_suffix=False),
    Layout("rle-classes", "ImageId", "EncodedPixels", "image", id_has_suffix=True, class_column="ClassId"),
    Layout(
        "rle-id-class", "ImageId_ClassId", "EncodedPixels", "image", id_has_suffix=True, class_column="ImageId_ClassId"
    ),
)
KNOWN = "; ".join(
    f"{','.join(layout.columns)} (one row per {layout.one_row_per}{' and class' if layout.class_column else ''})"
    for layout in LAYOUTS
)
LOOKED_FOR = f"a CSV of run lengths beside the images, columns {KNOWN}"
MASK_FOLDERS = frozenset({"mask", "masks"})
NO_RUNS = np.empty((0, 2), np.int32)


def recognise(raw: Path, labels: Path | None = None) -> str | None:
    """What of this layout lies in a raw folder, in words; None if nothing does."""
    found = [(file, layout) for file, layout in _known_files(_csv_files(raw, labels)) if layout]
    return "; ".join(f"{file.name} has the columns {','.join(layout.columns)}" for file, layout in found) or None


def ingest(
    raw: Path,
    *,
    labels: Path | None = None,
    assume_hw: HW | None = None,
    classes: Path | None = None,
    cleaning: Cleaning | None = None,
) -> Dataset:
    """The dataset of a raw folder; every image is decoded once, every run length checked.

    `labels` says which CSV when several fit; without it one whose images are not here is passed by. `assume_hw`
    indexes the labels alone, without images, taking every image to be of that size. `classes` names the classes of
    a layout that numbers them (and may name some without a row). Raises DataError naming every file and row that is
    wrong, at most ten at a time.
    """
    raw, cleaning = raw.resolve(), cleaning or Cleaning()
    if not raw.is_dir():
        raise DataError(f"{raw}: no such folder")
    folders = {} if assume_hw else _image_folders(raw)
    csv_file, layout, passed_by = _find_labels(raw, labels, folders)
    table = read_table(csv_file, layout)
    layout, names = _with_classes(csv_file, layout, table, classes)
    first_row: dict[str, int] = {}
    for row, image_id in enumerate(table["image"], start=2):
        first_row.setdefault(image_id, row)

    notes = list(passed_by)
    masks_folder = None
    if assume_hw:
        found = [LabelledImage(image_id, image_id, labelled=True) for image_id in first_row]
        notes.append(f"labels alone: no image was opened, all are taken to be {assume_hw[0]} x {assume_hw[1]}")
    else:
        found, masks_folder = _find_images(raw, csv_file, layout, folders, first_row)
        empty_too = layout.class_column and not (layout.joins_class and (table[layout.runs_column] == "").any())
        if empty_too:
            found, said = _empty_without_row(found)
            notes += said
    cleaned = cleaning.apply(raw, found, opened=not assume_hw)
    images = cleaned.images
    notes += cleaned.notes
    if assume_hw:
        facts = [ImageFacts(assume_hw, 0, 0, (), ())] * len(images)
    else:
        facts = look_at_all(raw, images)
        others = Counter(str(Path(image.path).parent) for image in images if not image.labelled)
        if others:
            notes.append("unlabelled: " + ", ".join(f"{count} in {folder}" for folder, count in others.items()))

    number_of = {image.image_id: number for number, image in enumerate(images)}
    objects = _read_objects(csv_file, layout, table, number_of, facts)
    if masks_folder and layout.class_column:
        notes.append(f"{masks_folder.relative_to(raw)}: not compared with {csv_file.name}, which has classes")
    elif masks_folder:
        ids = [image.image_id for image in images if image.labelled]
        _check_masks(masks_folder, csv_file, ids, facts, objects)
        notes.append(f"{masks_folder.relative_to(raw)}: mask files agree with {csv_file.name}")

    dataset = index(raw, layout, names, images, facts, objects, ())
    table_of_images = dataset.images
    for file, extra in _extra_tables(csv_file, layout):
        if taken := [name for name in extra.columns if name in table_of_images]:
            raise DataError(f"{file}: column {taken[0]} would stand twice in the index; rename it")
        missing = int((~table_of_images["image_id"].isin(extra.index)).sum())
        beyond = int((~extra.index.isin(table_of_images["image_id"])).sum())
        table_of_images = table_of_images.join(extra, on="image_id")
        columns = ", ".join(extra.columns)
        notes.append(
            f"{file.name}: {columns} for {len(images) - missing} images, none for {missing}, {beyond} rows of other ids"
        )

    first = f"{csv_file.name}: {len(table)} rows, {len(first_row)} images, {len(objects)} with pixels"
    return replace(dataset, images=table_of_images, notes=(first, *notes))


def _csv_files(raw: Path, labels: Path | None) -> list[Path]:
    if labels:
        return [labels]
    return sorted(file for file in raw.glob("*.csv") if not file.name.startswith("sample_submission"))


def _known_files(files: Iterable[Path]) -> list[tuple[Path, Layout | None]]:
    known = {tuple(layout.columns): layout for layout in LAYOUTS}
    return [(file, known.get(tuple(read_header(file)))) for file in files]


def _find_labels(
    raw: Path, labels: Path | None, folders: dict[Path, dict[str, Path]]
) -> tuple[Path, Layout, list[str]]:
    """The CSV to go by, its layout, and a note for each that was passed by since none of its images is here."""
    files = _csv_files(raw, labels)
    found = [(file, layout) for file, layout in _known_files(files) if layout]
    passed_by = []
    if len(found) > 1:
        here = {name for images in folders.values() for path in images.values() for name in (path.name, path.stem)}
        fitting = [(file, layout) for file, layout in found if here & set(read_table(file, layout)["image"])]
        if len(fitting) == 1:
            passed_by = [
                f"{file.name}: passed by, none of its images is here" for file, _ in found if file != fitting[0][0]
            ]
            found = fitting
    if len(found) == 1:
        return found[0][0].absolute(), found[0][1], passed_by
    if found:
        names = ", ".join(file.name for file, _ in found)
        raise DataError(f"{raw}: several label files ({names}); say which with --labels FILE")
    if not files:
        raise DataError(f"{raw}: no CSV file with labels here; known columns: {KNOWN}")
    seen = [f"{file.name}: {','.join(read_header(file)) or 'empty file'}" for file in files]
    raise DataError(f"{raw}: no CSV file with known columns\n{listed(seen)}\nknown columns: {KNOWN}")


def read_table(csv_file: Path, layout: Layout) -> pd.DataFrame:
    """The rows as they stand, and columns `image` and `class` for what they say."""
    table = read_csv(csv_file, dtype=str, keep_default_na=False, skip_blank_lines=False)
    table = table.fillna("")  # a row cut short has no second field at all
    if table.empty:
        raise DataError(f"{csv_file}: has no rows below its header")
    said = [layout.image_and_class(fields) for fields in table[layout.columns].itertuples(index=False, name=None)]
    table["image"], table["class"] = [image_id for image_id, _ in said], [key for _, key in said]
    if (table["image"] == "").any():
        raise DataError(f"{csv_file}, row {int(np.argmax(table['image'] == '')) + 2}: no {layout.id_column}")
    if layout.class_column and (table["class"] == "").any():
        row = int(np.argmax(table["class"] == ""))
        how = f"{table['image'].iloc[row]} has no class after an underscore" if layout.joins_class else "no class"
        raise DataError(f"{csv_file}, row {row + 2}: {how}")
    return table


def _with_classes(
    csv_file: Path, layout: Layout, table: pd.DataFrame, classes: Path | None
) -> tuple[Layout, tuple[str, ...]]:
    """The layout with the classes as written, and their names: by number where all are numbers, else by letters."""
    if layout.class_column is None:
        if classes:
            raise DataError(f"{classes}: {csv_file.name} has no classes to name")
        return layout, ("object",)
    keys = sorted(set(table["class"]), key=lambda key: (int(key), key) if key.isdecimal() else (2**62, key))
    if not classes:
        return replace(layout, class_keys=tuple(keys)), tuple(keys)
    names = read_class_table(classes).by_key
    unnamed = [key for key in keys if key not in names]
    if not names or unnamed:
        raise DataError(
            f"{classes}: names no class {', '.join(unnamed)} of {csv_file.name}; a row for each, columns class,name"
        )
    return replace(layout, class_keys=tuple(names)), tuple(names.values())


def _image_folders(raw: Path) -> dict[Path, dict[str, Path]]:
    """Image files by their names without suffix, folder by folder."""
    folders: dict[Path, dict[str, Path]] = {}
    for top, names, files in walk(raw):
        names.sort()
        if Path(top).name.startswith("."):
            continue
        found = {name: Path(top, name) for name in sorted(files) if is_image(Path(name))}
        if found:
            folders[Path(top)] = found
    return folders


def _find_images(
    raw: Path, csv_file: Path, layout: Layout, in_folders: dict[Path, dict[str, Path]], first_row: dict[str, int]
) -> tuple[list[LabelledImage], Path | None]:
    """The labelled images in the order of the labels, then the others by name; and the folder of mask files if any."""
    ids = list(first_row)
    folders: dict[Path, dict[str, Path]] = {}
    for folder, files in in_folders.items():
        found = folders[folder] = {}
        for path in files.values():
            twin = found.setdefault(layout.image_id(path), path)
            if twin is not path:
                raise DataError(f"{folder}: {twin.name} and {path.name} have the same id; move one of them away")
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
    labelled = [LabelledImage(i, str(pictures[best][i].relative_to(raw)), labelled=True) for i in ids]
    unlabelled = [LabelledImage(layout.image_id(path), str(path.relative_to(raw)), labelled=False) for path in others]
    return labelled + unlabelled, masks_folder


def _empty_without_row(images: Sequence[LabelledImage]) -> tuple[list[LabelledImage], list[str]]:
    """Images without a row that lie in the folder of those with rows are empty: the CSV lists only what is there."""
    folder = Path(images[0].path).parent
    without = sum(not image.labelled and Path(image.path).parent == folder for image in images)
    said = [f"{without} images in {folder.name} have no row and are taken to be empty"] if without else []
    return [image._replace(labelled=Path(image.path).parent == folder) for image in images], said


def _read_objects(
    csv_file: Path, layout: Layout, table: pd.DataFrame, number_of: dict[str, int], facts: Sequence[ImageFacts]
) -> list[LabelledObject]:
    """One object per CSV row with pixels; rows of images that are left out are passed by."""
    problems: list[str] = []
    objects: list[LabelledObject] = []
    seen: dict[tuple[str, str, str], int] = {}
    rows_of: dict[tuple[str, str], list[tuple[int, bool]]] = {}
    class_of = {key: class_id for class_id, key in enumerate(layout.class_keys)}
    each = "one row per image and class" if layout.class_column else "one row per image"
    for row, (image_id, key, text) in enumerate(
        zip(table["image"], table["class"], table[layout.runs_column], strict=True), start=2
    ):
        if (here := number_of.get(image_id)) is None:
            continue
        what = f"{image_id} class {key}" if key else image_id
        try:
            found = rle.parse(text, facts[here].hw)
        except RunLengthError as error:
            problems.append(f"{csv_file.name}, row {row}, {what}: {error}")
            continue
        earlier = rows_of.setdefault((image_id, key), [])
        if earlier and layout.one_row_per == "image":
            problems.append(f"{csv_file.name}, row {row}: {what} already stands in row {earlier[0][0]}; {each}")
        elif earlier and not (len(found) and all(filled for _, filled in earlier)):
            problems.append(
                f"{csv_file.name}, row {row}: {what} also stands in row {earlier[0][0]}, yet one has no pixels"
            )
        elif (image_id, key, text) in seen:
            problems.append(
                f"{csv_file.name}, row {row}: {what} with the same pixels as row {seen[image_id, key, text]}"
            )
        earlier.append((row, len(found) > 0))
        if len(found):
            seen[image_id, key, text] = row
            objects.append(LabelledObject(here, class_of.get(key, 0), row, found))
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
        truth = rle.decode(np.concatenate(runs_of.get(row, [NO_RUNS])), hw)
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
