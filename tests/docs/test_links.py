"""In a plain repository browser, too, every relative link leads somewhere: to a file, and to a heading in it."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from tests.docs.site import DOCS, PAGES, ROOT

TEXTS = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("benchmarks/*.md")), *PAGES]
_LINK = re.compile(r"\]\((?!\w+:)(?P<file>[^)#\s]*)(?:#(?P<anchor>[^)\s]+))?\)")
_FENCE = re.compile(r"^ *(`{3,}|~{3,}).*?^ *\1", re.MULTILINE | re.DOTALL)


@cache
def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


@cache
def anchors(page: Path) -> set[str]:
    """What the headings of a page are called in addresses, as repository browsers have it."""
    titles = re.findall(r"^#{1,6} +(.+?)\s*$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def links(page: Path) -> list[tuple[str, str | None]]:
    """Where the page's relative links lead: file, and anchor."""
    return [(link["file"], link["anchor"]) for link in _LINK.finditer(prose(page))]


def leads_somewhere(page: Path, file: str, anchor: str | None) -> bool:
    target = (page.parent / file).resolve() if file else page
    return target.exists() and (anchor is None or anchor in anchors(target))


@pytest.mark.parametrize("page", TEXTS, ids=[str(page.relative_to(ROOT)) for page in TEXTS])
def test_every_link_leads_somewhere(page: Path) -> None:
    assert [link for link in links(page) if not leads_somewhere(page, *link)] == []


@pytest.mark.parametrize("page", TEXTS, ids=[str(page.relative_to(ROOT)) for page in TEXTS])
def test_every_picture_is_there_and_described(page: Path) -> None:
    shown = re.sub(r"<!--.*?-->", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for picture in re.findall(r"<img [^>]*>", shown):
        assert (page.parent / re.findall(r'src="([^"]+)"', picture)[0]).is_file()
        assert len(re.findall(r'alt="([^"]+)"', picture)[0]) > 20


def test_every_page_can_be_reached_from_the_readme_or_the_front_page() -> None:
    reached, ahead = set(), [ROOT / "README.md", DOCS / "index.md"]
    while ahead:
        page = ahead.pop()
        if page not in reached and page.suffix == ".md":
            reached.add(page)
            ahead += [(page.parent / file).resolve() for file, _ in links(page) if file]
    of_the_site = DOCS / "project"
    assert [page.name for page in PAGES if page not in reached and page.parent != of_the_site] == []


def test_the_front_page_links_every_page_where_no_site_is_made_of_it() -> None:
    """A list of pages that only the site shows (`toctree`) is a block of code to a repository browser."""
    linked = {(DOCS / file).resolve() for file, _ in links(DOCS / "index.md") if file}
    of_the_site = DOCS / "project"
    ours = [page for page in PAGES if page.parent != of_the_site and page != DOCS / "index.md"]
    assert [str(page.relative_to(DOCS)) for page in ours if page.resolve() not in linked] == []


def test_a_broken_link_would_be_seen(tmp_path: Path) -> None:
    page, other = tmp_path / "page.md", tmp_path / "other.md"
    other.write_text("# `One` heading, of the other\n\n```sh\n# a comment\n```\n")
    page.write_text(
        "[a](other.md#one-heading-of-the-other) [b](other.md#a-comment) [c](gone.md) [d](#here) [e](https://a.example/)\n"
    )
    broken = [link for link in links(page) if not leads_somewhere(page, *link)]
    assert broken == [("other.md", "a-comment"), ("gone.md", None), ("", "here")]
