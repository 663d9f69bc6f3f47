"""What is wrong with a dataset, one finding per kind and image -> ranked list, printed lines, CSV, ids to leave out."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import log10

from segsmith.data.windows import Window
from segsmith.errors import DataError

# Kind of finding -> (what is the matter with so many images, what to do about it). Where two findings are equally
# severe, the kind that stands first comes first: what makes training wrong stands above what merely wastes it.
KINDS: dict[str, tuple[str, str]] = {
    "undecodable": ("cannot be read", "fetch the file again, or leave it out"),
    "mask-mismatch": ("have a mask file that contradicts the table of labels", "find out which is right"),
    "all-transposed": ("have masks that fit only transposed", "read the run lengths along the other axis"),
    "mask-on-blank": ("show nothing but are labelled", "empty the mask or leave the image out"),
    "bands-differ": ("have another number of bands", "convert them as the others are, or leave them out"),
    "size-differs": ("have another size", "check where they come from; leave them out if they do not belong"),
    "mask-values": ("have a mask file of other grey levels", "check which level means foreground in these files"),
    "mask-transposed": ("have a mask that fits better transposed or flipped", "look at it; transpose it back"),
    "mask-disagrees": ("have a mask that the image does not bear out", "look at it; correct or leave out"),
    "neighbours-disagree": ("have a mask that breaks off where its neighbour goes on", "look at both; correct one"),
    "duplicates-disagree": (
        "show the same as another image but are labelled otherwise",
        "find out which is right; --exclude keeps the other, whose mask fits better",
    ),
    "uniform": ("are nearly uniform (off-topic)", "leave them out"),
    "noise": ("are noise", "leave them out"),
    "tiny-file": ("hold far less detail than the others for their size (off-topic)", "look; leave them out"),
    "odd-brightness": ("are far brighter or darker than the others", "look; cloud, glare and night are off-topic"),
    "blank": ("are blank or nearly so", "leave them out; they teach nothing"),
    "rectangle": ("have a plain rectangle as mask", "check whether it is a stand-in for a drawn outline"),
    "full-columns": ("have a mask of full columns or rows", "check whether run lengths were cut or read wrongly"),
    "whole-image": ("are foreground everywhere", "check whether the mask was inverted"),
    "speck": ("have a mask of a few pixels", "check whether it is a slip; a smallest area removes it"),
    "straight-sides": ("have a mask with sides along the pixel grid", "check whether it is a box, or was cut"),
    "label-shift": ("have labels that lie beside what they label", "shift the labels back"),
    "class-missing": ("belong to a fold without some class", "stratify, or use fewer folds"),
    "not-audited": ("are too large to be looked at", "cut them into chips, or store them as GeoTIFF"),
}

CROWD = 0.25
"""Severity that the tenth finding of a kind loses against the first, where findings are ordered."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with one image, or with the dataset when `image_id` is empty."""

    kind: str
    """A key of KINDS, and what `--exclude` takes."""
    severity: float
    """0 to 1. Broken files are 1; otherwise how rare it is among this dataset's images, in powers of ten:
    0.5 is one in a thousand, 1 one in a million or less."""
    image_id: str
    path: str
    """Relative to the raw folder."""
    reason: str
    """One sentence with the value that was measured."""
    row: int | None = None
    """Row of the table of labels, 1 for its first, header included."""
    window: Window | None = None
    """Where to look; the whole image if None."""
    other: str = ""
    """Id of the image that this one contradicts, if it is another image that tells."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"a finding's kind must be one of {', '.join(KINDS)}. Received: {self.kind}")
        if not 0 <= self.severity <= 1:
            raise ValueError(f"a severity must be 0 to 1. Received: {self.severity}")

    @property
    def remedy(self) -> str:
        return KINDS[self.kind][1]


class BrokenFilesError(DataError):
    """Files that cannot be used, each with its finding: leaving their images out would help."""

    def __init__(self, message: str, findings: Sequence[Finding]):
        super().__init__(message)
        self.findings = tuple(findings)


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Findings in the order in which they are worth reading: the worst of each kind early, no kind all at once.

    The n-th worst of a kind loses CROWD * log10(n) of its severity: who has seen ten of a kind knows it. Then by kind
    as KINDS lists them, then by path. The order does not depend on the order given.
    """
    order = {kind: place for place, kind in enumerate(KINDS)}
    by_severity = sorted(findings, key=lambda found: (-found.severity, order[found.kind], found.path, found.reason))
    seen: Counter[str] = Counter()
    placed = []
    for found in by_severity:
        seen[found.kind] += 1
        placed.append((found.severity - CROWD * log10(seen[found.kind]), found))
    return [found for _, found in sorted(placed, key=lambda item: -item[0])]


_SINGULAR = {"are": "is", "have": "has", "show": "shows", "hold": "holds", "belong": "belongs", "differ": "differs"}


def printed(findings: Sequence[Finding], lines: int = 10, named: int = 3) -> list[str]:
    """One line per kind, the kind with the worst finding first: how many, which, and what to do; at most `lines`, and
    one more that says how many kinds were left over."""
    groups: dict[str, list[Finding]] = {}
    for found in worst_first(findings):
        groups.setdefault(found.kind, []).append(found)
    said = []
    for kind, group in list(groups.items())[:lines]:
        matter, remedy = KINDS[kind]
        images = list(dict.fromkeys(found.image_id for found in group if found.image_id))
        names = ", ".join(images[:named]) + (" ..." if len(images) > named else "")
        if not images:
            said.append(f"{kind}: {group[0].reason}; {remedy}")
            continue
        if len(images) == 1:
            verb, space, rest = matter.partition(" ")
            matter = _SINGULAR.get(verb, verb) + space + rest
        count = f"{len(images):,} image{'' if len(images) == 1 else 's'}"
        said.append(f"{kind}: {count} {matter}: {names}; {remedy}")
    if len(groups) > lines:
        more = len(groups) - lines
        said.append(f"and {more} more {'kind' if more == 1 else 'kinds'} of findings: see findings.csv")
    return said


def to_csv(findings: Iterable[Finding]) -> str:
    """The findings as a table, in the order given."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["kind", "severity", "image_id", "path", "row", "other", "reason", "remedy"])
    for found in findings:
        writer.writerow(
            [
                found.kind,
                f"{found.severity:.3f}",
                found.image_id,
                found.path,
                found.row or "",
                found.other,
                found.reason,
                found.remedy,
            ]
        )
    return text.getvalue()


def ids_of_kinds(findings: Iterable[Finding], kinds: Iterable[str]) -> dict[str, str]:
    """Image id -> kind, of the findings of these kinds: what to leave out, and why. Raises DataError for an unknown
    kind."""
    wanted = set(kinds)
    if unknown := wanted - KINDS.keys():
        raise DataError(f"'{min(unknown)}' is neither a kind of finding nor a file of ids; kinds: {', '.join(KINDS)}")
    ids: dict[str, str] = {}
    for found in findings:
        if found.kind in wanted and found.image_id:
            ids.setdefault(found.image_id, found.kind)
    return ids
