"""Chips + options -> samples that are decoded once: a file of them, which workers, processes and trainings share.

Nothing is built beforehand. Whoever reads a sample first writes it into its row, and a row counts only if its checksum
holds. So a training begins at once, two that begin together fill one file, and what a killed process or a
machine that went down left half-written is decoded again. The name of the file is a digest of all that samples depend
on: another label, raw file, size or version of the code is another file, and none is ever out of date.
"""

import errno
import hashlib
import json
import math
import mmap
import os
import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from segsmith import recipe
from segsmith.data.dataset import Dataset
from segsmith.errors import DataError, WriteError
from segsmith.files import held, replacing, write_error
from segsmith.samples.chips import Chips
from segsmith.samples.rows import Form, form_of
from segsmith.samples.samples import Reader, Sample, read_sample
from segsmith.types import HW

FOLDER = "cache"
"""Of a dataset, where its samples are kept unless a recipe says otherwise."""
MOST_OF_DISK = 0.5
"""Share of the room on its disk that all caches of a folder may take together."""
LEAST_FREE_BYTES = 2**30
"""Room on the disk below which nothing more is kept: checkpoints need it."""
TOLD_FROM_BYTES = 10**9
"""A new cache that may become so large is told of."""
UNUSED_DAYS = 30
"""A cache that no training opened for so long is removed when another is made."""

_HEADER_BYTES = 4096
_SUFFIX = ".samples"
_LIBRARIES = ("numpy", "opencv-python-headless", "pillow", "rasterio", "shapely", "torchvision")
_SIDECARS = ("", ".msk", ".aux.xml")  # of a raster: GDAL reads which pixels are valid from them


class Kept(NamedTuple):
    """A file of decoded samples as it lies there."""

    file: Path
    hw: HW
    samples: int
    """That it has rows for."""
    full_bytes: int
    bytes: int
    """On the disk now."""
    days_unused: float


class SampleCaches:
    """The caches of a training: one for each size that its network sees."""

    def __init__(self, chips: Chips, folder: Path | None, tell: Callable[[str], None] | None = None):
        """Nothing is kept without a `folder`. `tell` is told where much is kept, and why samples are not; by default
        standard error is."""
        self.chips, self.folder, self.tell = chips, folder, tell or _tell
        self._readers: dict[tuple[HW, HW | None], Reader] = {}

    def reader(self, options: recipe.Data) -> Reader:
        """What reads the untouched samples of the chips at the size of `options`, and keeps them where it can."""
        size = options.input_hw, options.resize_hw
        if size not in self._readers:
            self._readers[size] = self._opened(options) or partial(read_sample, self.chips, options=options)
        return self._readers[size]

    def _opened(self, options: recipe.Data) -> "SampleCache | None":
        if self.folder is None:
            return None
        try:
            return SampleCache.open(self.chips, options, self.folder, self.tell)
        except (WriteError, DataError) as error:
            self.tell(f"{error}; images are decoded in every epoch")
            return None


