"""A migration that overwrites what it reads is asked for no more than its rows can tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import sqlalchemy as sa

from system_migration import BatchMigration, Row
from system_migration.testing import Rehearse
from tests.rehearsal.tables import PEOPLE, person


class AddsOne(BatchMigration):
    """Only the ledger tells what is done, and nothing tells what the score was."""

    name = "001-in-place"
    table = person
    reads = ("score",)
    writes = ("score",)

    def transform(self, row: Row) -> Mapping[str, Any]:
        return {"score": row.score + 1}

    def check(self, row: Row) -> bool:
        return bool(row.score > 0)


class AddsOneInSql(BatchMigration):
    """It reads the score too, though it declares only what `check` needs."""

    name = "001-in-place"
    table = person
    reads = ("name",)
    writes = ("score",)

    def assign(self, t: sa.FromClause) -> Mapping[str, Any]:
        return {"score": t.c.score + 1}

    def check(self, row: Row) -> bool:
        return bool(row.score > 0)


class Normalizes(BatchMigration):
    """As on the page about scripts; rows without a phone stay without one."""

    name = "001-in-place"
    table = person
    reads = ("phone",)
    writes = ("phone",)

    def pending(self, t: sa.FromClause) -> sa.ColumnElement[bool]:
        return t.c.phone.contains(" ")

    def transform(self, row: Row) -> Mapping[str, Any]:
        return {"phone": row.phone.replace(" ", "")}

    def check(self, row: Row) -> bool:
        return row.phone is None or row.phone[1:].isdigit()


@pytest.mark.parametrize("migration", [AddsOne, AddsOneInSql, Normalizes])
def test_what_no_row_can_tell_is_not_asked(rehearse: Rehearse, migration: type[BatchMigration]) -> None:
    nobody = {"id": 20, "name": "nobody", "phone": None, "score": 5}
    found = rehearse(migration, rows=[*({"phone": None, **each} for each in PEOPLE), nobody])
    proof = next(each for each in found.promises if each.name == "verification notices damage")
    assert proof.outcome == "kept"
    assert "old value, or another row's, is not covered: nothing in the row tells" in proof.sentence
    assert found.promises[-1].outcome == "kept"  # the promises after it are tried


def test_where_no_value_is_odd_nothing_is_judged(rehearse: Rehearse) -> None:
    flag = sa.Table(
        "flag",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("up", sa.Boolean(create_constraint=True), nullable=False),
    )

    class Flips(BatchMigration):
        name = "001-in-place"
        table = flag
        reads = ("up",)
        writes = ("up",)

        def transform(self, row: Row) -> Mapping[str, Any]:
            return {"up": not row.up}

        def check(self, row: Row) -> bool:
            return row.up in (True, False)

    found = rehearse(Flips, rows=[{"id": number, "up": number % 2 == 0} for number in range(1, 13)])
    proof = next(each for each in found.promises if each.name == "verification notices damage")
    assert proof.outcome == "not covered", found.text()
