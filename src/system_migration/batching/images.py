"""Images of rows: read, compared, put into the journal, and written back. Each function is inside of a transaction.

A column whose values the driver decodes with a loss has an exact form beside it (see `Target`). What tells such values
apart is also what brings them back: the exact form is bound as the database wrote it, untyped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, update
from sqlalchemy.types import TypeEngine

from system_migration.batching.keys import Key
from system_migration.batching.target import OWN_NAMES, Target
from system_migration.batching.writes import same
from system_migration.errors import MigrationSystemError
from system_migration.store import journal
from system_migration.store.dialects import Dialect
from system_migration.store.journal import Image
from system_migration.store.runs import Attempt

Values = tuple[Any, ...]


class _AsItIs(TypeEngine[Any]):
    """Bound as it is. SQLAlchemy's own NullType would take on the column's type, and with it the loss."""

    cache_ok = True


def of_rows(target: Target, rows: Iterable[Sequence[Any]]) -> dict[Key, Values]:
    """The images of rows that were read, for those whose guard has found them unchanged."""
    return {target.key_of(row): target.image(row) for row in rows}


def read(connection: Connection, target: Target, keys: Sequence[Key], lock: Dialect | None = None) -> dict[Key, Values]:
    """The images of named rows as they are now; with `lock`, locked in key order until the transaction ends."""
    found: dict[Key, Values] = {}
    for some in target.portions(keys):
        query = target.images_by_key(some)
        for row in connection.execute(lock.lock_rows(query) if lock else query):
            found[tuple(row[: len(target.key)])] = tuple(row[len(target.key) :])
    return found


def keep(
    connection: Connection,
    run: Attempt,
    target: Target,
    pass_number: int,
    range_number: int,
    before: Mapping[Key, Values],
) -> None:
    """Journal rows that were just written: `before` is what they were, what they are now is read from the database."""
    after = read(connection, target, list(before))
    images = [Image(key, values, after[key]) for key, values in before.items()]
    journal.record(connection, run, pass_number, range_number, target.writes, images)


def write_back(connection: Connection, target: Target, images: Sequence[Image]) -> None:
    """Make locked rows again what they were before, and look that they are."""
    if not images:
        return
    matched = _write_exactly(connection, target, images) if target.exact_writes else _write(connection, target, images)
    restored = read(connection, target, [image.key for image in images])
    wrong = [image for image in images if image.key not in restored or not same(restored[image.key], image.before)]
    if matched != len(images) or wrong:
        raise MigrationSystemError(
            f"{len(images)} rows of {target.physical.name!r} were to be restored, but {len(wrong)} of them are not "
            f"what they were, and {matched} were written; the transaction was rolled back. Look for a "
            "trigger or rule that changes updates of this table."
        )


def _write(connection: Connection, target: Target, images: Sequence[Image]) -> int:
    """In key order, as the writer wants them: an image's place in the journal says nothing about its key."""
    by_key, matched = {image.key: image.before for image in images}, 0
    for some in target.portions(list(by_key)):
        ordered = list(read(connection, target, some))
        values = list(zip(*(by_key[key] for key in ordered), strict=True))
        matched += target.writer.write(connection, ordered, values).matched
    return matched


def _write_exactly(connection: Connection, target: Target, images: Sequence[Image]) -> int:
    exact = target.exact_writes
    statement = (
        update(target.physical)
        .where(target.writer.is_key())
        .values({target.physical.c[name]: _parameter(name, untyped=name in exact) for name in target.writes})
    )
    parameters = [
        {f"{OWN_NAMES}key_{index}": part for index, part in enumerate(image.key)}
        | {f"{OWN_NAMES}old_{name}": value for name, value in _bound(target, image.before).items()}
        for image in images
    ]
    return connection.execute(statement, parameters).rowcount


def _parameter(name: str, *, untyped: bool) -> Any:
    return bindparam(f"{OWN_NAMES}old_{name}", type_=_AsItIs() if untyped else None)


def _bound(target: Target, image: Values) -> dict[str, Any]:
    width = len(target.writes)
    values = dict(zip(target.writes, image[:width], strict=True))
    return values | dict(zip(target.exact_writes, image[width:], strict=True))
