"""Finding the row that kills its worker: only that row is held, and every other one is done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from system_migration.batching.transform import Held, Outcome
from system_migration.batching.worker import WorkerDied


class Ask(Protocol):
    """Have rows transformed by a worker; with `fresh`, by one that has done nothing before."""

    def __call__(self, rows: Sequence[tuple[Any, ...]], *, fresh: bool) -> list[Outcome]: ...


def isolate(ask: Ask, rows: Sequence[tuple[Any, ...]]) -> list[Outcome]:
    """The outcome of every row, in order, whichever of them kill their workers.

    A row is held only when it has killed a fresh worker with nothing else in hand: until then it may have suffered
    for what an earlier row left behind. It costs two deaths when the worker could say which row it was at, else one
    for each halving and two more.
    """
    outcomes: list[Outcome] = [{}] * len(rows)
    waiting = [(slice(0, len(rows)), False)]
    while waiting:
        part, fresh = waiting.pop()
        try:
            outcomes[part] = ask(rows[part], fresh=fresh)
        except WorkerDied as death:
            if part.stop - part.start > 1:
                waiting += _cut(part, death.row)
            elif fresh:
                outcomes[part] = [Held(death.code, death.message)]
            else:
                waiting.append((part, True))
    return outcomes


def _cut(part: slice, row: int | None) -> list[tuple[slice, bool]]:
    """A slice cut up, and which of its parts need a fresh worker. The last is to be done first.

    That is the row that was in hand, alone, as the next worker is fresh anyway. What came before it is halved, in
    case one of those did the damage.
    """
    if row is None:
        middle = (part.start + part.stop) // 2
        return [(slice(middle, part.stop), False), (slice(part.start, middle), False)]
    suspect = part.start + row
    middle = (part.start + suspect) // 2
    others = [slice(suspect + 1, part.stop), slice(middle, suspect), slice(part.start, middle)]
    return [*((other, False) for other in others if other.start < other.stop), (slice(suspect, suspect + 1), True)]
