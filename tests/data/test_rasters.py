"""Windows of rasters: equal to the whole, faithful to what is valid, refused with a reason."""

import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from math import cos, radians
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.enums import ColorInterp

from segsmith.data.images import resized_image
from segsmith.data.rasters import (
    EIGHT_BIT,
    Levels,
    common_levels,
    has_place,
    inspect_raster,
    measure_levels,
    raster_shape,
    read_valid,
    read_window,
)  # fmt: skip
from segsmith.data.windows import Window, scaled_hw, whole
from segsmith.errors import DataError

UTM = Affine(0.5, 0, 500000, 0, -0.5, 5000000)
RNG = np.random.default_rng(0)


def write(path, pixels, *, crs="EPSG:32633", transform=UTM, mask=None, alpha=None, **options):
    """A GeoTIFF of `pixels` (bands first), in blocks of 16 unless said otherwise."""
    bands = pixels if alpha is None else np.concatenate([pixels, alpha[None].astype(pixels.dtype)])
    options = {"tiled": True, "blockxsize": 16, "blockysize": 16} | options
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path, "w", driver="GTiff", count=len(bands), height=bands.shape[1], width=bands.shape[2],
            dtype=bands.dtype, crs=crs, transform=transform, **options,
        ) as file,
    ):  # fmt: skip
        if alpha is not None:
            file.colorinterp = [ColorInterp.gray] * len(pixels) + [ColorInterp.alpha]
        file.write(bands)
        if mask is not None:
            file.write_mask(mask)
    return path


@pytest.fixture(scope="module")
def holed(tmp_path_factory):
    """Three bands of noise, 45 x 70, with a hole of alpha 0 in which the pixels are 255."""
    pixels = RNG.integers(0, 200, (3, 45, 70), np.uint8)
    alpha = np.full((45, 70), 255, np.uint8)
    alpha[10:21, 30:47] = 0
    pixels[:, alpha == 0] = 255
    return write(tmp_path_factory.mktemp("rasters") / "holed.tif", pixels, alpha=alpha)


def test_facts(tmp_path):
    facts = inspect_raster(write(tmp_path / "x.tif", RNG.integers(0, 9, (5, 20, 30), np.int16), nodata=-1))
    assert (facts.hw, facts.bands, facts.dtype, facts.crs) == ((20, 30), 5, "int16", "EPSG:32633")
    assert facts.transform == UTM[:6]
    assert facts.nodata == -1
    assert facts.file_bytes == (tmp_path / "x.tif").stat().st_size


def test_alpha_is_no_band(holed):
    assert inspect_raster(holed).bands == 3
    assert raster_shape(holed) == (45, 70, 3)


@pytest.mark.parametrize(
    ("crs", "transform", "expected"),
    [
        ("EPSG:32633", UTM, 0.5),
        ("EPSG:32633", UTM @ Affine.rotation(30), 0.5),
        ("EPSG:32633", Affine(0.5, 0, 500000, 0, 0.5, 5000000), 0.5),
        ("EPSG:3857", Affine(1, 0, 0, 0, -1, 8399737.9), cos(radians(60))),
        ("EPSG:4326", Affine(1e-5, 0, 15, 0, -1e-5, 60), 1e-5 * 111320 * cos(radians(60)) ** 0.5),
        ("EPSG:2263", Affine(1, 0, 984000, 0, -1, 200000), 0.3048),
    ],
    ids=["utm", "rotated", "south up", "web mercator at 60 degrees", "degrees at 60 degrees", "feet"],
)
def test_metres_on_the_ground(tmp_path, crs, transform, expected):
    path = write(tmp_path / "x.tif", np.zeros((1, 20, 30), np.uint8), crs=crs, transform=transform)
    assert inspect_raster(path).gsd_m == pytest.approx(expected, rel=0.004)


def test_no_crs_is_said(tmp_path):
    facts = inspect_raster(write(tmp_path / "x.tif", np.zeros((1, 20, 30), np.uint8), crs=None))
    assert facts.crs is None
    assert np.isnan(facts.gsd_m)


