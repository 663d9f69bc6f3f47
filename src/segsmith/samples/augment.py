"""Sample -> Sample: moves, colour and noise, described first and applied once.

Geometry composes into one map, colour into one table and one matrix. What is drawn depends on the given generator
alone, and the draws are the same whatever is switched on, so that turning one change on leaves the others as they were.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float

from segsmith import recipe
from segsmith.errors import DataError
from segsmith.samples.colour import ColourMatrix, Table, coloured, hue_matrix, level_table
from segsmith.samples.noise import noisy
from segsmith.samples.warp import Elastic, Matrix, Warp
from segsmith.types import HW, ClassMask, Image, Mask

Square = tuple[int, int, int]
"""Top, left and side, pixels."""
DRAWS = 20, 20
"""Numbers drawn for one sample. More are added behind, so that those before stay what they were."""


@dataclass(frozen=True)
class Change:
    """One drawn augmentation: what happens, in this order."""

    warp: Warp | None = None
    colours: ColourMatrix | None = None
    table: Table | None = None
    blur_sigma: float = 0.0
    noise_sigma: float = 0.0
    noise_seed: int = 0
    cutouts: tuple[Square, ...] = ()
    zoom: float = 1.0
    """How much larger things are seen; distortions, which enlarge and shrink, are left out of it."""
    words: tuple[str, ...] = ()
    """What was drawn, for people."""

    def apply(
        self, image: Image, mask: Mask, valid: ClassMask | None, padding: str
    ) -> tuple[Image, Mask, ClassMask | None]:
        """The changed image, mask and usable pixels, of the same size. `padding`, as in a recipe, stands where the map
        looks outside."""
        if self.warp is not None:
            image, mask, valid = self.warp.apply(image, mask, valid, padding)
        image = coloured(image, self.table, self.colours)
        if self.blur_sigma > 0:
            image = np.atleast_3d(cv2.GaussianBlur(image, (0, 0), self.blur_sigma))
        if self.noise_sigma > 0:
            image = noisy(image, self.noise_sigma, self.noise_seed)
        if self.cutouts:
            sums = cv2.reduce(image, 0, cv2.REDUCE_SUM, dtype=cv2.CV_32S).reshape(-1, image.shape[2]).sum(axis=0)
            mean = (sums / (image.shape[0] * image.shape[1])).astype(np.uint8)
            image = image.copy()
            for top, left, side in self.cutouts:
                image[top : top + side, left : left + side] = mean
        return image, mask, valid


def draw_change(options: recipe.Augment, hw: HW, rng: np.random.Generator) -> Change:
    """Draw what happens to one sample of `hw` pixels."""
    u, v = (rng.random(count).tolist() for count in DRAWS)
    words: list[str] = []
    warp, zoom = _drawn_warp(options, hw, u, v, words)
    table, colours = None, None
    if u[8] < options.colour:
        gamma = (1 + options.gamma) ** (2 * u[9] - 1)
        contrast = 1 + options.contrast * (2 * u[10] - 1)
        brightness = options.brightness * (2 * u[11] - 1)
        table = level_table(gamma, contrast, brightness)
        words.append(f"brightness {brightness:+.2f}, contrast {contrast:.2f}, gamma {gamma:.2f}")
        if options.hue or options.saturation:
            turns, saturation = options.hue * (2 * v[0] - 1), 1 + options.saturation * (2 * v[1] - 1)
            colours = hue_matrix(turns, saturation)
            words.append(f"hue {360 * turns:+.0f}°, saturation {saturation:.2f}")
    if v[2] < options.invert:
        table = 255 - (np.arange(256, dtype=np.uint8) if table is None else table)
        words.append("inverted")
    blur_sigma = options.blur_sigma * u[13] if u[12] < options.blur else 0.0
    noise_sigma = options.noise_sigma * u[15] if u[14] < options.noise else 0.0
    words += [f"blur {blur_sigma:.1f}"] * (blur_sigma > 0) + [f"noise {noise_sigma:.1f}"] * (noise_sigma > 0)
    cutouts: tuple[Square, ...] = ()
    if u[16] < options.cutout:
        more = np.random.default_rng(int(v[3] * 2**31)).random((options.cutouts - 1, 2))
        side = max(1, round(options.cutout_size * min(hw)))
        cutouts = tuple(
            (int(down * (hw[0] - side + 1)), int(right * (hw[1] - side + 1)), side)
            for down, right in [(u[17], u[18]), *more.tolist()]
        )
        words.append("cutout" if len(cutouts) == 1 else f"{len(cutouts)} cutouts")
    return Change(
        warp=warp,
        colours=colours,
        table=table,
        blur_sigma=blur_sigma,
        noise_sigma=noise_sigma,
        noise_seed=int(u[19] * 2**31),
        cutouts=cutouts,
        zoom=zoom,
        words=tuple(words),
    )


def flips_only(options: recipe.Augment) -> recipe.Augment:
    """The same options without any change but flips and transposes, whose draws stay as they were."""
    off = dict.fromkeys(("affine", "crop", "elastic", "grid", "optical", "colour", "invert", "blur", "noise"), 0.0)
    return options.model_copy(update=off | {"cutout": 0.0, "cutmix": 0.0})


def check_augment(options: recipe.Recipe, bands: int) -> None:
    """Whether every stage's augmentation can be done to images of `bands` bands.

    Raises DataError naming the option where it cannot.
    """
    for number, stage in enumerate(options.train.stages):
        for name, augment in (("augment", stage.augment), ("augment_last", stage.augment_last)):
            if augment is None or not augment.colour or bands == 3:
                continue
            for option in ("hue", "saturation"):
                if strength := getattr(augment, option):
                    raise DataError(
                        f"train.stages.{number}.{name}.{option}={strength:g} is for images of three bands, these have "
                        f"{bands}; set it to 0"
                    )


def _drawn_warp(
    options: recipe.Augment,
    hw: HW,
    u: list[float],
    v: list[float],
    words: list[str],
) -> tuple[Warp | None, float]:
    """How a sample moves, and how much larger it is then seen; None where it stays."""
    height, width = hw
    matrix, zoom = np.eye(3), 1.0
    if u[0] < options.hflip:
        matrix = np.array([[-1, 0, width - 1], [0, 1, 0], [0, 0, 1.0]]) @ matrix
        words.append("left-right")
    if u[1] < options.vflip:
        matrix = np.array([[1, 0, 0], [0, -1, height - 1], [0, 0, 1.0]]) @ matrix
        words.append("upside down")
    if u[2] < options.transpose:
        matrix = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1.0]]) @ matrix
        words.append("transposed")
    if u[3] < options.affine:
        degrees = options.rotate * (2 * u[4] - 1)
        zoom = (1 + options.scale) ** (2 * u[5] - 1)
        shift = np.array([width, height]) * options.shift * (2 * np.array(u[6:8]) - 1)
        matrix = _about_centre(np.deg2rad(degrees), zoom, shift, hw) @ matrix
        words.append(f"affine {degrees:+.0f}°, x {zoom:.2f}, shifted {shift[0]:+.0f} {shift[1]:+.0f} px")
    if v[4] < options.crop:
        side = 1 - (1 - options.crop_least) * v[5]
        left, top = v[6] * (1 - side) * width, v[7] * (1 - side) * height
        matrix = _enlarged(side, left, top) @ matrix
        zoom /= side
        words.append(f"crop x {1 / side:.2f}")
    elastic, cells, lens = None, None, 0.0
    if v[8] < options.elastic and options.elastic_alpha:
        elastic = Elastic(options.elastic_alpha, options.elastic_sigma, int(v[9] * 2**31))
        words.append("elastic")
    if v[10] < options.grid and options.grid_stretch:
        draws = np.random.default_rng(int(v[11] * 2**31)).random((2, options.grid_cells))
        cells = 1 + options.grid_stretch * (2 * draws - 1)
        words.append("grid")
    if v[12] < options.optical:
        lens = options.optical_strength * (2 * v[13] - 1)
        words.append(f"lens {lens:+.2f}")
    if elastic is None and cells is None and not lens and np.array_equal(matrix, np.eye(3)):
        return None, 1.0
    return Warp(matrix, elastic, cells, lens), zoom


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


def _enlarged(side: float, left: float, top: float) -> Matrix:
    """The part from `left`, `top` (edges, not centres of pixels) and of `side` of the image becomes the whole."""
    return np.array([[1, 0, (0.5 - left - 0.5 * side)], [0, 1, (0.5 - top - 0.5 * side)], [0, 0, side]]) / side
