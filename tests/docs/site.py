"""The documentation as a site, and how its pages are read."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
_HEADING = re.compile(r"h[1-6]")


def command() -> list[str]:
    """What `scripts/docs` calls, up to the source and the target."""
    (line,) = re.findall(r"^\.venv/bin/sphinx-build (.*) docs build/docs$", (ROOT / "scripts/docs").read_text(), re.M)
    return [sys.executable, "-m", "sphinx", *shlex.split(line)]


def build(source: Path, target: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Make a site of the pages in `source`."""
    words = [*command(), *more, str(source), str(target)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=200)


@dataclass(frozen=True)
class Element:
    """A tag with its attributes."""

    tag: str
    attributes: dict[str, str]


class _Reader(HTMLParser):
    """The elements of a page, and the text in its article under each heading."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self.parts: list[tuple[list[str], list[str]]] = [([], [])]
        self._in_article = self._in_heading = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}))
        if tag == "article":
            self._in_article = True
        elif _HEADING.fullmatch(tag):
            self.parts.append(([], []))
            self._in_heading = True
        elif tag in ("tr", "p", "dt", "li"):
            self.handle_data("\n")
        elif tag == "td":
            self.handle_data("\t")

    def handle_endtag(self, tag: str) -> None:
        if tag == "article":
            self._in_article = False
        elif _HEADING.fullmatch(tag):
            self._in_heading = False

    def handle_data(self, data: str) -> None:
        if self._in_article:
            self.parts[-1][0 if self._in_heading else 1].append(data)


@dataclass(frozen=True)
class Page:
    """One page of the site."""

    path: Path

    @cached_property
    def _read(self) -> _Reader:
        reader = _Reader()
        reader.feed(self.path.read_text(encoding="utf-8"))
        return reader

    @property
    def elements(self) -> list[Element]:
        return self._read.elements

    @cached_property
    def sections(self) -> dict[str, str]:
        """The text under each heading, up to the next one."""
        parts = self._read.parts
        return {"".join(heading).removesuffix("¶").strip(): "".join(text) for heading, text in parts}

    @property
    def ids(self) -> set[str]:
        return {element.attributes["id"] for element in self.elements if "id" in element.attributes}

    def rows(self, section: str) -> list[tuple[str, ...]]:
        """The rows of the tables of a section, with the texts of their cells."""
        lines = re.split(r"\n\s*(?=\t)", self.sections[section])
        cells = ([" ".join(cell.split()) for cell in line.strip("\n").split("\t")[1:]] for line in lines)
        return [tuple(row) for row in cells if row]


@dataclass(frozen=True)
class Site:
    """What was built, and what was said meanwhile."""

    folder: Path
    code: int
    said: str

    def page(self, name: str) -> Page:
        """A page by its path without an ending, such as `reference/settings`."""
        return Page(self.folder / f"{name}.html")

    def pages(self) -> Iterator[Page]:
        """All of them."""
        return map(Page, sorted(self.folder.rglob("*.html")))
