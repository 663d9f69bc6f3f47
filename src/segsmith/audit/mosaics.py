"""Dataset -> mosaics: which images were cut side by side from one larger picture, and where in it each lay.

The last columns of one image are carried on by half a pixel, the first columns of another carried back, and both
should meet; likewise for rows. Precision comes before recall, since one false joint chains two mosaics into one group.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, Int, UInt8

from segsmith.audit.duplicates import nearest
from segsmith.data.dataset import Dataset
from segsmith.data.images import LARGEST_PIXELS
from segsmith.data.index import in_threads
from segsmith.progress import track
from segsmith.types import Image

LEAST_AGREEMENT = 0.8
"""Least correlation of two edges that touch."""

CLEARLY_BETTER = 0.4
"""What the best neighbour's edge lacks in agreement is at most this share of what the second best lacks."""

_FLAT = 3.0
"""Deviation, in grey levels, below which an edge says nothing about its neighbour."""

_LEAST_SHARE = 0.2
"""Least share of an edge's pixels that carry its detail; a single line across a plain edge is found in many images."""

_AS_ROUGH = 1.5
"""What a joint lacks in agreement is at most this many times what continuations inside the images lack."""
_ROUNDING = 0.005

Edges = Float32[np.ndarray, "images edge"]


class Joint(NamedTuple):
    """`second` continues `first` to the right, or below it; row numbers in `Dataset.images`."""

    first: int
    second: int
    below: bool
    agreement: float
    """Correlation of the two edges, -1 to 1."""


@dataclass(frozen=True)
class Mosaic:
    """Images of one larger picture, two or more, and their places in it; the top row and left column used are 0."""

    images: tuple[int, ...]
    rows: tuple[int, ...]
    columns: tuple[int, ...]


@dataclass(frozen=True)
class Mosaics:
    mosaics: tuple[Mosaic, ...]
    """Largest first, then by first image; no image is in two."""
    joints: tuple[Joint, ...]
    """Those the mosaics were put together from, surest first."""
    contradictions: int
    """Joints left out because surer ones put one of the images elsewhere."""
    too_large: int
    """Images that were not read."""


def find_mosaics(dataset: Dataset) -> Mosaics:
    """The mosaics among all images, labelled or not; only images of one size and number of bands are joined.

    Each image is read once. Time besides: images² / 10⁹ minutes or so; memory: four edges an image. Raises DataError
    when an image cannot be read.
    """
    return mosaics_of(dataset.images[["height", "width", "bands"]].to_numpy(), dataset.image)


def mosaics_of(shapes: Int[np.ndarray, "images 3"], read: Callable[[int], Image]) -> Mosaics:
    """Likewise of images of these heights, widths and bands, which `read` gives by their numbers."""
    small = shapes[:, 0].astype(np.int64) * shapes[:, 1] <= LARGEST_PIXELS
    joints: list[Joint] = []
    for shape in np.unique(shapes[small], axis=0):
        members = np.flatnonzero(small & (shapes == shape).all(axis=1))
        if len(members) < 3 or min(shape[:2]) < 16:  # two images have no second best
            continue
        looked = track(in_threads(lambda i: _edges(read(i)), members.tolist()), "edges", len(members))
        left, right, top, bottom = zip(*looked, strict=True)
        for ahead, behind, below in ((right, left, False), (bottom, top, True)):
            matched = match_edges(*(np.stack([edge.outside for edge in side]) for side in (ahead, behind)))
            for a, b, agreement in matched:
                rough = max(ahead[a].roughness, behind[b].roughness)
                if 1 - agreement <= _AS_ROUGH * rough + _ROUNDING:
                    joints.append(Joint(int(members[a]), int(members[b]), below, agreement))
    return _put_together(joints, int((~small).sum()))


def match_edges(ahead: Edges, behind: Edges) -> Iterator[tuple[int, int, float]]:
    """Rows of `ahead` and `behind` that are each other's best, and clearly, and how well they agree.

    Rows have mean 0 and length 1, or are all 0 for flat edges.
    """
    best, agreement = nearest(ahead, behind, 2)
    back, back_agreement = nearest(behind, ahead, 2)

    def clear(agrees: Float32[np.ndarray, " two"]) -> bool:
        return bool(agrees[0] >= LEAST_AGREEMENT and 1 - agrees[0] <= CLEARLY_BETTER * (1 - agrees[1]))

    for a, b in enumerate(best[:, 0].tolist()):
        if a != b and back[b, 0] == a and clear(agreement[a]) and clear(back_agreement[b]):
            yield a, b, float(agreement[a, 0])


