"""Findings -> the report's section about them: a line per kind, and pictures of the worst."""

from collections import Counter
from collections.abc import Sequence

from segsmith.data.dataset import Dataset
from segsmith.data.findings import KINDS, Finding
from segsmith.eda.page import Section, figure_grid, table
from segsmith.eda.views import view, view_uri

SHOWN = 24
"""Findings shown as pictures, at most."""
OF_A_KIND = 6
"""Of them of one kind, at most."""


def findings_section(dataset: Dataset, findings: Sequence[Finding]) -> Section:
    """Findings, worst first as they come, as a table of kinds and pictures with the mask outlined.

    What cannot be read, was left out or concerns no single image has no picture.
    """
    if not findings:
        return Section("Findings", ["Nothing stands out."])
    counts = Counter(kind for kind, _ in {(found.kind, found.image_id) for found in findings})
    first = {found.kind: found for found in reversed(findings)}
    rows = [
        [
            kind,
            f"{counts[kind]:,}",
            KINDS[kind][0],
            KINDS[kind][1],
            f"{first[kind].image_id}: {first[kind].reason}".lstrip(": "),
        ]
        for kind in dict.fromkeys(found.kind for found in findings)
    ]
    parts: list[str] = [table(["finding", "images", "they", "what to do", "the worst"], rows, numeric=[1])]
    if shown := _shown(dataset, findings):
        parts.append(figure_grid([_figure(dataset, number, found) for number, found in shown], min_px=150))
    parts.append("All of them stand in findings.csv; --exclude with the name of a finding leaves its images out.")
    return Section("Findings", parts)


def _shown(dataset: Dataset, findings: Sequence[Finding]) -> list[tuple[int, Finding]]:
    numbers = {path: number for number, path in enumerate(dataset.images["path"])}
    of_kind: Counter[str] = Counter()
    seen: set[tuple[str, str]] = set()
    shown: list[tuple[int, Finding]] = []
    for found in findings:
        if (found.kind, found.path) in seen or found.path not in numbers:
            continue
        if of_kind[found.kind] < OF_A_KIND and len(shown) < SHOWN:
            of_kind[found.kind] += 1
            seen.add((found.kind, found.path))
            shown.append((numbers[found.path], found))
    return shown


def _figure(dataset: Dataset, number: int, found: Finding) -> tuple[str, str]:
    seen = view(dataset, number, found.window)
    return view_uri(seen), f"{found.image_id}: {found.kind}: {found.reason}{seen.note}"
