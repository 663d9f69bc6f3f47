"""Levels counted over a sample equal those of the pixels, and the sample does not grow."""

import cv2
import numpy as np
import pytest

from segsmith.data.ingest import ingest
from segsmith.data.scenes.buildings import make_buildings
from segsmith.eda import bands
from segsmith.eda.bands import band_chart, count_levels, ends_in_words


def write(folder, images) -> None:
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for name, image in images.items():
        mask = np.zeros(image.shape[:2], np.uint8)
        mask[:4, :4] = 255
        cv2.imwrite(str(folder / "images" / f"{name}.png"), image)
        cv2.imwrite(str(folder / "masks" / f"{name}.png"), mask)


@pytest.fixture
def coloured():
    noise = np.random.default_rng(0)
    return {name: noise.integers(0, 256, (20, 24, 3), np.uint8) for name in "abc"}


def test_every_pixel_of_few_images_is_counted(tmp_path, coloured):
    write(tmp_path / "raw", coloured)
    found = count_levels(ingest(tmp_path / "raw"))
    assert (found.looked_at, found.windows, found.all_equal) == (3, False, False)
    pixels = np.concatenate([image[:, :, ::-1].reshape(-1, 3) for image in coloured.values()])
    assert (found.counts == [np.bincount(pixels[:, band], minlength=256) for band in range(3)]).all()
    chart = band_chart(found)
    assert all(f">{name}<" in chart for name in ("red", "green", "blue"))


def test_no_more_images_than_asked_are_read(tmp_path, coloured, monkeypatch):
    write(tmp_path / "raw", coloured)
    monkeypatch.setattr(bands, "SAMPLED", 2)
    dataset = ingest(tmp_path / "raw")
    (tmp_path / "raw" / "images" / "b.png").unlink()  # the middle one is not in the sample
    found = count_levels(dataset)
    assert found.looked_at == 2
    assert found.counts.sum() == 2 * 20 * 24 * 3


def test_grey_images_stored_in_colour_have_one_curve(tmp_path, coloured):
    write(tmp_path / "raw", {name: image[:, :, [0, 0, 0]] for name, image in coloured.items()})
    found = count_levels(ingest(tmp_path / "raw"))
    assert found.all_equal
    assert "3 equal bands ends at" in band_chart(found)


def test_black_borders_do_not_flatten_the_curves(tmp_path):
    image = np.zeros((20, 24, 3), np.uint8)
    image[:2] = np.arange(48, dtype=np.uint8).reshape(2, 24, 1) + 100
    write(tmp_path / "raw", {"a": image, "b": image})
    found = count_levels(ingest(tmp_path / "raw"))
    assert "90.0% of their values are 0" in ends_in_words(found)
    assert ">100<" not in band_chart(found).split("level</text>")[-1], "the axis does not reach the share of black"


def test_rasters_are_read_in_windows_and_only_where_valid(tmp_path, monkeypatch):
    monkeypatch.setattr(bands, "SAMPLED", 10)
    monkeypatch.setattr(bands, "WINDOW", 16)
    make_buildings(tmp_path / "raw", areas=1, noisy_areas=0, scenes=2, hw=(64, 80))
    found = count_levels(ingest(tmp_path / "raw"))
    assert (found.looked_at, found.windows) == (10, True)
    assert 0 < found.counts[0].sum() <= 10 * 16 * 16
    assert "10 windows of 16 x 16 pixels" in ends_in_words(found)
