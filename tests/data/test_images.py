"""Image file -> pixels: what is read, and what is refused with its reason rather than read wrongly."""

import io
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from segsmith.data.images import inspect_image, is_image, read_image, read_mask
from segsmith.errors import DataError

SMOOTH = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8), (0, 0), 2)
BLOB = np.zeros((6, 9), bool)
BLOB[1:4, 2:8] = True


def encoded(file_format: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(SMOOTH).save(buffer, file_format, **options)
    return buffer.getvalue()


def read_or_none(path: Path) -> np.ndarray | None:
    try:
        return read_image(path)
    except DataError:
        return None


@pytest.fixture(params=["Pillow", "torchvision"])
def decoder(request, monkeypatch) -> None:
    """JPEG are decoded by torchvision in a process that has loaded it, a training for one."""
    if request.param == "Pillow":
        monkeypatch.delitem(sys.modules, "torchvision.io", raising=False)
    else:
        import torchvision.io  # noqa: F401


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("RGB", {}),
        ("RGB", {"progressive": True, "quality": 60}),
        ("RGB", {"subsampling": 0, "optimize": True}),
        ("RGB", {"exif": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"}),
        ("RGB", {"keep_rgb": True}),
        ("L", {}),
        ("CMYK", {}),
    ],
)
def test_both_decoders_of_jpeg_say_the_same(tmp_path, monkeypatch, mode, options):
    """Also of a turned camera, which neither turns back."""
    import torchvision.io  # noqa: F401

    path = tmp_path / "x.jpg"
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (37, 51, 3), np.uint8)).convert(mode).save(path, **options)
    quickly = read_image(path)
    monkeypatch.delitem(sys.modules, "torchvision.io")
    assert quickly.shape == (37, 51, 1 if mode == "L" else 3)
    assert np.array_equal(quickly, read_image(path))


def test_colours_come_as_rgb_bands_last(tmp_path):
    Image.fromarray(SMOOTH).save(tmp_path / "x.png")
    assert (read_image(tmp_path / "x.png") == SMOOTH).all()


