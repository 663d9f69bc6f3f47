"""The made-up raw files are read back as a stranger would: csv, OpenCV and a decoder written here."""

import csv
import itertools
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from segsmith.data import scenes

SIZE = 192
SHIP_TRAIN, SHIP_TEST = 42, 5
SALT_TRAIN, SALT_TEST = 30, 7

Mask = NDArray[np.bool_]


@pytest.fixture(scope="module")
def ships(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "ships"
    scenes.make_ships(folder, train_images=SHIP_TRAIN, test_images=SHIP_TEST, size=SIZE, seed=3)
    return folder


@pytest.fixture(scope="module")
def salt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "salt"
    scenes.make_salt(folder, train_images=SALT_TRAIN, test_images=SALT_TEST, seed=3)
    return folder


def table(path: Path) -> tuple[list[str], list[list[str]]]:
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    return header, rows


def decode(runs: str, height: int, width: int) -> Mask:
    """Pixel by pixel from the format's definition; refuses runs that touch, step back or leave the image."""
    numbers = [int(word) for word in runs.split(" ")]
    mask = np.zeros((height, width), bool)
    free = 1
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        assert start >= free, "ascending, and not overlapping"
        assert length >= 1
        assert start + length - 1 <= height * width, "inside the image"
        free = start + length + 1  # runs that touch would have been one
        for pixel in range(start - 1, start - 1 + length):
            mask[pixel % height, pixel // height] = True
    return mask


def masks_of(path: Path, size: int) -> dict[str, list[Mask]]:
    found = defaultdict[str, list[Mask]](list)
    for name, runs in table(path)[1]:
        found[name] += [decode(runs, size, size)] if runs else []
    return found


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---- ships ----------------------------------------------------------------------------------------------------------


def test_ships_have_the_contests_layout(ships: Path) -> None:
    header, rows = table(ships / "train_ship_segmentations_v2.csv")
    assert header == ["ImageId", "EncodedPixels"]
    names = [name for name, _ in rows]
    assert [name for name, _ in itertools.groupby(names)] == sorted(set(names)), "one block of rows per image"
    assert set(names) == {path.name for path in (ships / "train_v2").iterdir()}
    assert len(set(names)) == SHIP_TRAIN
    for name in names:
        stem, dot, suffix = name.partition(".")
        assert (len(stem), dot + suffix) == (9, ".jpg")
        int(stem, 16)
    by_name = defaultdict[str, list[str]](list)
    for name, runs in rows:
        by_name[name].append(runs)
    assert all(len(runs) == 1 for runs in by_name.values() if "" in runs), "an empty image has one row"

    header, rows = table(ships / "sample_submission_v2.csv")
    assert header == ["ImageId", "EncodedPixels"]
    assert rows == [[path.name, "1 2"] for path in sorted((ships / "test_v2").iterdir())]
    assert len(rows) == SHIP_TEST
    assert not {name for name, _ in rows} & set(names)


def test_ship_images_are_colour_jpegs(ships: Path) -> None:
    for path in ships.glob("*_v2/*.jpg"):
        assert path.read_bytes()[:3] == b"\xff\xd8\xff"
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert image is not None
        assert image.shape == (SIZE, SIZE, 3)
        assert image.dtype == np.uint8
        assert image.std() > 1


def test_ships_never_overlap_and_are_not_specks(ships: Path) -> None:
    several = 0
    for masks in masks_of(ships / "train_ship_segmentations_v2.csv", SIZE).values():
        assert len(masks) <= 10
        several += len(masks) > 1
        assert np.sum(masks, axis=0).max(initial=0) <= 1
        for mask in masks:
            assert mask.sum() >= 30
            assert cv2.connectedComponents(mask.astype(np.uint8))[0] == 2, "one piece"
    assert several >= 2


@pytest.mark.parametrize("count", [0, 1, 2, 8, 13, 50])
def test_exactly_three_in_four_ship_images_are_empty(tmp_path: Path, count: int) -> None:
    scenes.make_ships(tmp_path, train_images=count, test_images=0, size=64)
    _, rows = table(tmp_path / "train_ship_segmentations_v2.csv")
    assert sum(not runs for _, runs in rows) == round(0.75 * count)
    assert len({name for name, _ in rows}) == count


def test_ships_stand_out_from_the_water_around_them(ships: Path) -> None:
    """Fails when masks are shifted, transposed or mirrored against the images, or the ships are not drawn."""
    clear, turned = [], []
    for name, masks in masks_of(ships / "train_ship_segmentations_v2.csv", SIZE).items():
        image = cv2.imread(str(ships / "train_v2" / name))
        assert image is not None
        for mask in masks:
            clear.append(_contrast(image, mask))
            turned.append(_contrast(image, mask[::-1, ::-1]))
    assert np.mean(np.array(clear) > 8) > 0.75
    assert np.median(clear) > 2 * np.median(turned)


def _contrast(image: NDArray[np.generic], mask: Mask) -> float:
    near = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9))).astype(bool) & ~mask
    return float(np.abs(image[mask].mean(0) - image[near].mean(0)).max())


