"""What a rehearsal found: one outcome for each promise, and the first that is broken with its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from system_migration.wording import counted

KEPT, BROKEN, NOT_COVERED = "kept", "broken", "not covered"
NOT_TRIED = "not tried, for the one before it is broken"
SHOWN_KEYS = 10


@dataclass(frozen=True)
class Kept:
    """The promise held. `note` tells what of it could not be tried."""

    note: str = ""


@dataclass(frozen=True)
class Broken:
    """The promise did not hold: one sentence, and the keys of rows that show it."""

    sentence: str
    rows: Sequence[Any] = ()


@dataclass(frozen=True)
class NotCovered:
    """The promise could not be tried here, and why."""

    why: str


Outcome = Kept | Broken | NotCovered


@dataclass(frozen=True)
class Promised:
    """One promise and what became of it. `outcome` is "kept", "broken" or "not covered"; `rows` are keys."""

    name: str
    outcome: str
    sentence: str
    rows: Sequence[Any] = ()

    @staticmethod
    def of(name: str, outcome: Outcome) -> Promised:
        """The record of an outcome."""
        match outcome:
            case Kept(note):
                return Promised(name, KEPT, note)
            case Broken(sentence, rows):
                return Promised(name, BROKEN, sentence, list(rows))
        return Promised(name, NOT_COVERED, outcome.why)

    def line(self) -> str:
        """It in a line of text, the first keys named."""
        told = f"{self.outcome:<12} {self.name}"
        if self.sentence:
            told += f": {self.sentence}"
        if self.rows:
            more = f" and {len(self.rows) - SHOWN_KEYS:,} more" if len(self.rows) > SHOWN_KEYS else ""
            told += f" Rows by key: {', '.join(map(str, self.rows[:SHOWN_KEYS]))}{more}."
        return told


@dataclass(frozen=True)
class Rehearsal:
    """How a migration stood a rehearsal: its promises in the order in which they were tried.

    After the first broken one no other is tried. `not_covered` says what the scratch copies lacked.
    """

    name: str
    ok: bool
    promises: Sequence[Promised]
    not_covered: Sequence[str]
    seconds: float
    first_broken: Promised | None = field(default=None)

    def text(self) -> str:
        """The whole of it, for people: a line for each promise that was tried, and one for the rest."""
        lines = [f"Rehearsal of {self.name}: {'every promise kept' if self.ok else 'a promise is broken'}"]
        tried = [promise for promise in self.promises if promise.sentence != NOT_TRIED]
        lines += [f"  {promise.line()}" for promise in tried]
        if untried := len(self.promises) - len(tried):
            lines.append(f"  {NOT_COVERED:<12} {counted(untried, 'further promise')}: {NOT_TRIED}")
        return "\n".join([*lines, *(f"  not covered  {sentence}" for sentence in self.not_covered)])
