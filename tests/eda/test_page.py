import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from markupsafe import Markup

from segsmith.data.corrections import Verdict
from segsmith.eda import charts, page, pictures, svg
from segsmith.eda.page import (
    JUDGE,
    Judged,
    Section,
    chart_grid,
    code_block,
    figure_grid,
    judged_grid,
    legend,
    render_page,
    table,
)

HOSTILE = "\"'><script>x</script><img src=http://evil.example/a onerror=alert(1)>.jpg"
PIXEL = pictures.image_uri(np.zeros((1, 1, 3), np.uint8))
CHART = charts.line_chart([charts.Line(HOSTILE, [1, 2], [1, 2])], title=HOSTILE, x_label=HOSTILE, y_label=HOSTILE)


class Elements(HTMLParser):
    """What a browser would find: (tag, attributes, text right after the tag) of every element."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str], str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}, ""))

    def handle_data(self, data: str) -> None:
        if self.found and not self.found[-1][2]:
            self.found[-1] = (*self.found[-1][:2], data)

    def all(self, *tags: str) -> list[tuple[dict[str, str], str]]:
        return [(attributes, text) for tag, attributes, text in self.found if tag in tags]


@pytest.fixture(scope="module")
def hostile_page() -> str:
    """A page with every part, and with the same hostile name in every place that takes data."""
    parts = [
        HOSTILE,
        table([HOSTILE], [[HOSTILE]], caption=HOSTILE),
        chart_grid([CHART]),
        CHART,
        legend(),
        legend([((1, 2, 3), HOSTILE)]),
        figure_grid([(PIXEL, HOSTILE)]),
        code_block(HOSTILE),
    ]
    return render_page(HOSTILE, HOSTILE, [(HOSTILE, HOSTILE)], [Section(HOSTILE, parts), Section("Last", [])])


def test_data_is_text_and_never_code(hostile_page: str) -> None:
    elements = Elements(hostile_page)
    scripts = elements.all("script")
    assert [text for _, text in scripts] == [(Path(page.__file__).parent / "templates/page.js").read_text()]
    assert len(elements.all("img")) == 1
    assert not [name for _, attributes, _ in elements.found for name in attributes if name.startswith("on")]
    # title, h1, subtitle, fact, contents, heading, paragraph, table, legend, picture, code, two charts
    assert sum(text == HOSTILE for _, _, text in elements.found) >= 16
    assert elements.all("img")[0][0]["alt"] == HOSTILE


def test_nothing_is_fetched_from_outside(hostile_page: str) -> None:
    for _, attributes, _ in Elements(hostile_page).found:
        for name in ("src", "href", "srcset", "poster", "data", "action", "xlink:href", "background"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    outside = set(re.findall(r"\w+://[^\"'\s<>&]+", hostile_page.replace("http://evil.example/a", "")))
    assert outside == {"http://www.w3.org/2000/svg"}
    assert "url(" not in hostile_page
    assert "@import" not in hostile_page


def test_a_browser_is_told_to_run_this_script_only_and_to_fetch_nothing(hostile_page: str) -> None:
    elements = Elements(hostile_page)
    (policy,) = [attributes["content"] for attributes, _ in elements.all("meta") if "http-equiv" in attributes]
    ((_, script),) = elements.all("script")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.split("; ") == [
        "default-src 'none'",
        "img-src data:",
        "style-src 'unsafe-inline'",
        f"script-src 'sha256-{digest}'",
    ]


def test_contents_lead_to_the_sections_and_headings_are_in_order() -> None:
    html = render_page("Report", "salt", [], [Section("Images", ["text"]), Section("Objects", [])])
    elements = Elements(html)
    targets = [attributes["href"].removeprefix("#") for attributes, _ in elements.all("a")]
    assert targets == [attributes["id"] for attributes, _ in elements.all("section")] == ["section-1", "section-2"]
    assert [text for _, text in elements.all("h1", "h2")] == ["Report", "Images", "Objects"]
    assert [text for _, text in elements.all("a")] == ["Images", "Objects"]
    assert [text for _, text in elements.all("p")] == ["salt", "text"]
    ids = [attributes["id"] for _, attributes, _ in elements.found if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_markup_is_kept_and_text_becomes_a_paragraph() -> None:
    html = render_page("t", "", [], [Section("s", [Markup("<b>bold</b>"), "a < b"])])
    assert "<b>bold</b>" in html
    assert "<p>a &lt; b</p>" in html


def test_a_page_of_nothing() -> None:
    elements = Elements(render_page("Empty", "", [], []))
    assert not elements.all("nav", "dl", "section")
    assert [text for _, text in elements.all("h1")] == ["Empty"]


def test_a_file_name_that_is_not_utf8_does_not_stop_the_page_from_being_written(tmp_path: Path) -> None:
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    html = render_page("t", "", [], [Section("s", [name, table(["file"], [[name]])])])
    (tmp_path / "page.html").write_text(html, "utf-8")
    assert html.count("caf?.jpg") == 2


def test_a_single_text_is_no_list_of_parts() -> None:
    with pytest.raises(TypeError, match="Received: the text 'hello'"):
        Section("s", "hello")


def test_a_table_aligns_its_numeric_columns() -> None:
    elements = Elements(table(["class", "images"], [["ship", 12], ["none", "-"]], numeric=(1,), caption="Classes"))
    assert [attributes.get("class") for attributes, _ in elements.all("th")] == [None, "number"]
    assert [(attributes.get("class"), text) for attributes, text in elements.all("td")] == [
        (None, "ship"),
        ("number", "12"),
        (None, "none"),
        ("number", "-"),
    ]
    assert [text for _, text in elements.all("caption")] == ["Classes"]
    assert all(attributes["scope"] == "col" for attributes, _ in elements.all("th"))


def test_a_table_without_rows_says_none() -> None:
    ((attributes, text),) = Elements(table(["a", "b"], [])).all("td")
    assert (attributes["colspan"], text) == ("2", "none")


def test_a_row_needs_a_cell_per_header() -> None:
    with pytest.raises(ValueError, match=r"a row needs 2 cells, one per header. Received: \['a'\]"):
        table(["a", "b"], [["a"]])


def test_pictures_have_captions_and_alternative_texts() -> None:
    elements = Elements(figure_grid([(PIXEL, "first"), (PIXEL, "second")], min_px=300))
    assert [attributes["alt"] for attributes, _ in elements.all("img")] == ["first", "second"]
    assert [attributes["src"] for attributes, _ in elements.all("img")] == [PIXEL, PIXEL]
    assert [text for _, text in elements.all("figcaption")] == ["first", "second"]
    assert "--min: 300px" in elements.all("div")[0][0]["style"]
    assert "no pictures" in figure_grid([])


@pytest.mark.parametrize("uri", ["http://example.org/a.png", "a.png", "data:text/html,x", "javascript:alert(1)"])
def test_a_picture_from_elsewhere_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="must be a data URI of an image"):
        figure_grid([(uri, "a")])


def test_the_legend_shows_the_colours_of_the_pictures() -> None:
    shown = dict(zip(["hit", "false alarm", "missed"], re.findall(r"rgb\((\d+) (\d+) (\d+)\)", legend()), strict=True))
    expected = {"hit": pictures.HIT, "false alarm": pictures.FALSE_ALARM, "missed": pictures.MISSED}
    assert {name: tuple(map(int, colour)) for name, colour in shown.items()} == expected
    assert re.findall(r"</span>([^<]+)", legend()) == list(expected)


def test_a_code_block_keeps_every_letter() -> None:
    recipe = "a: 1\n  b:  <2>\n\n# end\n"
    assert [text for _, text in Elements(code_block(recipe)).all("code")] == [recipe]


def themes() -> tuple[dict[str, str], dict[str, str]]:
    """The colours that page.css names for light and for dark pages; the charts' fallbacks are light."""
    style = (Path(page.__file__).parent / "templates/page.css").read_text()
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", style, re.S)
    )
    series = dict(re.fullmatch(r"var\(--([\w-]+), (#\w{6})\)", colour).groups() for colour in charts.SERIES)  # type: ignore[union-attr]
    return light | series, dark


