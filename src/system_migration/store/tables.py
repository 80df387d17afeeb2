"""The tracking tables. In the migrated database, because only there can data and record share a transaction.

Portable SQLAlchemy Core with named constraints. JSON is kept as text: not every database can compare its own JSON.
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.schema import SchemaItem

from system_migration.states import Outcome, RunKind, Status
from system_migration.store.types import LongText, UtcDateTime

SCHEMA_VERSION = 4
WITH_CHAIN = 4
"""The first version whose events are chained."""
PREFIX = "system_migration_"

metadata = MetaData()
_Environment = String(64)
_Name = String(128)
_Uuid = String(36)
_LongText = LongText()
_Serial = BigInteger().with_variant(Integer(), "sqlite")  # only INTEGER counts up by itself there


def _table(name: str, *items: SchemaItem) -> Table:
    return Table(PREFIX + name, metadata, *items)


def _one_of(column: str, values: type[StrEnum], name: str) -> CheckConstraint:
    listing = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listing})", name=f"ck_{PREFIX}{name}")


meta = _table(
    "meta",
    Column("id", SmallInteger, autoincrement=False),
    Column("schema_version", Integer, nullable=False),
    Column("environment", _Environment, nullable=False),
    Column("place", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("bound_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("id", name=f"pk_{PREFIX}meta"),
    CheckConstraint("id = 1", name=f"ck_{PREFIX}meta_one_row"),
)
"""One row: the version of these tables, the environment this database belongs to, and the marks it was bound with."""

migration = _table(
    "migration",
    Column("environment", _Environment),
    Column("name", _Name),
    Column("version", String(64), nullable=False),
    Column("status", String(16), nullable=False),
    Column("row_version", Integer, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("verified", Boolean, nullable=False),
    Column("applied", Boolean, nullable=False),
    Column("run_id", _Uuid),
    Column("upper_bound", _LongText),
    Column("pins", _LongText, nullable=False),
    Column("max_issues", BigInteger),
    Column("request", String(16)),
    Column("requested_by", String(255)),
    Column("cancelled", Boolean, nullable=False, server_default=false()),
    Column("executed_at", UtcDateTime),
    Column("executed_by", String(255)),
    Column("finished_at", UtcDateTime),
    Column("records_processed", BigInteger, nullable=False),
    Column("issues", BigInteger, nullable=False),
    Column("error", _LongText),
    PrimaryKeyConstraint("environment", "name", name=f"pk_{PREFIX}migration"),
    _one_of("status", Status, "migration_status"),
)
"""Where a migration stands in an environment. `row_version` changes with every change of status.

`request` is what an operator asks of the run that is going: "pause" or "cancel". `cancelled` tells a FAILED one that
an operator ended from one that failed by itself.
"""

run = _table(
    "run",
    Column("id", _Uuid),
    Column("environment", _Environment, nullable=False),
    Column("name", _Name, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("outcome", String(16)),
    Column("generation", Integer, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("code_algorithm", String(32), nullable=False),
    Column("code_checksum", String(64), nullable=False),
    Column("executed_by", String(255), nullable=False),
    Column("host", String(255), nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Column("intent_at", UtcDateTime),
    Column("from_key", _LongText),
    Column("to_key", _LongText),
    Column("held_only", Boolean, nullable=False, server_default=false()),
    Column("records_processed", BigInteger, nullable=False),
    Column("issues", BigInteger, nullable=False),
    Column("error", _LongText),
    Column("report", _LongText),
    PrimaryKeyConstraint("id", name=f"pk_{PREFIX}run"),
    _one_of("kind", RunKind, "run_kind"),
    CheckConstraint(
        "outcome IS NULL OR outcome IN ({})".format(", ".join(f"'{outcome}'" for outcome in Outcome)),
        name=f"ck_{PREFIX}run_outcome",
    ),
    CheckConstraint("(outcome IS NULL) = (finished_at IS NULL)", name=f"ck_{PREFIX}run_finished"),
    Index(f"ix_{PREFIX}run_history", "environment", "name", "started_at"),
)
"""One attempt. Its fence is the one every batch checks; a finished run has an outcome and writes no more.

`from_key` and `to_key` are the bounds an operator set, `held_only` that it works on held rows alone; whoever takes the
run over keeps to them.
"""

lease = _table(
    "lease",
    Column("environment", _Environment),
    Column("name", _Name),
    Column("holder", _Uuid, nullable=False),
    Column("held_by", String(255), nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("renewed_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("takeover_at", UtcDateTime, nullable=False),
    Column("released", Boolean, nullable=False),
    Column("pulse", Text),
    Column("pulse_at", UtcDateTime),
    PrimaryKeyConstraint("environment", "name", name=f"pk_{PREFIX}lease"),
)
"""The right to run. Never deleted, so that the fence only grows; never the row that batches check.

