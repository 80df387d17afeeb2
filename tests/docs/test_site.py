"""The pages are a site: it builds without a warning, holds every page, and loads nothing from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.site import DOCS, PAGES, Element, Site, build

LOADED = {
    "audio": "src",
    "embed": "src",
    "form": "action",
    "iframe": "src",
    "img": "src",
    "link": "href",
    "object": "data",
    "script": "src",
    "source": "src",
    "video": "src",
}
"""What a browser fetches, or sends something to, without being asked for it: the tag, and its attribute."""


def test_it_builds_without_a_warning(site: Site) -> None:
    assert (site.code, site.said) == (0, "")


def test_every_page_is_in_it(site: Site) -> None:
    built = {page.path.relative_to(site.folder).with_suffix(".md") for page in site.pages()}
    assert {page.relative_to(DOCS) for page in PAGES} <= built


def test_nothing_is_loaded_from_another_host(site: Site) -> None:
    foreign = [
        f"{page.path.name}: {element}"
        for page in site.pages()
        for element in page.elements
        if is_foreign(element.attributes.get(LOADED.get(element.tag, ""), ""))
    ]
    styles = [path.name for path in site.folder.rglob("*.css") if loads_foreign(path.read_text(encoding="utf-8"))]
    assert (foreign, styles) == ([], [])


def is_foreign(address: str) -> bool:
    return re.match(r"(https?:)?//", address) is not None


def loads_foreign(style: str) -> bool:
    return re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", style) is not None


def test_what_comes_from_another_host_would_be_seen() -> None:
    script = Element("script", {"src": "//cdn.example/any.js"})
    assert is_foreign(script.attributes[LOADED[script.tag]])
    assert is_foreign("https://fonts.example/any.woff2")
    assert not is_foreign("../_static/furo.css")
    assert loads_foreign("@import 'https://fonts.example/css';")
    assert loads_foreign("src: url(//fonts.example/any.woff2)")


BROKEN = """# A page

[No such page](nowhere.md), [no such heading](other.md#nowhere).

```{toctree}
other
```

```{eval-rst}
.. autoclass:: system_migration.Migrater
```
"""


def test_what_is_broken_is_an_error(tmp_path: Path) -> None:
    source = tmp_path / "docs"
    source.mkdir()
    (source / "index.md").write_text(BROKEN)
    (source / "other.md").write_text("# Another page\n\nIt returns {py:class}`system_migration.records.Nothing`.\n")
    (source / "lost.md").write_text("# A page in no table of contents\n")
    built = build(source, tmp_path / "site", "-c", str(DOCS))
    assert built.returncode == 1
    for complaint in (
        "nowhere.md",
        "nowhere'",
        "Migrater",
        "records.Nothing",
        "lost.md: WARNING: document isn't included",
    ):
        assert complaint in built.stderr, built.stderr
