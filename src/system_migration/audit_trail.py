"""What the audit chain is made of, read from a database or from an export. Plain values; `proving` judges them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from system_migration.signing import AuditKey, Signed

SEALED = "sealed"
"""The event that begins a stretch of signed events, and vouches for those before it that were written without a key."""
ADOPTED = "adopted"


@dataclass(frozen=True)
class EventRow:
    """One event as it is stored, to the last character: `detail` is its text."""

    id: int
    environment: str
    name: str | None
    run_id: str | None
    at: datetime
    action: str
    actor: str
    host: str
    detail: str

    def fields(self) -> list[Signed]:
        """All that is stored of it, as it is signed. The time in UTC to the microsecond, which every database keeps."""
        at = self.at.astimezone(UTC).isoformat(timespec="microseconds")
        kept: list[Signed] = [self.id, self.environment, self.name, self.run_id, at, self.action, self.actor, self.host]
        return [*kept, self.detail]

    def told(self) -> dict[str, Any]:
        """What its detail says; nothing where that is no JSON object."""
        try:
            told = json.loads(self.detail)
        except ValueError:
            return {}
        return told if isinstance(told, dict) else {}


@dataclass(frozen=True)
class Link:
    """A place in the chain. `mac` is None where the event was written without the key; `event` where it is gone."""

    position: int
    event_id: int
    mac: str | None
    event: EventRow | None


@dataclass(frozen=True)
class Head:
    """Where the chain ends: at `position`; its last signed event stands at `linked`, with `mac`.

    `chain` tells this chain from all others, `key` is the id of the key, `seal` its signature of the rest.
    """

    chain: str
    position: int
    linked: int
    mac: str | None
    key: str | None
    seal: str | None

    def sealed(self, key: AuditKey) -> Head:
        """The same head, signed. Not its `position`: programs without the key move that on, too."""
        return replace(self, key=key.id, seal=key.mac("head", self.chain, self.linked, self.mac))

    def is_sealed_by(self, key: AuditKey) -> bool:
        """Whether the key signed it as it is."""
        return key.signed(self.seal, "head", self.chain, self.linked, self.mac)

    def is_left_by(self, keys: Sequence[AuditKey]) -> bool:
        """Whether it is as one of the keys left it, or as it was made, before any key signed."""
        if self.key is None:
            return (self.linked, self.mac, self.seal) == (0, None, None)
        return any(key.id == self.key and self.is_sealed_by(key) for key in keys)


def link_parts(previous: str | None, position: int, event: EventRow) -> list[Signed]:
    """What the signature of a link covers: the link before, the place, and all of the event."""
    return ["link", previous, position, event.fields()]


@dataclass(frozen=True)
class Renaming:
    """An adoption: it gave all events another environment. Of those signed before it, up to `signed`, it is undone."""

    signed: int
    before: str
    after: str


@dataclass(frozen=True)
class Evidence:
    """A chain to be judged: its head, the last place that is taken, and its events in order, streamed.

    `older` are the events without a place, in order of their ids.
    """

    head: Head | None
    last: int
    renamings: list[Renaming]
    older: Callable[[], Iterator[EventRow]]
    links: Callable[[], Iterator[Link]]


def as_signed(event: EventRow, covered_at: int, renamings: list[Renaming]) -> EventRow:
    """The event as it was when the link at `covered_at` signed it: with the environment that it had then."""
    environment = event.environment
    for renaming in reversed(renamings):
        if renaming.signed < covered_at:
            continue
        if environment == renaming.before:
            environment = ""  # that adoption left no event under this name: nothing was ever signed like this
        elif environment == renaming.after:
            environment = renaming.before
    return event if environment == event.environment else replace(event, environment=environment)


def seals_for_adoption(event: EventRow | None) -> bool:
    """Whether this seal was written in one step with the adoption behind it: when the events were renamed already."""
    return event is not None and event.action == SEALED and event.told().get("ahead") == ADOPTED


def renamings_of(adoptions: list[tuple[int, EventRow]]) -> list[Renaming]:
    """The adoptions, oldest first, from their events, each with the last place that was signed before it.

    An event's own environment is what later adoptions made of it: found by undoing them first.
    """
    found: list[Renaming] = []
    for signed, event in reversed(adoptions):
        after = event.environment
        for later in found:
            after = later.before if after == later.after else after
        before = event.told().get("from")
        if isinstance(before, str) and before != after:
            found.append(Renaming(signed, before, after))
    return found[::-1]
