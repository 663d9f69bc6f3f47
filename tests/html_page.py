"""A report as a browser reads it: its elements, and its texts with the tag they stand in."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """The elements (tag, attributes) of a page, and its texts with the tag they stand in."""

    def __init__(self, html: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.html = html
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data):
        if data.strip():
            self.texts.append((self.elements[-1][0], data.strip()))

    def all(self, tag: str) -> list[str]:
        return [text for within, text in self.texts if within == tag]

    @property
    def facts(self) -> dict[str, str]:
        return dict(zip(self.all("dt"), self.all("dd"), strict=True))