`pulse` is what its holder last said of its run (see `store.pulses`), written at `pulse_at`.
"""

ledger = _table(
    "ledger",
    Column("environment", _Environment),
    Column("name", _Name),
    Column("generation", Integer),
    Column("pass", Integer),
    Column("range", BigInteger),
    Column("last_range", BigInteger, nullable=False, server_default=text("0")),
    Column("batches", BigInteger, nullable=False, server_default=text("1")),
    Column("run_id", _Uuid, nullable=False),
    Column("attempt", _Uuid, nullable=False),
    Column("lower", _LongText),
    Column("upper", _LongText),
    Column("rows_read", BigInteger, nullable=False),
    Column("changed", BigInteger, nullable=False),
    Column("unchanged", BigInteger, nullable=False),
    Column("held", BigInteger, nullable=False),
    Column("vanished", BigInteger, nullable=False),
    Column("deferred", Integer, nullable=False),
    Column("deferred_keys", _LongText),
    Column("seconds", Float, nullable=False),
    Column("committed_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("environment", "name", "generation", "pass", "range", name=f"pk_{PREFIX}ledger"),
    UniqueConstraint("attempt", name=f"uq_{PREFIX}ledger_attempt"),
)
"""One row per committed batch, written in the batch's own transaction: the truth about what is done.

It covers the numbers from `range` to `last_range`. Old rows with consecutive numbers are compacted into one, which
then stands for several `batches`.
"""

death = _table(
    "death",
    Column("environment", _Environment),
    Column("name", _Name),
    Column("generation", Integer),
    Column("pass", Integer),
    Column("range", BigInteger),
    Column("last_range", BigInteger),
    Column("deaths", Integer, nullable=False),
    PrimaryKeyConstraint("environment", "name", "generation", "pass", "range", name=f"pk_{PREFIX}death"),
)
"""How often a runner died while these range numbers were in its hands, as its successors found. NULL: open end."""

journal = _table(
    "journal",
    Column("id", _Serial, autoincrement=True),
    Column("environment", _Environment, nullable=False),
    Column("name", _Name, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("pass", Integer, nullable=False),
    Column("range", BigInteger, nullable=False),
    Column("run_id", _Uuid, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("images", _LongText, nullable=False),
    PrimaryKeyConstraint("id", name=f"pk_{PREFIX}journal"),
    Index(f"ix_{PREFIX}journal_generation", "environment", "name", "generation", "id"),
)
"""Before- and after-images of the rows a batch changed, written in its own transaction; what rollback restores from."""

issue = _table(
    "issue",
    Column("environment", _Environment),
    Column("name", _Name),
    Column("generation", Integer),
    Column("key_digest", String(64)),
    Column("key", _LongText, nullable=False),
    Column("code", String(64), nullable=False),
    Column("message", Text, nullable=False),
    Column("run_id", _Uuid, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("environment", "name", "generation", "key_digest", name=f"pk_{PREFIX}issue"),
    Index(f"ix_{PREFIX}issue_met", "environment", "name", "generation", "at", "key_digest"),
)
"""A row that could not be migrated. Found by the digest of its key, as a key can be longer than an index allows.

They are listed in the order they were met: a hundred of a hundred thousand are read by the index.
"""

event = _table(
    "event",
    Column("id", _Serial, autoincrement=True),
    Column("environment", _Environment, nullable=False),
    Column("name", _Name),
    Column("run_id", _Uuid),
    Column("at", UtcDateTime, nullable=False),
    Column("action", String(32), nullable=False),
    Column("actor", String(255), nullable=False),
    Column("host", String(255), nullable=False),
    Column("detail", _LongText, nullable=False),
    PrimaryKeyConstraint("id", name=f"pk_{PREFIX}event"),
    Index(f"ix_{PREFIX}event_name", "environment", "name", "id"),
)
"""Append-only audit: who did what to which migration, when, from where."""

event_link = _table(
    "event_link",
    Column("position", BigInteger, autoincrement=False),
    Column("event_id", BigInteger, nullable=False),
    Column("mac", String(64)),
    PrimaryKeyConstraint("position", name=f"pk_{PREFIX}event_link"),
    CheckConstraint("position > 0", name=f"ck_{PREFIX}event_link_position"),
    Index(f"ix_{PREFIX}event_link_event", "event_id"),
)
"""The place of an event in the audit chain, without gaps from 1 on, and its signature where a key was there.

Not columns of the event: rows of both are only ever added, so a role needs no right to change an event.
The id is not unique: SQLite gives that of a deleted last event away again, which must not stop the next one.
"""

event_head = _table(
    "event_head",
    Column("id", SmallInteger, autoincrement=False),
    Column("chain", _Uuid, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("linked", BigInteger, nullable=False),
    Column("mac", String(64)),
    Column("key", String(16)),
    Column("seal", String(64)),
    PrimaryKeyConstraint("id", name=f"pk_{PREFIX}event_head"),
    CheckConstraint("id = 1", name=f"ck_{PREFIX}event_head_one_row"),
)
"""One row: where the audit chain of this database ends (see `store.chain`). Its lock lets one append at a time."""

log = _table(
    "log",
    Column("id", _Serial, autoincrement=True),
    Column("run_id", _Uuid, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("level", String(16), nullable=False),
    Column("message", Text, nullable=False),
    PrimaryKeyConstraint("id", name=f"pk_{PREFIX}log"),
    ForeignKeyConstraint(["run_id"], [run.c.id], name=f"fk_{PREFIX}log_run", ondelete="CASCADE"),
    Index(f"ix_{PREFIX}log_run", "run_id", "id"),
)
"""What a run said, bounded per run."""
