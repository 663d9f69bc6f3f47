"""Images that an ingest found -> those to index: without the ones a user leaves out, and a note for each reason.

What is left out is neither opened nor in the index, so that a file that does not decode can be left out as well.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from segsmith.data.index import LabelledImage
from segsmith.errors import DataError, listed, unreadable


@dataclass(frozen=True)
class Cleaning:
    """What a user leaves out of a raw folder."""

    exclude: Mapping[str, str] = field(default_factory=dict)
    """Image ids, each with the reason it is left out for."""
    smallest_file: int = 0
    """Labelled images of fewer bytes on disk are left out."""

    def apply(self, raw: Path, images: Sequence[LabelledImage], opened: bool = True) -> "Cleaned":
        """The images that stay, in their order, and what is left out, reason by reason.

        `opened` is False where there are no files whose size could be asked.
        """
        reasons: dict[str, str] = {}
        for image in images:
            if image.image_id in self.exclude:
                reasons[image.image_id] = self.exclude[image.image_id]
            elif opened and image.labelled and _size(raw / image.path) < self.smallest_file:
                reasons[image.image_id] = f"file smaller than {self.smallest_file:,} bytes"
        notes = [
            f"left out: {count:,} {'image' if count == 1 else 'images'} ({reason})"
            for reason, count in Counter(reasons.values()).items()
        ]
        unknown = sorted(set(self.exclude) - {image.image_id for image in images})
        if unknown:
            more = f" and {len(unknown) - 10} more" if len(unknown) > 10 else ""
            notes.append(f"to be left out, but not here: {', '.join(unknown[:10])}{more}")
        kept = [image for image in images if image.image_id not in reasons]
        if not kept:
            raise DataError(f"{raw}: all {len(images)} images are left out:\n{listed(notes)}\nnothing stays to index")
        return Cleaned(kept, frozenset(reasons), tuple(notes))


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError as error:
        raise DataError(unreadable(file, "an image", error)) from None


@dataclass(frozen=True)
class Cleaned:
    """What stays of the images found, the ids that do not, and a note for each reason."""

    images: list[LabelledImage]
    left_out: frozenset[str]
    notes: tuple[str, ...]


def left_out(notes: Iterable[str]) -> dict[str, int]:
    """Reason -> number of images left out for it, from the notes of a dataset."""
    matches = (re.fullmatch(r"left out: ([\d,]+) images? \((.*)\)", note) for note in notes)
    return {found[2]: int(found[1].replace(",", "")) for found in matches if found}


def read_exclusions(file: Path) -> dict[str, str]:
    """Image ids of a text file, one a line; `#` begins a comment. Raises DataError if it does not read as text."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(unreadable(file, "a list of image ids", error)) from None
    ids = (line.partition("#")[0].strip() for line in lines)
    return {image_id: f"listed in {file.name}" for image_id in ids if image_id}
