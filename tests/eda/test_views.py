"""A picture of every image, and of a large raster a part: the part that shows objects."""

import numpy as np
import pytest

from segsmith.data.images import as_rgb
from segsmith.data.ingest import ingest
from segsmith.data.scenes import make_salt
from segsmith.data.scenes.buildings import make_buildings
from segsmith.data.windows import Window
from segsmith.eda import views
from segsmith.eda.views import view, view_uri


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    make_buildings(folder / "raw", areas=1, noisy_areas=0, scenes=1, hw=(160, 192))
    return ingest(folder / "raw")


def test_a_small_raster_is_shown_whole(scenes):
    seen = view(scenes, 0)
    assert seen.part is None
    assert seen.note == ""
    assert seen.image.shape == (160, 192, 3)
    assert (seen.mask == scenes.mask(0)).all()


@pytest.mark.parametrize("window", [None, Window(100, 170, 10, 10), Window(0, 0, 4, 4)])
def test_of_a_large_raster_a_part_is_shown_and_said(scenes, monkeypatch, window):
    monkeypatch.setattr(views, "LARGEST_PIXELS", 160 * 192 - 1)
    monkeypatch.setattr(views, "PART", 64)
    seen = view(scenes, 0, window)
    assert seen.part is not None
    assert seen.part.hw == (64, 64)
    assert seen.part.inside((160, 192)) == seen.part
    assert (seen.image == as_rgb(scenes.image(0))[seen.part.rows, seen.part.columns]).all()
    assert (seen.mask == scenes.mask(0)[:, seen.part.rows, seen.part.columns]).all()
    assert f"64 x 64 pixels from row {seen.part.top}" in seen.note
    if window is None:
        assert seen.mask.any(), "the part about an object shows it"
    elif window.top:
        assert (seen.part.top, seen.part.left) == (73, 128)


def test_a_picture_is_shown_whole_and_a_tiny_one_enlarged(tmp_path):
    make_salt(tmp_path / "raw", train_images=2, test_images=1)
    seen = view(ingest(tmp_path / "raw"), 0)
    assert seen.part is None
    assert seen.image.shape == (101, 101, 3)
    assert view_uri(seen).startswith("data:image/png")


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_as_rgb(bands):
    image = np.random.default_rng(0).integers(0, 256, (5, 6, bands), np.uint8)
    shown = as_rgb(image)
    assert shown.shape == (5, 6, 3)
    assert all((shown[:, :, band] == image[:, :, band if bands >= 3 else 0]).all() for band in range(3))