def test_ships_are_long_and_slender(tmp_path: Path) -> None:
    scenes.make_ships(tmp_path, train_images=24, test_images=0, size=512, seed=1)
    shapes = []
    for masks in masks_of(tmp_path / "train_ship_segmentations_v2.csv", 512).values():
        for mask in masks:
            border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
            if not border.any():
                y, x = np.nonzero(mask)
                _, sides, _ = cv2.minAreaRect(np.stack([x, y], 1).astype(np.float32))
                shapes.append((max(sides) + 1, min(sides) + 1))
    length, beam = np.array(shapes).T
    assert length.min() >= 10
    assert length.max() <= 205
    assert 2.5 <= np.median(length / beam) <= 8.5


def test_ships_are_the_same_whatever_the_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for threads in (1, 5):
        monkeypatch.setattr("os.cpu_count", lambda threads=threads: threads)
        scenes.make_ships(tmp_path / str(threads), train_images=10, test_images=2, size=96, seed=9)
        scenes.make_salt(tmp_path / str(threads) / "salt", train_images=26, test_images=2, seed=9)
    assert files(tmp_path / "1") == files(tmp_path / "5")


def test_a_longer_set_begins_with_the_shorter_one(tmp_path: Path) -> None:
    for count in (8, 20):
        scenes.make_ships(tmp_path / f"ships{count}", train_images=count, test_images=0, size=64, seed=2)
        scenes.make_salt(tmp_path / f"salt{count}", train_images=count, test_images=0, seed=2)
    for kind in ("ships", "salt"):
        few, many = files(tmp_path / f"{kind}8"), files(tmp_path / f"{kind}20")
        pictures = {name for name in few if name.endswith((".jpg", ".png"))}
        assert pictures
        assert all(few[name] == many[name] for name in pictures)


def test_another_seed_makes_other_images(tmp_path: Path) -> None:
    for seed in (0, 1):
        scenes.make_ships(tmp_path / str(seed), train_images=4, test_images=1, size=64, seed=seed)
    first, second = files(tmp_path / "0"), files(tmp_path / "1")
    assert not set(first.values()) & set(second.values())


def test_ships_need_room(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="size=32"):
        scenes.make_ships(tmp_path, size=32)
    assert not any(tmp_path.iterdir())


# ---- salt -----------------------------------------------------------------------------------------------------------


def test_salt_has_the_contests_layout(salt: Path) -> None:
    header, rows = table(salt / "train.csv")
    assert header == ["id", "rle_mask"]
    train = [name for name, _ in rows]
    assert len(set(train)) == len(train) == SALT_TRAIN
    assert all(len(name) == 10 and int(name, 16) >= 0 for name in train)
    for kind in ("images", "masks"):
        assert {path.name for path in (salt / "train" / kind).iterdir()} == {f"{name}.png" for name in train}

    header, rows = table(salt / "sample_submission.csv")
    assert header == ["id", "rle_mask"]
    test = [name for name, _ in rows]
    assert rows == [[name, "1 1"] for name in test]
    assert len(test) == SALT_TEST
    assert {path.name for path in (salt / "test" / "images").iterdir()} == {f"{name}.png" for name in test}
    assert not (salt / "test" / "masks").exists()

    header, rows = table(salt / "depths.csv")
    assert header == ["id", "z"]
    depths = {name: int(z) for name, z in rows}
    assert len(depths) == len(rows)
    assert set(train) | set(test) < set(depths), "and some ids without an image"
    assert all(50 <= z <= 959 for z in depths.values())