@pytest.mark.parametrize(
    ("mode", "bands"), [("L", 1), ("1", 1), ("RGB", 3), ("RGBA", 4), ("P", 3), ("CMYK", 3), ("YCbCr", 3)]
)
def test_every_mode_of_eight_bits_has_its_bands(tmp_path, mode, bands):
    path = tmp_path / "x.tif"
    Image.fromarray(SMOOTH).convert(mode).save(path)
    image = read_image(path)
    assert image.shape == (30, 40, bands)
    assert image.dtype == np.uint8


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".jpg", encoded("JPEG")),
        (".jpg", encoded("JPEG", progressive=True)),
        (".png", encoded("PNG")),
        (".tif", encoded("TIFF")),
        (".tif", encoded("TIFF", compression="tiff_lzw")),
        (".webp", encoded("WEBP")),
    ],
    ids=["jpeg", "progressive jpeg", "png", "tiff", "lzw tiff", "webp"],
)
@pytest.mark.filterwarnings("ignore")
def test_a_file_cut_short_is_never_a_half_grey_picture(decoder, tmp_path, suffix, content):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    whole = read_image(path)
    for length in [*range(0, len(content), len(content) // 25), *range(len(content) - 14, len(content))]:
        path.write_bytes(content[:length])
        image = read_or_none(path)
        if image is not None:  # nothing but a trailer may be missing
            assert length > len(content) - 20
            assert (image == whole).all()


@pytest.mark.parametrize(("suffix", "content"), [(".jpg", encoded("JPEG")), (".png", encoded("PNG"))])
def test_a_file_cut_in_its_pixels_is_named(decoder, tmp_path, suffix, content):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(DataError, match=rf"x\{suffix}: does not decode as an image"):
        read_image(path)


def test_text_named_jpg_is_refused(tmp_path):
    (tmp_path / "x.jpg").write_text("404: not found")
    with pytest.raises(DataError, match=r"x\.jpg: does not decode as an image"):
        read_image(tmp_path / "x.jpg")


def test_a_missing_file_is_named(tmp_path):
    for read in (read_image, read_mask, inspect_image):
        with pytest.raises(DataError, match=r"gone\.png: no such file"):
            read(tmp_path / "gone.png")


def test_a_header_that_asks_for_all_memory_is_refused(tmp_path):
    content = bytearray(encoded("BMP"))
    content[18:26] = (2**30).to_bytes(4, "little") * 2  # width and height
    (tmp_path / "x.bmp").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.bmp: more than 134,217,728 pixels"):
        read_image(tmp_path / "x.bmp")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("bands", [1, 3, 4])
def test_sixteen_bits_are_refused_not_halved(tmp_path, suffix, bands):
    path = tmp_path / f"x{suffix}"
    cv2.imwrite(str(path), np.full((5, 7, bands), 300, np.uint16))
    with pytest.raises(DataError, match=r"images of 8 bits a band are read so far, convert it first"):
        read_image(path)


@pytest.mark.parametrize("value", [1, 255, 256, 65535])
def test_a_mask_of_sixteen_bits_is_foreground_where_not_zero(tmp_path, value):
    cv2.imwrite(str(tmp_path / "m.png"), BLOB.astype(np.uint16) * value)
    assert (read_mask(tmp_path / "m.png") == BLOB).all()


@pytest.mark.parametrize("value", [1, 128, 255])
def test_a_grey_mask_is_foreground_where_not_zero(tmp_path, value):
    cv2.imwrite(str(tmp_path / "m.png"), BLOB.astype(np.uint8) * value)
    assert (read_mask(tmp_path / "m.png") == BLOB).all()


def test_a_mask_of_one_bit(tmp_path):
    Image.fromarray(BLOB).save(tmp_path / "m.png")
    assert Image.open(tmp_path / "m.png").mode == "1"
    assert (read_mask(tmp_path / "m.png") == BLOB).all()


def test_a_mask_with_three_equal_bands(tmp_path):
    cv2.imwrite(str(tmp_path / "m.png"), np.repeat(BLOB[:, :, None], 3, axis=2).astype(np.uint8) * 255)
    assert (read_mask(tmp_path / "m.png") == BLOB).all()


def test_a_palette_mask_counts_by_its_colours_not_its_numbers(tmp_path):
    palette = Image.fromarray(np.where(BLOB, 0, 1).astype(np.uint8))  # entry 0 is foreground here
    palette.putpalette([255, 255, 255, 0, 0, 0])
    palette.save(tmp_path / "m.png")
    assert Image.open(tmp_path / "m.png").mode == "P"
    assert (read_mask(tmp_path / "m.png") == BLOB).all()


@pytest.mark.parametrize("mode", ["RGB", "P"])
def test_a_coloured_mask_is_refused(tmp_path, mode):
    colours = np.zeros((6, 9, 3), np.uint8)
    colours[BLOB] = (128, 0, 0)
    Image.fromarray(colours).convert(mode).save(tmp_path / "m.png")
    with pytest.raises(DataError, match=r"m\.png: a mask with colours; one class per file"):
        read_mask(tmp_path / "m.png")


def test_a_mask_with_transparency_is_refused(tmp_path):
    black = np.dstack([np.zeros((6, 9, 3), np.uint8), BLOB.astype(np.uint8) * 255])
    Image.fromarray(black, "RGBA").save(tmp_path / "m.png")
    with pytest.raises(DataError, match=r"m\.png: a mask with colours"):
        read_mask(tmp_path / "m.png")


def test_facts_are_those_of_the_pixels(tmp_path):
    path = tmp_path / "x.png"
    Image.fromarray(SMOOTH).save(path)
    facts = inspect_image(path)
    assert (facts.hw, facts.bands, facts.file_bytes) == ((30, 40), 3, path.stat().st_size)
    assert facts.band_mean == pytest.approx(SMOOTH.reshape(-1, 3).mean(axis=0))
    assert facts.band_std == pytest.approx(SMOOTH.reshape(-1, 3).std(axis=0))


def test_images_are_told_by_their_suffix():
    assert is_image(Path("a/b.JPG"))
    assert is_image(Path("b.tiff"))
    assert not is_image(Path("b.csv"))
    assert not is_image(Path("png"))