def test_scale_one_gives_the_pixels_themselves(holed):
    image, valid = read_window(holed, Window(5, 25, 30, 40))
    with rasterio.open(holed) as file:
        pixels = file.read()[:, 5:35, 25:65]
    assert (valid == (pixels[3] > 0)).all()
    assert (image == np.where(valid, pixels[:3], 0).transpose(1, 2, 0)).all()


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    scale=st.one_of(st.sampled_from([1.0, 2.0, 0.5]), st.floats(0.02, 3.5)),
    place=st.tuples(st.floats(-0.3, 1.2), st.floats(-0.3, 1.2)),
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
)
def test_a_window_equals_the_whole_cut(holed, scale, place, size):
    hw = scaled_hw((45, 70), scale)
    window = Window(int(place[0] * hw[0]), int(place[1] * hw[1]), *size)
    image, valid = read_window(holed, window, scale)
    whole_image, whole_valid = read_window(holed, whole(hw), scale)
    margin = 400
    framed = np.pad(whole_image, ((margin, margin), (margin, margin), (0, 0)))
    framed_valid = np.pad(whole_valid, margin)
    cut = np.s_[margin + window.top :, margin + window.left :]
    assert (image == framed[cut][: size[0], : size[1]]).all()
    assert (valid == framed_valid[cut][: size[0], : size[1]]).all()


def test_long_rasters_are_read_in_strips_without_a_seam(tmp_path, monkeypatch):
    path = write(tmp_path / "x.tif", RNG.integers(0, 255, (2, 90, 40), np.uint8))
    at_once = [read_window(path, whole(scaled_hw((90, 40), scale)), scale)[0] for scale in (0.3, 1.7)]
    monkeypatch.setattr("segsmith.data.rasters._PIECE_BYTES", 2000)
    for scale, expected in zip((0.3, 1.7), at_once, strict=True):
        assert (read_window(path, whole(scaled_hw((90, 40), scale)), scale)[0] == expected).all()


@pytest.mark.parametrize("scale", [0.5, 0.25, 0.37, 2.0, 1.3])
def test_resampling_is_that_of_opencv(tmp_path, scale):
    pixels = RNG.integers(0, 256, (3, 40, 64), np.uint8)
    path = write(tmp_path / "x.tif", pixels)
    hw = scaled_hw((40, 64), scale)
    expected = resized_image(np.ascontiguousarray(pixels.transpose(1, 2, 0)), hw).astype(int)
    assert np.abs(read_window(path, whole(hw), scale)[0] - expected).max() <= 1


@pytest.mark.parametrize("scale", [0.5, 0.3, 2.0, 1.4])
def test_what_is_not_valid_never_bleeds(holed, scale):
    hw = scaled_hw((45, 70), scale)
    image, valid = read_window(holed, whole(hw), scale)
    assert image.max() < 200  # the hole is 255
    assert (image[~valid] == 0).all()
    expected = 1 - 11 * 17 / (45 * 70)
    assert valid.mean() == pytest.approx(expected, abs=0.015)


def test_a_constant_stays_constant_around_a_hole(tmp_path):
    pixels = np.full((1, 40, 40), 77, np.uint8)
    pixels[:, 13:20, 9:] = 0
    path = write(tmp_path / "x.tif", pixels, nodata=0)
    for scale in (0.4, 0.5, 1.0, 1.5, 2.0):
        image, valid = read_window(path, whole(scaled_hw((40, 40), scale)), scale)
        assert set(np.unique(image[valid])) == {77}
        assert not valid.all()


def test_beyond_the_raster_there_is_nothing(holed):
    for window in (Window(-50, 0, 20, 20), Window(0, 400, 5, 6)):
        image, valid = read_window(holed, window)
        assert image.shape == (*window.hw, 3)
        assert not image.any()
        assert not valid.any()


def test_masks_hide_pixels(tmp_path):
    mask = RNG.random((30, 30)) > 0.5
    path = write(tmp_path / "x.tif", np.full((2, 30, 30), 9, np.uint8), mask=mask)
    assert (read_window(path, Window(0, 0, 30, 30))[1] == mask).all()


