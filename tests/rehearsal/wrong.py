"""Deliberately wrong migrations: each breaks one promise, and the table at the end says with which sentence."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from datetime import date
from typing import Any

import sqlalchemy as sa

from system_migration import BatchMigration, Migration, MigrationContext, MigrationResult, MigrationRollbackResult, Row
from tests.rehearsal.tables import digits_of, journal, person


class Digits(BatchMigration):
    """A right one, of which most wrong ones are made."""

    name = "001-wrong"
    table = person
    reads = ("phone",)
    writes = ("digits",)

    def pending(self, t: sa.FromClause) -> sa.ColumnElement[bool]:
        return t.c.digits.is_(None) & t.c.phone.is_not(None)

    def transform(self, row: Row) -> Mapping[str, Any]:
        return {"digits": digits_of(row.phone)}

    def check(self, row: Row) -> bool:
        return row.phone is None or row.digits == digits_of(row.phone)


class InSql(BatchMigration):
    """A right one that works in SQL."""

    name = "001-wrong"
    table = person
    reads = ("phone",)
    writes = ("digits",)

    def pending(self, t: sa.FromClause) -> sa.ColumnElement[bool]:
        return t.c.digits.is_(None)

    def assign(self, t: sa.FromClause) -> Mapping[str, Any]:
        return {"digits": t.c.phone}

    def check(self, row: Row) -> bool:
        return bool(row.digits == row.phone)


class Touch(Migration):
    """A right one that works through `up`."""

    name = "001-wrong"

    def up(self, context: MigrationContext) -> MigrationResult:
        context.connection.execute(sa.update(person).values(touched=person.c.score + 1))
        return MigrationResult()

    def verify(self, context: MigrationContext) -> bool:
        wrong = sa.select(sa.func.count()).select_from(person).where(person.c.touched != person.c.score + 1)
        return context.connection.scalar(wrong) == 0


class StepByStep(Migration):
    """A right one without a transaction of ours: each row by itself, and only if it is not done."""

    name = "001-wrong"
    transactional = False

    def up(self, context: MigrationContext) -> MigrationResult:
        for identity in context.connection.scalars(sa.select(person.c.id).order_by(person.c.id)).all():
            there = (person.c.id == identity) & (person.c.touched != person.c.score + 1)
            context.connection.execute(sa.update(person).where(there).values(touched=person.c.score + 1))
        return MigrationResult()

    def applied(self, context: MigrationContext) -> bool:
        return self.verify(context)

    def verify(self, context: MigrationContext) -> bool:
        wrong = sa.select(sa.func.count()).select_from(person).where(person.c.touched != person.c.score + 1)
        return context.connection.scalar(wrong) == 0


# What it does not declare


class LooksUpElsewhere(Digits):
    def transform(self, row: Row) -> Mapping[str, Any]:
        with sqlite3.connect(":memory:") as lookup:
            return {"digits": lookup.execute("SELECT ?", (digits_of(row.phone),)).fetchone()[0]}


class SecondConnection(Touch):
    def up(self, context: MigrationContext) -> MigrationResult:
        with context.connection.engine.connect() as other:
            other.execute(sa.select(person.c.id)).all()
        return super().up(context)


class ConnectsOnlyInEarnest(Touch):
    def up(self, context: MigrationContext) -> MigrationResult:
        if not context.dry_run:
            sqlite3.connect(":memory:").close()
        return super().up(context)


class VerifiesElsewhere(Touch):
    def verify(self, context: MigrationContext) -> bool:
        sqlite3.connect(":memory:").close()
        return super().verify(context)


class WritesBeforeItStarts(Touch):
    def preflight(self, context: MigrationContext) -> None:
        context.connection.execute(sa.update(person).where(person.c.id == 3).values(note="seen"))


class CommitsByItself(Touch):
    def up(self, context: MigrationContext) -> MigrationResult:
        result = super().up(context)
        context.connection.commit()
        return result


class UndeclaredColumn(Digits):
    def transform(self, row: Row) -> Mapping[str, Any]:
        return {"digits": digits_of(row.phone), "note": "done"}


class TriggerOnTheRow(Digits):
    """See `TRIGGERS`: each change of a row changes its note too."""


class TriggerOnAnotherTable(Digits):
    """See `TRIGGERS`: each change of a row adds one to the journal."""


# Done never, or twice


class StaysPending(Digits):
    def pending(self, t: sa.FromClause) -> sa.ColumnElement[bool]:
        return t.c.phone.is_not(None)


class StaysPendingInSql(InSql):
    def pending(self, t: sa.FromClause) -> sa.ColumnElement[bool]:
        return t.c.score > 0


class AppliedTooEarly(StepByStep):
    def applied(self, context: MigrationContext) -> bool:
        return True


class AppliedNever(StepByStep):
    def applied(self, context: MigrationContext) -> bool:
        return False


class NotIdempotent(StepByStep):
    """Killed half-way it begins anew, and adds to rows to which it has added."""

    def up(self, context: MigrationContext) -> MigrationResult:
        for identity in context.connection.scalars(sa.select(person.c.id).order_by(person.c.id)).all():
            there = person.c.id == identity
            context.connection.execute(sa.update(person).where(there).values(touched=person.c.touched + 1))
        return MigrationResult()

    def verify(self, context: MigrationContext) -> bool:
        return not context.connection.scalar(
            sa.select(sa.func.count()).select_from(person).where(person.c.touched == 0)
        )


class AddsTwice(StepByStep):
    """Killed half-way it begins anew, and adds rows that it has added."""

    def up(self, context: MigrationContext) -> MigrationResult:
        for name in context.connection.scalars(sa.select(person.c.name).order_by(person.c.id)).all():
            context.connection.execute(sa.insert(journal).values(text=name))
        return MigrationResult()

    def verify(self, context: MigrationContext) -> bool:
        missing = sa.select(person.c.id).where(person.c.name.not_in(sa.select(journal.c.text)))
        return context.connection.execute(missing).first() is None


# Another value each time


class RunningTotal(Digits):
    def setup_worker(self) -> None:
        self._before = ""

    def transform(self, row: Row) -> Mapping[str, Any]:
        found, self._before = self._before + digits_of(row.phone)[-2:], digits_of(row.phone)
        return {"digits": found}


class CountsRows(Digits):
    def setup_worker(self) -> None:
        self._count = 0

    def transform(self, row: Row) -> Mapping[str, Any]:
        self._count += 1
        return {"digits": f"{digits_of(row.phone)}-{self._count}"}


_SEEN: list[str] = []


class KeepsAGlobal(Digits):
    def transform(self, row: Row) -> Mapping[str, Any]:
        _SEEN.append("row")
        return {"digits": f"{digits_of(row.phone)}-{len(_SEEN)}"}


class ThisYear(Digits):
    def transform(self, row: Row) -> Mapping[str, Any]:
        return {"digits": f"{digits_of(row.phone)}-{date.today().year}"}

    def check(self, row: Row) -> bool:
        return row.digits is None or str(row.digits).partition("-")[0] == digits_of(row.phone)


class ByChance(Digits):
    def transform(self, row: Row) -> Mapping[str, Any]:
        return {"digits": digits_of(row.phone) + random.choice("abcdefghij")}


class TimeInSql(InSql):
    def assign(self, t: sa.FromClause) -> Mapping[str, Any]:
        return {"digits": sa.cast(sa.func.current_timestamp(), sa.String(100))}


class OneBatchOnly(Touch):
    def up(self, context: MigrationContext) -> MigrationResult:
        some = context.connection.scalars(sa.select(person.c.id).order_by(person.c.id).limit(context.batch_size)).all()
        context.connection.execute(sa.update(person).where(person.c.id.in_(some)).values(touched=person.c.score + 1))
        return MigrationResult()

    def verify(self, context: MigrationContext) -> bool:
        return (context.connection.scalar(sa.select(sa.func.count()).where(person.c.touched != 0)) or 0) > 0


class SwallowsErrors(Touch):
    def up(self, context: MigrationContext) -> MigrationResult:
        with suppress(sa.exc.DBAPIError), context.connection.begin_nested():
            context.connection.execute(sa.update(person).where(person.c.id == 1).values(note="begun"))
        return super().up(context)


# Proof that proves nothing


class NoVerify(Migration):
    name = "001-wrong"

    def up(self, context: MigrationContext) -> MigrationResult:
        context.connection.execute(sa.update(person).values(touched=1))
        return MigrationResult()


class AlwaysVerified(Touch):
    def verify(self, context: MigrationContext) -> bool:
        return True


class ChecksTheFormOnly(Digits):
    def check(self, row: Row) -> bool:
        return row.digits is None or str(row.digits).isdigit()


class AlwaysRightInPlace(BatchMigration):
    """What it changes cannot be told afterwards; that -6 is no score can."""

    name = "001-wrong"
    table = person
    reads = ("score",)
    writes = ("score",)

    def transform(self, row: Row) -> Mapping[str, Any]:
        return {"score": row.score + 1}

    def check(self, row: Row) -> bool:
        return True


class VerifyWrites(Touch):
    def verify(self, context: MigrationContext) -> bool:
        context.connection.execute(sa.update(person).where(person.c.id == 5).values(note="verified"))
        return super().verify(context)


# Beside an application


class LosesUpdates(StepByStep):
    """Saves whole rows as it has read them, whatever they hold by now."""

    def up(self, context: MigrationContext) -> MigrationResult:
        rows = context.connection.execute(sa.select(person.c.id, person.c.score).order_by(person.c.id)).all()
        for identity, score in rows:
            saved = sa.update(person).where(person.c.id == identity).values(score=score, touched=score + 1)
            context.connection.execute(saved)
        return MigrationResult()


class WritesWhatWasTrue(StepByStep):
    """Writes what it has made of what it had read before."""

    def up(self, context: MigrationContext) -> MigrationResult:
        rows = context.connection.execute(sa.select(person.c.id, person.c.score).order_by(person.c.id)).all()
        for identity, score in rows:
            context.connection.execute(sa.update(person).where(person.c.id == identity).values(touched=score + 1))
        return MigrationResult()


# The way back


class ForgetsAColumn(Digits):
    rollbackable = True
    writes = ("digits", "touched")

    def transform(self, row: Row) -> Mapping[str, Any]:
        return {"digits": digits_of(row.phone), "touched": len(row.phone)}

    def check(self, row: Row) -> bool:
        return row.digits == digits_of(row.phone) and row.touched == len(row.phone)

    def down(self, context: MigrationContext) -> MigrationRollbackResult:
        mine = person.c.digits == sa.func.replace(sa.func.replace(person.c.phone, "+", ""), " ", "")
        context.connection.execute(sa.update(person).where(mine).values(digits=None))
        return MigrationRollbackResult()


class OverwritesEdits(Digits):
    rollbackable = True

    def down(self, context: MigrationContext) -> MigrationRollbackResult:
        context.connection.execute(sa.update(person).values(digits=None))
        return MigrationRollbackResult()


class CannotGoBack(Digits):
    rollbackable = True

    def down(self, context: MigrationContext) -> MigrationRollbackResult:
        return MigrationRollbackResult(success=False, error="not written yet")


OWN, DRY, RUN, AGAIN = (
    "no connection of its own",
    "a dry run changes nothing",
    "a run completes, as declared",
    "running again changes nothing",
)
SAME, BATCHES, ERRORS, PROOF = (
    "the same row, the same value",
    "the same in other batches",
    "no error is swallowed",
    "verification notices damage",
)
KILLED, WRITER, BACK = (
    "killed at every edge, resumed exactly",
    "nothing that is written meanwhile is lost",
    "rolled back, as it was",
)

WRONG: dict[type[Migration], tuple[str, str]] = {
    LooksUpElsewhere: (OWN, "It opens a connection of its own (sqlite3.connect at wrong.py:"),
    SecondConnection: (OWN, "It opens a connection of its own ("),
    ConnectsOnlyInEarnest: (RUN, "It opens a connection of its own (sqlite3.connect at wrong.py:"),
    VerifiesElsewhere: (RUN, "It opens a connection of its own (sqlite3.connect at wrong.py:"),
    WritesBeforeItStarts: (DRY, "A dry run changed column note of person (1 row): only up and the batches may write."),
    CommitsByItself: (DRY, "The dry run did not succeed: A migration must not commit or roll back"),
    UndeclaredColumn: (RUN, "transform returned more than the columns declared in writes: digits"),
    TriggerOnTheRow: (RUN, "It changed column note of person (12 rows), not declared in writes."),
    TriggerOnAnotherTable: (RUN, "It changed table journal (12 rows added), and declares only person: a trigger"),
    StaysPending: (RUN, "Its pending stays true after the new values are written"),
    StaysPendingInSql: (RUN, "Its pending stays true after the new values are written"),
    AppliedTooEarly: (RUN, "applied() is true before anything was done"),
    AppliedNever: (AGAIN, "applied() is false although up has done its work"),
    AddsTwice: (KILLED, "not every row was changed exactly once"),
    NotIdempotent: (KILLED, "not every row was changed exactly once"),
    RunningTotal: (SAME, "Its transform depends on the rows that came before"),
    CountsRows: (SAME, "Its transform depends on the rows that came before"),
    KeepsAGlobal: (SAME, "Its transform depends on what the process did before"),
    ThisYear: (SAME, "Its transform reads the clock (today() at wrong.py:"),
    ByChance: (SAME, "Its transform depends on chance (at wrong.py:"),
    TimeInSql: (SAME, "Its assign of digits is another value each time (CURRENT_TIMESTAMP in SQL)"),
    OneBatchOnly: (BATCHES, "the result depends on the batch size"),
    SwallowsErrors: (ERRORS, "It reported success although the database had refused its statement at wrong.py:"),
    NoVerify: (PROOF, "It brings no verify: nothing proves what a run has done"),
    AlwaysVerified: (PROOF, "Its verification passes whatever the rows hold"),
    AlwaysRightInPlace: (PROOF, "Its verification passes whatever the rows hold"),
    ChecksTheFormOnly: (PROOF, "Its verification does not notice a migrated row that is set to another row's value."),
    VerifyWrites: (PROOF, "Its verification writes to the database (at wrong.py:"),
    WritesWhatWasTrue: (WRITER, "While an application wrote to its rows, the run did not complete"),
    LosesUpdates: (WRITER, "a write is lost, or a value was made of what is no longer there"),
    ForgetsAColumn: (BACK, "Rolling back did not restore column touched of person (11 rows)."),
    OverwritesEdits: (BACK, "Rolling back overwrote what was written to person after the run"),
    CannotGoBack: (BACK, "It could not be rolled back: "),
}

ON_ONE_DATABASE = {
    SecondConnection,
    ConnectsOnlyInEarnest,
    VerifiesElsewhere,
    AddsTwice,
    UndeclaredColumn,
    StaysPendingInSql,
    CountsRows,
    AlwaysVerified,
    AlwaysRightInPlace,
    VerifyWrites,
    WritesWhatWasTrue,
    CannotGoBack,
}
"""Variants of others, for which one database is enough."""

_SET = {
    "sqlite": "CREATE TRIGGER t AFTER UPDATE ON person BEGIN UPDATE person SET note = 'x' WHERE id = NEW.id; END",
    "mysql": "CREATE TRIGGER t BEFORE UPDATE ON person FOR EACH ROW SET NEW.note = 'x'",
    "postgresql": "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN NEW.note = 'x'; RETURN NEW; END $$;"
    " CREATE TRIGGER t BEFORE UPDATE ON person FOR EACH ROW EXECUTE FUNCTION f()",
}
_ADD = {
    "sqlite": "CREATE TRIGGER t AFTER UPDATE ON person BEGIN INSERT INTO journal (text) VALUES ('x'); END",
    "mysql": "CREATE TRIGGER t AFTER UPDATE ON person FOR EACH ROW INSERT INTO journal (text) VALUES ('x')",
    "postgresql": "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN INSERT INTO journal (text) VALUES ('x'); RETURN NULL; END $$;"
    " CREATE TRIGGER t AFTER UPDATE ON person FOR EACH ROW EXECUTE FUNCTION f()",
}
TRIGGERS: dict[type[Migration], dict[str, str]] = {TriggerOnTheRow: _SET, TriggerOnAnotherTable: _ADD}
