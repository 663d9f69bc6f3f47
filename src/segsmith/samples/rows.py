"""Sample <-> a row of bytes, as samples are kept in files and handed over to devices."""

import struct
import zlib
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from segsmith import recipe
from segsmith.errors import DataError
from segsmith.samples.chips import Chips
from segsmith.samples.samples import Sample
from segsmith.types import HW

FACTS = struct.Struct("<IId")
"""A row's checksum, which of its pixels are usable, its scale; its levels begin behind them."""
_CHECKED = 4  # bytes of the checksum, which is of all behind it
_ALL_USABLE, _SOME_USABLE = 1, 2


class Facts(NamedTuple):
    """What a row holds beside pixels."""

    all_usable: bool
    """Whether all pixels are."""
    scale: float
    """The sample's."""


class Form(NamedTuple):
    """What a row holds: a checksum of the rest, whether all pixels are usable, the sample's scale, its levels, and a
    bit for each pixel of each plane, and for each pixel whether it is usable."""

    hw: HW
    bands: int
    planes: int

    @property
    def ends(self) -> tuple[int, int, int]:
        """Where the levels of a row end, the bits of its planes, and those of its usable pixels."""
        pixels = self.hw[0] * self.hw[1]
        image = FACTS.size + pixels * self.bands
        mask = image + -(-pixels * self.planes // 8)
        return image, mask, mask + -(-pixels // 8)

    @property
    def row_bytes(self) -> int:
        return -(-self.ends[2] // FACTS.size) * FACTS.size

    def row(self, sample: Sample) -> UInt8[np.ndarray, " bytes"]:
        """The bytes of a sample."""
        assert sample.image.shape == (*self.hw, self.bands), sample.image.shape
        assert sample.mask.shape == (self.planes, *self.hw), sample.mask.shape
        image, mask, usable = self.ends
        row = np.zeros(self.row_bytes, np.uint8)
        row[FACTS.size : image].reshape(sample.image.shape)[:] = sample.image
        row[image:mask] = np.packbits(sample.mask)
        if sample.valid is not None:
            row[mask:usable] = np.packbits(sample.valid)
        facts = _ALL_USABLE if sample.valid is None else _SOME_USABLE, sample.scale
        FACTS.pack_into(row.data, 0, 0, *facts)
        FACTS.pack_into(row.data, 0, zlib.crc32(row.data[_CHECKED:]), *facts)
        return row

    def facts(self, row: UInt8[np.ndarray, " bytes"]) -> Facts:
        """Of a row that is whole."""
        _, usable, scale = FACTS.unpack_from(row.data)
        return Facts(usable == _ALL_USABLE, scale)

    def whole(self, row: UInt8[np.ndarray, " bytes"]) -> bool:
        """Whether a row was written to its end; one that never was holds zeros."""
        checksum, usable, _ = FACTS.unpack_from(row.data)
        return bool(usable) and zlib.crc32(row.data[_CHECKED:]) == checksum

    def sample(self, row: UInt8[np.ndarray, " bytes"]) -> Sample:
        """The sample of a row that is whole; its levels are those of the row, not a copy."""
        (height, width), (image, mask, _) = self.hw, self.ends
        all_usable, scale = self.facts(row)
        planes = np.unpackbits(row[image:mask], count=self.planes * height * width).view(bool)
        valid = None
        if not all_usable:
            valid = np.unpackbits(row[mask:], count=height * width).view(bool).reshape(self.hw)
        levels = row[FACTS.size : image].reshape(height, width, self.bands)
        return Sample(levels, planes.reshape(self.planes, height, width), valid, scale)


def form_of(chips: Chips, options: recipe.Data) -> Form:
    """The form of all labelled chips' samples. Raises DataError where images differ in their bands."""
    dataset = chips.dataset
    bands = set(dataset.images["bands"].iloc[dataset.labelled])
    if len(bands) != 1:
        raise DataError(f"{dataset.raw}: images of {', '.join(map(str, sorted(bands)))} bands are not kept together")
    classes = len(dataset.classes)
    return Form(options.input_hw, int(bands.pop()), 2 * classes if chips.border_px else classes)
