"""What axe-core finds wrong in a page for people who do not see it, or not well: WCAG 2.2 AA, and its good practice."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

from playwright.sync_api import Page

from tests.support.packages import installed

VERSION = "4.14.1"
SCHEMES: tuple[Literal["dark", "light"], ...] = ("dark", "light")
OPTIONS = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    "resultTypes": ["violations", "incomplete"],  # of what is as it should be, the rules and not each element
}
CONTRAST = "color-contrast"


def violations(page: Page) -> list[str]:
    """Each violation in the page as it stands, in light and in dark, with the element; what should be is none.

    A contrast that cannot be measured counts: nobody else would measure it. The page is left in light.
    """
    return [f"{scheme}: {line}" for scheme in SCHEMES for line in _in_scheme(page, scheme)]


@cache
def _source() -> str:
    return (installed("axe-core", VERSION) / "axe.min.js").read_text(encoding="utf-8")


def _in_scheme(page: Page, scheme: Literal["dark", "light"]) -> list[str]:
    page.emulate_media(color_scheme=scheme)
    if not page.evaluate("'axe' in window"):
        page.evaluate(_source())  # in the page's world, where a strict Content-Security-Policy lets no <script> in
    result = page.evaluate("options => axe.run(document, options)", OPTIONS)
    unsure = [rule for rule in result["incomplete"] if rule["id"] == CONTRAST]
    looked_at = {rule["id"] for rule in [*result["passes"], *result["violations"], *unsure]}
    assert CONTRAST in looked_at, f"axe found no text to measure the contrast of in {page.url}"
    return [_line(rule, node) for rule in [*result["violations"], *unsure] for node in rule["nodes"]]


def _line(rule: dict[str, Any], node: dict[str, Any]) -> str:
    checks = [check["message"] for kind in ("any", "all", "none") for check in node[kind]]
    return f"{rule['id']} at {node['target']}: {'; '.join(checks) or rule['help']} {node['html'][:200]}"
