"""Matrix + distortions -> one coordinate map: image, mask and usable pixels are moved alike, each read only once.

What is affine is one matrix, and alone it is one warpAffine. Distortions are smooth, so they are drawn and composed
on a coarse grid of nodes, and only the finished map is brought to full resolution.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8

from segsmith.types import HW, ClassMask, Image, Mask, Probabilities

Matrix = Float[np.ndarray, "3 3"]
NODE_PX = 8
"""Largest distance of two nodes of the coarse grid, pixels."""


@dataclass(frozen=True)
class Elastic:
    """An elastic distortion after Simard et al., "Best practices for convolutional neural networks" (2003).

    There, and in OpenCV's usual form, every pixel is displaced by a field of uniform numbers in -1..1, smoothed by a
    Gaussian of deviation `sigma` pixels and multiplied by `alpha`. Here the field stands on nodes up to sigma / 2
    apart, with the deviation and the smoothness of that definition: alpha / (2 sigma sqrt(3 pi)) pixels each way.
    """

    alpha: float
    sigma: float
    seed: int


@dataclass(frozen=True)
class Warp:
    """How a sample is moved: output pixel p shows what `matrix` brought to lens(grid(p)) + elastic(p).

    Matrices map input to output pixels (x, y).
    """

    matrix: Matrix
    elastic: Elastic | None = None
    cells: Float[np.ndarray, "2 cells"] | None = None
    """Sides of a grid's cells before they are stretched to equal ones, rows then columns, relative to each other."""
    lens: float = 0.0
    """k of a lens that shows at distance r from the centre what lay at r (1 + k r^2 + k r^4), with r in sides of the
    image: OpenCV's model (Brown 1966) with k1 = k2 = k. Above 0 is a barrel, below it a pincushion."""

    def apply(
        self, image: Image, mask: Mask, valid: ClassMask | None, padding: str
    ) -> tuple[Image, Mask, ClassMask | None]:
        """The moved image (linear), mask and usable pixels; reflected at the border, or 0 with `padding` 'zero'.

        Masks take the nearest pixel: that keeps the area of thin objects in the mean, where a blend and a threshold
        would lose all that is thinner than half a pixel. A pixel that is blended from an unusable one is not usable.
        """
        hw = (image.shape[0], image.shape[1])
        if not self.distorts and (turn := _turn(self.matrix, hw)) is not None:
            return turn(image), turn(mask.transpose(1, 2, 0)).transpose(2, 0, 1), None if valid is None else turn(valid)
        where, border = self._where(hw, padding)
        planes = np.ascontiguousarray(mask.transpose(1, 2, 0)).view(np.uint8)
        if valid is not None:
            unusable = (~valid).view(np.uint8)[:, :, None] * np.uint8(255)
            valid = self._moved(unusable, where, cv2.INTER_LINEAR, border)[:, :, 0] == 0
        image = self._moved(image, where, cv2.INTER_LINEAR, border)
        if mask.any():  # foreground is rare, and nothing of it moves to nothing
            mask = self._moved(planes, where, cv2.INTER_NEAREST, border).transpose(2, 0, 1).view(bool)
        return image, mask, valid

    def levels(self, levels: Probabilities, padding: str) -> Probabilities:
        """Soft labels, moved as masks are, but blended, as they may: linear."""
        planes = np.ascontiguousarray(levels.transpose(1, 2, 0))
        hw = (planes.shape[0], planes.shape[1])
        if not self.distorts and (turn := _turn(self.matrix, hw)) is not None:
            return turn(planes).transpose(2, 0, 1)
        where, border = self._where(hw, padding)
        return self._moved(planes, where, cv2.INTER_LINEAR, border).transpose(2, 0, 1)

    @property
    def distorts(self) -> bool:
        """Whether it does more than its matrix."""
        return self.elastic is not None or self.cells is not None or bool(self.lens)

    def _where(self, hw: HW, padding: str) -> tuple[Float32[np.ndarray, "h w 2"] | None, int]:
        """The map, where the matrix alone does not tell it, and what OpenCV calls that which stands outside."""
        border = cv2.BORDER_CONSTANT if padding == "zero" else cv2.BORDER_REFLECT_101
        return self._map(hw) if self.distorts else None, border

    def _moved(
        self, pixels: UInt8[np.ndarray, "h w c"], where: Float32[np.ndarray, "h w 2"] | None, how: int, border: int
    ) -> UInt8[np.ndarray, "h w c"]:
        if where is None:
            hw = pixels.shape[:2]
            return np.atleast_3d(cv2.warpAffine(pixels, self.matrix[:2], hw[::-1], flags=how, borderMode=border))
        return np.atleast_3d(cv2.remap(pixels, where, None, how, borderMode=border))

    def _map(self, hw: HW) -> Float32[np.ndarray, "h w 2"]:
        """Where each output pixel is read in the input, x and y."""
        nodes, apart = self.nodes(hw)
        full = cv2.resize(nodes, None, fx=apart, fy=apart, interpolation=cv2.INTER_LINEAR)
        return np.asarray(full[apart : apart + hw[0], apart : apart + hw[1]])

    def nodes(self, hw: HW) -> tuple[Float32[np.ndarray, "rows columns 2"], int]:
        """Where an image of `hw` pixels is read at nodes, x and y, and how many pixels these are apart. They stand in
        the middle of squares of so many output pixels, one square more all round than there are."""
        apart = NODE_PX if self.elastic is None else int(min(NODE_PX, max(1, self.elastic.sigma / 2)))
        rows, columns = (np.arange(-1, -(-side // apart) + 1) * apart + (apart - 1) / 2 for side in hw)
        shape = len(rows), len(columns)
        if self.cells is not None:
            rows, columns = (_stretched(*each) for each in zip((rows, columns), self.cells, hw, strict=True))
        y: np.ndarray = rows[:, None].astype(np.float32)
        x: np.ndarray = columns[None].astype(np.float32)
        if self.lens:
            centre_y, centre_x = (hw[0] - 1) / 2, (hw[1] - 1) / 2
            squared = ((x - centre_x) / hw[1]) ** 2 + ((y - centre_y) / hw[0]) ** 2
            factor = 1 + self.lens * (squared + squared**2)
            y, x = centre_y + (y - centre_y) * factor, centre_x + (x - centre_x) * factor
        if self.elastic is not None:
            field = elastic_field(shape, apart, self.elastic)
            x, y = x + field[:, :, 0], y + field[:, :, 1]
        back = np.linalg.inv(self.matrix).astype(np.float32)
        return cv2.transform(np.dstack(np.broadcast_arrays(x, y)), back[:2]), apart


def _turn(matrix: Matrix, hw: HW) -> Callable[[np.ndarray], np.ndarray] | None:
    """What a matrix does to pixels, rows and columns first, where it brings the image onto itself pixel by pixel:
    flips, and of a square image a transpose. None where it does more."""
    height, width = hw
    transposed = bool(matrix[0, 0] == 0)
    linear = matrix[:2, 1::-1] if transposed else matrix[:2, :2]
    mirrored, upside_down = linear[0, 0] == -1, linear[1, 1] == -1
    expected = np.diag([-1.0 if mirrored else 1.0, -1.0 if upside_down else 1.0])
    shift = [(width - 1) * mirrored, (height - 1) * upside_down]
    if (transposed and height != width) or (linear != expected).any() or (matrix[:2, 2] != shift).any():
        return None
    down, across = slice(None, None, -1 if upside_down else 1), slice(None, None, -1 if mirrored else 1)
    axes = (1, 0) if transposed else (0, 1)
    return lambda pixels: np.ascontiguousarray(pixels.transpose(*axes, *range(2, pixels.ndim))[down, across])


def elastic_field(shape: HW, apart: int, elastic: Elastic) -> Float32[np.ndarray, "rows columns 2"]:
    """Displacements in pixels, x and y, at nodes `apart` pixels from each other; as strong once interpolated between
    them as the definition in `Elastic` is at full resolution."""
    kernel, beyond = _gaussian(elastic.sigma / apart)
    noise = np.random.default_rng(elastic.seed).random((shape[0] + 2 * beyond, shape[1] + 2 * beyond, 2), np.float32)
    smooth = cv2.sepFilter2D(2 * noise - 1, -1, kernel, kernel)[beyond : beyond + shape[0], beyond : beyond + shape[1]]
    return np.asarray(smooth * np.float32(elastic.alpha * _strength(apart, elastic.sigma)))


@lru_cache(16)
def _strength(apart: int, sigma: float) -> float:
    """What a field of smoothed numbers at nodes `apart` pixels from each other is multiplied by, to be as strong as one
    at full resolution."""
    # both fields are weighted sums of equal, independent numbers: their deviations are as the weights' norms
    wanted, found = (np.square(_gaussian(each)[0]).sum() for each in (sigma, sigma / apart))
    # between two nodes a linear blend varies less than at them, by how little they agree
    agreement = np.exp(-((apart / sigma) ** 2) / 4)
    share = ((np.arange(apart) + 0.5) / apart + 0.5) % 1
    blended = np.mean(share**2 + (1 - share) ** 2 + 2 * share * (1 - share) * agreement)
    return float(wanted / (found * blended))


@lru_cache(16)
def _gaussian(sigma: float) -> tuple[Float[np.ndarray, "taps 1"], int]:
    """A Gaussian kernel, and how far it reaches to each side."""
    beyond = max(1, int(np.ceil(4 * sigma)))
    return cv2.getGaussianKernel(2 * beyond + 1, sigma), beyond


def _stretched(at: Float[np.ndarray, " _"], cells: Float[np.ndarray, " cells"], side: int) -> Float[np.ndarray, " _"]:
    """Where points along one side of an image lay before the grid's cells became equal; outside it they stay."""
    seen = np.linspace(0, side, len(cells) + 1) - 0.5
    lay = np.concatenate([[0], np.cumsum(cells)]) * (side / cells.sum()) - 0.5
    before, after = [-side - 0.5], [2 * side - 0.5]
    return np.asarray(np.interp(at, np.concatenate([before, seen, after]), np.concatenate([before, lay, after])))
