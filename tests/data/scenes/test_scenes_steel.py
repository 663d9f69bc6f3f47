"""Made-up steel strip: the contest's layout in all its forms, labels where the defects are, repeats that repeat."""

import csv
from collections import Counter, defaultdict
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segsmith.data import rle, scenes
from segsmith.data.scenes.steel import draw_strip

HW = (64, 160)
IMAGES, TEST, REPEATS = 40, 3, 7


def table(path: Path) -> tuple[list[str], list[list[str]]]:
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    return header, rows


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("made") / "steel"
    return folder, scenes.make_steel(folder, images=IMAGES, test_images=TEST, hw=HW, repeats=REPEATS, seed=1)


def masks_of(path: Path) -> dict[str, dict[int, np.ndarray]]:
    masks = defaultdict[str, dict[int, np.ndarray]](dict)
    for name, number, runs in table(path)[1]:
        masks[name][int(number)] = rle.decode(rle.parse(runs, HW), HW)
    return masks


def test_separate_columns_have_rows_for_what_is_there(made: tuple[Path, dict[str, str]]) -> None:
    folder, _ = made
    header, rows = table(folder / "train.csv")
    assert header == ["ImageId", "ClassId", "EncodedPixels"]
    assert rows == sorted(rows)
    assert len({(name, number) for name, number, _ in rows}) == len(rows), "one row per image and class"
    files = {path.name for path in (folder / "train_images").iterdir()}
    assert len(files) == IMAGES + REPEATS
    assert {name for name, _, _ in rows} < files, "images without defect have no row"
    assert all(runs for *_, runs in rows)
    header, rows = table(folder / "sample_submission.csv")
    tested = sorted(path.name for path in (folder / "test_images").iterdir())
    assert header == ["ImageId", "ClassId", "EncodedPixels"]
    assert rows == [[name, str(number), "1 1"] for name in tested for number in range(1, 5)]
    assert len(tested) == TEST
    assert not files & set(tested)


def test_half_of_the_images_have_no_defect_and_every_class_occurs(made: tuple[Path, dict[str, str]]) -> None:
    folder, repeats = made
    masks = masks_of(folder / "train.csv")
    assert len(set(masks) - set(repeats)) == IMAGES // 2
    counts = Counter(number for of_image in masks.values() for number in of_image)
    assert set(counts) == {1, 2, 3, 4}
    assert counts[3] == max(counts.values())
    assert any(len(of_image) > 1 for of_image in masks.values())


def test_images_are_grey_jpegs_of_three_channels(made: tuple[Path, dict[str, str]]) -> None:
    for path in made[0].glob("*_images/*.jpg"):
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert image is not None
        assert image.shape == (*HW, 3)
        assert np.ptp(image.astype(int), axis=2).max() <= 2
        assert image.std() > 1


@pytest.mark.parametrize("absent_rows", [False, True])
def test_all_forms_of_the_table_say_the_same(tmp_path: Path, absent_rows: bool) -> None:
    scenes.make_steel(tmp_path / "a", images=12, test_images=1, hw=HW, absent_rows=absent_rows)
    scenes.make_steel(tmp_path / "b", images=12, test_images=1, hw=HW, columns="joined")
    _, separate = table(tmp_path / "a" / "train.csv")
    header, joined = table(tmp_path / "b" / "train.csv")
    assert header == ["ImageId_ClassId", "EncodedPixels"]
    assert len(joined) == 4 * 12
    kept = [row for row in joined if row[1] or absent_rows]
    assert [[f"{name}_{number}", runs] for name, number, runs in separate] == kept
    header, rows = table(tmp_path / "b" / "sample_submission.csv")
    assert header == ["ImageId_ClassId", "EncodedPixels"]
    assert [row[0][-6:] for row in rows] == [".jpg_1", ".jpg_2", ".jpg_3", ".jpg_4"]


@given(seed=st.integers(0, 10_000), number=st.integers(1, 4))
@settings(max_examples=25)
def test_what_a_defect_changes_lies_in_its_label(seed: int, number: int) -> None:
    """The strip is the same with and without the defect: no difference may lie outside, and much lies within."""
    hw = (96, 144)
    bare, without = draw_strip(np.random.default_rng(seed), hw, ())
    image, mask = draw_strip(np.random.default_rng(seed), hw, (number,))
    assert not without.any()
    assert mask.any(axis=(1, 2)).tolist() == [number == n for n in (1, 2, 3, 4)]
    changed = np.abs(image.astype(int) - bare) > 0.1 * bare.mean()
    label = mask[number - 1]
    near = cv2.dilate(label.astype(np.uint8), np.ones((7, 7))).astype(bool)
    assert (changed & ~near).sum() <= 0.02 * changed.sum()
    assert (changed & label).sum() > 0.02 * label.sum()
    assert label.mean() < 0.75


def test_repeats_are_the_original_moved(made: tuple[Path, dict[str, str]]) -> None:
    folder, repeats = made
    masks = masks_of(folder / "train.csv")
    assert len(repeats) == REPEATS
    ways = (
        lambda a: a[:, ::-1],
        lambda a: a[::-1],
        lambda a: a[::-1, ::-1],
        lambda a: a[:, ::-1],  # a quarter turn is for squares
        lambda a: np.pad(a, ((0, 0), (8, 0)), "reflect")[:, :160],
        lambda a: np.pad(a, ((3, 0), (0, 0)), "reflect")[:64],
        lambda a: a,
    )
    for (repeat, original), way in zip(repeats.items(), ways, strict=True):
        pair = [cv2.imread(str(folder / "train_images" / name), 0) for name in (repeat, original)]
        assert np.abs(pair[0].astype(int) - way(pair[1]).astype(int)).mean() < 4
        assert (pair[0] != pair[1]).any()
        assert masks[repeat].keys() == masks[original].keys()
        for number, mask in masks[original].items():
            np.testing.assert_array_equal(masks[repeat][number], way(mask))


def test_the_same_call_writes_the_same_bytes_and_more_images_change_none(tmp_path: Path) -> None:
    for name, images in (("a", 6), ("b", 6), ("c", 9)):
        scenes.make_steel(tmp_path / name, images=images, test_images=2, hw=(64, 80), seed=4)
    first, second, third = (
        {path.name: path.read_bytes() for path in (tmp_path / name).rglob("*") if path.is_file()} for name in "abc"
    )
    assert first == second
    assert {name: content for name, content in first.items() if name != "train.csv"}.items() <= third.items()
    scenes.make_steel(tmp_path / "d", images=6, test_images=2, hw=(64, 80), seed=5)
    assert not {path.name for path in (tmp_path / "d").rglob("*.jpg")} & set(first)


def test_too_small_strip_and_repeats_of_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"at least 64.*\(63, 200\)"):
        scenes.make_steel(tmp_path / "x", images=1, hw=(63, 200))
    with pytest.raises(ValueError, match="no image to repeat"):
        scenes.make_steel(tmp_path / "x", images=0, repeats=1)
    assert not (tmp_path / "x").exists()
