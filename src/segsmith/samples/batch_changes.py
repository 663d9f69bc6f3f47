"""Changes of many samples -> tensors -> all of them done at once, on any device, as OpenCV does them one by one.

What differs: OpenCV reads images at 1/32 of a pixel and works in whole numbers, here all is float32. So where a sample
moves, levels differ by at most one for rounding and what the image changes within 1/64 of a pixel each way; a pixel of
a mask where it is read halfway between two pixels, to within 1/512. At borders nothing else differs: both reflect about
the centres of the outermost pixels, or blend with 0. Blurred levels differ by two at most, since OpenCV rounds its
weights to 1/256, and turned hues by one. Flips, transposes, tables, noise and squares are the same.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float32, Int64, UInt8
from torch import Tensor

from segsmith.samples.augment import Change
from segsmith.samples.noise import TABLE, noise_places, normals
from segsmith.types import HW

Levels = Float32[Tensor, "samples planes height width"]
"""Whole numbers, 0..255."""


class Pixels(NamedTuple):
    """Samples beside each other on a device."""

    images: UInt8[Tensor, "samples bands height width"]
    masks: UInt8[Tensor, "samples planes height width"]
    """0 or 1."""
    valid: UInt8[Tensor, "samples height width"] | None
    """1 where a pixel is usable; None where all are."""
    soft: UInt8[Tensor, "samples planes height width"] | None
    """Of taught samples, what is learnt in place of the mask; of others anything. None where none is taught."""


class Distorted(NamedTuple):
    """Samples of nodes equally far apart: which they are, and where they are read (samples/warp.py)."""

    which: Int64[Tensor, " distorted"]
    nodes: Float32[Tensor, "distorted 2 rows columns"]
    apart: int


class Blurred(NamedTuple):
    """Which samples are blurred, and the weights of each one's neighbours along a row, and down a column."""

    which: Int64[Tensor, " blurred"]
    weights: Float32[Tensor, "blurred taps"]


class Noisy(NamedTuple):
    """Which samples are noisy, how much, and where in the table the noise of each row begins (samples/noise.py)."""

    which: Int64[Tensor, " noisy"]
    sigmas: Float32[Tensor, " noisy"]
    places: Int64[Tensor, "noisy height"]


class BatchChanges(NamedTuple):
    """One Change for each sample of a batch; None where none of them is changed in that way."""

    affine: Float32[Tensor, "samples 2 3"] | None
    """From output to input pixels, x and y."""
    distorted: tuple[Distorted, ...]
    colours: Float32[Tensor, "samples 3 3"] | None
    tables: UInt8[Tensor, "samples 256"] | None
    blurred: Blurred | None
    noisy: Noisy | None
    squares: Int64[Tensor, "samples squares 3"] | None
    """Top, left and side; of side 0 where there are fewer."""

    @staticmethod
    def of(changes: Sequence[Change], hw: HW) -> "BatchChanges":
        """The changes of samples of `hw` pixels, in their order."""
        colours = [np.eye(3) if each.colours is None else each.colours for each in changes]
        tables = [np.arange(256) if each.table is None else each.table for each in changes]
        most = max((len(each.cutouts) for each in changes), default=0)
        squares = [[*each.cutouts, *[(0, 0, 0)] * (most - len(each.cutouts))] for each in changes]
        return BatchChanges(
            affine=_affine(changes),
            distorted=_distorted(changes, hw),
            colours=_tensor(colours, np.float32) if any(each.colours is not None for each in changes) else None,
            tables=_tensor(tables, np.uint8) if any(each.table is not None for each in changes) else None,
            blurred=_blurred(changes),
            noisy=_noisy(changes, hw),
            squares=_tensor(squares, np.int64) if most else None,
        )

    def apply(self, pixels: Pixels, padding: str) -> Pixels:
        """The changed samples, of the same size; `padding` as in Change.apply. All tensors lie on one device."""
        images, masks, valid, soft = pixels
        if self.affine is not None:
            images, masks, valid, soft = _moved(pixels, self._where(images), padding)
        levels = images.float()
        if self.colours is not None:  # no matrix product, whose precision is up to the device
            levels = (levels[:, None] * self.colours[:, :, :, None, None]).sum(2).round().clamp(0, 255)
        if self.tables is not None:
            levels = self.tables.gather(1, levels.flatten(1).long()).view_as(levels).float()
        if self.blurred is not None:
            levels[self.blurred.which] = _blur(levels[self.blurred.which], self.blurred.weights)
        if self.noisy is not None:
            levels[self.noisy.which] = _with_noise(levels[self.noisy.which], self.noisy)
        if self.squares is not None:
            levels = _without_squares(levels, self.squares)
        return Pixels(levels.to(torch.uint8), masks, valid, soft)

    def _where(self, images: Tensor) -> Float32[Tensor, "samples height width 2"]:
        """Where each pixel is read, x and y."""
        assert self.affine is not None
        height, width = images.shape[2:]
        rows = torch.arange(height, dtype=torch.float32, device=images.device)[None, :, None, None]
        columns = torch.arange(width, dtype=torch.float32, device=images.device)[None, None, :, None]
        along_x, along_y, shift = (self.affine[:, None, None, :, axis] for axis in range(3))
        where = along_x * columns + along_y * rows + shift
        for which, nodes, apart in self.distorted:
            full = F.interpolate(nodes, scale_factor=apart, mode="bilinear")
            where[which] = full[:, :, apart : apart + height, apart : apart + width].permute(0, 2, 3, 1)
        return where


