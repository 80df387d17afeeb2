"""Files outside of docs/ as pages of the site, and the links to them.

The README, the rules for contributors and the figures stay where a repository browser shows them. Each has a page
here whose source is that file; a relative link to it, from any page, leads to its page.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from sphinx.application import Sphinx

DOCS = Path(__file__).parents[1]
ROOT = DOCS.parent
PAGES = {
    "project/readme": ROOT / "README.md",
    "project/contributing": ROOT / "CONTRIBUTING.md",
    "project/changes": ROOT / "CHANGELOG.md",
    "project/figures": ROOT / "benchmarks/RESULTS.md",
}
_TARGET = re.compile(r'(?P<before>\]\(|<img src=")(?P<path>[^)"#:\s]+)(?P<after>[)"#])')


def source_of(docname: str) -> Path:
    """The file whose text a page is."""
    return PAGES.get(docname, DOCS / f"{docname}.md")


def lead_inside(text: str, source: Path, docname: str) -> str:
    """The text of `source` with its relative links as they must be in the page `docname`."""
    pages = {file: DOCS / f"{name}.md" for name, file in PAGES.items()}
    here = (DOCS / docname).parent

    def moved(link: re.Match[str]) -> str:
        target = (source.parent / link["path"]).resolve()
        path = os.path.relpath(pages.get(target, target), here)
        return f"{link['before']}{path}{link['after']}"

    return _TARGET.sub(moved, text)


def read(app: Sphinx, docname: str, content: list[str]) -> None:
    """Give Sphinx the text of a page."""
    source = source_of(docname)
    if docname in PAGES:
        app.env.note_dependency(source)
        content[0] = source.read_text(encoding="utf-8")
    content[0] = lead_inside(content[0], source, docname)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("source-read", read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
