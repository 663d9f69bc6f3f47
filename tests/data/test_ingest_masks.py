"""Images + masks -> Dataset: names that pair them, what levels and colours mean, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segsmith.data.cleaning import Cleaning
from segsmith.data.dataset import Dataset
from segsmith.data.ingest_masks import ingest
from segsmith.errors import DataError

HW = (12, 17)
TRUTH = np.zeros(HW, bool)
TRUTH[2:5, 3:9] = TRUTH[8:11, 12:15] = True


def save(path: Path, pixels: np.ndarray, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def photo(path: Path) -> None:
    save(path, np.random.default_rng(len(path.name)).integers(0, 255, (*HW, 3), np.uint8))


def folder(raw: Path, mask: np.ndarray, names: tuple[str, str] = ("images", "masks"), suffix: str = "png") -> Path:
    photo(raw / names[0] / "a.png")
    save(raw / names[1] / f"a.{suffix}", mask)
    return raw


@pytest.mark.parametrize(
    "names",
    [("images", "masks"), ("img", "label"), ("JPEGImages", "SegmentationClass"), ("images/train", "masks/train")],
)
@pytest.mark.parametrize("level", [1, 255, 65535])
def test_two_folders_and_any_two_levels(tmp_path, names, level):
    found = ingest(folder(tmp_path, TRUTH.astype(np.uint16 if level > 255 else np.uint8) * level, names))
    assert found.classes == ("object",)
    assert (found.mask(0)[0] == TRUTH).all()
    assert found.images["objects"].tolist() == [2]


def test_a_mask_beside_its_image_and_an_image_without(tmp_path):
    for name in ("x", "y"):
        photo(tmp_path / f"{name}.jpg")
    save(tmp_path / "x_mask.png", TRUTH.view(np.uint8))
    found = ingest(tmp_path)
    assert dict(zip(found.images["image_id"], found.images["labelled"], strict=True)) == {"x": True, "y": False}
    assert (found.mask(0)[0] == TRUTH).all()


def test_one_pair_takes_the_rarer_level_unless_told(tmp_path):
    photo(tmp_path / "rgb.png")
    save(tmp_path / "gt.png", (~TRUTH).view(np.uint8) * 255)
    assert (ingest(tmp_path).mask(0)[0] == TRUTH).all()
    assert "taken to be black" in " ".join(ingest(tmp_path).notes)
    assert (ingest(tmp_path, foreground="white").mask(0)[0] == ~TRUTH).all()


def test_numbers_are_classes(tmp_path):
    levels = TRUTH.astype(np.uint8)
    levels[8:11] *= 3
    found = ingest(folder(tmp_path, levels))
    assert found.classes == ("1", "2", "3")
    assert found.mask(0)[:, 3, 4].tolist() == [True, False, False]
    assert found.mask(0)[:, 9, 13].tolist() == [False, False, True]
    assert "class 2" in " ".join(found.notes)
    assert found.read(0).valid.all()


def test_level_255_is_left_open_and_counted(tmp_path):
    levels = TRUTH.astype(np.uint8)
    levels[8:11] *= 2
    levels[:2, :5] = 255
    photo(tmp_path / "images" / "unlabelled.png")
    found = ingest(folder(tmp_path, levels))
    assert found.classes == ("1", "2")
    assert "ignored: 10 pixels (4.90%), level 255" in " ".join(found.notes)
    found.write(tmp_path / "dataset")
    for dataset in (found, Dataset.open(tmp_path / "dataset")):
        chip = dataset.read(0)
        assert (chip.valid == (levels != 255)).all()
        assert not (chip.mask & ~chip.valid).any()
        assert dataset.read(1).valid.all(), "of an image without a mask nothing is said to be ignored"
        assert dataset.known_pixels.tolist() == [12 * 17 - 10, 12 * 17]
        assert dataset.fingerprint == found.fingerprint
    levels[1, 4] = 0
    assert ingest(folder(tmp_path, levels)).fingerprint != found.fingerprint


def test_a_table_of_classes_names_what_is_ignored(tmp_path):
    levels = TRUTH.astype(np.uint8)
    levels[0], levels[11] = 255, 7
    table = tmp_path / "classes.csv"
    folder(tmp_path, levels)
    table.write_text("class,name\n1,field\n7,Ignore\n")
    found = ingest(tmp_path)
    assert found.classes == ("field",)
    assert (found.read(0).valid == ((levels != 7) & (levels != 255))).all()
    table.write_text("class,name\n1,field\n7,road\n255,sky\n")
    found = ingest(tmp_path)
    assert found.classes == ("field", "road", "sky")
    assert found.read(0).valid.all()


def test_a_colour_is_ignored_where_the_table_says_so(tmp_path):
    colours = np.zeros((*HW, 3), np.uint8)
    colours[TRUTH] = (0, 200, 10)
    colours[:2] = (224, 224, 192)
    (tmp_path / "classes.csv").write_text("name,r,g,b\nfield,0,200,10\nignore,224,224,192\n")
    found = ingest(folder(tmp_path, colours))
    assert found.classes == ("field",)
    assert (~found.read(0).valid == (colours[:, :, 0] == 224)).all()
    assert "ignored: 34 pixels (16.67%), colour (224, 224, 192)" in " ".join(found.notes)


def test_colours_want_a_table(tmp_path):
    colours = np.zeros((*HW, 3), np.uint8)
    colours[TRUTH] = (0, 200, 10)
    with pytest.raises(DataError, match=r"have colours[\s\S]*\(0, 0, 0\)[\s\S]*\(0, 200, 10\)"):
        ingest(folder(tmp_path, colours))
    table = tmp_path / "classes.csv"
    table.write_text("name,red,green,blue\nfield,0,200,10\nbackground,0,0,0\n")
    found = ingest(tmp_path)
    assert found.classes == ("field",)
    assert (found.mask(0)[0] == TRUTH).all()
    table.write_text("name,red,green,blue\nfield,0,200,11\n")
    with pytest.raises(DataError, match=r"names no colour[\s\S]*\(0, 200, 10\)"):
        ingest(tmp_path)


def test_the_blur_of_jpeg_is_borne_and_said(tmp_path):
    photo(tmp_path / "images" / "a.png")
    big = np.kron(TRUTH, np.ones((16, 16), bool))
    save(tmp_path / "images" / "a.png", np.zeros((*big.shape, 3), np.uint8))
    save(tmp_path / "masks" / "a.jpg", big.view(np.uint8) * 255, quality=60)
    found = ingest(tmp_path)
    assert (found.mask(0)[0] != big).mean() < 0.01


def test_what_is_refused(tmp_path):
    with pytest.raises(DataError, match="is 6 x 17 pixels, its image 12 x 17"):
        ingest(folder(tmp_path / "size", TRUTH.view(np.uint8)[:6]))
    lonely = folder(tmp_path / "lonely", TRUTH.view(np.uint8))
    save(lonely / "masks" / "b.png", TRUTH.view(np.uint8))
    with pytest.raises(DataError, match=r"1 masks have no image[\s\S]*masks/b\.png"):
        ingest(lonely)
    broken = folder(tmp_path / "broken", TRUTH.view(np.uint8))
    (broken / "masks" / "a.png").write_bytes((broken / "masks" / "a.png").read_bytes()[:40])
    with pytest.raises(DataError, match="does not decode"):
        ingest(broken)
    with pytest.raises(DataError, match="nothing stays"):
        ingest(folder(tmp_path / "all", TRUTH.view(np.uint8)), cleaning=Cleaning({"a": "blurred"}))
