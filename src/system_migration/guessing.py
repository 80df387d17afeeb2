"""Naming what was done to a chain where a link does not hold. Each answer but the last is proven by the key. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from system_migration.audit_trail import EventRow, Link, Renaming, as_signed, link_parts
from system_migration.signing import AuditKey


@dataclass(frozen=True)
class Suspect:
    """The link that does not hold, its event, and what is before it."""

    previous: str | None
    link: Link
    event: EventRow
    keys: list[AuditKey]
    renamings: list[Renaming]

    def fits(self, link: Link, previous: str | None, position: int) -> bool:
        """Whether a link was signed as the one at `position`, behind the signature `previous`."""
        if link.event is None or link.mac is None:
            return False
        event = as_signed(link.event, position, self.renamings)
        return any(key.signed(link.mac, *link_parts(previous, position, event)) for key in self.keys)


def what_happened(suspect: Suspect, rest: Iterator[Link], name: Callable[[int | None, EventRow], str]) -> str:
    """A sentence: the event was inserted, stands in another's place, follows one that is missing, or was changed."""
    place, link = suspect.link.position, suspect.link
    following = next(rest, None)
    if following is not None and suspect.fits(following, suspect.previous, place):
        if suspect.fits(link, following.mac, place + 1):
            return f"Event {place + 1} stands where event {place} should."
        return f"{name(place, suspect.event)} was inserted after event {place - 1}."
    if following is not None and suspect.fits(following, link.mac, place + 2):
        return f"An event is missing after event {place - 1}: those behind it were moved up."
    later = 0
    before: Link | None = None
    while following is not None:
        if following.event_id < link.event_id:
            later += 1
            before = following if before is None or following.event_id > before.event_id else before
        following = next(rest, None)
    if before is not None and suspect.fits(link, before.mac, place + later):
        return f"Event {place + later} stands where event {place} should."
    return f"{name(place, suspect.event)} was changed."
