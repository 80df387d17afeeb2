"""Whatever others wrote, in code, in data or on a command line, is shown as text on every screen, and never acts."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from playwright.sync_api import Dialog, Page

from system_migration import (
    BatchMigration,
    Migration,
    MigrationContext,
    MigrationFailed,
    MigrationResult,
    Row,
    RowIssue,
    RunOptions,
)
from tests.browser.conftest import Visitor
from tests.support.databases import application_engine
from tests.web.serving import Served, served

MARKUP = "<script>alert(1)</script><b>bold</b>"
BROKEN_OUT = "\"><img src=x onerror=alert(2)>'"
ODD = f"{MARKUP} {BROKEN_OUT} \x1b[31mred \u202ekcab {{{{ 7 * 7 }}}} &lt;"
SHOWN = ODD.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e")
WITHOUT_WHAT_WAS_TYPED = """() => {
  const copy = document.documentElement.cloneNode(true);
  for (const field of copy.querySelectorAll('input, textarea')) field.replaceWith('');
  return copy.outerHTML;
}"""
LINES = f"first {ODD}\nsecond {ODD}"


class Held(BatchMigration):
    """Holds two rows of three, in odd words, by odd keys."""

    name = "001-held"
    version = f"1 {ODD}"
    description = LINES
    table = "odd"
    reads = ("value",)
    writes = ("value",)
    max_issues = 2

    def transform(self, row: Row) -> dict[str, Any]:
        if row.value != "good":
            raise RowIssue(f"code{BROKEN_OUT}"[:60], LINES)
        return {"value": "better"}


class Fails(Migration):
    """Says odd things, and fails."""

    name = "002-fails"
    description = ODD

    def up(self, context: MigrationContext) -> MigrationResult:
        for log in (context.log.info, context.log.warning, context.log.error):
            log(LINES)
        return MigrationResult(success=False, error=LINES)


class Skipped(Fails):
    name = "003-skipped"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """All that can be said oddly, by somebody with an odd name, on a machine with an odd one."""
    engine = application_engine(f"sqlite:///{tmp_path_factory.mktemp('odd') / 'odd.sqlite'}")
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE odd (name VARCHAR(200) PRIMARY KEY, value VARCHAR(200))"))
        for name, value in ((ODD, ODD), (f"b {ODD}", ODD), ("c", "good")):
            connection.execute(sa.text("INSERT INTO odd VALUES (:name, :value)"), {"name": name, "value": value})
    with served(engine, Held, Fails, Skipped, environment="staging") as server:
        server.developers.names["ada-token"] = ODD
        migrator = server.migrator.acting_as(ODD)
        migrator.dry_run(Held.name, RunOptions(max_issues=2))
        migrator.run(Held.name)
        with suppress(MigrationFailed):
            migrator.run(Fails.name)
        migrator.skip(Skipped.name, LINES)
        with engine.begin() as connection:
            for table in ("run", "event"):
                connection.execute(sa.text(f"UPDATE system_migration_{table} SET host = :host"), {"host": ODD})
        yield server
    engine.dispose()


def paths(server: Served) -> list[str]:
    """Every screen that shows what others wrote."""
    names = [Held.name, Fails.name, Skipped.name]
    runs = [f"/runs/{run.id}" for run in server.migrator.history()]
    held = [f"/m/{Held.name}/held{query}" for query in ("", f"?key={quote(ODD)}", f"?code={quote(BROKEN_OUT)}")]
    starts = [f"/m/{name}/start{query}" for name in names for query in ("", f"?dryRun=false&fromKey={quote(ODD)}")]
    reasons = [f"/m/{Fails.name}/start?verb={verb}&reason={quote(LINES)}" for verb in ("skip", "reset")]
    past = [f"/history{more}" for more in ("", "/audit", f"?migration={quote(ODD)}", f"/audit?migration={quote(ODD)}")]
    nobody = quote(ODD.replace("/", ""))  # an address with a slash there would be none of the page's
    gone = [f"/m/{nobody}", f"/runs/{nobody}", f"?said={quote(ODD)}"]
    return ["", *(f"/m/{name}" for name in names), *runs, *held, *starts, *reasons, *past, *gone]


def test_odd_texts_are_text_on_every_screen(visitor: Visitor, server: Served) -> None:
    page, dialogs = visitor.page, list[str]()
    page.on("dialog", lambda dialog: _note(dialog, dialogs))
    visitor.context.add_cookies([{"name": "session", "value": "ada-token", "url": server.url}])
    for path in paths(server):
        answer = page.goto(f"{server.url}/migrations{path}")
        assert answer is not None
        page.locator("main details").evaluate_all("all => all.forEach(folded => folded.open = true)")
        if answer.status != 200:
            visitor.watch.expect(f"status of {answer.status}")
        assert answer.status in (200, 404, 422), path
        _assert_text(page, path)
    assert dialogs == []


def _note(dialog: Dialog, dialogs: list[str]) -> None:
    dialogs.append(dialog.message)
    dialog.dismiss()


def _assert_text(page: Page, path: str) -> None:
    """Nothing of it became an element or an attribute, turned around what stands beside it, or was computed."""
    assert page.locator("main script, main img, main b, [onerror]").count() == 0, path
    text = page.locator("html").inner_text()
    assert SHOWN in text, path  # the developer's name at least
    said = text + page.title() + page.evaluate(WITHOUT_WHAT_WAS_TYPED)
    odd = {char for char in said if unicodedata.category(char) in ("Cc", "Cf") and char not in "\n\t"}
    assert odd == set(), path