def test_nodata_of_unsigned_bands_is_in_all_bands_of_others_in_any(tmp_path):
    unsigned, signed = np.ones((2, 2, 20, 20), np.uint8)
    signed = signed.astype(np.int16)
    unsigned[0, 0, :3] = unsigned[1, 0, 2:6] = 0
    signed[0, 0, :3] = signed[1, 0, 2:6] = -9
    for pixels, nodata, gone in ((unsigned, 0, 1), (signed, -9, 6)):
        path = write(tmp_path / f"{gone}.tif", pixels, nodata=nodata)
        levels = Levels((0.0, 0.0), (1.0, 1.0)) if gone == 6 else EIGHT_BIT
        assert (~read_window(path, Window(0, 0, 20, 20), 1.0, levels)[1]).sum() == gone


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_not_a_number_is_not_valid(tmp_path, dtype):
    pixels = RNG.normal(size=(2, 30, 30)).astype(dtype)
    pixels[0, 3, 4], pixels[1, 7, 8], pixels[1, 9, 9] = np.nan, np.inf, -np.inf
    path = write(tmp_path / "x.tif", pixels)
    levels = common_levels([inspect_raster(path)])
    valid = read_window(path, Window(0, 0, 30, 30), 1.0, levels)[1]
    assert sorted(map(tuple, np.argwhere(~valid).tolist())) == [(3, 4), (7, 8), (9, 9)]
    assert measure_levels(path, levels).valid_pixels == 897


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32", "float64"])
def test_the_range_of_a_source_becomes_the_levels(tmp_path, dtype):
    ramp = np.arange(10000).reshape(1, 100, 100)
    paths = [write(tmp_path / f"{n}.tif", (ramp + n * 10000).astype(dtype)) for n in range(2)]
    facts = [inspect_raster(path) for path in paths]
    levels = common_levels(facts)
    assert levels.low[0] == pytest.approx(100, abs=5)
    assert levels.high[0] == pytest.approx(19900, abs=5)
    image = read_window(paths[1], Window(0, 0, 100, 100), 1.0, levels)[0][..., 0]
    expected = np.clip((ramp[0] + 10000 - levels.low[0]) / (levels.high[0] - levels.low[0]), 0, 1) * 255
    assert np.abs(image - expected).max() <= 0.5001
    alone = read_window(paths[1], Window(20, 30, 8, 9), 1.0, levels)[0][..., 0]
    assert (alone == image[20:28, 30:39]).all()  # a range of the chip's own would stretch it


def test_the_range_counts_scenes_by_their_pixels(tmp_path):
    small, large = np.full((1, 10, 10), 60000, np.uint16), RNG.integers(0, 100, (1, 300, 300)).astype(np.uint16)
    paths = [write(tmp_path / "a.tif", small), write(tmp_path / "b.tif", large)]
    assert common_levels([inspect_raster(path) for path in paths]).high[0] < 110


def test_a_raster_without_a_valid_pixel_has_facts(tmp_path):
    path = write(tmp_path / "x.tif", np.full((2, 20, 20), np.nan, np.float32))
    levels = common_levels([inspect_raster(path)])
    assert measure_levels(path, levels) == ((0.0, 0.0), (0.0, 0.0), 0)


def test_statistics_are_those_of_the_valid_levels(holed, monkeypatch):
    monkeypatch.setattr("segsmith.data.rasters._PIECE_BYTES", 1000)  # many parts to join
    image, valid = read_window(holed, Window(0, 0, 45, 70))
    found = measure_levels(holed, EIGHT_BIT)
    assert found.valid_pixels == valid.sum()
    np.testing.assert_allclose(found.mean, image[valid].mean(axis=0))
    np.testing.assert_allclose(found.std, image[valid].std(axis=0))


@pytest.mark.parametrize("compress", [None, "deflate", "lzw", "jpeg"])
@pytest.mark.parametrize("tiled", [True, False])
def test_a_file_cut_short_is_named(tmp_path, compress, tiled, capfd):
    pixels = RNG.integers(0, 256, (3, 96, 96), np.uint8)
    options = {"tiled": True} if tiled else {"tiled": False, "blockxsize": None, "blockysize": 8}
    path = write(tmp_path / "x.tif", pixels, compress=compress, **options)
    content = path.read_bytes()
    for share in (0, 0.1, 0.5, 0.9):
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(DataError, match=r"x\.tif: does not read as a GeoTIFF"):
            measure_levels(path, EIGHT_BIT)
    assert capfd.readouterr() == ("", "")


def test_a_file_that_is_gone_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.tif: no such file"):
        read_window(tmp_path / "gone.tif", Window(0, 0, 1, 1))


def test_a_file_that_leads_elsewhere_is_refused(holed, tmp_path):
    """GDAL opens by content; a virtual raster may name other files, or servers."""
    (tmp_path / "x.tif").write_text(
        f"""<VRTDataset rasterXSize="70" rasterYSize="45"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>
        <SourceFilename>{holed}</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"""
    )
    with rasterio.open(tmp_path / "x.tif") as file:
        assert file.driver == "VRT"
    with pytest.raises(DataError, match=r"x\.tif: does not read as a GeoTIFF"):
        inspect_raster(tmp_path / "x.tif")


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.zeros((13, 20, 20), np.uint8), "13 bands beside alpha; 1 to 12"),
        (np.zeros((1, 20, 20), np.int32), "bands of int32; one type of uint8, uint16"),
        (np.zeros((1, 20, 20), np.complex64), "bands of complex64"),
    ],
)
def test_bands_that_are_not_read_are_refused(tmp_path, pixels, words):
    with pytest.raises(DataError, match=words):
        inspect_raster(write(tmp_path / "x.tif", pixels))


