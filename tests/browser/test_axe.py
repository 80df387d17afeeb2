"""axe-core runs under our Content-Security-Policy, and finds what is wrong in either colour scheme."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from tests.browser.axe import violations
from tests.browser.serving import document, served

STYLE = """
body { background: #fff; color: #222 }
@media (prefers-color-scheme: dark) { body { background: #111; color: %s } }
"""
HEADING = "<h1>A heading</h1><p>Text</p>"


def found(page: Page, body: str, dark: str = "#eee") -> list[str]:
    with served({"/": document(body), "/page.css": STYLE % dark}) as address:
        page.goto(address)
        return violations(page)


def test_a_good_page_has_none(page: Page) -> None:
    assert found(page, HEADING) == []


def test_a_contrast_that_is_bad_only_in_the_dark_is_found(page: Page) -> None:
    assert {line.partition(" at ")[0] for line in found(page, HEADING, dark="#333")} == {"dark: color-contrast"}


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ("<img src='/page.css'>", "image-alt"),
        ("<input>", "label"),
        ("<h3>Deeper</h3>", "heading-order"),
        ("<a href='#a'>1</a><a href='#b'>2</a>" * 3, "target-size"),
    ],
)
def test_a_violation_is_found_in_both_schemes(page: Page, body: str, rule: str) -> None:
    lines = found(page, HEADING + body)
    assert {"light: " + rule, "dark: " + rule} <= {line.partition(" at ")[0] for line in lines}
