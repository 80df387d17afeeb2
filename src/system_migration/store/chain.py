"""Appending to the audit chain: each event gets the next place, and with a key a signature over it and the one before.

The head's row is locked from here to the end of the transaction, so two appends can only follow each other, and event,
link and head commit together with what they tell of. To be the last step of a transaction: whoever holds the head
must not wait for a row that another, who waits for the head, has locked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import Connection, Insert, exists, insert, literal, select, update

from system_migration.audit_trail import SEALED, EventRow, Head, link_parts
from system_migration.errors import MigrationSystemError, Refused
from system_migration.signing import AuditKey, Digest
from system_migration.store import chain_pages, tables
from system_migration.store.times import now

SIGNER: Final = "system_migration_signer"
"""Execution option of the connections that write: the key by which their events are signed, or None."""

_LOST = (
    "The tracking tables of this database are damaged: the row of system_migration_event_head is missing. Restore it "
    "from a backup; no event can be recorded without it."
)


def beginning() -> Insert:
    """The statement that makes the head of a new chain where there is none. To be run once `meta` has its row."""
    head = tables.event_head
    values = select(literal(1), literal(str(uuid4())), literal(0), literal(0)).select_from(tables.meta)
    return insert(head).from_select(
        ["id", "chain", "position", "linked"], values.where(~exists(select(head.c.id))), include_defaults=False
    )


def append(connection: Connection, values: Mapping[str, Any]) -> None:
    """Append one event: these columns of it, and the time. Raises `MigrationSystemError` where the head was lost.

    Without a key, or with another one than the chain's, it is written unsigned: what was done must be on record, and
    a run must not stop in the middle because somebody changed the key meanwhile. So it is behind a head that was
    changed: a signature over that would make it good, and nobody would miss what was cut off.
    """
    head, at = _locked_head(connection)
    key: AuditKey | None = connection.get_execution_options().get(SIGNER)
    if key is None or not head.is_left_by([key]):
        _write(connection, head, values, at, None)
        return
    if head.linked == 0 or head.linked < head.position:
        head = _seal(connection, head, values, at, key, ahead=values["action"])
    _write(connection, head, values, at, key)


def begin_anew(connection: Connection, values: Mapping[str, Any], keys: Sequence[AuditKey]) -> None:
    """Let the chain go on under the first of the keys, with an event that vouches for all that came before.

    Raises `Refused` where it is the chain's key already, and where none of the keys proves the end of the chain.
    """
    key = keys[0]
    head, at = _locked_head(connection)
    if head.key == key.id:
        raise Refused("The audit chain is signed with this key already. Set MIGRATION_AUDIT_KEY to the new one.")
    if not head.is_left_by(keys):
        raise Refused(
            f"No key that is set here signed where the audit chain ends (the head names {head.key or 'none'}). Give "
            "the former key in MIGRATION_AUDIT_KEYS_OLD; if it is there, the head was changed: "
            "`migration audit verify` says how."
        )
    _seal(connection, head, values, at, key)


def check_key(connection: Connection, key: AuditKey) -> None:
    """Raise `Refused` where the chain is signed with another key than this one."""
    head = chain_pages.head(connection)
    if head is not None and head.key not in (None, key.id):
        raise Refused(
            f"MIGRATION_AUDIT_KEY is the key {key.id}, but the audit chain of this database is signed with {head.key}. "
            "Give this process that key, or let the chain go on under the new one with `migration audit rekey`."
        )


def _locked_head(connection: Connection) -> tuple[Head, datetime]:
    query = select(tables.event_head, now().label("now")).with_for_update()
    row = connection.execute(query).one_or_none()
    if row is None:
        raise MigrationSystemError(_LOST)
    return chain_pages.as_head(row), row.now


def _seal(
    connection: Connection,
    head: Head,
    values: Mapping[str, Any],
    at: datetime,
    key: AuditKey,
    *,
    ahead: str | None = None,
) -> Head:
    """Write the event that vouches for those written without the key, the ones from before the chain included.

    `ahead` is the action of the event that follows in the same step.
    """
    told: dict[str, Any] = {"key": key.id, "ahead": ahead}
    if head.linked == 0:
        older, last = Digest(), 0
        for event in chain_pages.older(connection):
            older.add(event.fields())
            last = event.id
        told |= {"older": older.count, "olderLast": last, "olderDigest": older.hex()}
    unsigned = Digest()
    for link in chain_pages.links(connection, head.linked, head.position):
        if link.event is not None:
            unsigned.add(link.event.fields())
    told |= {"events": unsigned.count, "digest": unsigned.hex()}
    about = {"name": None, "run_id": None, "action": SEALED, "detail": json.dumps(told)}
    return _write(connection, head, {**values, **about}, at, key)


def _write(connection: Connection, head: Head, values: Mapping[str, Any], at: datetime, key: AuditKey | None) -> Head:
    """The event, its link and the head, which is returned as it now is."""
    written = connection.execute(insert(tables.event).values(at=at, **values)).inserted_primary_key
    assert written is not None
    event_id = int(written[0])
    position, mac, moved = head.position + 1, None, replace(head, position=head.position + 1)
    if key is not None:
        event = EventRow(id=event_id, at=at, **values)
        mac = key.mac(*link_parts(head.mac, position, event))
        moved = replace(moved, linked=position, mac=mac).sealed(key)
    connection.execute(insert(tables.event_link).values(position=position, event_id=event_id, mac=mac))
    _move(connection, head, moved)
    return moved


def _move(connection: Connection, head: Head, to: Head) -> None:
    table = tables.event_head
    moved = connection.execute(
        update(table)
        .where(table.c.position == head.position)
        .values(position=to.position, linked=to.linked, mac=to.mac, key=to.key, seal=to.seal)
    )
    if moved.rowcount != 1:  # the lock makes it impossible; a lock is not a proof
        raise MigrationSystemError("Two events were about to take one place in the audit chain. Try it again.")
