"""Audit chains to be tampered with: databases with a few events, and what an intruder without the key can do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, delete, insert, select, update
from sqlalchemy import event as sa_event

from system_migration.audit_trail import Head
from system_migration.exporting import exported_head
from system_migration.migrator import Migrator
from system_migration.records import AuditVerdict
from system_migration.registry import Registry
from system_migration.settings import Settings
from system_migration.signing import AuditKey
from system_migration.store import audit, tables
from system_migration.store.audit import Actor
from system_migration.store.database import Database
from system_migration.store.dialects.base import WRITES

KEY = AuditKey(b"k" * 32)
OTHER = AuditKey(b"o" * 32)
ADA = Actor("ada", "desk")
event, link, head = tables.event, tables.event_link, tables.event_head


def keeper(engine: Engine, key: AuditKey | None = KEY, *old: AuditKey, environment: str = "test") -> Migrator:
    """A migrator with this key. To be closed."""
    return Migrator(engine, Registry([]), Settings(environment=environment, audit_key=key, audit_keys_old=old))


def begin(engine: Engine) -> None:
    """Make the tracking tables."""
    with keeper(engine) as made:
        made.init()


def note(engine: Engine, *actions: str, key: AuditKey | None = KEY, environment: str = "test") -> None:
    """Append events of these actions, each in a transaction of its own."""
    database = Database(engine, signer=key)
    for action in actions:
        with database.write() as connection:
            audit.add_event(connection, environment, "003-x", action, ADA, {"reason": "it was “time”"}, "run-1")
    database.close()


def verify(engine: Engine, key: AuditKey = KEY, *old: AuditKey, known: str | None = None) -> AuditVerdict:
    """What the check says."""
    with keeper(engine, key, *old) as made:
        return made.audit_verify(known)


def broken(engine: Engine, *, known: str | None = None) -> str:
    """Which link does not hold."""
    return str(verify(engine, known=known).broken)


def export(engine: Engine) -> list[str]:
    """The lines of an export."""
    with keeper(engine, None) as made:
        return [*made.audit_export()]


def head_of(engine: Engine) -> Head:
    """The head as it would be exported."""
    return exported_head(export(engine)[-1])


@contextmanager
def head_last() -> Iterator[None]:
    """Within the block, fail where a transaction says anything of other tables once it has locked the head.

    It would be waited for with the head in hand, by all who record anything.
    """
    holding: set[int] = set()
    late: list[str] = []

    def hear(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if not connection.get_execution_options().get(WRITES):
            return  # it holds no locks
        ours = any(table.name in statement for table in (event, link, head))
        if id(connection) in holding and not ours and not statement.startswith(("SET", "COMMIT", "ROLLBACK")):
            late.append(statement)
        if f"UPDATE {head.name}" in statement or f"FROM {head.name}" in statement:
            holding.add(id(connection))

    def forget(connection: Connection) -> None:
        holding.discard(id(connection))

    listeners = (("before_cursor_execute", hear), ("begin", forget), ("commit", forget), ("rollback", forget))
    for name, listener in listeners:
        sa_event.listen(Engine, name, listener)
    try:
        yield
    finally:
        for name, listener in listeners:
            sa_event.remove(Engine, name, listener)
    assert late == [], late


class Tampering:
    """Somebody who may write all tables, and has not the key."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def change(self, position: int, **values: Any) -> None:
        """Other values in the columns of an event."""
        self.connection.execute(update(event).where(event.c.id == self.id_of(position)).values(values))

    def relink(self, place: int, **values: Any) -> None:
        """Other values in the columns of a link."""
        self.connection.execute(update(link).where(link.c.position == place).values(values))

    def cut(self, positions: Sequence[int], *, links: bool = True) -> None:
        """Delete events, and their links."""
        ids = [self.id_of(position) for position in positions]
        self.connection.execute(delete(event).where(event.c.id.in_(ids)))
        if links:
            self.connection.execute(delete(link).where(link.c.position.in_(positions)))

    def put_in(self, **values: Any) -> int:
        """A forged event without a place; its id."""
        like = self.connection.execute(select(event).limit(1)).mappings().one()
        given = {**{name: like[name] for name in like if name != "id"}, "actor": "eve", **values}
        written = self.connection.execute(insert(event).values(given)).inserted_primary_key
        assert written is not None
        return int(written[0])

    def set_head(self, **values: Any) -> None:
        """Other values in the head."""
        self.connection.execute(update(head).values(values))

    def move(self, *, start: int, by: int) -> None:
        """Give the links from `start` on other places, in an order in which no two share one."""
        query = select(link.c.position).where(link.c.position >= start).order_by(link.c.position)
        places = self.connection.execute(query).scalars().all()
        for place in places if by < 0 else reversed(places):
            self.relink(place, position=place + by)

    def swap(self, one: int, other: int) -> None:
        """Let two links change places."""
        for here, there in ((one, 10_000), (other, one), (10_000, other)):
            self.relink(here, position=there)

    def id_of(self, position: int) -> int:
        """The id of the event at a place."""
        return int(self.connection.execute(select(link.c.event_id).where(link.c.position == position)).scalar_one())