class SampleCache:
    """The untouched samples of all labelled chips at one size, read from a file, or decoded and kept there."""

    def __init__(self, file: Path, form: Form, chips: Chips, options: recipe.Data, tell: Callable[[str], None]):
        self.file, self.chips, self.options, self.tell = file, chips, options, tell
        self._form = form
        labelled = _labelled(chips)
        self._row = np.full(len(chips), -1, np.int64)
        self._row[labelled] = np.arange(len(labelled))
        # forked workers share the file descriptor, so they go on when the file is deleted
        self._descriptor = os.open(file, os.O_RDWR)
        try:
            self._map = mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ)
        except BaseException:
            os.close(self._descriptor)
            raise
        rows = np.frombuffer(self._map, np.uint8, offset=_HEADER_BYTES)
        self._rows: UInt8[np.ndarray, "rows bytes"] = rows.reshape(len(labelled), form.row_bytes)
        self._checked = np.zeros(len(labelled), bool)
        """Rows whose checksum this process has seen to hold: what is in a row never changes again."""
        self._keeps = True

    def __reduce__(self) -> "tuple[Callable[..., Reader], tuple[object, ...]]":
        return _reopened, (self.file, self._form, self.chips, self.options, self.tell)

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)  # the map closes with the last sample that looks at it

    @staticmethod
    def open(chips: Chips, options: recipe.Data, folder: Path, tell: Callable[[str], None]) -> "SampleCache":
        """The cache of these samples in a folder, made if it is not there; others that were not used for long, or
        whose room it needs, are removed. Raises DataError where the disk has no room for it, or images differ in their
        bands; WriteError where the folder cannot be written."""
        form = form_of(chips, options)
        file = folder / f"{key(chips, options)}{_SUFFIX}"
        header = json.dumps({"hw": options.input_hw, "samples": len(_labelled(chips))}).encode().ljust(_HEADER_BYTES)
        size = _HEADER_BYTES + len(_labelled(chips)) * form.row_bytes
        try:
            with held(folder, "folder of decoded samples", wait=True):
                if not file.is_file() or file.stat().st_size != size:
                    _make_room(folder, file, size)
                    with replacing(file) as partial_file:
                        partial_file.write_bytes(header)
                        os.truncate(partial_file, size)  # holes, which take no room before they are filled
                    if size >= TOLD_FROM_BYTES:
                        tell(f"{folder}: up to {told_bytes(size)} of decoded samples are kept here (train.cache)")
                os.utime(file)
                return SampleCache(file, form, chips, options, tell)
        except OSError as error:
            raise write_error(error, file) from error

    def __call__(self, chip: int) -> Sample:
        """A sample as read_sample gives it. Its arrays are not to be written to. Raises like read_sample."""
        content = self.content(chip)
        if content is not None:
            return self._form.sample(content)
        sample = read_sample(self.chips, chip, self.options)
        if self._row[chip] >= 0:
            self._keep(int(self._row[chip]), sample)
        return sample

    def content(self, chip: int) -> UInt8[np.ndarray, " bytes"] | None:
        """The bytes that a sample is kept as, not to be written to; None where it is not kept, or not yet."""
        row = int(self._row[chip])
        if row < 0:
            return None
        content: UInt8[np.ndarray, " bytes"] = self._rows[row]
        if not self._checked[row]:
            if not self._form.whole(content):
                return None
            self._checked[row] = True
        return content

    def _keep(self, row: int, sample: Sample) -> None:
        if not self._keeps:
            return
        try:
            disk = os.fstatvfs(self._descriptor)
            if disk.f_bavail * disk.f_frsize < LEAST_FREE_BYTES:
                raise OSError(errno.ENOSPC, f"less than {told_bytes(LEAST_FREE_BYTES)} are free")
            content = self._form.row(sample)
            # not through the map: there a full disk would be a signal that kills, here it is an error
            written = os.pwrite(self._descriptor, content.data, _HEADER_BYTES + row * self._form.row_bytes)
            if written < len(content):
                raise OSError(errno.ENOSPC, "the disk is full")
        except OSError as error:
            self._keeps = False
            self.tell(f"{self.file}: {error.strerror}; no more decoded samples are kept, the training goes on")


def _reopened(file: Path, form: Form, chips: Chips, options: recipe.Data, tell: Callable[[str], None]) -> Reader:
    """A cache in a worker that is no fork; where its file was deleted meanwhile, what decodes each time."""
    try:
        return SampleCache(file, form, chips, options, tell)
    except OSError:
        return partial(read_sample, chips, options=options)


