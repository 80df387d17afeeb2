"""The journal: what changed rows were before and after, in the transaction that changed them.

Kept in parts of bounded size, each with the number of its rows and a digest of its text, so that a journal that lost
something is recognised. Newest first is the order in which changes are undone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, delete, func, insert, select

from system_migration.batching import values
from system_migration.batching.keys import Key
from system_migration.errors import MigrationSystemError
from system_migration.store import tables
from system_migration.store.runs import Attempt

PART_BYTES = 1 << 20
"""Text of one part, unless a single row has more: far below what MariaDB takes as one packet."""

UNDOING = -1
"""The pass under which the ledger has what a rollback did: one row a part, its range the part's id."""

journal = tables.journal.c


@dataclass(frozen=True)
class Image:
    """One row's written columns before and after: the values, then the exact forms of the columns that have one."""

    key: Key
    before: tuple[Any, ...]
    after: tuple[Any, ...]


@dataclass(frozen=True)
class Part:
    """Some of the rows of one batch. `images` is None where the text is not what was written."""

    id: int
    pass_number: int
    rows: int
    columns: tuple[str, ...]
    images: tuple[Image, ...] | None


@dataclass(frozen=True)
class Size:
    """What is there of a generation's journal."""

    parts: int
    rows: int


def record(
    connection: Connection,
    run: Attempt,
    pass_number: int,
    range_number: int,
    columns: Sequence[str],
    images: Sequence[Image],
) -> None:
    """Keep the images of a batch, in the batch's own transaction. Raises for a value that has no lossless form."""
    for texts in _portions([_image_text(run, image) for image in images]):
        text = f'{{"columns":{values.dump(list(columns))},"images":[{",".join(texts)}]}}'
        connection.execute(
            insert(tables.journal).values(
                {
                    "environment": run.environment,
                    "name": run.name,
                    "generation": run.generation,
                    "pass": pass_number,
                    "range": range_number,
                    "run_id": run.id,
                    "rows": len(texts),
                    "digest": _digest(text),
                    "images": text,
                }
            )
        )


def image_bytes(image: Image) -> int:
    """How much text an image takes. Raises TypeError for a value that has no lossless form."""
    return len(values.dump(_packed(image)).encode())


def _image_text(run: Attempt, image: Image) -> str:
    try:
        return values.dump(_packed(image))
    except TypeError as error:
        raise MigrationSystemError(
            f"The change of {run.name} cannot be journalled: {error}. The batch was rolled back; declare the column "
            "with a plain type, or write down() and let it undo the change."
        ) from None


def _packed(image: Image) -> list[Any]:
    return [[values.pack(value) for value in part] for part in (image.key, image.before, image.after)]


def _portions(texts: Sequence[str]) -> Iterator[list[str]]:
    portion: list[str] = []
    size = 0
    for text in texts:
        length = len(text.encode()) + 1
        if portion and size + length > PART_BYTES:
            yield portion
            portion, size = [], 0
        portion.append(text)
        size += length
    if portion:
        yield portion


def newest_part(connection: Connection, run: Attempt, below: int | None = None) -> Part | None:
    """The newest part of the generation, or the newest before the part `below`."""
    query = select(tables.journal).where(_generation(run)).order_by(journal.id.desc()).limit(1)
    if below is not None:
        query = query.where(journal.id < below)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else _part(row)


def _part(row: RowMapping) -> Part:
    if _digest(row["images"]) != row["digest"]:
        return Part(row["id"], row["pass"], row["rows"], (), None)
    content = json.loads(row["images"])
    images = tuple(
        Image(*(tuple(values.unpack(value) for value in part) for part in image)) for image in content["images"]
    )
    return Part(
        row["id"], row["pass"], row["rows"], tuple(content["columns"]), images if len(images) == row["rows"] else None
    )


def size(connection: Connection, run: Attempt) -> Size:
    """How many parts and rows the generation's journal has."""
    query = select(func.count(), func.coalesce(func.sum(journal.rows), 0)).where(_generation(run))
    parts, rows = connection.execute(query).one()
    return Size(int(parts), int(rows))


def first_pass(connection: Connection, run: Attempt) -> int | None:
    """The oldest pass that changed a row. Within a pass a row is changed at most once."""
    found = connection.execute(select(func.min(journal["pass"])).where(_generation(run))).scalar_one()
    return None if found is None else int(found)


def changed(connection: Connection, run: Attempt) -> int:
    """How many changes the ledger knows of, each of which the journal must have."""
    ledger = tables.ledger.c
    query = select(func.coalesce(func.sum(ledger.changed), 0)).where(_ledger(run), ledger["pass"] > 0)
    return int(connection.execute(query).scalar_one())


def undone_from(connection: Connection, run: Attempt) -> int | None:
    """The oldest part a rollback has dealt with: all that are newer are done too. None before the first."""
    ledger = tables.ledger.c
    query = select(func.min(ledger["range"])).where(_ledger(run), ledger["pass"] == UNDOING)
    found = connection.execute(query).scalar_one()
    return None if found is None else int(found)


def undone(connection: Connection, run: Attempt) -> int:
    """How many journalled changes a rollback has dealt with: undone, or listed."""
    ledger = tables.ledger.c
    query = select(func.coalesce(func.sum(ledger.rows_read), 0)).where(_ledger(run), ledger["pass"] == UNDOING)
    return int(connection.execute(query).scalar_one())


def restored(connection: Connection, run: Attempt) -> tuple[int, int]:
    """How many changes the parts of a rollback undid, and how many rows they listed."""
    ledger = tables.ledger.c
    sums = (func.coalesce(func.sum(each), 0) for each in (ledger.changed, ledger.held + ledger.vanished))
    changed, listed = connection.execute(select(*sums).where(_ledger(run), ledger["pass"] == UNDOING)).one()
    return int(changed), int(listed)


def delete_some(connection: Connection, environment: str, name: str, generations: int, limit: int) -> Size:
    """Delete up to `limit` parts of the generations up to this one; how much it was."""
    mine = and_(journal.environment == environment, journal.name == name, journal.generation <= generations)
    found = connection.execute(select(journal.id, journal.rows).where(mine).limit(limit)).all()
    if found:
        connection.execute(delete(tables.journal).where(journal.id.in_([row.id for row in found])))
    return Size(len(found), sum(row.rows for row in found))


def has_any(connection: Connection, environment: str, name: str, generations: int) -> bool:
    """Whether the generations up to this one have a journal."""
    mine = and_(journal.environment == environment, journal.name == name, journal.generation <= generations)
    return connection.execute(select(journal.id).where(mine).limit(1)).first() is not None


def _generation(run: Attempt) -> ColumnElement[bool]:
    return and_(journal.environment == run.environment, journal.name == run.name, journal.generation == run.generation)


def _ledger(run: Attempt) -> ColumnElement[bool]:
    ledger = tables.ledger.c
    return and_(ledger.environment == run.environment, ledger.name == run.name, ledger.generation == run.generation)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
