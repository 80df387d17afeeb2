"""A table under live writers, and an oracle that tells from what they committed whether a migration did any harm.

Each row has a `uid` that never changes, and one writer who alone changes the row. He reads it under lock, writes a
value that was never there, and notes after the commit what he found and what he left. The migration adds one to `y`
and writes ten times what it read to `z`. So what is found is what was left before, or, once, one more: the row was
migrated in between, from the value that was left. Anything else is a lost write, and any other `z` was made of a
value that was no longer there.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

metadata = sa.MetaData()
live = sa.Table(
    "live",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("uid", sa.BigInteger, nullable=False, unique=True),
    sa.Column("y", sa.BigInteger, nullable=False),
    sa.Column("z", sa.BigInteger),
    sa.Column("done", sa.SmallInteger, nullable=False, server_default=sa.text("0")),
)
SPREAD = 1_000_000
"""Between the keys, and the values, of two rows: room for what the writers make of them."""


@dataclass(frozen=True)
class Note:
    """What a writer did to a row: what he found there, and what he left; None is no row."""

    uid: int
    found: int | None
    left: int | None


def fill(engine: sa.Engine, rows: int) -> list[Note]:
    """A table of rows, and the notes of how it began."""
    notes = [Note(uid, None, SPREAD * uid) for uid in range(1, rows + 1)]
    with engine.begin() as connection:
        metadata.create_all(connection)
        connection.execute(
            live.insert(), [{"id": SPREAD * note.uid, "uid": note.uid, "y": note.left} for note in notes]
        )
    return notes


Change = tuple[Note, int | None]
"""A note, and the key under which the row is from now on."""


class Writer:
    """One of several processes that change rows; to each belong the rows with one remainder of `uid`."""

    def __init__(self, engine: sa.Engine, number: int, writers: int, rows: int, seed: int, kinds: str) -> None:
        """`kinds` of changes, one of which is chosen each time: (u)pdate, (i)nsert, (d)elete, (m)ove to another key."""
        self._engine, self._rows = engine, rows
        self._chance = random.Random(f"{seed} {number}")
        self._at = {uid: SPREAD * uid for uid in range(1, rows + 1) if uid % writers == number}
        self._new = iter(range(rows + 1 + (number - rows - 1) % writers, SPREAD, writers))
        self._odd = iter(range(number + 1, SPREAD, writers))  # a key beside the old ones that nobody else takes
        self._fresh = iter(range(10, SPREAD, 10))
        known = {"u": self._update, "i": self._insert, "d": self._delete, "m": self._move}
        self._kinds = [known[kind] for kind in kinds]

    def work(self, times: int, before_each: Callable[[], None]) -> list[Note]:
        """Change a row so often; the notes of what was committed, in order."""
        notes = []
        for _ in range(times):
            before_each()
            note, key = self._committed(self._chance.choice(self._kinds))
            if key is None:
                del self._at[note.uid]
            else:
                self._at[note.uid] = key
            notes.append(note)
        return notes

    def _committed(self, change: Callable[[sa.Connection], Change]) -> Change:
        """Commit a change; another one when a transaction was in the way."""
        while True:
            try:
                with self._engine.begin() as connection:
                    if connection.dialect.name == "sqlite":
                        connection.exec_driver_sql("BEGIN IMMEDIATE")
                    done = change(connection)
            except OperationalError:  # a deadlock, or a lock that took too long: nothing of it is there
                continue
            return done

    def _update(self, connection: sa.Connection) -> Change:
        note = self._found(connection, self._chance.choice(list(self._at)))
        left = SPREAD * note.uid + next(self._fresh)
        connection.execute(self._of(note, live.update()).values(y=left))
        return Note(note.uid, note.found, left), self._at[note.uid]

    def _move(self, connection: sa.Connection) -> Change:
        """Its key becomes another one, before or behind what the migration has reached."""
        note, key = self._found(connection, self._chance.choice(list(self._at))), self._free_key()
        connection.execute(self._of(note, live.update()).values(id=key))
        return note, key

    def _insert(self, connection: sa.Connection) -> Change:
        uid, key = next(self._new), self._free_key()
        connection.execute(live.insert().values(id=key, uid=uid, y=SPREAD * uid))
        return Note(uid, None, SPREAD * uid), key

    def _delete(self, connection: sa.Connection) -> Change:
        note = self._found(connection, self._chance.choice(list(self._at)))
        connection.execute(self._of(note, live.delete()))
        return Note(note.uid, note.found, None), None

    def _found(self, connection: sa.Connection, uid: int) -> Note:
        """The row, locked, as it is."""
        query = sa.select(live.c.y).where(live.c.id == self._at[uid]).with_for_update()
        found = int(connection.execute(query).scalar_one())
        return Note(uid, found, found)

    def _of(self, note: Note, statement: Any) -> Any:
        return statement.where(live.c.id == self._at[note.uid])

    def _free_key(self) -> int:
        return SPREAD * self._chance.randint(1, self._rows) + next(self._odd)


@dataclass
class Judgement:
    """What the oracle counted. `lost`: writes that are gone. `stale`: rows made of values that were gone."""

    migrated: int = 0
    lost: int = 0
    stale: int = 0
    twice: int = 0
    left_over: int = 0
    examples: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        wrong = f"{self.lost} lost writes, {self.stale} from stale input"
        return f"{self.migrated} rows migrated, {self.twice} of them twice, {self.left_over} left over, {wrong}"


@dataclass
class _History:
    """A row as its notes tell it: its value, and the one from which it was migrated."""

    value: int | None
    source: int | None = None
    times: int = 0
    lost: bool = False

    def find(self, found: int | None) -> None:
        """The value is this now. A little more than it was is the work of the migration."""
        if found is None or self.value is None or not 0 <= found - self.value <= 9:
            self.lost = self.lost or found != self.value
        elif found != self.value:
            self.times += found - self.value
            self.source = self.value
        self.value = found


def judge(notes: Sequence[Note], rows: Sequence[sa.Row[Any]], must_be_migrated: Callable[[int], bool]) -> Judgement:
    """Compare the rows in the end with the notes of all writers. Of `must_be_migrated` only rows still there count."""
    histories: dict[int, _History] = {}
    for note in notes:
        if note.uid not in histories:
            histories[note.uid] = _History(None)
        else:
            histories[note.uid].find(note.found)
        histories[note.uid].value = note.left
    ends = {row.uid: row for row in rows}
    judgement = Judgement()
    for uid, history in histories.items():
        end = ends.pop(uid, None)
        history.find(None if end is None else end.y)
        _add(judgement, uid, history, None if end is None else end.z, must=end is not None and must_be_migrated(uid))
    assert not ends, f"rows that nobody made: {list(ends)[:5]}"
    return judgement


def _add(judgement: Judgement, uid: int, history: _History, z: int | None, *, must: bool) -> None:
    expected = None if history.source is None or history.value is None else 10 * history.source
    stale = not history.lost and z != expected
    judgement.migrated += history.times > 0
    judgement.lost += history.lost
    judgement.stale += stale
    judgement.twice += history.times > 1
    judgement.left_over += must and not history.lost and history.times == 0
    if history.lost or stale or history.times > 1 or (must and history.times == 0):
        judgement.examples.append(f"uid {uid}: {history}, z {z}")
