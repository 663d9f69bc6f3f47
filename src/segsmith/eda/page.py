"""Sections of text, tables, charts and pictures -> one HTML page that needs no other file and no network.

Whatever is `Markup` - what the functions here and in `charts` return - goes into the page as it is. Any other text is
data and is escaped, so no file name or label can become part of the page's code.
"""

import base64
import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from segsmith.eda.pictures import FALSE_ALARM, HIT, MISSED, Rgb
from segsmith.eda.svg import Html

VERDICTS = (("keep", "is right"), ("empty", "is empty"), ("replace", "take the prediction"), ("leave out", "leave out"))
"""What may be said of a label, as corrections.csv has it, and in words."""
JUDGE = "judge.js"
ERROR_COLOURS: Sequence[tuple[Rgb, str]] = ((HIT, "hit"), (FALSE_ALARM, "false alarm"), (MISSED, "missed"))

_TEMPLATES = Path(__file__).parent / "templates"
_ENVIRONMENT = Environment(
    loader=FileSystemLoader(_TEMPLATES),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class Section:
    """A heading of the page and what stands below it: `Markup`, or plain text, which becomes a paragraph."""

    title: str
    parts: Sequence[str]

    def __post_init__(self) -> None:
        if isinstance(self.parts, str):
            raise TypeError(f"the parts of a section are a list. Received: the text {self.parts[:40]!r}")


def render_page(
    title: str,
    subtitle: str,
    facts: Sequence[tuple[str, str]],
    sections: Sequence[Section],
    *,
    further_scripts: Sequence[str] = (),
) -> str:
    """A whole HTML page: title, `facts` (name, value) as key figures, then the sections with a list of contents.
    `further_scripts` name files of templates/ that the page runs beside the one of every page."""
    scripts = [Markup((_TEMPLATES / file).read_text("utf-8")) for file in ("page.js", *further_scripts)]
    page = _ENVIRONMENT.get_template("page.html").render(
        title=title,
        subtitle=subtitle,
        facts=facts,
        sections=sections,
        scripts=scripts,
        script_hashes=[base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts],
        style=Markup((_TEMPLATES / "page.css").read_text("utf-8")),
    )
    # A file name that is not UTF-8 reaches Python as lone surrogates, which no file could be written with.
    return page.encode("utf-8", "replace").decode("utf-8")


def table(
    headers: Sequence[str], rows: Sequence[Sequence[object]], *, numeric: Collection[int] = (), caption: str = ""
) -> Markup:
    """A table of cells as `str` shows them; the columns numbered `numeric` (from 0) are aligned to the right.

    Raises ValueError for a row that is not as long as the headers.
    """
    for row in rows:
        if len(row) != len(headers):
            raise ValueError(f"a row needs {len(headers)} cells, one per header. Received: {row}")
    return _part("table", headers=headers, rows=rows, numeric=numeric, caption=caption)


def chart_grid(charts: Sequence[Markup]) -> Markup:
    """Charts side by side where there is room; give a wide chart a grid of its own."""
    return _part("chart_grid", charts=charts)


def figure_grid(items: Sequence[tuple[str, str]], *, min_px: int = 170) -> Markup:
    """Pictures (data URI, caption), as many side by side as fit with `min_px` each; a click enlarges one.

    Raises ValueError for a URI that the page would have to fetch.
    """
    for uri, _ in items:
        if not uri.startswith("data:image/"):
            raise ValueError(f"a picture must be a data URI of an image. Received: {uri[:80]!r}")
    return _part("figure_grid", items=items, min_px=min_px)


class Judged(NamedTuple):
    """A picture of a label that a person is to judge, and what it would be replaced by, as run lengths of contests."""

    picture: str
    """A data URI."""
    caption: str
    image_id: str
    class_name: str
    runs: str


def judged_grid(items: Sequence[Judged], key: str) -> Markup:
    """Pictures of labels, each with the verdicts that corrections.csv knows, and a button that saves that file. What is
    said is kept by the browser under `key`. One for each page, which needs the script JUDGE."""
    return _part("judged_grid", items=items, key=key, verdicts=VERDICTS)


def legend(entries: Sequence[tuple[Rgb, str]] = ERROR_COLOURS) -> Markup:
    """What the colours in pictures mean: by default those of `pictures.error_overlay`."""
    return _part("legend", entries=entries)


def code_block(text: str) -> Markup:
    """Text such as a recipe, letter for letter."""
    return _part("code_block", text=text)


def _part(macro: str, **values: object) -> Markup:
    """The HTML of one macro of templates/parts.html."""
    return Html(getattr(_ENVIRONMENT.get_template("parts.html").module, macro)(**values))
