"""Judging an audit chain: every link anew from the key, in one pass, up to the first that does not hold. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from system_migration.audit_trail import SEALED, EventRow, Evidence, Head, Link, as_signed, link_parts
from system_migration.guessing import Suspect, what_happened
from system_migration.records import AuditVerdict, Unsigned
from system_migration.signing import AuditKey, Digest
from system_migration.wording import counted


class Broken(Exception):
    """A link does not hold: why, and its place."""

    def __init__(self, sentence: str, at: int) -> None:
        self.sentence, self.at = sentence, at
        super().__init__(sentence)


def check(evidence: Evidence, keys: Sequence[AuditKey], exported: Head | None = None) -> AuditVerdict:
    """The verdict on a chain under these keys, the one in use first; beside an `exported` head if there is one.

    It reads the chain once, and behind a broken link the rest once more.
    """
    walk = _Walk(evidence, keys, exported)
    broken, at = None, None
    try:
        walk.through()
    except Broken as found:
        broken, at = found.sentence, found.at
    except (AttributeError, TypeError, ValueError) as error:  # a database may take a value of any kind in a column
        at = walk.position + 1
        broken = f"What follows event {walk.position} cannot be read ({type(error).__name__}): it was changed."
    head = evidence.head
    return AuditVerdict(
        intact=broken is None,
        broken=broken,
        at=at,
        position=walk.position,
        head=head.position if head is not None else 0,
        signed=walk.signed,
        older=walk.older,
        unsigned=walk.spans(),
        chain=head.chain if head is not None else None,
        key=head.key if head is not None else None,
    )


@dataclass
class _Walk:
    """How far the check is, and what it has seen on the way."""

    evidence: Evidence
    keys: Sequence[AuditKey]
    exported: Head | None
    position: int = 0
    signed: int = 0
    older: int = 0
    linked: int = 0
    mac: str | None = None
    key: AuditKey | None = None
    outside: EventRow | None = None
    stretch: Digest = field(default_factory=Digest)
    sealed_in_stretch: int | None = None
    attested: list[Unsigned] = field(default_factory=list)

    def through(self) -> None:
        """To the end. Raises `Broken`."""
        head = self.evidence.head
        if head is None:
            raise Broken("The head of the chain is missing: its record was deleted.", 0)
        links = self.evidence.links()
        for link in links:
            self._take(link, links)
        self._end(head)
        if self.outside is not None:
            name = described(None, self.outside)
            raise Broken(f"{name} stands outside the chain: it was inserted past the library.", self.position)

    def _take(self, link: Link, rest: Iterator[Link]) -> None:
        place = self.position + 1
        if link.position < place:
            raise Broken(f"Event {link.position} stands there twice.", link.position)
        if link.position > place or link.event is None:
            raise Broken(self._missing(), place)
        event = as_signed(link.event, place, self.evidence.renamings)
        if link.mac is None:
            self._pass_unsigned(event)
        else:
            self._check_signed(link, link.mac, event, rest)
        self._compare_exported(link)
        self.position = place

    def _pass_unsigned(self, event: EventRow) -> None:
        self.stretch.add(event.fields())
        if event.action == SEALED:  # what vouches is always signed
            self.sealed_in_stretch = self.position + 1

    def _check_signed(self, link: Link, mac: str, event: EventRow, rest: Iterator[Link]) -> None:
        self._demand_signatures(link, event)
        parts = link_parts(self.mac, link.position, event)
        candidates = self.keys if event.action == SEALED or self.key is None else [self.key]
        key = next((each for each in candidates if each.signed(mac, *parts)), None)
        if key is None:
            suspect = Suspect(self.mac, link, event, list(candidates), self.evidence.renamings)
            raise Broken(what_happened(suspect, rest, described) + self._of_another_key(event), link.position)
        if event.action == SEALED:
            self._check_vouching(link, event)
        self.key, self.mac, self.linked, self.signed = key, mac, link.position, self.signed + 1

    def _demand_signatures(self, link: Link, event: EventRow) -> None:
        """Raise `Broken` where a signature must have been taken away: only some events may lack one."""
        bare = self.stretch.count
        vouched = event.told().get("events") if event.action == SEALED else 0
        lost = self.sealed_in_stretch
        if lost is None and event.action == SEALED and isinstance(vouched, int) and bare > vouched:
            lost = link.position - bare
        if lost is None and event.action != SEALED and bare:
            lost = link.position - bare
        if lost is not None:
            raise Broken(f"The signature of event {lost} was taken away.", lost)

    def _check_vouching(self, link: Link, event: EventRow) -> None:
        """Raise `Broken` where events that were written without the key are not as they were when vouched for."""
        told, first = event.told(), link.position - self.stretch.count
        if self.key is None:
            self._check_older(told.get("older"), told.get("olderLast"), told.get("olderDigest"))
        if (told.get("events"), told.get("digest")) != (self.stretch.count, self.stretch.hex()):
            which = f"event {first}" if self.stretch.count == 1 else f"one of the events {first} to {link.position - 1}"
            raise Broken(
                f"{which.capitalize()}, written without the key, was changed since event {link.position}.", first
            )
        if self.stretch.count:
            self.attested.append(Unsigned(first, link.position - 1, True))
        self.stretch, self.sealed_in_stretch = Digest(), None

    def _check_older(self, count: object, last: object, digest: object) -> None:
        found = Digest()
        for event in self.evidence.older():
            if isinstance(last, int) and event.id <= last:
                found.add(as_signed(event, 1, self.evidence.renamings).fields())
            else:
                self.outside = self.outside or event
        if (found.count, found.hex()) != (count, digest):
            held = f"there were {count}, and there are {found.count}" if found.count != count else f"of {count}"
            raise Broken(f"The events from before the chain were changed ({held}).", 0)
        self.older = found.count

    def _compare_exported(self, link: Link) -> None:
        known = self.exported
        if known is not None and link.position == known.linked and link.mac != known.mac:
            raise Broken(f"Event {link.position} is another one than the exported head knows.", link.position)

    def _end(self, head: Head) -> None:
        last, known = self.position, self.exported
        if known is not None and last < known.position:
            raise Broken(f"The events after {last} are gone: the exported head is at {known.position}.", last + 1)
        if last < max(head.position, head.linked):
            end = max(head.position, head.linked)
            raise Broken(f"The events after {last} are gone: the head is at {end}.", last + 1)
        if (head.linked, head.mac) != (self.linked, self.mac) or (self.key and not head.is_sealed_by(self.key)):
            raise Broken(f"The head of the chain was changed: the last signed event is {self.linked}.", last)
        if last > head.position:
            raise Broken(
                f"The head of the chain was set back: it is at {head.position}, and there are events up to {last}.",
                last,
            )
        if self.key is None:
            self._nothing_signed()
        elif self.key != self.keys[0]:
            raise Broken(
                f"The chain ends under the earlier key {self.key.id}; `migration audit rekey` was undone.", last
            )

    def _nothing_signed(self) -> None:
        bare = self.stretch.count + sum(1 for _ in self.evidence.older())
        if bare:
            raise Broken(
                f"Nothing is attested: none of {counted(bare, 'event')} is signed. If no program with the key has "
                "written here yet, `migration audit rekey` begins the chain now; else its signatures were taken away.",
                0,
            )

    def _missing(self) -> str:
        return f"An event is missing after event {self.position}." if self.position else "The first event is missing."

    def _of_another_key(self, event: EventRow) -> str:
        named = event.told().get("key") if event.action == SEALED else None
        if not isinstance(named, str) or named in [key.id for key in self.keys]:
            return ""
        return f" Or it was signed with an earlier key, {named[:16]}, which MIGRATION_AUDIT_KEYS_OLD does not have."

    def spans(self) -> list[Unsigned]:
        """The stretches of unsigned events, those at the end included."""
        bare = self.stretch.count
        tail = [Unsigned(self.position - bare + 1, self.position, False)] if bare else []
        return [*self.attested, *tail]


def described(position: int | None, event: EventRow) -> str:
    """An event by its place and by what it tells: `Event 17 (paused of 003-x by ada, 2026-11-24 17:00:12)`."""
    of = f" of {event.name}" if event.name else ""
    place = f"Event {position}" if position is not None else "An event"
    return f"{place} ({event.action}{of} by {event.actor}, {event.at:%Y-%m-%d %H:%M:%S})"
