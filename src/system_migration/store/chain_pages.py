"""Reading the audit chain: its head, and its events in order, page by page, so that memory does not grow with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Select, func, select

from system_migration.audit_trail import (
    ADOPTED,
    EventRow,
    Evidence,
    Head,
    Link,
    link_parts,
    renamings_of,
    seals_for_adoption,
)
from system_migration.signing import AuditKey
from system_migration.store import tables

PAGE = 1000
_event, _link = tables.event.c, tables.event_link.c
_COLUMNS = tuple(EventRow.__dataclass_fields__)


def evidence(connection: Connection) -> Evidence:
    """All of the chain as it is now; what is appended while it is read is left out.

    The last place is read before the head: they are committed together, so a place behind the head is no late one.
    """
    last = int(connection.execute(select(func.coalesce(func.max(_link.position), 0))).scalar_one())
    end = head(connection)
    upto = max(last, end.position if end is not None else 0)
    return Evidence(
        head=end,
        last=last,
        renamings=renamings_of([*_adoptions(connection)]),
        older=lambda: older(connection),
        links=lambda: links(connection, 0, upto),
    )


def head(connection: Connection) -> Head | None:
    """Where the chain ends, or None where its record is lost."""
    row = connection.execute(select(tables.event_head)).one_or_none()
    return None if row is None else as_head(row)


def as_head(row: Any) -> Head:
    """A row of the head's table."""
    return Head(row.chain, row.position, row.linked, row.mac, row.key, row.seal)


def is_signed(connection: Connection, event_id: int, key: AuditKey) -> bool:
    """Whether the key signed this event, at its place behind the signature before it. Whether that one holds, too, is
    for a check of the whole chain."""
    places = select(func.max(_link.position)).where(_link.event_id == event_id, _link.mac.is_not(None))
    place = connection.execute(places).scalar_one()
    link = next(links(connection, place - 1, place), None) if place is not None else None
    if link is None or link.event is None:
        return False
    before = select(_link.mac).where(_link.position < place, _link.mac.is_not(None))
    previous = connection.execute(before.order_by(_link.position.desc()).limit(1)).scalar_one_or_none()
    return key.signed(link.mac, *link_parts(previous, link.position, link.event))


def links(connection: Connection, after: int, upto: int) -> Iterator[Link]:
    """The links from behind the place `after` up to `upto`, with their events where these are there."""
    while True:
        query = (
            select(_link.position, _link.event_id, _link.mac, *(_event[name] for name in _COLUMNS))
            .join_from(tables.event_link, tables.event, _event.id == _link.event_id, isouter=True)
            .where(_link.position > after, _link.position <= upto)
            .order_by(_link.position)
            .limit(PAGE)
        )
        page = connection.execute(query).all()
        for row in page:
            yield Link(row.position, row.event_id, row.mac, None if row.id is None else _as_event(row))
        if len(page) < PAGE:
            return
        after = page[-1].position


def older(connection: Connection) -> Iterator[EventRow]:
    """The events without a place, in order of their ids: those from before the chain, and what was put in past it."""
    after = 0
    while True:
        page = connection.execute(_without_place(after)).all()
        yield from map(_as_event, page)
        if len(page) < PAGE:
            return
        after = page[-1].id


def _without_place(after: int) -> Select[Any]:
    return (
        select(tables.event)
        .join_from(tables.event, tables.event_link, _event.id == _link.event_id, isouter=True)
        .where(_link.position.is_(None), _event.id > after)
        .order_by(_event.id)
        .limit(PAGE)
    )


def _adoptions(connection: Connection) -> Iterator[tuple[int, EventRow]]:
    """The adoptions in order, each with the last place that was signed before it."""
    query = (
        select(_link.position, tables.event)
        .join_from(tables.event_link, tables.event, _event.id == _link.event_id)
        .where(_event.action == ADOPTED)
        .order_by(_link.position)
    )
    for row in connection.execute(query).all():
        before = next(links(connection, row.position - 2, row.position - 1), None)
        end = row.position - 1 if before is not None and seals_for_adoption(before.event) else row.position
        signed = select(func.max(_link.position)).where(_link.position < end, _link.mac.is_not(None))
        yield connection.execute(signed).scalar_one() or 0, _as_event(row)


def _as_event(row: Any) -> EventRow:
    return EventRow(*(getattr(row, name) for name in _COLUMNS))
