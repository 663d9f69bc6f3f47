"""Two samples -> one: a rectangle of the other, or one of its objects, with its mask and its usable pixels."""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from segsmith.samples.samples import Sample
from segsmith.types import HW, InputProbabilities

FEATHER_PX = 1.0
"""Deviation of the Gaussian that blends the edge of a pasted object, pixels."""


@dataclass(frozen=True)
class Cutmix:
    """A rectangle that is taken from another sample, where it lies."""

    top: int
    left: int
    height: int
    width: int

    def apply(self, sample: Sample, other: Sample) -> Sample:
        """Image, mask and usable pixels within the rectangle are the other's, beyond it the sample's own."""
        rows, columns = slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)
        image, mask, soft = sample.image.copy(), sample.mask.copy(), _soft(sample, other)
        image[rows, columns], mask[:, rows, columns] = other.image[rows, columns], other.mask[:, rows, columns]
        if soft is not None:
            soft[:, rows, columns] = other.levels[:, rows, columns]
        if sample.valid is None and other.valid is None:
            return replace(sample, image=image, mask=mask, soft=soft)
        valid = np.ones(mask.shape[1:], bool) if sample.valid is None else sample.valid.copy()
        valid[rows, columns] = True if other.valid is None else other.valid[rows, columns]
        return replace(sample, image=image, mask=mask, valid=valid, soft=soft)


@dataclass(frozen=True)
class Paste:
    """An object of another sample, and where it goes; each a share, 0..1, of what there is to choose from."""

    which: float
    down: float
    right: float

    def apply(self, sample: Sample, other: Sample) -> Sample:
        """The other's object - what is connected, of any class - stands in the sample with its own mask.

        Its edge is blended over some FEATHER_PX pixels of both; a pixel in which either is unusable is not usable.
        The sample itself where the other shows no object.
        """
        count, labels, boxes, _ = cv2.connectedComponentsWithStats(other.mask.any(axis=0).view(np.uint8))
        if count < 2:
            return sample
        chosen = 1 + int(self.which * (count - 1))
        left, top, width, height, _ = boxes[chosen].tolist()
        full_height, full_width = labels.shape
        down = int(self.down * (full_height - height + 1)) - top
        right = int(self.right * (full_width - width + 1)) - left
        margin = int(np.ceil(3 * FEATHER_PX))
        # what is within the margin of the object, and within both images
        first_row, last_row = max(0, top - margin, -down), min(full_height, top + height + margin, full_height - down)
        first, last = max(0, left - margin, -right), min(full_width, left + width + margin, full_width - right)
        there = slice(first_row, last_row), slice(first, last)
        here = slice(first_row + down, last_row + down), slice(first + right, last + right)

        body = labels[there] == chosen
        alpha = cv2.GaussianBlur(body.astype(np.float32), (0, 0), FEATHER_PX, borderType=cv2.BORDER_REPLICATE)
        alpha = np.where(alpha > 0.02, alpha, 0)[:, :, None]
        image, mask, soft = sample.image.copy(), sample.mask.copy(), _soft(sample, other)
        image[here] = np.rint(image[here] + alpha * (other.image[there].astype(np.float32) - image[here]))
        mask[:, *here] = np.where(body, other.mask[:, *there], mask[:, *here])
        if soft is not None:
            soft[:, *here] = np.where(body, other.levels[:, *there], soft[:, *here])
        valid = sample.valid
        if other.valid is not None:
            valid = np.ones(labels.shape, bool) if valid is None else valid.copy()
            valid[here] &= other.valid[there] | (alpha[:, :, 0] == 0)
        return replace(sample, image=image, mask=mask, valid=valid, soft=soft)


def _soft(sample: Sample, other: Sample) -> InputProbabilities | None:
    """A copy of the levels that a sample becomes the mixture of; None where neither has soft labels."""
    return None if sample.soft is None and other.soft is None else sample.levels.copy()


def draw_cutmix(hw: HW, rng: np.random.Generator) -> Cutmix:
    """A rectangle as in CutMix (Yun et al. 2019, arXiv 1905.04899): of the image's shape, its share of the area
    uniform in 0..1, its centre anywhere, and cut off at the border."""
    share, down, right = rng.random(3)
    half = np.sqrt(share) / 2
    top, bottom = (round(hw[0] * float(np.clip(down + side, 0, 1))) for side in (-half, half))
    left, end = (round(hw[1] * float(np.clip(right + side, 0, 1))) for side in (-half, half))
    return Cutmix(top, left, bottom - top, end - left)


def draw_paste(rng: np.random.Generator) -> Paste:
    """One object, anywhere in the image, as in Simple Copy-Paste (Ghiasi et al. 2021, arXiv 2012.07177)."""
    which, down, right = rng.random(3)
    return Paste(which, down, right)