def rebuilt(dataset: Dataset, mosaic: Mosaic) -> UInt8[np.ndarray, "height width bands"]:
    """The mosaic's picture, black where an image is missing."""
    pieces = [dataset.image(index) for index in mosaic.images]
    height, width, bands = pieces[0].shape
    whole = np.zeros(((max(mosaic.rows) + 1) * height, (max(mosaic.columns) + 1) * width, bands), np.uint8)
    for piece, row, column in zip(pieces, mosaic.rows, mosaic.columns, strict=True):
        whole[row * height : (row + 1) * height, column * width : (column + 1) * width] = piece
    return whole


class _Edge(NamedTuple):
    outside: Float32[np.ndarray, " _edge"]
    """What would stand half a pixel outside; mean 0 and length 1, or all 0 where it is too plain to be recognised."""
    roughness: float
    """What such a continuation lacks in agreement inside the image, where the truth is known."""


def _edges(image: Image) -> tuple[_Edge, _Edge, _Edge, _Edge]:
    """Left, right, top and bottom."""
    plane = image.mean(axis=2, dtype=np.float32)
    left, right, top, bottom = map(_edge, (plane.T, plane.T[::-1], plane, plane[::-1]))
    return left, right, top, bottom


def _edge(lines: Float32[np.ndarray, "depth edge"]) -> _Edge:
    """Of the lines of pixels along an edge, the outermost first."""
    outside = 1.5 * lines[0] - 0.5 * lines[1]
    fine = outside - cv2.GaussianBlur(outside[:, None], (0, 0), 8.0)[:, 0]
    fine2 = fine * fine
    independent = float(fine2.sum() ** 2 / max(float((fine2 * fine2).sum()), 1e-6))
    recognised = float(outside.std()) >= _FLAT and independent >= _LEAST_SHARE * outside.size
    gaps = [
        1 - float(_unit(1.5 * lines[k] - 0.5 * lines[k + 1]) @ _unit(1.5 * lines[k - 1] - 0.5 * lines[k - 2]))
        for k in (3, 6, 9, 12)
    ]
    return _Edge(_unit(outside) if recognised else np.zeros_like(outside), float(np.median(gaps)))


def _unit(line: Float32[np.ndarray, " _edge"]) -> Float32[np.ndarray, " _edge"]:
    line = line - line.mean()
    return np.asarray(line / max(float(np.linalg.norm(line)), 1e-6), np.float32)


def _put_together(joints: list[Joint], too_large: int) -> Mosaics:
    """Joints surest first; one that would put two images on one place, or an image on two, is left out."""
    place: dict[int, tuple[int, int, int]] = {}  # image -> mosaic, row, column
    members: dict[int, dict[tuple[int, int], int]] = {}
    used: list[Joint] = []
    contradictions = 0
    for joint in sorted(joints, key=lambda j: (-j.agreement, j)):
        for image in joint[:2]:
            if image not in place:
                place[image] = (image, 0, 0)
                members[image] = {(0, 0): image}
        one, row, column = place[joint.first]
        other, row_there, column_there = place[joint.second]
        down, right = row + joint.below - row_there, column + (not joint.below) - column_there
        if one == other:
            if (down, right) != (0, 0):
                contradictions += 1
            else:
                used.append(joint)
            continue
        moved = {(r + down, c + right): image for (r, c), image in members[other].items()}
        if moved.keys() & members[one].keys():
            contradictions += 1
            continue
        members[one] |= moved
        del members[other]
        place |= {image: (one, *at) for at, image in moved.items()}
        used.append(joint)
    mosaics = [_mosaic(at) for at in members.values() if len(at) > 1]
    mosaics.sort(key=lambda m: (-len(m.images), m.images))
    return Mosaics(tuple(mosaics), tuple(used), contradictions, too_large)


def _mosaic(at: dict[tuple[int, int], int]) -> Mosaic:
    top, left = (min(place[axis] for place in at) for axis in (0, 1))
    ordered = sorted(at.items(), key=lambda item: item[1])
    return Mosaic(
        tuple(image for _, image in ordered),
        tuple(row - top for (row, _), _ in ordered),
        tuple(column - left for (_, column), _ in ordered),
    )
