"""Random generator -> smooth random fields, the raw material of made-up seas, clouds, land and rock."""

import functools
import math

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]


@functools.lru_cache(maxsize=8)
def frequencies(height: int, width: int) -> tuple[Field, Field]:
    """Cycles per pixel along x and along y of every number in OpenCV's packed transform of a real image.

    The packed form keeps one half of the plane, real and imaginary parts in turn along a row, so the
    frequencies along x are 0, 1, 1, 2, 2 ...; columns that are real themselves are packed downwards likewise.
    """
    fx = np.tile(_packed(width), (height, 1))
    fy = np.tile(np.fft.fftfreq(height).astype(np.float32)[:, None], (1, width))
    for column in (0,) if width % 2 else (0, -1):
        fy[:, column] = _packed(height)
    # Zero frequency has no direction and no length; a tiny one stands in, and `shaped_noise` drops that cell.
    fx[0, 0] = 1e-6
    return fx, fy


def _packed(count: int) -> Field:
    return ((np.arange(count) + 1) // 2 / count).astype(np.float32)


@functools.lru_cache(maxsize=8)
def energies(height: int, width: int) -> Field:
    """The square of the frequency, all directions alike."""
    fx, fy = frequencies(height, width)
    return fx * fx + fy * fy


def shaped_noise(rng: np.random.Generator, amplitude: Field) -> Field:
    """White noise filtered in the Fourier plane; mean 0, standard deviation 1, shape of `amplitude`.

    The field repeats at its borders, so a shift of it by np.roll leaves no seam.
    """
    # Uniform noise is four times cheaper than normal, and a weighted sum of so many is normal anyway.
    field = rng.random(amplitude.shape, np.float32)
    cv2.dft(field, field)
    field *= amplitude
    field[0, 0] = 0.0
    cv2.idft(field, field)
    field *= np.float32(math.sqrt(field.size) / cv2.norm(field))
    return field


def fractal(
    rng: np.random.Generator,
    hw: tuple[int, int],
    *,
    slope: float,
    longest: float,
    shortest: float = 2.0,
    stretch: float = 1.0,
    angle: float = 0.0,
) -> Field:
    """Cloud-like noise with features from `longest` down to `shortest` pixels; mean 0, deviation 1.

    `slope` is how fast fine detail fades (amplitude ~ frequency ** -slope). With `stretch` above 1 features
    are that many times longer along `angle` (radians, x to the right, y down).
    """
    if stretch == 1.0:
        return shaped_noise(rng, _round_falloff(hw, slope, longest, shortest))
    fx, fy = frequencies(*hw)
    along, across = fx * math.cos(angle) + fy * math.sin(angle), fy * math.cos(angle) - fx * math.sin(angle)
    return shaped_noise(rng, _falloff(np.square(along * stretch) + across * across, slope, longest, shortest))


# The same few textures are drawn for every image of a size; their amplitudes cost as much as the noise itself.
@functools.lru_cache(maxsize=24)
def _round_falloff(hw: tuple[int, int], slope: float, longest: float, shortest: float) -> Field:
    return _falloff(energies(*hw), slope, longest, shortest)


def _falloff(energy: Field, slope: float, longest: float, shortest: float) -> Field:
    exponent = cv2.log(energy + longest**-2) * (-slope / 2)
    if shortest > 2.0:
        exponent -= energy * (shortest * shortest / 4)
    return np.asarray(cv2.exp(exponent), np.float32)


COARSE = 8
"""How many times smaller a drift is drawn."""


def drift(rng: np.random.Generator, hw: tuple[int, int], *, longest: float) -> Field:
    """A very smooth field over `hw` pixels, 1/COARSE as large: what varies over a whole image."""
    # A periodic field would look the same at opposite borders; three quarters of one do not.
    height, width = max(8, hw[0] // COARSE), max(8, hw[1] // COARSE)
    field = fractal(rng, (height * 4 // 3, width * 4 // 3), slope=2.0, longest=longest / COARSE, shortest=4.0)
    return np.ascontiguousarray(field[:height, :width])


def enlarge(field: Field, hw: tuple[int, int]) -> Field:
    return np.asarray(cv2.resize(field, (hw[1], hw[0]), interpolation=cv2.INTER_CUBIC), np.float32)


def ramp(field: Field, low: float, high: float) -> Field:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((field - np.float32(low)) * np.float32(1.0 / (high - low)), 0.0, 1.0)
    smooth = np.asarray(3.0 - 2.0 * t, np.float32)
    smooth *= t
    smooth *= t
    return smooth


def level_above(field: Field, share: float) -> float:
    """The level that about `share` of the field lies above; one pixel in 64 is looked at."""
    return float(np.quantile(field[::8, ::8], 1.0 - share))