def test_a_colour_table_is_refused(tmp_path):
    path = write(tmp_path / "x.tif", np.zeros((1, 20, 20), np.uint8), photometric="palette")
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {0: (255, 0, 0, 255)})
    with pytest.raises(DataError, match="has a colour table"):
        inspect_raster(path)


def test_wide_bands_without_a_range_are_refused(tmp_path):
    path = write(tmp_path / "x.tif", np.zeros((2, 20, 20), np.uint16))
    with pytest.raises(DataError, match="uint16 pixels of 2 bands, but a range of levels for 0"):
        read_window(path, Window(0, 0, 2, 2))


def test_a_file_that_changed_is_opened_anew(tmp_path):
    path = write(tmp_path / "x.tif", np.zeros((1, 20, 20), np.uint8))
    assert not read_window(path, Window(0, 0, 20, 20))[0].any()
    write(path, np.full((1, 30, 20), 7, np.uint8))
    assert (read_window(path, Window(0, 0, 30, 20))[0] == 7).all()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc to see which files are open")
def test_a_forked_process_reads_with_a_file_of_its_own(holed):
    """A position shared with the parent would mix up what both read."""

    def opened() -> int:
        return sum(os.path.realpath(fd) == str(holed) for fd in Path("/proc/self/fd").iterdir())

    expected = read_window(holed, Window(0, 0, 20, 20), 0.7)[0]
    before = opened()
    child = os.fork()
    if child == 0:
        right = (read_window(holed, Window(0, 0, 20, 20), 0.7)[0] == expected).all()
        os._exit(0 if right and opened() == before + 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_threads_read_alike(holed):
    windows = [Window(n % 40, n % 60, 20, 20) for n in range(120)]
    expected = [read_window(holed, window, 0.7)[0] for window in windows]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda window: read_window(holed, window, 0.7)[0], windows))
    assert all((a == b).all() for a, b in zip(found, expected, strict=True))


def test_what_gdal_warns_of_stays_off_the_terminal(tmp_path, capfd):
    path = write(tmp_path / "x.tif", np.zeros((1, 20, 20), np.uint8), crs=None, transform=Affine.identity())
    inspect_raster(path)
    read_window(path, Window(0, 0, 3, 3))
    assert capfd.readouterr() == ("", "")


# Beyond GeoTIFF files


def test_what_gdal_names_is_read_without_a_file(holed, tmp_path):
    """An archive; and a format other than GeoTIFF, told by its content."""
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.write(holed, "within.tif")
    name = f"/vsizip/{tmp_path}/x.zip/within.tif"
    facts, plain = inspect_raster(name), inspect_raster(holed)
    assert facts.file_bytes == 0
    assert (facts.hw, facts.crs, facts.transform) == (plain.hw, plain.crs, plain.transform)
    for found, expected in zip(read_window(name, whole((45, 70))), read_window(holed, whole((45, 70))), strict=True):
        assert (found == expected).all()
    with rasterio.open(holed) as file:
        rasterio.shutil.copy(file, tmp_path / "x.jp2", driver="JP2OpenJPEG", quality=100, reversible=True)
    assert raster_shape(tmp_path / "x.jp2") == (45, 70, 3)


def test_what_gdal_names_and_does_not_find_is_said():
    with pytest.raises(DataError, match=r"/vsizip/none\.zip/a\.tif: does not read as a GeoTIFF"):
        inspect_raster("/vsizip/none.zip/a.tif")
    with pytest.raises(DataError, match=r"/vsizip/none\.zip/a\.jp2: does not read as a raster"):
        inspect_raster("/vsizip/none.zip/a.jp2")


def test_valid_pixels_alone(holed, monkeypatch):
    monkeypatch.setattr("segsmith.data.windows.PANEL", 16)  # the last panel is narrower
    window = Window(5, 20, 30, 40)
    assert (read_valid(holed, window) == read_window(holed, window)[1]).all()
    assert 0 < read_valid(holed, window).sum() < 30 * 40


def test_whether_a_raster_says_where_it_lies(holed, tmp_path):
    assert has_place(holed)
    assert not has_place(write(tmp_path / "x.tif", np.zeros((1, 20, 30), np.uint8), crs=None))
