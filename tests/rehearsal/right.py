"""Right migrations of every form: none may be suspected of anything."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from system_migration import (
    BatchMigration,
    Migration,
    MigrationContext,
    MigrationResult,
    MigrationRollbackResult,
    Row,
    RowIssue,
    SchemaChanges,
)
from tests.rehearsal import wrong
from tests.rehearsal.tables import booking, digits_of, journal, person


class Digits(wrong.Digits):
    name = "001-right"


class Touch(wrong.Touch):
    name = "001-right"


class StepByStep(wrong.StepByStep):
    name = "001-right"


class InPlace(BatchMigration):
    """Nothing but the ledger tells what is done; the name tells what the score was."""

    name = "001-right"
    table = person
    reads = ("name", "score")
    writes = ("score",)

    def transform(self, row: Row) -> Mapping[str, Any]:
        return {"score": row.score + 1}

    def check(self, row: Row) -> bool:
        return bool(row.score == int(row.name.partition(" ")[2]) * 10 + 1)


class InSql(BatchMigration):
    name = "001-right"
    table = person
    reads = ("score",)
    writes = ("touched",)

    def pending(self, t: sa.FromClause) -> sa.ColumnElement[bool]:
        return t.c.touched == 0

    def assign(self, t: sa.FromClause) -> Mapping[str, Any]:
        return {"touched": t.c.score * 2}

    def check(self, row: Row) -> bool:
        return row.touched == row.score * 2


class TwoKeys(BatchMigration):
    name = "001-right"
    table = booking
    reads = ("price",)
    writes = ("cents",)

    def pending(self, t: sa.FromClause) -> sa.ColumnElement[bool]:
        return t.c.cents.is_(None)

    def transform(self, row: Row) -> Mapping[str, Any]:
        return {"cents": row.price * 100}

    def check(self, row: Row) -> bool:
        return row.cents == row.price * 100


class HoldsSome(Digits):
    max_issues = 3

    def transform(self, row: Row) -> Mapping[str, Any]:
        if row.phone.endswith("7"):
            raise RowIssue("ends-in-seven")
        return super().transform(row)


class Salted(BatchMigration):
    name = "001-right"
    table = person
    reads = ("name",)
    writes = ("digits",)
    deterministic = False

    def pending(self, t: sa.FromClause) -> sa.ColumnElement[bool]:
        return t.c.digits.is_(None)

    def transform(self, row: Row) -> Mapping[str, Any]:
        return {"digits": _salted(row.name, os.urandom(8).hex())}

    def check(self, row: Row) -> bool:
        return row.digits == _salted(row.name, (row.digits or "").partition("$")[0])


def _salted(text: str, salt: str) -> str:
    return f"{salt}${hashlib.sha256((salt + text).encode()).hexdigest()}"


class ByJournal(Digits):
    rollbackable = True


class ByDown(Digits):
    rollbackable = True

    def down(self, context: MigrationContext) -> MigrationRollbackResult:
        mine = person.c.digits == sa.func.replace(sa.func.replace(person.c.phone, "+", ""), " ", "")
        context.connection.execute(sa.update(person).where(mine).values(digits=None))
        return MigrationRollbackResult()


class Prepares(Digits):
    table = "person"
    writes = ("phone_digits",)

    def prepare(self, schema: SchemaChanges) -> None:
        schema.add_column("person", sa.Column("phone_digits", sa.String(40)))

    def pending(self, t: sa.FromClause) -> sa.ColumnElement[bool]:
        return t.c.phone_digits.is_(None) & t.c.phone.is_not(None)

    def transform(self, row: Row) -> Mapping[str, Any]:
        return {"phone_digits": digits_of(row.phone)}

    def check(self, row: Row) -> bool:
        return row.phone is None or row.phone_digits == digits_of(row.phone)


class AddsRows(Migration):
    """Adds rows that the database numbers, also in runs that are rolled back or killed; and moments with them."""

    name = "001-right"

    def up(self, context: MigrationContext) -> MigrationResult:
        names = sa.select(person.c.name).order_by(person.c.id)
        context.connection.execute(sa.insert(journal).from_select(["text"], names))
        context.connection.execute(sa.update(person).values(touched=1))
        return MigrationResult()

    def verify(self, context: MigrationContext) -> bool:
        ask = context.connection
        untouched = ask.scalar(sa.select(sa.func.count()).where(person.c.touched != 1))
        names, texts = (sorted(map(str, ask.scalars(sa.select(each)))) for each in (person.c.name, journal.c.text))
        return untouched == 0 and names == texts


RIGHT: list[type[Migration]] = [
    Digits,
    Touch,
    StepByStep,
    InPlace,
    InSql,
    TwoKeys,
    HoldsSome,
    Salted,
    ByJournal,
    ByDown,
    Prepares,
    AddsRows,
]
