"""How images were shown to the networks, and rasters are to be."""

from dataclasses import replace

import numpy as np
import pytest
import rasterio

from segsmith.data.ingest_masks import ingest as ingest_masks
from segsmith.data.ingest_vector import ingest
from segsmith.data.rasters import Levels, inspect_raster
from segsmith.errors import ResolutionError
from segsmith.recipe import Data
from segsmith.samples.sight import FURTHEST, Sight, sight_of

CHIPS = Data(fit="chip", scales=(1.0, 2.0))
FOOTPRINT = '{"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {}, "geometry": %s}]}'


def scene(folder, name, gsd_m, dtype="uint8", top=255):
    """A scene in UTM with one footprint in it."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = (np.random.default_rng(0).random((3, 40, 40)) * top).astype(dtype)
    place = rasterio.transform.from_origin(500_000, 4_400_000, gsd_m, gsd_m)
    with rasterio.open(
        folder / name, "w", driver="GTiff", height=40, width=40, count=3, dtype=dtype, crs="EPSG:32613", transform=place
    ) as file:
        file.write(pixels)
    x, y = 500_000, 4_400_000
    ring = [[x + dx * gsd_m, y - dy * gsd_m] for dx, dy in ((5, 5), (15, 5), (15, 15), (5, 15), (5, 5))]
    longitudes, latitudes = rasterio.warp.transform("EPSG:32613", "EPSG:4326", *zip(*ring, strict=True))
    geometry = {"type": "Polygon", "coordinates": [[list(pair) for pair in zip(longitudes, latitudes, strict=True)]]}
    (folder / "labels.geojson").write_text(FOOTPRINT % str(geometry).replace("'", '"'))


@pytest.mark.parametrize(
    ("options", "gsd_m", "expected"),
    [
        (CHIPS, 0.2, 1.0),
        (CHIPS, 0.4, 1.0),
        (CHIPS, 0.1, 0.5),
        (CHIPS, 0.8, 2.0),
        (CHIPS, 0.201, 1.0),
        (CHIPS, float("nan"), 1.0),
        (CHIPS.model_copy(update={"gsd_m": 0.1}), 0.2, 2.0),
        (CHIPS.model_copy(update={"gsd_m": 0.1}), 0.8, 8.0),
    ],
)
def test_rasters_come_to_the_resolution_of_the_training(options, gsd_m, expected):
    assert Sight(gsd_m=(0.2, 0.4)).scale("a.tif", gsd_m, options) == pytest.approx(expected, rel=0.006)


def test_what_the_training_enlarged_is_enlarged():
    assert Sight(enlarged=0.5, gsd_m=(0.2, 0.4)).scale("a.tif", 0.1, CHIPS) == pytest.approx(0.25)


@pytest.mark.parametrize("gsd_m", [0.2 / FURTHEST * 0.99, 0.4 * FURTHEST * 1.01])
@pytest.mark.parametrize("asked", [None, 0.3])
def test_wildly_different_resolutions_are_refused(gsd_m, asked):
    options = CHIPS.model_copy(update={"gsd_m": asked})
    with pytest.raises(
        ResolutionError, match=r"a\.tif: a pixel is .* m, and the model was trained on 0\.2 to 0\.4 m.*enlarged by$"
    ):
        Sight(gsd_m=(0.2, 0.4)).scale("a.tif", gsd_m, options)


def test_a_raster_that_does_not_tell_is_refused_where_it_matters():
    with pytest.raises(ResolutionError, match=r"does not say how many metres a pixel is.*0\.3.*enlarged by$"):
        Sight(gsd_m=(0.2, 0.4)).scale("a.tif", float("nan"), CHIPS.model_copy(update={"gsd_m": 0.3}))


def test_of_a_dataset(tmp_path):
    scene(tmp_path / "raw" / "a", "one.tif", 0.1)
    scene(tmp_path / "raw" / "b", "two.tif", 0.3, "uint16", 4000)
    dataset = ingest(tmp_path / "raw")
    sight = sight_of(dataset, CHIPS)
    assert sight.enlarged == 1.0
    assert sight.gsd_m == pytest.approx((0.1, 0.3), rel=0.01)
    (levels,) = sight.levels
    assert (np.array(levels.low) < 100).all()
    assert (np.array(levels.high) > 3900).all()

    deep, plain = (inspect_raster(tmp_path / "raw" / name) for name in ("b/two.tif", "a/one.tif"))
    assert sight.levels_for(plain) == Levels(), "levels already"
    assert sight.levels_for(deep) == levels
    brighter = Levels((0.0,) * 3, (9000.0,) * 3)
    assert replace(sight, levels=(brighter,)).levels_for(deep) == brighter, "as trained, not its own"
    for several in ((), (brighter, Levels((1.0,) * 3, (2.0,) * 3))):
        own = replace(sight, levels=several).levels_for(deep)
        np.testing.assert_allclose(own.high, levels.high)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (Data(fit="resize", input_hw=(32, 32)), 0.5),
        (Data(fit="pad", input_hw=(96, 96)), 1.0),
        (Data(fit="pad", input_hw=(96, 96), resize_hw=(96, 96)), 1.5),
        (Data(fit="chip", scales=(2.0, 1.0)), 2.0),
    ],
)
def test_what_images_are_enlarged_by(tmp_path, options, expected):
    import cv2

    for name, pixels in (("images", np.zeros((64, 64, 3), np.uint8)), ("masks", np.eye(64, dtype=np.uint8) * 255)):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "a.png"), pixels)
    found = sight_of(ingest_masks(tmp_path), options)
    assert found.enlarged == pytest.approx(expected)
    assert found.gsd_m is None
    assert found.levels == ()
