"""Finding the row that kills its worker: only that row is held, and every other one is done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from system_migration.batching.transform import Held, Outcome
from system_migration.batching.worker import WorkerDied

Rows = Sequence[tuple[Any, ...]]


def isolate(ask: Callable[[Rows], list[Outcome]], rows: Rows) -> list[Outcome]:
    """The outcome of every row, in order, whichever of them kill their workers.

    `ask` has rows transformed, after a death by a new worker. A row is held only when it has killed a new one with
    nothing else in hand: until then it may have suffered for what an earlier row left behind. It costs two deaths
    when the worker could say which row it was at, else one for each halving and two more.
    """
    outcomes: list[Outcome] = [{}] * len(rows)
    waiting = [(slice(0, len(rows)), False)]
    while waiting:
        part, by_new_worker = waiting.pop()
        try:
            outcomes[part] = ask(rows[part])
        except WorkerDied as death:
            if part.stop - part.start > 1:
                waiting += _cut(part, death.row)
            elif not by_new_worker:
                waiting.append((part, True))
            else:
                outcomes[part] = [Held(death.code, death.message)]
    return outcomes


def _cut(part: slice, row: int | None) -> list[tuple[slice, bool]]:
    """A slice cut up; the last part is to be done first, by the new worker.

    That is the row that was in hand, alone. What came before it is halved, in case one of those did the damage.
    """
    if row is None:
        middle = (part.start + part.stop) // 2
        return [(slice(middle, part.stop), False), (slice(part.start, middle), False)]
    suspect = part.start + row
    middle = (part.start + suspect) // 2
    others = [slice(suspect + 1, part.stop), slice(middle, suspect), slice(part.start, middle)]
    return [*((other, False) for other in others if other.start < other.stop), (slice(suspect, suspect + 1), True)]