def contrast(one: str, other: str) -> float:
    """As defined by WCAG 2: 1 to 21."""

    def luminance(colour: str) -> float:
        parts = [value / 255 for value in bytes.fromhex(colour.removeprefix("#"))]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", themes(), ids=["light", "dark"])
def test_text_and_marks_stand_out_from_the_page(theme: dict[str, str]) -> None:
    assert len([name for name in theme if name.startswith("series")]) == len(charts.SERIES)
    for text in ("ink", "muted", "link"):
        assert contrast(theme[text], theme["paper"]) >= 4.5, text
    assert contrast(theme["ink"], theme["panel"]) >= 4.5
    for number in range(1, len(charts.SERIES) + 1):
        assert contrast(theme[f"series-{number}"], theme["paper"]) >= 3, number


def test_charts_fall_back_to_the_light_theme() -> None:
    light, dark = themes()
    assert set(light) == set(dark)
    for colour in (svg.INK, svg.MUTED, svg.RULE, svg.PAPER):
        name, fallback = re.fullmatch(r"var\(--([\w-]+), (#\w{6})\)", colour).groups()  # type: ignore[union-attr]
        assert light[name] == fallback


def test_a_page_that_asks_for_verdicts_says_what_was_judged_and_of_what() -> None:
    label = Judged(PIXEL, HOSTILE, HOSTILE, HOSTILE, "1 2")
    html = render_page("Review", "", [], [Section("Labels", [judged_grid([label], HOSTILE)])], further_scripts=[JUDGE])
    elements = Elements(html)
    (policy,) = [attributes["content"] for attributes, _ in elements.all("meta") if "http-equiv" in attributes]
    scripts = [text for _, text in elements.all("script")]
    assert len(scripts) == 2
    for script in scripts:
        assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy
    ((field, _),) = elements.all("fieldset")
    assert field == {"data-id": HOSTILE, "data-class": HOSTILE, "data-runs": "1 2"}
    assert [attributes["value"] for attributes, _ in elements.all("input")] == list(get_args(Verdict))
    assert len(elements.all("img")) == 1
