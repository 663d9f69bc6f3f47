"""Masks -> the bodies of answers: run lengths as JSON, or PNG."""

from collections.abc import Sequence

from pydantic import BaseModel, Field

from segsmith.data.dataset import Layout
from segsmith.delivery.predict import Masked, mask_png
from segsmith.delivery.submission import mask_rows
from segsmith.modeling.bundle import Bundle
from segsmith.service.limits import RefusedError


class ClassRuns(BaseModel):
    """The mask of one class."""

    name: str
    pixels: int = Field(description="Of the foreground.")
    runs: list[str] = Field(
        description="Run lengths as a submission has them: 'start length' pairs, from 1, down the columns. A text for "
        "each object, or one for the class, as the labels had them; none without foreground."
    )


class MaskRuns(BaseModel):
    """The mask of an image as run lengths."""

    height: int
    width: int
    classes: list[ClassRuns]


def runs_answer(masked: Masked, layout: Layout, names: Sequence[str], chosen: str | None) -> MaskRuns:
    """The rows that `predict` would write of an image, of all classes or the one that was chosen."""
    return MaskRuns(
        height=masked.mask.shape[1],
        width=masked.mask.shape[2],
        classes=[
            ClassRuns(
                name=name, pixels=int(plane.sum()), runs=[text for text in mask_rows(plane, layout, objects) if text]
            )
            for name, plane, objects in zip(names, masked.mask, masked.objects, strict=True)
            if chosen in (None, name)
        ],
    )


def png_answer(masked: Masked, bundle: Bundle, chosen: str | None) -> bytes:
    """The mask file that `predict` would write. Raises RefusedError where one of several classes is to be chosen."""
    if chosen is None and len(bundle.classes) > 1:
        raise RefusedError(422, f"a PNG shows one class; say which: class={'|'.join(bundle.classes)}")
    return mask_png(masked.mask[bundle.classes.index(chosen) if chosen else 0])
