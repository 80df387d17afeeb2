"""One walk over all accounts: what the keys open, what would be held, and where the unreadable rows lie. Pure.

It only counts; `key_preflight` judges. Ids and days are all it keeps of the rows, but for a bounded number of them
that serve as witnesses and for trying other spellings of the key.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final

from ante_backend.faults import FaultCode, RowFault
from ante_backend.legacy_cipher import IV_BYTES, parse_ciphertext, parse_iv
from ante_backend.passwords import MAX_BYTES, Over72Policy, is_recognised_hash
from ante_backend.plausibility import KeyEvidence, KeyRing, probability

#: The rows that no other key opens are an old key's own and the main key's damaged ones, in shares nobody knows.
OLD_KEY_CORRUPT_SHARE: Final = 0.5
#: Checking a witness costs a bcrypt.
WITNESSES: Final = 20
SAMPLE: Final = 1000
#: More held rows than this are counted, not named.
NAMED: Final = 10_000
#: What share of the rows around the unreadable ones must be unreadable too, to call them a block.
_BLOCK_SHARE: Final = 0.9


@dataclass(frozen=True, slots=True)
class LegacyRow:
    """The columns of an account that say whether and how it can be migrated."""

    id: Any
    created_at: Any
    password: object = field(repr=False)
    key: object = field(repr=False)
    password_hash: object = field(default=None, repr=False)

    @property
    def is_hashed(self) -> bool:
        """Whether the hash column is in use; an empty text counts as nothing."""
        return self.password_hash is not None and self.password_hash != ""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A ciphertext and its IV, decoded; with the hash of the same account, if it has one."""

    ciphertext: bytes = field(repr=False)
    iv: bytes = field(repr=False)
    stored_hash: str | None = field(default=None, repr=False)


@dataclass
class Unreadable:
    """The rows to be migrated that no key opens: how many, which, and whether they lie together."""

    count: int = 0
    #: How many other rows of garbage were probably opened by luck, were these all garbage.
    hidden: float = 0.0
    first_id: Any = None
    last_id: Any = None
    _first_position: int = 0
    _last_position: int = 0
    _days: dict[date, list[int]] = field(default_factory=dict)

    def add(self, row: LegacyRow, position: int, hidden: float) -> None:
        """Count an unreadable row, the `position`th of all that were tried."""
        if not self.count:
            self.first_id, self._first_position = row.id, position
        self.count, self.hidden = self.count + 1, self.hidden + hidden
        self.last_id, self._last_position = row.id, position

    def note_day(self, row: LegacyRow, *, unreadable: bool) -> None:
        """Remember how many of a day's rows are unreadable."""
        day = row.created_at.date() if isinstance(row.created_at, datetime) else row.created_at
        if isinstance(day, date):
            counts = self._days.setdefault(day, [0, 0])
            counts[0] += unreadable
            counts[1] += 1

    @property
    def days(self) -> tuple[date, date] | None:
        """The first and the last day on which such an account was created."""
        days = [day for day, (unreadable, _) in self._days.items() if unreadable]
        return (min(days), max(days)) if days else None

    @property
    def is_block(self) -> bool:
        """Whether hardly a readable row lies between them, by key or by day: the mark of a rotated key."""
        if self.count >= _BLOCK_SHARE * (self._last_position - self._first_position + 1):
            return True
        if self.days is None:
            return False
        first, last = self.days
        counts = [count for day, count in self._days.items() if first <= day <= last]
        return sum(unreadable for unreadable, _ in counts) >= _BLOCK_SHARE * sum(total for _, total in counts)


class Survey:
    """What the rows added so far say about the keys of a ring, and what a run would do with them.

    A key's evidence are the rows that no *other* key opens. So a right key is not blamed for another's rows, and a
    wrong one gets no credit for the luck it has with rows of the right one: what it makes of rows that were chosen
    without it is random, and the bound on false proofs holds.
    """

    def __init__(self, ring: KeyRing, over_72: Over72Policy) -> None:
        self.ring, self.over_72 = ring, over_72
        old_keys = len(ring.names) - 1
        self.evidence = [KeyEvidence(), *(KeyEvidence(OLD_KEY_CORRUPT_SHARE) for _ in range(old_keys))]
        #: Rows to be migrated that each key alone opens.
        self.opened = [0] * len(ring.names)
        self.rows = 0
        self.testable = 0
        self.pending = 0
        self.held: Counter[FaultCode] = Counter()
        #: Why each of the first rows that would be held would be.
        self.held_ids: dict[Any, FaultCode] = {}
        self.unreadable = Unreadable()
        self.without_password = 0
        self.without_iv = 0
        self.zero_ivs = 0
        #: Ids of the rows that the policy `truncate` will cut.
        self.truncated: list[Any] = []
        self.witnesses: list[Sealed] = []
        self.sample: list[Sealed] = []

    @property
    def would_hold(self) -> int:
        """How many rows a run would hold."""
        return self.held.total()

    def add(self, row: LegacyRow) -> None:
        """Count one row; each row of the table is to be added once, in key order."""
        if row.is_hashed and not is_recognised_hash(row.password_hash):
            self.rows += 1
            self._hold(row, "unrecognised_hash")
        elif row.password is None:
            self.without_password += not row.is_hashed
        elif row.key is None:
            self.without_iv += not row.is_hashed
        else:
            self.rows += 1
            self._add_legacy(row)

    def _hold(self, row: LegacyRow, code: FaultCode) -> None:
        self.pending += 1
        self.held[code] += 1
        if len(self.held_ids) < NAMED:
            self.held_ids[row.id] = code

    def _add_legacy(self, row: LegacyRow) -> None:
        try:
            stored = row.password_hash if is_recognised_hash(row.password_hash) else None
            sealed = Sealed(parse_ciphertext(row.password), parse_iv(row.key), stored)
        except RowFault as fault:
            if not row.is_hashed:
                self._hold(row, fault.code)
            return
        self.testable += 1
        self.zero_ivs += sealed.iv == bytes(IV_BYTES)
        if len(self.sample) < SAMPLE:
            self.sample.append(sealed)
        readings = self.ring.readings(sealed.ciphertext, sealed.iv)
        self._weigh([isinstance(reading, str) for reading in readings], len(sealed.ciphertext))
        if row.is_hashed:
            if len(self.witnesses) < WITNESSES:
                self.witnesses.append(sealed)
        else:
            self._expect(row, readings, len(sealed.ciphertext))

    def _weigh(self, opens: list[bool], length: int) -> None:
        total = sum(opens)
        for evidence, passed in zip(self.evidence, opens, strict=True):
            if total == passed:  # no other key opens the row
                evidence.add(passed, length)

    def _expect(self, row: LegacyRow, readings: tuple[str | RowFault, ...], length: int) -> None:
        """Count what a run would do with the row, as the migration's `transform` decides it."""
        opens = [isinstance(reading, str) for reading in readings]
        self.unreadable.note_day(row, unreadable=not any(opens))
        if not any(opens):
            p = probability(length)  # garbage has as many chances to be opened as there are keys
            self.unreadable.add(row, self.pending, len(opens) * p / (1 - p))
        try:
            self.ring.choose(readings)
        except RowFault as fault:
            self._hold(row, fault.code)
            return
        self.opened[opens.index(True)] += 1
        if length > MAX_BYTES and self.over_72 == "hold":
            self._hold(row, "over_72_bytes")
            return
        self.pending += 1
        if length > MAX_BYTES and self.over_72 == "truncate":
            self.truncated.append(row.id)
