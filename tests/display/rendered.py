"""Rendered outputs as tests read them: the elements and text of HTML, and the control codes of text."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import nbformat
from nbconvert import HTMLExporter

# Elements, attributes and CSS properties that JupyterLab 4.6 keeps in an untrusted output, as far as we use them.
TAGS = set(re.findall(r"\w+", "div details summary span b pre table tr td code a"))
ATTRIBUTES = {"align", "class", "id", "style", "open", "title", "href", "target", "rel"}
PROPERTIES = set(
    re.findall(
        r"[\w-]+",
        """
        align-items background background-color border border-bottom border-collapse border-left border-radius
        border-top color cursor display flex-wrap font-family font-size font-weight gap height line-height
        margin margin-left margin-top opacity overflow overflow-wrap padding table-layout text-align
        text-decoration text-overflow white-space width
        """,
    )
)

ANSI = re.compile(r"\x1b\[[0-9;]*m")
CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\u200e\u200f\ud800-\udfff]")


def sanitized(source: str) -> str:
    """The HTML as `nbconvert --sanitize-html` leaves it."""
    output = nbformat.v4.new_output("display_data", {"text/html": source})
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=[output])])
    exporter = HTMLExporter(sanitize_html=True)
    cleaned, _ = exporter._preprocess(notebook, exporter._init_resources({}))
    return str(cleaned.cells[0].outputs[0].data["text/html"])


def tags_as_text(source: str) -> set[str]:
    """The tags that a sanitizer shows as text."""
    return set(re.findall(r"&lt;(?:/?[a-z].*?)&gt;", source))


BARE = {"&lt;details&gt;", "&lt;/details&gt;", "&lt;summary&gt;", "&lt;/summary&gt;", "&lt;details open&gt;"}
BARE |= {"&lt;tbody&gt;", "&lt;/tbody&gt;"}
"""Tags that stay. A parser adds `tbody` to every table, and then shows it."""


class Page(HTMLParser):
    """Elements, attributes and text of a page part; fails on elements that are not closed in order."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.lines = [""]
        self._open: list[str] = []
        self.feed(source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag != "img":
            self._open.append(tag)
        if tag in ("summary", "p", "tr", "div"):
            self.lines.append("")
        elif tag in ("td", "th"):
            self.lines[-1] += " | "

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.lines[-1] += data

    @property
    def text(self) -> list[str]:
        """What is left without elements and styles, line by line."""
        return [re.sub(r"[\s\u00a0]+", " ", line).strip() for line in self.lines if line.strip(" |\u00a0\n")]

    def styles(self) -> list[tuple[str, str]]:
        whole = ";".join(attributes.get("style") or "" for _, attributes in self.elements)
        return [(name, value) for name, _, value in (item.partition(":") for item in whole.split(";") if item)]
