"""Image file -> pixels, strictly: a file that is cut short is an error, never a half-grey picture."""

import io
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Shaped, UInt8
from PIL import Image as PillowImage
from PIL import ImageFile, UnidentifiedImageError

from segsmith.errors import DataError
from segsmith.types import HW, ClassMask, Image, Mask

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp"})
LARGEST_PIXELS = 2**24
"""Images of more pixels are not looked at whole: they are not compared with others, and shown in part."""

_PLAIN_MODE = {"1": "L"} | dict.fromkeys(("P", "PA", "CMYK", "YCbCr", "HSV", "LAB"), "RGB")

FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP")
"""Of Pillow's, whatever a file is called: some others run programs of their own."""
MOST_PIXELS = 2**27
"""Of an image that is decoded whole: some kilobytes of PNG can ask for all memory."""

PillowImage.MAX_IMAGE_PIXELS = None  # it would only warn up to twice that
ImageFile.LOAD_TRUNCATED_IMAGES = False


@dataclass(frozen=True)
class ImageFacts:
    """What one look at an image file tells: its size, bands, bytes on disk, and mean and deviation per band of
    0..255; of a raster also where it lies."""

    hw: HW
    bands: int
    file_bytes: int
    band_mean: tuple[float, ...]
    band_std: tuple[float, ...]
    crs: str | None = None
    transform: tuple[float, float, float, float, float, float] | None = None
    """Of a raster (a, b, c, d, e, f): x' = a x + b y + c, y' = d x + e y + f, from pixel corners to map coordinates."""
    gsd_m: float = float("nan")
    """Metres on the ground a pixel side."""
    band_low: tuple[float, ...] = ()
    band_high: tuple[float, ...] = ()
    """Per band the values that become level 0 and 255; empty where bands are of 8 bits."""


def is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def read_image(path: Path) -> Image:
    """An 8-bit image, bands last, colours as RGB.

    Raises DataError if the file is missing, does not decode whole, or holds more than 8 bits a band.
    """
    return _eight_bit(_decode(path, str(path)), str(path))


def image_hw(path: Path) -> HW:
    """The size that an image file says it has, undecoded. Raises DataError for what is no image."""
    with _opened(path, str(path)) as image:
        return image.height, image.width


def encoded_hw(content: bytes, name: str) -> HW:
    """The size that the bytes of an image file say it has, undecoded. Raises DataError, which names it `name`, for what
    is no image."""
    with _opened(io.BytesIO(content), name) as image:
        return image.height, image.width


def decode_image(content: bytes, name: str) -> Image:
    """The image that a file of these bytes holds, as `read_image` reads it. Raises DataError, which names it `name`."""
    return _eight_bit(_decode(io.BytesIO(content), name), name)


def read_mask(path: Path) -> ClassMask:
    """A mask image of any depth: True where a pixel is not 0. Raises DataError for a missing, broken or coloured
    file."""
    pixels = np.atleast_3d(_decode(path, str(path)))
    if (pixels != pixels[:, :, :1]).any():
        raise DataError(
            f"{path}: a mask with colours; one class per file is read so far, 0 background, anything else foreground"
        )
    return np.asarray(pixels[:, :, 0] != 0)


def read_levels(path: Path, *, palette: bool = False) -> Shaped[np.ndarray, "height width bands"]:
    """The levels of a mask image as the file has them, one band or three: of a file with a palette the numbers of its
    colours, or with `palette` the colours themselves. Alpha is dropped. Raises DataError for a missing or broken
    file."""
    pixels = np.atleast_3d(_decode(path, str(path), as_numbers=not palette))
    pixels = pixels[:, :, : 1 if pixels.shape[2] < 3 else 3]
    return pixels[:, :, :1] if (pixels == pixels[:, :, :1]).all() else pixels


def mask_levels(path: Path) -> tuple[str, tuple[int, ...]]:
    """The pixel type of a mask file, such as 'uint8', and its levels beside 0, ascending, four at most. Raises
    DataError like read_mask."""
    pixels = _decode(path, str(path))
    found = np.unique(pixels)
    return str(pixels.dtype), tuple(int(level) for level in found[found != 0][:4])


def inspect_image(path: Path) -> ImageFacts:
    """The facts of an image that decodes whole. Raises DataError like read_image."""
    image = read_image(path)
    mean, std = cv2.meanStdDev(image)
    return ImageFacts(
        hw=(image.shape[0], image.shape[1]),
        bands=image.shape[2],
        file_bytes=path.stat().st_size,
        band_mean=tuple(mean.ravel().tolist()),
        band_std=tuple(std.ravel().tolist()),
    )


def as_rgb(image: Image) -> UInt8[np.ndarray, "height width 3"]:
    """The first three bands, or the only one three times."""
    return image[:, :, :3] if image.shape[2] >= 3 else np.repeat(image[:, :, :1], 3, axis=2)


