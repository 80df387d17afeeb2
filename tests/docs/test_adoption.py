"""Teams on Flask, on Django, with Alembic and with scripts get to a migrated table by their page alone."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.docs.adoption import PAGES, Reader
from tests.docs.pages import ROOT

Follow = Callable[[str], Reader]


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    with ExitStack() as stack:
        yield Reader(tmp_path, stack)


def rows(reader: Reader, file: str, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(reader.project.folder / file)) as connection:
        return connection.execute(query).fetchall()


MIGRATED = [("+493012345678",), ("+442079460018",), (None,)]
STANDING = "SELECT name, status, verified FROM system_migration_migration ORDER BY name"


def test_a_flask_application_adopts_it(reader: Reader) -> None:
    reader.follow("docs/how-to/use-with-flask.md")
    assert rows(reader, "shop.db", "SELECT phone_e164 FROM account ORDER BY id") == MIGRATED
    assert rows(reader, "shop.db", STANDING) == [("001-normalize-phones", "COMPLETED", 1)]


def test_a_django_project_adopts_it(reader: Reader) -> None:
    reader.follow("docs/how-to/use-with-django.md")
    assert rows(reader, "db.sqlite3", "SELECT phone_e164 FROM shop_account ORDER BY id") == MIGRATED
    assert rows(reader, "db.sqlite3", STANDING) == [("001-normalize-phones", "COMPLETED", 1)]


def test_a_script_adopts_it(reader: Reader) -> None:
    reader.follow("docs/how-to/use-in-a-script.md")
    assert rows(reader, "shop.db", STANDING) == [("001-normalize-phones", "COMPLETED", 1)]


def test_a_team_with_alembic_adopts_it(reader: Reader) -> None:
    reader.follow("docs/how-to/use-with-alembic.md")
    assert rows(reader, "shop.db", "SELECT phone_e164 FROM account ORDER BY id") == MIGRATED[:2]


def test_whoever_comes_from_elsewhere_finds_code_that_runs(reader: Reader) -> None:
    reader.follow("docs/coming-from.md")
    standing = rows(reader, "shop.db", STANDING)
    assert len(standing) == 5
    assert {(status, verified) for _, status, verified in standing} == {("COMPLETED", 1)}


@pytest.mark.parametrize("page", PAGES)
def test_only_installations_are_left_out(page: str) -> None:
    """Every block with a `$` in it is followed, and so is every file that is said to be one."""
    text = (ROOT / page).read_text(encoding="utf-8")
    fenced = re.findall(r"^(<!-- .*? -->\n)?```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    forgotten = [body for comment, kind, body in fenced if kind != "console" and body.startswith("$ ") and not comment]
    assert forgotten == []
    assert re.findall(r"^\$ pip install .*$", text, re.MULTILINE), "it does not say what to install"
