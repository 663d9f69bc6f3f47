"""Sample -> Sample: flips, moves, colour and noise, described first and applied once.

Geometry composes into one affine map and one warp, colour into one table of 256 levels. What is drawn depends on the
given generator alone, and the draws are the same whatever is switched on, so that turning one change on leaves the
others as they were.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from segsmith import recipe
from segsmith.types import HW, ClassMask, Image, Mask

Matrix = Float[np.ndarray, "3 3"]


@dataclass(frozen=True)
class Change:
    """One drawn augmentation. `matrix` maps input to output pixels; `table` maps each of 256 levels."""

    matrix: Matrix | None
    table: UInt8[np.ndarray, " 256"] | None
    blur_sigma: float
    noise_sigma: float
    noise_seed: int
    cutout: tuple[int, int, int] | None
    """Top, left and side of the blanked square, pixels."""


def draw_change(options: recipe.Augment, hw: HW, rng: np.random.Generator) -> Change:
    """Draw what happens to one sample of `hw` pixels."""
    u = rng.random(20)
    height, width = hw
    matrix = np.eye(3)
    if u[0] < options.hflip:
        matrix = np.array([[-1, 0, width - 1], [0, 1, 0], [0, 0, 1.0]]) @ matrix
    if u[1] < options.vflip:
        matrix = np.array([[1, 0, 0], [0, -1, height - 1], [0, 0, 1.0]]) @ matrix
    if u[2] < options.transpose:
        matrix = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1.0]]) @ matrix
    if u[3] < options.affine:
        angle = np.deg2rad(options.rotate * (2 * u[4] - 1))
        zoom = (1 + options.scale) ** (2 * u[5] - 1)
        shift = np.array([width, height]) * options.shift * (2 * u[6:8] - 1)
        matrix = _about_centre(angle, zoom, shift, hw) @ matrix
    table = None
    if u[8] < options.colour:
        levels = np.arange(256) / 255
        gamma = (1 + options.gamma) ** (2 * u[9] - 1)
        contrast = 1 + options.contrast * (2 * u[10] - 1)
        brightness = options.brightness * (2 * u[11] - 1)
        table = np.rint(255 * np.clip((levels**gamma - 0.5) * contrast + 0.5 + brightness, 0, 1)).astype(np.uint8)
    side = max(1, round(options.cutout_size * min(hw)))
    cutout = (int(u[17] * (height - side + 1)), int(u[18] * (width - side + 1)), side)
    return Change(
        matrix=None if np.array_equal(matrix, np.eye(3)) else matrix,
        table=table,
        blur_sigma=options.blur_sigma * u[13] if u[12] < options.blur else 0.0,
        noise_sigma=options.noise_sigma * u[15] if u[14] < options.noise else 0.0,
        noise_seed=int(u[19] * 2**31),
        cutout=cutout if u[16] < options.cutout else None,
    )


def apply_change(
    change: Change, image: Image, mask: Mask, valid: ClassMask | None, padding: str
) -> tuple[Image, Mask, ClassMask | None]:
    """The changed image, mask and usable pixels, of the same size. `padding` ('reflect' or 'zero') stands where the
    map looks outside."""
    if change.matrix is not None:
        border = cv2.BORDER_REFLECT_101 if padding == "reflect" else cv2.BORDER_CONSTANT
        image = _warped(image, change.matrix, cv2.INTER_LINEAR, border)
        planes = np.ascontiguousarray(mask.transpose(1, 2, 0)).view(np.uint8)
        mask = _warped(planes, change.matrix, cv2.INTER_NEAREST, border).transpose(2, 0, 1).view(bool)
        if valid is not None:  # a pixel that is mixed from an unusable one is not usable either
            unusable = (~valid).view(np.uint8)[:, :, None] * np.uint8(255)
            valid = _warped(unusable, change.matrix, cv2.INTER_LINEAR, border)[:, :, 0] == 0
    if change.table is not None:
        image = np.atleast_3d(cv2.LUT(image, change.table))
    if change.blur_sigma > 0:
        image = np.atleast_3d(cv2.GaussianBlur(image, (0, 0), change.blur_sigma))
    if change.noise_sigma > 0:
        noise = np.random.default_rng(change.noise_seed).standard_normal(image.shape, np.float32)
        image = np.clip(np.rint(image + change.noise_sigma * noise), 0, 255).astype(np.uint8)
    if change.cutout is not None:
        top, left, side = change.cutout
        image = image.copy()
        image[top : top + side, left : left + side] = image.mean(axis=(0, 1)).astype(np.uint8)
    return image, mask, valid


def _about_centre(angle: float, zoom: float, shift: Float[np.ndarray, " 2"], hw: HW) -> Matrix:
    centre = np.array([[1, 0, (hw[1] - 1) / 2], [0, 1, (hw[0] - 1) / 2], [0, 0, 1]])
    turn = np.array(
        [
            [zoom * np.cos(angle), -zoom * np.sin(angle), shift[0]],
            [zoom * np.sin(angle), zoom * np.cos(angle), shift[1]],
            [0, 0, 1],
        ]
    )
    return np.asarray(centre @ turn @ np.linalg.inv(centre))


def _warped(pixels: UInt8[np.ndarray, "h w c"], matrix: Matrix, how: int, border: int) -> UInt8[np.ndarray, "h w c"]:
    height, width = pixels.shape[:2]
    return np.atleast_3d(cv2.warpAffine(pixels, matrix[:2], (width, height), flags=how, borderMode=border))