def resized_image(image: Image, hw: HW) -> UInt8[np.ndarray, "_height _width bands"]:
    """An image brought to `hw` pixels: by area when it shrinks, linearly when it grows."""
    if image.shape[:2] == hw:
        return image
    shrinks = image.shape[0] * image.shape[1] > hw[0] * hw[1]
    return np.atleast_3d(cv2.resize(image, hw[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR))


def resized_mask(mask: Mask, hw: HW) -> Bool[np.ndarray, "classes _height _width"]:
    """A mask brought to `hw` pixels as its image is; a pixel is foreground when at least half of what it covers is."""
    if mask.shape[1:] == hw:
        return mask
    down, across = mask.shape[1] / hw[0], mask.shape[2] / hw[1]
    if down.is_integer() and across.is_integer():
        return np.stack([_shrunk(of_class, int(down), int(across)) for of_class in mask])
    planes = np.ascontiguousarray(mask.transpose(1, 2, 0)).view(np.uint8) * np.uint8(255)
    return (resized_image(planes, hw) >= 128).transpose(2, 0, 1)


def _shrunk(mask: ClassMask, down: int, across: int) -> Bool[np.ndarray, "_height _width"]:
    """Each `down` x `across` pixels as one. Only where there is foreground are pixels counted: it is rare."""
    shrunk = np.zeros((mask.shape[0] // down, mask.shape[1] // across), bool)
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    if width:
        rows = slice(top // down, -(-(top + height) // down))
        columns = slice(left // across, -(-(left + width) // across))
        whole = mask[rows.start * down : rows.stop * down, columns.start * across : columns.stop * across]
        levels = resized_image(
            whole.view(np.uint8)[:, :, None] * np.uint8(255), (rows.stop - rows.start, columns.stop - columns.start)
        )
        shrunk[rows, columns] = levels[:, :, 0] >= 128
    return shrunk


def _eight_bit(pixels: np.ndarray, name: str) -> Image:
    if pixels.dtype != np.uint8:
        raise DataError(f"{name}: {pixels.dtype} pixels; images of 8 bits a band are read so far, convert it first")
    return np.atleast_3d(pixels)


@contextmanager
def _opened(source: Path | io.BytesIO, name: str) -> Iterator[ImageFile.ImageFile]:
    """The image of a file, of which only the header is read yet; what Pillow raises within comes as DataError."""
    try:
        if isinstance(source, Path) and source.exists() and not source.is_file():
            raise DataError(f"{name}: is no file")  # of a pipe one would wait for ever
        with PillowImage.open(source, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise DataError(
                    f"{name}: more than {MOST_PIXELS:,} pixels; so large an image is not decoded whole: cut it, or "
                    "save it as a GeoTIFF, which is read window by window"
                )
            yield image
    except FileNotFoundError:
        raise DataError(f"{name}: no such file") from None
    except UnidentifiedImageError:
        raise DataError(f"{name}: does not decode as an image (it is none of {', '.join(FORMATS)})") from None
    except (
        OSError,
        SyntaxError,
        ArithmeticError,
        ValueError,
        EOFError,
    ) as error:
        raise DataError(f"{name}: does not decode as an image ({error})") from None


def _decode(source: Path | io.BytesIO, name: str, *, as_numbers: bool = False) -> np.ndarray:
    """Pixels as the file has them; with `as_numbers` those of a palette stay numbers.

    Pillow, since OpenCV fills a truncated JPEG with grey and says nothing; and of a JPEG torchvision where it is there.
    """
    with _opened(source, name) as image:
        if re.search(r"\w\w;16[BLN]", str(image.tile)):  # Pillow would drop the low byte of colours without a word
            raise DataError(
                f"{name}: colours of 16 bits a band; images of 8 bits a band are read so far, convert it first"
            )
        if image.format == "JPEG" and image.mode in ("RGB", "L"):
            pixels = _by_torchvision(source)
            if pixels is not None:
                return pixels if image.mode == "RGB" else pixels[:, :, 0]
        image.load()
        if as_numbers and image.mode == "P":
            return np.asarray(image)
        return np.asarray(image.convert(_PLAIN_MODE[image.mode]) if image.mode in _PLAIN_MODE else image)


def _by_torchvision(source: Path | io.BytesIO) -> UInt8[np.ndarray, "height width bands"] | None:
    """A JPEG file as Pillow decodes it, by the same library without Pillow's copies: a quarter faster. None where
    torchvision was not loaded for something else, since that takes seconds, and for files it refuses, of which Pillow
    says what is wrong."""
    vision = sys.modules.get("torchvision.io")
    if vision is None:
        return None
    content = np.fromfile(source, np.uint8) if isinstance(source, Path) else np.array(source.getbuffer())
    try:
        pixels = vision.decode_jpeg(sys.modules["torch"].from_numpy(content), vision.ImageReadMode.UNCHANGED)
    except RuntimeError:
        return None
    return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())
