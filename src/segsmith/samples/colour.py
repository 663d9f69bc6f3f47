"""Colour changes as one table of 256 levels and, for three bands, one matrix."""

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from segsmith.types import Image

Table = UInt8[np.ndarray, " 256"]
ColourMatrix = Float[np.ndarray, "3 3"]

_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])


def level_table(gamma: float, contrast: float, brightness: float) -> Table:
    """What each level becomes: a power, then a slope about the middle, then a shift in shares of full scale."""
    levels = np.arange(256) / 255
    return np.rint(255 * np.clip((levels**gamma - 0.5) * contrast + 0.5 + brightness, 0, 1)).astype(np.uint8)


def hue_matrix(turns: float, saturation: float) -> ColourMatrix:
    """What red, green and blue become when their chroma (I, Q of the NTSC's YIQ) is turned and multiplied.

    Greys and the luma of every colour stay as they are.
    """
    along, across = saturation * np.cos(2 * np.pi * turns), saturation * np.sin(2 * np.pi * turns)
    chroma = np.array([[1, 0, 0], [0, along, -across], [0, across, along]])
    return np.asarray(np.linalg.inv(_TO_YIQ) @ chroma @ _TO_YIQ)


def coloured(image: Image, table: Table | None, matrix: ColourMatrix | None) -> Image:
    """The image with its bands mixed, three of them, then its levels changed."""
    if matrix is not None:
        image = cv2.transform(image, matrix)
    if table is not None:
        image = np.atleast_3d(cv2.LUT(image, table))
    return image
