"""Lease statements. All times are the database's; whoever is told "no row" has lost."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, not_, or_, select, update

from system_migration.store import tables
from system_migration.store.dialects import Dialect
from system_migration.store.times import after, now

lease = tables.lease.c
GRACE = 1 / 6
"""A lease may be taken over this share of its length after it expired (reliability, 4.3)."""


@dataclass(frozen=True)
class Claim:
    """A lease as its holder knows it."""

    environment: str
    name: str
    holder: str
    fence: int
    seconds: float


def alive() -> ColumnElement[bool]:
    """Whether somebody holds the lease right now."""
    return and_(not_(lease.released), lease.expires_at >= now())


def insert_missing(connection: Connection, environment: str, name: str) -> None:
    """A released lease with fence 0, for `acquire` to take. Raises IntegrityError when there is one."""
    connection.execute(
        insert(tables.lease).values(
            environment=environment,
            name=name,
            holder="",
            held_by="",
            fence=0,
            renewed_at=now(),
            expires_at=now(),
            takeover_at=now(),
            released=True,
        )
    )


def exists(connection: Connection, environment: str, name: str) -> bool:
    """Whether the lease has a row."""
    query = select(lease.fence).where(lease.environment == environment, lease.name == name)
    return connection.execute(query).one_or_none() is not None


@dataclass(frozen=True)
class Previous:
    """Whose the lease was before: `holder` is empty before the first, `released` tells a clean end from a death."""

    holder: str
    released: bool


def previous(connection: Connection, dialect: Dialect, environment: str, name: str) -> Previous:
    """Who held the lease last, with its row locked, so that what follows in the transaction is about the same one."""
    query = select(lease.holder, lease.released).where(lease.environment == environment, lease.name == name)
    return Previous(*connection.execute(dialect.lock_rows(query)).one())


def acquire(
    connection: Connection, environment: str, name: str, holder: str, held_by: str, seconds: float
) -> Claim | None:
    """Take the lease if it is free, raising its fence; None when somebody holds it.

    `holder` is a UUID made for this claim. A lease that it holds already was taken by an earlier attempt of the same
    claim, whose answer was lost: it is taken again.
    """
    taken = connection.execute(
        update(tables.lease)
        .where(
            lease.environment == environment,
            lease.name == name,
            or_(lease.released, lease.takeover_at < now(), lease.holder == holder),
        )
        .values(
            holder=holder,
            held_by=held_by,
            fence=lease.fence + 1,
            renewed_at=now(),
            expires_at=after(seconds),
            takeover_at=after(seconds * (1 + GRACE)),
            released=False,
            pulse=None,  # what the holder before said is not about this one
            pulse_at=None,
        )
    )
    if taken.rowcount != 1:
        return None
    fence = connection.execute(
        select(lease.fence).where(lease.environment == environment, lease.name == name)
    ).scalar_one()
    return Claim(environment, name, holder, fence, seconds)


def _held(claim: Claim) -> ColumnElement[bool]:
    return and_(
        lease.environment == claim.environment,
        lease.name == claim.name,
        lease.holder == claim.holder,
        lease.fence == claim.fence,
        not_(lease.released),
    )


def renew(connection: Connection, claim: Claim, pulse: str | None = None) -> bool:
    """Push the expiry out, and write the pulse if there is one; False when the lease is no longer ours."""
    renewed = connection.execute(
        update(tables.lease)
        .where(_held(claim))
        .values(
            renewed_at=now(),
            expires_at=after(claim.seconds),
            takeover_at=after(claim.seconds * (1 + GRACE)),
            **({} if pulse is None else {"pulse": pulse, "pulse_at": now()}),
        )
    )
    return renewed.rowcount == 1


def say(connection: Connection, claim: Claim, pulse: str) -> None:
    """Write the pulse, if the lease is still ours, and nothing else: who holds it depends on no talk."""
    connection.execute(update(tables.lease).where(_held(claim)).values(pulse=pulse, pulse_at=now()))


def release(connection: Connection, claim: Claim) -> None:
    """End the lease now, if it is still ours. The row stays: its fence must only ever grow."""
    connection.execute(
        update(tables.lease).where(_held(claim)).values(released=True, expires_at=now(), takeover_at=now())
    )


def forget(connection: Connection, claim: Claim) -> None:
    """End a lease for which nobody competes, and leave no row."""
    connection.execute(delete(tables.lease).where(_held(claim)))


def forget_free(connection: Connection, environment: str) -> bool:
    """End every lease of an environment that nobody holds, and leave no row; whether none is left.

    For an environment without a history: a start that was refused before it wrote anything leaves such a row.
    """
    connection.execute(
        delete(tables.lease).where(lease.environment == environment, or_(lease.released, lease.takeover_at < now()))
    )
    return connection.execute(select(lease.name).where(lease.environment == environment).limit(1)).first() is None


def holder(connection: Connection, environment: str, name: str) -> str | None:
    """Who holds the lease, in words, or None."""
    query = select(lease.held_by).where(lease.environment == environment, lease.name == name, alive())
    return connection.execute(query).scalar_one_or_none()
