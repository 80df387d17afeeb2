"""The documentation as a site, and how its pages are read."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
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


class Section:
    """What stands under a heading, up to the next one."""

    def __init__(self) -> None:
        self.title = self.text = ""
        self.rows: list[list[str]] = []


class _Reader(HTMLParser):
    """The elements of a page, and the sections of its article."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self.sections = [Section()]
        self._open: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}))
        self._open.add("heading" if _HEADING.fullmatch(tag) else tag)
        if _HEADING.fullmatch(tag):
            self.sections.append(Section())
        elif tag == "tr":
            self.sections[-1].rows.append([])
        elif tag == "td":
            self.sections[-1].rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self._open.discard("heading" if _HEADING.fullmatch(tag) else tag)

    def handle_data(self, data: str) -> None:
        section = self.sections[-1]
        if "heading" in self._open:
            section.title += data
        elif "article" in self._open:
            section.text += data
            if "td" in self._open:
                section.rows[-1][-1] += data


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

    @property
    def ids(self) -> set[str]:
        return {element.attributes["id"] for element in self.elements if "id" in element.attributes}

    @cached_property
    def sections(self) -> dict[str, Section]:
        """What stands under each heading."""
        return {section.title.removesuffix("¶"): section for section in self._read.sections}

    def text(self, section: str) -> str:
        return self.sections[section].text

    def rows(self, section: str) -> list[tuple[str, ...]]:
        """The texts of the cells of a section's tables, row by row."""
        return [tuple(" ".join(cell.split()) for cell in row) for row in self.sections[section].rows if row]


@dataclass(frozen=True)
class Site:
    """What was built, and what was said meanwhile."""

    folder: Path
    code: int
    said: str

    def page(self, name: str) -> Page:
        """A page by its path without an ending, such as `reference/settings`."""
        return _page(self.folder / f"{name}.html")

    def pages(self) -> Iterator[Page]:
        """All of them."""
        return map(_page, sorted(self.folder.rglob("*.html")))


@cache
def _page(path: Path) -> Page:
    """A page that is read once, however many tests look at it."""
    return Page(path)