def _moved(pixels: Pixels, where: Float32[Tensor, "samples height width 2"], padding: str) -> Pixels:
    images, masks, valid, soft = pixels
    height, width = images.shape[2:]
    # grid_sample reflects at -1 and 1: there are the centres of the outermost pixels, or else their edges
    centres = padding != "zero"
    outside = "reflection" if centres else "zeros"
    if centres:
        grid = torch.stack([where[..., 0] * (2 / max(1, width - 1)), where[..., 1] * (2 / max(1, height - 1))], 3) - 1
    else:
        grid = torch.stack([(2 * where[..., 0] + 1) / width, (2 * where[..., 1] + 1) / height], 3) - 1
    planes = [images] if valid is None else [images, 255 * (1 - valid[:, None])]
    planes = planes if soft is None else [*planes, soft]
    sizes = [each.shape[1] for each in planes]
    together = torch.cat(planes, dim=1).float()
    # by float32, levels may come to lie a trifle outside
    blended = F.grid_sample(together, grid, "bilinear", outside, centres).round_().clamp_(0, 255).to(torch.uint8)
    moved = list(torch.split(blended, sizes, dim=1))
    nearest = F.grid_sample(masks.float(), grid, "nearest", outside, centres).to(torch.uint8)
    return Pixels(
        moved[0],
        nearest,
        None if valid is None else (moved[1][:, 0] == 0).to(torch.uint8),
        None if soft is None else moved[-1],
    )


def _blur(levels: Levels, weights: Float32[Tensor, "samples taps"]) -> Levels:
    beyond = weights.shape[1] // 2
    for axis in (2, 3):  # sums of shifted planes: as convolutions, a GPU may round them to TF32
        length = levels.shape[axis]
        period = max(1, 2 * (length - 1))
        places = torch.arange(-beyond, length + beyond, device=levels.device) % period
        wider = levels.index_select(axis, torch.minimum(places, period - places).clamp_max(length - 1))
        levels = torch.zeros_like(levels)
        for tap in range(2 * beyond + 1):
            levels.addcmul_(weights[:, tap, None, None, None], wider.narrow(axis, tap, length))
    return levels.round().clamp(0, 255)


def _with_noise(levels: Levels, noisy: Noisy) -> Levels:
    samples, bands, height, width = levels.shape
    table = _table(str(levels.device))
    along = torch.arange(width * bands, device=levels.device)
    noise = table[(noisy.places[:, :, None] + along) % TABLE] * noisy.sigmas[:, None, None]
    # the numbers of a row go from band to band, then from pixel to pixel
    noise = noise.round().view(samples, height, width, bands).permute(0, 3, 1, 2)
    return (levels + noise).clamp(0, 255)


def _without_squares(levels: Levels, squares: Int64[Tensor, "samples squares 3"]) -> Levels:
    height, width = levels.shape[2:]
    rows = torch.arange(height, device=levels.device)[:, None]
    columns = torch.arange(width, device=levels.device)
    covered: Bool[Tensor, "samples height width"] = torch.zeros_like(levels[:, 0], dtype=torch.bool)
    for square in squares.unbind(1):
        top, left, side = (each[:, None, None] for each in square.unbind(1))
        covered |= (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
    means = levels.long().sum((2, 3)) // (height * width)
    return torch.where(covered[:, None], means[:, :, None, None].float(), levels)


@lru_cache(2)
def _table(device: str) -> Float32[Tensor, " table"]:
    return torch.from_numpy(normals(1)[:, 0]).to(device)


def _affine(changes: Sequence[Change]) -> Float32[Tensor, "samples 2 3"] | None:
    if all(each.warp is None for each in changes):
        return None
    return _tensor([np.eye(3) if e.warp is None else np.linalg.inv(e.warp.matrix) for e in changes], np.float32)[:, :2]


def _distorted(changes: Sequence[Change], hw: HW) -> tuple[Distorted, ...]:
    by_distance: dict[int, list[tuple[int, np.ndarray]]] = {}
    for number, each in enumerate(changes):
        if each.warp is not None and each.warp.distorts:
            nodes, apart = each.warp.nodes(hw)
            by_distance.setdefault(apart, []).append((number, nodes.transpose(2, 0, 1)))
    return tuple(
        Distorted(_tensor([number for number, _ in found], np.int64), _tensor([n for _, n in found], np.float32), apart)
        for apart, found in by_distance.items()
    )


def _blurred(changes: Sequence[Change]) -> Blurred | None:
    kernels = {}
    for number, each in enumerate(changes):
        if each.blur_sigma > 0:
            taps = round(6 * each.blur_sigma + 1) | 1  # as OpenCV chooses it for 8 bits
            kernels[number] = cv2.getGaussianKernel(taps, each.blur_sigma)[:, 0]
    if not kernels:
        return None
    most = max(map(len, kernels.values()))
    weights = [np.pad(kernel, (most - len(kernel)) // 2) for kernel in kernels.values()]
    return Blurred(_tensor(list(kernels), np.int64), _tensor(weights, np.float32))


def _noisy(changes: Sequence[Change], hw: HW) -> Noisy | None:
    found = [(number, each) for number, each in enumerate(changes) if each.noise_sigma > 0]
    if not found:
        return None
    return Noisy(
        _tensor([number for number, _ in found], np.int64),
        _tensor([each.noise_sigma for _, each in found], np.float32),
        _tensor([noise_places(each.noise_seed, hw[0]) for _, each in found], np.int64),
    )


def _tensor(values: Sequence[object], dtype: type) -> Tensor:
    return torch.from_numpy(np.asarray(values, dtype))