def test_salt_images_and_masks_have_the_contests_pixel_formats(salt: Path) -> None:
    for path in salt.glob("*/images/*.png"):
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert image is not None
        assert image.shape == (101, 101, 3)
        assert image.dtype == np.uint8
        assert (image == image[..., :1]).all()
    for name, runs in table(salt / "train.csv")[1]:
        mask = cv2.imread(str(salt / "train" / "masks" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        assert mask is not None
        assert mask.shape == (101, 101)
        if runs:
            assert mask.dtype == np.uint16
            assert set(np.unique(mask)) <= {0, 65535}
            assert ((mask > 0) == decode(runs, 101, 101)).all()
        else:
            assert mask.dtype == np.uint8
            assert not mask.any()


def test_about_39_percent_of_salt_patches_are_empty(tmp_path: Path) -> None:
    scenes.make_salt(tmp_path, train_images=120, test_images=0)
    coverage = np.array([decode(runs, 101, 101).mean() if runs else 0 for _, runs in table(tmp_path / "train.csv")[1]])
    assert 0.38 <= (coverage == 0).mean() <= 0.40
    assert (coverage > 0.9).any(), "up to all of it"
    assert ((coverage > 0) & (coverage < 0.1)).any(), "down to a corner"


def test_salt_is_quieter_than_the_layers_around_it(salt: Path) -> None:
    """Fails when masks and images do not belong together."""
    quieter = []
    for name, runs in table(salt / "train.csv")[1]:
        image = cv2.imread(str(salt / "train" / "images" / f"{name}.png"), cv2.IMREAD_GRAYSCALE)
        assert image is not None
        mask = decode(runs, 101, 101) if runs else np.zeros((101, 101), bool)
        # Away from the boundary, whose echo is the loudest of all.
        inside = cv2.erode(mask.astype(np.uint8), np.ones((13, 13))).astype(bool)
        outside = cv2.erode((~mask).astype(np.uint8), np.ones((13, 13))).astype(bool)
        if inside.sum() > 300 and outside.sum() > 300:
            quieter.append(image[inside].std() < image[outside].std())
    assert len(quieter) >= 3
    assert np.mean(quieter) > 0.7


# ---- labels without images ------------------------------------------------------------------------------------------


def test_ship_labels_have_the_counts_asked_for_and_fit_the_image(tmp_path: Path) -> None:
    path = tmp_path / "new" / "labels.csv"
    scenes.make_ship_labels(path, images=2000, rows=2406, seed=4)
    header, rows = table(path)
    assert header == ["ImageId", "EncodedPixels"]
    assert len(rows) == 2406
    names = [name for name, _ in rows]
    assert [name for name, _ in itertools.groupby(names)] == sorted(set(names))
    assert len(set(names)) == 2000
    assert sum(not runs for _, runs in rows) == round(0.78 * 2000)
    ships = defaultdict[str, list[NDArray[np.int64]]](list)
    for name, runs in rows:
        if runs:
            starts, lengths = np.array(runs.split(" "), np.int64).reshape(-1, 2).T
            assert starts.min() >= 1
            assert lengths.min() >= 1
            assert (starts + lengths - 1).max() <= 768 * 768
            assert (starts[1:] > (starts + lengths)[:-1]).all()
            first, last = starts - 1, starts + lengths - 2
            assert (first // 768 == last // 768).all(), "a run stays in its column"
            columns = first // 768
            assert (np.diff(columns) == 1).all(), "a ship is one piece"
            ships[name].append(np.concatenate([np.arange(a, b + 1) for a, b in zip(first, last, strict=True)]))
    assert len({name for name, runs in rows if not runs} | set(ships)) == 2000
    for pixels in ships.values():
        together = np.concatenate(pixels)
        assert len(np.unique(together)) == len(together), "no two ships overlap"
    counts = [len(pixels) for pixels in ships.values()]
    assert max(counts) <= 15
    assert np.mean(np.array(counts) == 1) > 0.5


def test_ship_labels_are_the_same_each_time(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        scenes.make_ship_labels(tmp_path / name, images=300, rows=360, seed=1)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


@pytest.mark.parametrize("rows", [99, 100 + 22 * 14 + 1])
def test_ship_labels_refuse_rows_that_cannot_be_shared_out(tmp_path: Path, rows: int) -> None:
    with pytest.raises(ValueError, match=f"100 to 408 rows.*rows={rows}"):
        scenes.make_ship_labels(tmp_path / "labels.csv", images=100, rows=rows)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("rows", [100, 408])
def test_ship_labels_take_the_fewest_and_the_most_rows(tmp_path: Path, rows: int) -> None:
    scenes.make_ship_labels(tmp_path / "labels.csv", images=100, rows=rows)
    assert len(table(tmp_path / "labels.csv")[1]) == rows


def test_moored_ships_touch_and_never_overlap(tmp_path: Path) -> None:
    scenes.make_ships(tmp_path, train_images=12, test_images=1, size=128, seed=4, moored=True)
    found = masks_of(tmp_path / "train_ship_segmentations_v2.csv", 128)
    assert len(found) == 12
    alone = ships = 0
    for masks in found.values():
        assert len(masks) >= 2
        assert np.sum(masks, axis=0).max() == 1, "no pixel is of two ships"
        for number, mask in enumerate(masks):
            near = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3))).astype(bool)
            alone += not any((near & other).any() for other in masks[:number] + masks[number + 1 :])
        ships += len(masks)
    assert alone <= 0.05 * ships, "one whose neighbour lies beyond the image, at most"
