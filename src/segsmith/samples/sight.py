"""Dataset + recipe -> Sight: at what resolution and in which levels networks see images, to show them rasters likewise.

The bundle carries it, so that prediction needs no dataset.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np

from segsmith import recipe
from segsmith.data.dataset import Dataset
from segsmith.data.rasters import EIGHT_BIT, Levels, RasterFacts, common_levels
from segsmith.errors import ResolutionError

FURTHEST = 4.0
"""How many times coarser or finer than all training images a raster may be."""

NO_DIFFERENCE = 0.02
"""Relative difference of metres a pixel for which no raster is resampled: projections alone make some of it."""


@dataclass(frozen=True)
class Sight:
    """How the labelled images of a training were shown to its networks."""

    enlarged: float = 1.0
    """Pixels of the network a pixel of an image, along a side; where images differ, the median. Of rasters brought
    to `data.gsd_m` metres a pixel, what they are enlarged by beyond that."""
    gsd_m: tuple[float, float] | None = None
    """Least and most metres a pixel of the images as they came; None where no image told."""
    levels: tuple[Levels, ...] = ()
    """The ranges of bands of more than 8 bits, one for each source that differs."""

    def scale(self, raster: str, gsd_m: float, options: recipe.Data) -> float:
        """What a raster of `gsd_m` metres a pixel (NaN where unknown) is to be enlarged by.

        It is brought to `data.gsd_m`; without that, to the nearest metres a pixel that was trained on. Raises
        ResolutionError for one that is more than FURTHEST times coarser or finer than all images that were, and where
        `data.gsd_m` asks for metres a pixel that the raster does not tell.
        """
        if not gsd_m > 0:
            if options.gsd_m is not None:
                raise ResolutionError(
                    f"{raster}: does not say how many metres a pixel is, and the model sees {options.gsd_m:g}; "
                    "say what it is to be enlarged by"
                )
            return self.enlarged
        nearest = gsd_m
        if self.gsd_m is not None:
            nearest = min(max(gsd_m, self.gsd_m[0]), self.gsd_m[1])
            if max(gsd_m / nearest, nearest / gsd_m) > FURTHEST:
                raise ResolutionError(
                    f"{raster}: a pixel is {gsd_m:.3g} m, and the model was trained on {_span(self.gsd_m)}; "
                    "to predict it nonetheless, say what it is to be enlarged by"
                )
        if options.gsd_m is None and abs(gsd_m / nearest - 1) < NO_DIFFERENCE:
            return self.enlarged
        return gsd_m / (options.gsd_m or nearest) * self.enlarged

    def levels_for(self, facts: RasterFacts) -> Levels:
        """What becomes level 0 and 255 of a raster: the range it was trained with, if that is one; where sources had
        each its own, or all were of 8 bits, the raster's own, as that of a new source."""
        if facts.dtype == "uint8":
            return EIGHT_BIT
        if len(self.levels) == 1 and len(self.levels[0].low) == facts.bands:
            return self.levels[0]
        return common_levels([facts])


UNTOLD = Sight()
"""Of a bundle that does not say: images as they are."""


def sight_of(dataset: Dataset, options: recipe.Data) -> Sight:
    """How the labelled images of a dataset are shown to networks with these options."""
    images = dataset.images.iloc[dataset.labelled]
    gsd_m = images["gsd_m"].to_numpy(np.float64) if "gsd_m" in images else np.empty(0)
    known = gsd_m[gsd_m > 0]
    sixteen_bit = [(tuple(low), tuple(high)) for low, high in zip(images["band_low"], images["band_high"], strict=True)]
    return Sight(
        enlarged=_enlarged(images[["height", "width"]].to_numpy(np.float64), options),
        gsd_m=(float(known.min()), float(known.max())) if len(known) else None,
        levels=tuple(Levels(*ends) for ends in sorted(set(sixteen_bit)) if ends[0]),
    )


def _enlarged(hw: "np.ndarray", options: recipe.Data) -> float:
    if options.fit == "chip":
        return options.scales[0]
    target = options.input_hw if options.fit == "resize" else options.resize_hw
    if target is None or not len(hw):
        return 1.0
    return float(np.median(np.sqrt(np.prod(target) / hw.prod(axis=1))))


def _span(gsd_m: tuple[float, float]) -> str:
    low, high = gsd_m
    return f"{low:.3g} m" if high / low < sqrt(1.02) else f"{low:.3g} to {high:.3g} m"
