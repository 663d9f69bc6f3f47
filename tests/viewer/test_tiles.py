"""A tile is the raster, cut; further away it is the mean of what it covers."""

import time

import cv2
import numpy as np
import pytest
from predictions import make_prediction, write_raster

from segsmith.errors import DataError
from segsmith.viewer.overviews import ImageOverviews
from segsmith.viewer.predicted_rasters import predicted_rasters
from segsmith.viewer.tiles import coarsest, image_tile, level_tile, mask_tile

HW = (600, 700)
RNG = np.random.default_rng(0)


def smooth(*shape: int) -> np.ndarray:
    """Noise of 8 pixels' width."""
    small = RNG.integers(0, 256, (shape[0], -(-shape[1] // 8), -(-shape[2] // 8)), np.uint8)
    return np.kron(small, np.ones((1, 8, 8), np.uint8))[:, : shape[1], : shape[2]]


def opened(png: bytes) -> np.ndarray:
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED), cv2.COLOR_BGRA2RGBA)


def means(planes: np.ndarray, side: int) -> np.ndarray:
    """Of squares of a side, those at the edge of what there is of them."""
    high, wide = planes.shape[1:]
    return np.array(
        [
            [
                [plane[top : top + side, left : left + side].mean() for left in range(0, wide, side)]
                for top in range(0, high, side)
            ]
            for plane in planes
        ]
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    known = np.ones(HW, bool)
    known[100:140, 200:260] = False
    return make_prediction(tmp_path_factory.mktemp("made"), smooth(3, *HW), smooth(2, *HW), known=known)


@pytest.fixture(scope="module")
def raster(made):
    (found,) = predicted_rasters(made.folder)
    return found


def test_the_deepest_tiles_are_the_raster_cut(made, raster):
    assert raster.deepest == 2
    found = np.zeros((3, 768, 768), np.uint8)
    for y in range(3):
        for x in range(3):
            found[:, y * 256 :, x * 256 :][:, :256, :256] = level_tile(raster, 2, x, y)
    assert (found[:2, : HW[0], : HW[1]] == made.levels * made.known).all()
    assert (found[2, : HW[0], : HW[1]] == made.known * 255).all()
    assert not found[:, HW[0] :].any()
    assert not found[:, :, HW[1] :].any()


@pytest.mark.parametrize("zoom", [0, 1])
def test_tiles_further_away_are_means_of_what_is_known(made, raster, zoom):
    side = 2 ** (2 - zoom)
    tile = level_tile(raster, zoom, 0, 0)
    expected = means(made.levels, side)[:, :256, :256]
    everywhere = means(made.known[None].astype(float), side)[0, :256, :256] == 1
    high, wide = everywhere.shape
    off = np.abs(tile[:2, :high, :wide] - expected)[:, everywhere]
    assert off.max() <= (1 if zoom == 1 else 2), "each halving rounds once"
    assert (tile[2, :high, :wide][everywhere] == 255).all()


def test_masks_are_nearest_pixels(made, raster):
    mask = made.levels >= 100
    assert (mask_tile(raster, 2, 0, 0)[:2] == (mask & made.known)[:, :256, :256] * 255).all()
    far = mask_tile(raster, 1, 0, 0)
    assert set(np.unique(far)) == {0, 255}
    blocks = means(mask.astype(float), 2)[:, :256, :256]
    same = np.isin(blocks, (0, 1)) & (far[2] == 255)
    assert ((far[:2] > 0) == (blocks == 1))[same].all()


def test_the_image_is_shown_as_it_is_and_nothing_where_it_has_no_pixel(tmp_path):
    image = smooth(5, 90, 120) // 2
    image[:, 20:30, 40:60] = 255
    make_prediction(tmp_path, image, smooth(1, 90, 120), nodata=255)
    (raster,) = predicted_rasters(tmp_path / "out")
    shown = opened(image_tile(raster, raster.image, 0, 0, 0))
    valid = ~(image == 255).all(axis=0)
    assert (shown[:90, :120, 3] == valid * 255).all()
    assert (shown[:90, :120, :3] == (image[:3] * valid).transpose(1, 2, 0)).all()
    assert not shown[90:].any()


def test_deep_pixels_are_stretched_as_the_networks_saw_them(tmp_path):
    image = smooth(1, 64, 64).astype(np.uint16) * 10 + 100
    make_prediction(tmp_path, image, smooth(1, 64, 64))
    (raster,) = predicted_rasters(tmp_path / "out")
    raster.told["levels"] = [[200.0], [1200.0]]
    shown = opened(image_tile(raster, raster.image, 0, 0, 0))[:64, :64]
    expected = np.rint(np.clip((image[0].astype(float) - 200) / 1000, 0, 1) * 255)
    assert (shown[..., :3] == expected[..., None]).all()


def test_of_images_without_overviews_some_are_made_elsewhere(tmp_path):
    """From afar a tile would need all of them."""
    image, levels = smooth(3, 704, 1504), np.zeros((1, 704, 1504), np.uint8)
    made = make_prediction(tmp_path, image, levels)
    before = sorted(tmp_path.rglob("*"))
    (raster,) = predicted_rasters(made.folder)
    assert coarsest(raster, raster.image) == 1
    with pytest.raises(DataError, match="begin at 1"):
        image_tile(raster, raster.image, 0, 0, 0)
    overviews = ImageOverviews()
    assert overviews.file(raster) == str(made.raster)
    while overviews.awaited(raster):
        time.sleep(0.02)
    file = overviews.file(raster)
    assert coarsest(raster, file) == 0
    shown = opened(image_tile(raster, file, 0, 0, 0))
    assert np.abs(shown[:88, :188, :3] - means(image, 8).transpose(1, 2, 0)).max() <= 2
    assert (shown[..., 3] > 0).sum() == 88 * 188
    assert sorted(tmp_path.rglob("*")) == before, "nothing is written beside the image"


def test_what_cannot_be_shown_is_said(made, raster, tmp_path):
    with pytest.raises(DataError, match="tile 3, 0: lies outside"):
        level_tile(raster, 2, 3, 0)
    with pytest.raises(DataError, match=r"zoom 3: .* end at 2"):
        level_tile(raster, 3, 0, 0)
    other = make_prediction(tmp_path / "other", smooth(3, 90, 90), smooth(1, 90, 90))
    (raster,) = predicted_rasters(other.folder)
    write_raster(other.raster, smooth(3, 90, 80))
    with pytest.raises(DataError, match="is 90 x 80 pixels, the prediction 90 x 90"):
        raster.check_image()
    other.raster.unlink()
    with pytest.raises(DataError, match=r"field\.tif: no such file"):
        raster.check_image()
    raster.probabilities.write_bytes(raster.probabilities.read_bytes()[:300])
    with pytest.raises(DataError, match=r"probabilities/field\.tif: does not read as a GeoTIFF"):
        level_tile(raster, 0, 0, 0)
