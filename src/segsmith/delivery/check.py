"""A submission, whoever wrote it -> what is wrong with it, and what it scores where the truth is known."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from segsmith.data import rle
from segsmith.data.dataset import Dataset, Layout
from segsmith.data.images import inspect_image
from segsmith.data.index import in_threads, read_header
from segsmith.data.ingest_rle import KNOWN, LAYOUTS, NO_RUNS, read_table
from segsmith.decision.evaluate import Score, scores_of
from segsmith.decision.object_scores import f2_of_image
from segsmith.delivery.predict import find_images
from segsmith.delivery.submission import Key, Rows, read_rows, said
from segsmith.errors import DataError, RunLengthError
from segsmith.progress import track
from segsmith.types import HW, Runs

ANY_HW = (1, 2**31 - 1)
"""Of an image of unknown size."""


@dataclass(frozen=True)
class Checked:
    """What a submission holds, what is wrong with it, and what is worth knowing but not wrong.

    `scores` are empty without a truth, or where something is wrong: the contest would not score it either.
    """

    layout: str
    rows: int
    images: int
    with_foreground: int
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    scores: tuple[Score, ...]


def check(
    submission: Path,
    *,
    sample: Path | None = None,
    truth: Path | None = None,
    images: Path | None = None,
    hw: HW | None = None,
) -> Checked:
    """Read a submission as a contest would: columns, ids, classes, run lengths; then score it.

    `sample` is the contest's sample submission: the same columns, images and classes must be there, each as often as a
    row may be. `truth` is a CSV in the submission's layout, or the folder of a dataset with labels of run lengths. How
    large the images are is read off the files in `images`, else off the dataset, else it is `hw` for all; unknown, run
    lengths are held against nothing. Raises DataError for what cannot be read at all; all that is wrong within it is
    in `problems`.
    """
    layout = _layout(submission)
    dataset = Dataset.open(truth) if truth and truth.is_dir() else None
    table = truth if truth and not dataset else None
    for path in (sample, table):
        if path and (columns := read_header(path)) != layout.columns:
            raise DataError(f"{submission}: columns {','.join(layout.columns)}, but {path} has {','.join(columns)}")
    layout = _with_classes(layout, dataset, sample or table or submission)
    found, problems = read_rows(submission, layout)
    notes: list[str] = []
    if sample:
        asked, wrong = read_rows(sample, layout)
        if wrong:
            raise DataError(f"{sample}: {wrong[0]}")
        problems += _against(found, asked, layout, sample)
        if not problems and list(found) != list(asked):
            notes.append("rows stand in another order than the sample's; contests go by ids")
    sizes = _sizes(found, layout, dataset, images, hw)
    unsized = len({key.image_id for key in found} - sizes.keys())
    if unsized:
        notes.append(f"the size of {unsized:,} images is not known: their run lengths were held against no border")
    objects, wrong = _objects(found, layout, sizes)
    problems += wrong
    scores: tuple[Score, ...] = ()
    if truth and not problems:
        true, wrong = _of_dataset(dataset, layout) if dataset else _objects(read_rows(truth, layout)[0], layout, sizes)
        if wrong:
            raise DataError(f"{truth}: {wrong[0]}")
        here = {key.image_id for key in objects} & sizes.keys()
        scored = {key: objects.get(key, []) for key in true if key.image_id in here}
        if left_out := len({key.image_id for key in true.keys() | objects.keys()} - {key.image_id for key in scored}):
            notes.append(f"{left_out:,} images have no truth, no size or no row, and are not scored")
        if no_row := len(scored.keys() - objects.keys()):
            notes.append(f"{no_row:,} classes of images have no row and are taken to be predicted empty")
        if scored:
            scores = _scored(layout, scored, true, sizes)
    return Checked(
        layout=layout.name,
        rows=sum(map(len, found.values())),
        images=len({key.image_id for key in found}),
        with_foreground=len({key.image_id for key, runs in objects.items() if runs}),
        problems=tuple(problems),
        notes=tuple(notes),
        scores=scores,
    )


def _layout(submission: Path) -> Layout:
    columns = read_header(submission)
    for layout in LAYOUTS:
        if layout.columns == columns:
            return layout
    raise DataError(f"{submission}: columns {','.join(columns) or 'none'}; known are {KNOWN}")


def _with_classes(layout: Layout, dataset: Dataset | None, table: Path) -> Layout:
    """The layout with its classes: the dataset's, or all that a table names."""
    if layout.class_column is None:
        return layout
    if dataset is not None:
        return replace(layout, class_keys=dataset.layout.class_keys)
    return replace(layout, class_keys=tuple(sorted(set(read_table(table, layout)["class"]))))


