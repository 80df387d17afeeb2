"""Held rows as a file for a spreadsheet: CSV as in RFC 4180, read and sent in portions.

In UTF-8, with the mark by which spreadsheets know it. Odd characters are escapes, as everywhere. A cell that a
spreadsheet would take for a formula begins with an apostrophe; plain negative numbers are left as they are. So does
what follows a semicolon in a cell, where spreadsheets of some countries begin another; tabs are escapes already.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from itertools import chain

from system_migration import wording
from system_migration.errors import MigrationSystemError
from system_migration.migrator import Migrator
from system_migration.records import Issue
from system_migration.web.problems import log_of

MEDIA_TYPE = "text/csv; charset=utf-8; header=present"
PORTION = 10_000
"""Rows in memory at once."""
_HEADING = ("Key", "Code", "Message", "Held since (UTC)")
_FORMULA = re.compile(r"[=+\-@\t\r＝＋－＠]")
_AFTER_A_SPLIT = re.compile(r'(;[\s"]*)(?=[=+\-@＝＋－＠])')
_NEGATIVE = re.compile(r"-[0-9]+(\.[0-9]+)?", re.ASCII)


def portions(migrator: Migrator, name: str, code: str | None) -> Iterator[str]:
    """The text of the file; the first portion is read now, so that what is wrong from the start is raised here.

    Where it goes wrong later, the answer breaks off: a file that lacks rows must not look like a whole one.
    """
    first = migrator.issues_after(name, limit=PORTION, code=code)
    return chain(["\ufeff", _lines([_HEADING])], _rest(migrator, name, code, first))


def file_name(name: str, code: str) -> str:
    """A name for the file that every system takes, and every header."""
    parts = [name, "held-rows", *([code] if code else [])]
    return "-".join(re.sub(r"[^A-Za-z0-9_.-]+", "_", part)[:100] for part in parts) + ".csv"


def cell(text: str) -> str:
    """The text so that no spreadsheet computes it, or a part of it."""
    guarded = _FORMULA.match(text) and not _NEGATIVE.fullmatch(text)
    plain = wording.shown(text)
    plain = _AFTER_A_SPLIT.sub(r"\1'", plain)
    return f"'{plain}" if guarded else plain


def _rest(migrator: Migrator, name: str, code: str | None, page: list[Issue]) -> Iterator[str]:
    while page:
        yield _lines(_cells(row) for row in page)
        if len(page) < PORTION:
            return
        try:
            page = migrator.issues_after(name, page[-1].id, limit=PORTION, code=code)
        except Exception as error:
            log_of(error)
            raise MigrationSystemError("The export of held rows broke off.") from None


def _cells(row: Issue) -> tuple[str, ...]:
    return cell(wording.value(row.key)), cell(row.code), cell(row.message), wording.moment(row.at)


def _lines(rows: Iterable[tuple[str, ...]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue()
