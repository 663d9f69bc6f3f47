"""What the section on folds says, against folds dealt here."""

import re
from dataclasses import replace

import numpy as np
import pytest

from segsmith.audit.duplicates import describe
from segsmith.audit.folds import make_folds
from segsmith.data.ingest import ingest
from segsmith.data.scenes import make_ships
from segsmith.eda import report_folds
from segsmith.eda.report_folds import folds_section
from segsmith.recipe import Folds


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ships")
    make_ships(folder / "raw", train_images=60, test_images=12, size=64)
    return ingest(folder / "raw")


def cells(html: str) -> list[list[str]]:
    """Rows of the first table."""
    body = html.split("<tbody>")[1].split("</tbody>")[0]
    return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in body.split("<tr>")[1:]]


def test_folds_stand_side_by_side(dataset):
    found = folds_section(dataset, None)
    folds = make_folds(dataset, Folds(), 0)
    objects, foreground = dataset.images["objects"].to_numpy(), dataset.images["foreground"].to_numpy()
    rows = cells(" ".join(found.parts))
    assert len(rows) == 5
    for fold, row in enumerate(rows):
        inside = folds == fold
        assert row[:2] == [str(fold), str(inside.sum())]
        assert row[2].startswith(f"{(foreground[inside] == 0).sum()} (")
        assert row[3] == str(objects[inside].sum())
        assert row[4] == f"{foreground[inside].sum() / (inside.sum() * 64 * 64):.2%}"
    assert found.parts[-1] == "Whether the split leaks was not checked: images were not compared."


def test_the_leak_check_is_told_in_words_and_pictures(dataset):
    words = " ".join(folds_section(dataset, describe(dataset)).parts)
    assert "Leak check of fold 0 against the others." in words
    assert re.search(r"A classifier (cannot tell|tells) validation images from training images", words)
    assert re.search(r"A classifier (cannot tell|tells) unlabelled images from training images", words)
    assert "0.5 is what guessing gives" in words
    assert words.count("<img") == report_folds.PAIRS_SHOWN


def test_a_copy_in_training_is_said(tmp_path):
    make_ships(tmp_path / "raw", train_images=30, test_images=0, size=64)
    table = tmp_path / "raw" / "train_ship_segmentations_v2.csv"
    folder = next(path for path in (tmp_path / "raw").iterdir() if path.is_dir() and any(path.iterdir()))
    rows = table.read_text().splitlines()
    for image in sorted(folder.iterdir()):  # each has a twin under another name
        twin = f"{image.stem}_twin{image.suffix}"
        (folder / twin).write_bytes(image.read_bytes())
        rows += [row.replace(image.name, twin) for row in rows if row.startswith(image.name)]
    table.write_text("\n".join(rows) + "\n")
    twins = ingest(tmp_path / "raw")
    words = " ".join(folds_section(twins, describe(twins)).parts)
    found = re.search(r"(\d+) of its (\d+) images show the pixels of a training image", words)
    assert found
    assert 0 < int(found[1]) <= int(found[2])
    assert "scores will flatter" in words


def test_beyond_a_number_of_images_the_split_is_not_checked_and_that_is_said(dataset, monkeypatch):
    monkeypatch.setattr(report_folds, "MOST_CHECKED", 59)
    said = folds_section(dataset, describe(dataset)).parts[-1]
    assert said.startswith("Whether the split leaks was not checked: 60 labelled images, more than 59.")


def test_a_class_that_a_fold_lacks_is_said(dataset):
    filled = dataset.objects["image"].unique()
    rare = dataset.objects["image"].isin(filled[:2])
    two = replace(
        dataset, classes=("ship", "raft"), objects=dataset.objects.assign(**{"class": rare.to_numpy().astype(np.int8)})
    )
    folds = make_folds(two, Folds(), 0)
    without = sorted(set(range(5)) - set(folds[filled[:2]].tolist()))
    said = f"Class raft is missing in folds {', '.join(map(str, without))}: no score of it can be had there."
    found = folds_section(two, None)
    assert said in found.parts
    assert "Images of each class" in " ".join(found.parts)


def test_too_few_images_for_folds_are_said(dataset):
    few = replace(
        dataset,
        images=dataset.images.iloc[:4].reset_index(drop=True),
        objects=dataset.objects[dataset.objects["image"] < 4],
    )
    (said,) = folds_section(few, None).parts
    assert said.startswith("There is no split by whole images: ")
