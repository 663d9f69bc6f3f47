"""Images and masks -> RGB arrays that show them -> data URIs, which a page holds within itself."""

import base64

import cv2
import numpy as np
from jaxtyping import UInt8

from segsmith.types import ClassMask

Picture = UInt8[np.ndarray, "height width 3"]  # RGB
Rgb = tuple[int, int, int]

# Colours of Okabe and Ito which stay apart for every kind of colour vision, and in grey by their lightness.
HIT: Rgb = (86, 180, 233)
FALSE_ALARM: Rgb = (213, 94, 0)
MISSED: Rgb = (240, 228, 66)
RED: Rgb = (230, 0, 0)
TRUTH: Rgb = MISSED  # what the truth alone holds is what the prediction missed
CLASSES: tuple[Rgb, ...] = (
    TRUTH, HIT, FALSE_ALARM, (0, 158, 115), (204, 121, 167), (230, 159, 0), (0, 114, 178), (255, 255, 255),
)  # fmt: skip
"""Of outlines that tell classes apart; the ninth class begins anew."""


def image_uri(image: Picture, *, max_side: int = 960, enlarge: int = 1) -> str:
    """The RGB image as a data URI: WebP, shrunk where its longer side exceeds `max_side` px.

    `enlarge` > 1 repeats each pixel that often both ways instead and keeps it exact (PNG): for tiny images, whose
    single pixels matter. Raises ValueError where the image has no pixels.
    """
    if not image.size:
        raise ValueError(f"an image without pixels cannot be shown. Received: shape {image.shape}")
    if enlarge > 1:
        return _data_uri(image.repeat(enlarge, axis=0).repeat(enlarge, axis=1), "png", [cv2.IMWRITE_PNG_COMPRESSION, 9])
    height, width = image.shape[:2]
    scale = max_side / max(height, width)
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return _data_uri(image, "webp", [cv2.IMWRITE_WEBP_QUALITY, 85])


def outlined(image: Picture, mask: ClassMask, colour: Rgb = TRUTH) -> Picture:
    """A copy of the RGB image with a line around the mask, wide enough to survive shrinking to a page.

    The line runs outside the mask, so that an object of a single pixel stays visible; only along the edge of the
    image, where there is no outside, it runs inside.
    """
    width_px = max(1, max(mask.shape) // 256)
    grown = cv2.dilate(mask.astype(np.uint8), np.ones((2 * width_px + 1, 2 * width_px + 1), np.uint8)) > 0
    edge = np.ones_like(mask)
    edge[width_px:-width_px, width_px:-width_px] = False
    drawn = image.copy()
    drawn[(grown & ~mask) | (mask & edge)] = colour
    return drawn


def hatched(image: Picture, where: ClassMask) -> Picture:
    """A copy of the RGB image with thin slanting lines, dark beside light, over the pixels of a mask."""
    slant = np.add.outer(np.arange(image.shape[0]), np.arange(image.shape[1])) % max(8, max(where.shape) // 48)
    drawn = image.copy()
    for place, level in ((0, 255), (1, 0)):
        drawn[where & (slant == place)] = level
    return drawn


def error_overlay(image: Picture, truth: ClassMask, prediction: ClassMask) -> Picture:
    """The RGB image in grey, painted HIT where both masks are set, FALSE_ALARM or MISSED where one is.

    A quarter of the grey shines through the paint; without colours of its own it cannot be taken for one of them.
    """
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    painted = np.repeat(grey[..., None], 3, axis=2)
    for where, colour in ((truth & prediction, HIT), (prediction & ~truth, FALSE_ALARM), (truth & ~prediction, MISSED)):
        painted[where] = np.rint(0.25 * painted[where] + 0.75 * np.array(colour))
    return painted


def red_overlay(image: Picture, mask: ClassMask) -> Picture:
    """A copy of the RGB image with red laid over the mask; half of the image shines through."""
    drawn = image.copy()
    drawn[mask] = np.rint(0.5 * drawn[mask] + 0.5 * np.array(RED))
    return drawn


def panels(
    image: Picture, truth: ClassMask, prediction: ClassMask
) -> UInt8[np.ndarray, "panels_height panels_width 3"]:
    """Image | truth outlined, and below them prediction as `red_overlay` | `error_overlay`, with thin gaps; all four of
    a wide image are stacked in that order."""
    height, width = truth.shape
    gap_px = max(2, max(height, width) // 64)
    four = [image, outlined(image, truth), red_overlay(image, prediction), error_overlay(image, truth, prediction)]
    if width > 1.5 * height:
        return _joined(four, gap_px, axis=0)
    return _joined([_joined(two, gap_px, axis=1) for two in (four[:2], four[2:])], gap_px, axis=0)


def _joined(pictures: list[Picture], gap_px: int, axis: int) -> UInt8[np.ndarray, "joined_height joined_width 3"]:
    """Pictures of one size along an axis, with white between them."""
    shape = list(pictures[0].shape)
    shape[axis] = gap_px
    gap = np.full(shape, 255, np.uint8)
    return np.concatenate([part for picture in pictures for part in (gap, picture)][1:], axis)


def _data_uri(image: Picture, kind: str, parameters: list[int]) -> str:
    encoded, data = cv2.imencode(f".{kind}", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), parameters)
    if not encoded:
        raise ValueError(f"OpenCV cannot write {kind}. Received: an image of shape {image.shape}")
    return f"data:image/{kind};base64,{base64.b64encode(data.tobytes()).decode()}"