def key(chips: Chips, options: recipe.Data) -> str:
    """Hex digits that change with whatever changes a sample of a labelled chip: images and labels, the raw files (by
    size and times), where chips lie, what of the options matters, this code and the libraries it decodes with."""
    dataset, images = chips.dataset, np.unique(chips.image[_labelled(chips)])
    matters = {"fit", "input_hw"}
    if options.fit == "pad":
        matters |= {"resize_hw", "padding"}
    if options.fit == "chip":
        matters |= {"gsd_m"}
    digest = hashlib.blake2b(digest_size=12)
    said = {
        "options": options.model_dump(mode="json", include=matters),
        "border_px": chips.border_px,
        "dataset": dataset.fingerprint,
        "versions": {name: version(name) for name in _LIBRARIES},
    }
    digest.update(json.dumps(said, sort_keys=True).encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    for column in (chips.image, chips.top, chips.left, chips.scale):
        digest.update(column[_labelled(chips)].tobytes())
    for image in images.tolist():
        digest.update(_state_of(dataset, image))
    return digest.hexdigest()


def kept_samples(folder: Path) -> list[Kept]:
    """The caches in a folder, last used first."""
    found = [_look(file) for file in folder.glob(f"*{_SUFFIX}")]
    return sorted((kept for kept in found if kept is not None), key=lambda kept: kept.days_unused)


def remove_samples(folder: Path) -> int:
    """Remove all caches of a folder, at any time: trainings that use one go on. How many bytes that frees."""
    found = kept_samples(folder)
    for kept in found:
        kept.file.unlink(missing_ok=True)
    return sum(kept.bytes for kept in found)


def cache_folder(dataset: Path, kept: bool | str) -> Path | None:
    """Where samples of a dataset are kept, by what a recipe says of it: beside its tables, in a folder of its own, or
    nowhere."""
    return dataset / FOLDER if kept is True else Path(kept) if kept else None


def _labelled(chips: Chips) -> np.ndarray:
    """Numbers of the chips of labelled images: others are neither trained nor validated on. But for taught ones, since
    a row has bits for labels, and no room for soft ones."""
    is_labelled = chips.dataset.images["labelled"].to_numpy(bool) & ~chips.dataset.taught
    return np.flatnonzero(is_labelled[chips.image])


def _state_of(dataset: Dataset, image: int) -> bytes:
    """What changes when someone writes to the files of an image, and of a raster what its levels are measured by."""
    path, raster = dataset.path(image), dataset.is_raster(image)
    found = []
    for sidecar in _SIDECARS if raster else _SIDECARS[:1]:
        try:
            state = path.with_name(path.name + sidecar).stat()
            found += [state.st_size, state.st_mtime_ns, state.st_ctime_ns]
        except OSError:  # reading it will say so
            found.append(-1)
    levels = dataset.images.iloc[image][["band_low", "band_high", "gsd_m"]].tolist() if raster else []
    return repr((found, [np.asarray(level).tolist() for level in levels])).encode()


def _make_room(folder: Path, file: Path, size: int) -> None:
    """Remove caches that were not used for long, and the longest unused ones until a new one of `size` bytes fits.
    Raises DataError where it does not fit even alone."""
    file.unlink(missing_ok=True)
    kept = kept_samples(folder)
    room = shutil.disk_usage(folder).free + sum(other.bytes for other in kept)
    most = MOST_OF_DISK * room
    if size > most:
        raise DataError(
            f"{folder}: {told_bytes(size)} of decoded samples would take more than half of the {told_bytes(room)} that "
            "are free; set train.cache to a folder with more room, or to false"
        )
    for other in reversed(kept):
        if other.days_unused > UNUSED_DAYS or size + sum(each.full_bytes for each in kept) > most:
            other.file.unlink(missing_ok=True)
            kept.remove(other)


def _look(file: Path) -> Kept | None:
    try:
        with file.open("rb") as content:
            facts = json.loads(content.read(_HEADER_BYTES))
        state, hw = file.stat(), tuple(facts["hw"])
        days = max(0.0, time.time() - state.st_mtime) / 86400
        return Kept(file, hw, facts["samples"], state.st_size, state.st_blocks * 512, days)
    except (OSError, ValueError):  # removed meanwhile, or none of ours
        return None


def told_bytes(size: int) -> str:
    """A size for people."""
    power = min(3, int(math.log(max(size, 1), 1000)))
    return f"{size / 1000**power:.3g} {('bytes', 'kB', 'MB', 'GB')[power]}"


def _tell(message: str) -> None:
    print(f"segsmith: {message}", file=sys.stderr, flush=True)