def _against(found: Rows, asked: Rows, layout: Layout, sample: Path) -> Iterator[str]:
    """What the sample asks for and is not there, and what is there and was not asked for."""
    for keys, what in (
        ([key for key in asked if key not in found], "missing, {} has it"),
        ([key for key in found if key not in asked], "not in {}"),
    ):
        for key in keys:
            row = f"row {found[key][0].row}, " if key in found else ""
            yield f"{row}{said(key, layout)}: {what.format(sample.name)}"


def _sizes(found: Rows, layout: Layout, dataset: Dataset | None, images: Path | None, hw: HW | None) -> dict[str, HW]:
    ids = {key.image_id for key in found}
    if images:
        files = {image_id: path for image_id, path in find_images(images, layout).items() if image_id in ids}
        facts = in_threads(inspect_image, list(files.values()))
        return {
            image_id: of_image.hw for image_id, of_image in zip(files, track(facts, "images", len(files)), strict=True)
        }
    if dataset is not None:
        known = zip(dataset.images["image_id"], dataset.images["height"], dataset.images["width"], strict=True)
        return {image_id: (int(height), int(width)) for image_id, height, width in known if image_id in ids}
    return dict.fromkeys(ids, hw) if hw else {}


def _objects(rows: Rows, layout: Layout, sizes: Mapping[str, HW]) -> tuple[dict[Key, list[Runs]], list[str]]:
    """The objects of each image and class, none where it is empty; and the rows that are wrong."""
    objects: dict[Key, list[Runs]] = {}
    problems: list[str] = []
    for key, of_key in rows.items():
        found = objects.setdefault(key, [])
        for row, text in of_key:
            try:
                runs = rle.parse(text, sizes.get(key.image_id, ANY_HW))
            except RunLengthError as error:
                problems.append(f"row {row}, {said(key, layout)}: {error}")
                continue
            if len(runs):
                found.append(runs)
            elif len(of_key) > 1:
                problems.append(f"row {row}, {said(key, layout)}: no pixels, yet the image has {len(of_key)} rows")
        together = np.concatenate(found) if found else NO_RUNS
        ordered = together[together[:, 0].argsort()]
        shared = np.flatnonzero(ordered[1:, 0] < ordered[:-1].sum(axis=1))
        if len(shared):
            problems.append(
                f"row {of_key[0].row}, {said(key, layout)}: objects share pixel {int(ordered[shared[0] + 1, 0]) + 1}"
            )
    return objects, problems


def _of_dataset(dataset: Dataset, layout: Layout) -> tuple[dict[Key, list[Runs]], list[str]]:
    """The objects of every labelled image and class."""
    if dataset.of_polygons:
        raise DataError(f"{dataset.raw}: its labels are polygons, and a submission's are run lengths")
    ids = dataset.images["image_id"].tolist()
    classes = range(max(1, len(layout.class_keys)))
    true: dict[Key, list[Runs]] = {Key(ids[index], number): [] for index in dataset.labelled for number in classes}
    for number, (image, class_id) in enumerate(zip(dataset.objects["image"], dataset.objects["class"], strict=True)):
        first, last = dataset.offsets[number : number + 2]
        true[Key(ids[image], class_id)].append(dataset.runs[first:last])
    return true, []


def _scored(
    layout: Layout, objects: Mapping[Key, list[Runs]], true: Mapping[Key, list[Runs]], sizes: Mapping[str, HW]
) -> tuple[Score, ...]:
    """The figures of `evaluate`; over objects as well where a row is one."""
    number_of = {image_id: number for number, image_id in enumerate(dict.fromkeys(key.image_id for key in objects))}
    rows = []
    for key, predicted in track(objects.items(), "scores", len(objects)):
        hw = sizes[key.image_id]
        mask, truth = (rle.decode(np.concatenate(found) if found else NO_RUNS, hw) for found in (predicted, true[key]))
        rows.append(
            {
                "row": number_of[key.image_id],
                "class": layout.class_keys[key.class_id] if layout.class_column else "",
                "right_pixels": int((mask & truth).sum()),
                "predicted_pixels": int(mask.sum()),
                "true_pixels": int(truth.sum()),
                "usable_pixels": truth.size,
            }
            | ({"f2_objects": f2_of_image(predicted, true[key], hw)} if layout.one_row_per == "object" else {})
        )
    return scores_of(pd.DataFrame(rows), layout.class_keys, seed=0)
