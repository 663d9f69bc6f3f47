"""What each sample holds -> which stratum of a batch mix it belongs to: the first one named that it fits."""

import re
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from segsmith.errors import DataError


@dataclass(frozen=True)
class Strata:
    """What is known of every sample, an image or a chip of one, without looking at it."""

    objects: Int[np.ndarray, " samples"]
    foreground: Float[np.ndarray, " samples"]
    """Share of its pixels that are of any class, 0..1."""
    present: Bool[np.ndarray, "samples classes"]
    classes: tuple[str, ...]
    sources: tuple[str, ...]
    source: Int[np.ndarray, " samples"]
    """Number of its source among `sources`."""
    weight: Float[np.ndarray, " samples"]
    """How often it is drawn, relative to the others of its stratum; 0 for never."""

    def of(self, name: str) -> Bool[np.ndarray, " samples"]:
        """Which samples fit a stratum, by its name in a recipe. Raises DataError for a class or source that is not
        there."""
        kind, _, value = name.partition(":")
        if kind == "class":
            return np.asarray(self.present[:, _place(value, self.classes, name)])
        if kind == "source":
            return np.asarray(self.source == _place(value, self.sources, name))
        if kind == "coverage":
            low, high = map(float, value.split("-"))
            return np.asarray((self.foreground >= low) & ((self.foreground < high) | (high >= 1)))
        if kind == "objects":
            fewest, most = re.fullmatch(r"(\d+)(?:\+|-(\d+))", value).groups()  # type: ignore[union-attr]
            return np.asarray((self.objects >= int(fewest)) & (self.objects <= int(most or 2**31 - 1)))
        if kind == "rest":
            return np.ones(len(self.objects), bool)
        by_objects = {"empty": self.objects == 0, "single": self.objects == 1, "multi": self.objects > 1}
        return np.asarray(by_objects.get(kind, self.objects > 0))


def _place(value: str, known: tuple[str, ...], name: str) -> int:
    if value not in known:
        raise DataError(f"mix: '{name}', but the data has {', '.join(known)}")
    return known.index(value)
