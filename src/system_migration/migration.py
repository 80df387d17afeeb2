"""The contract between the library and a migration: the imperative form, its context and its results."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

    from system_migration.schema_changes import SchemaChanges


@dataclass(frozen=True)
class MigrationResult:
    """What `up` returns. `success=False` rolls back exactly as raising does."""

    success: bool = True
    records_processed: int = 0
    error: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MigrationRollbackResult:
    """What `down` returns. `success=False` rolls back exactly as raising does."""

    success: bool = True
    records_processed: int = 0
    error: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


class Progress(Protocol):
    """Where a run reports how far it is. The command line draws it; the default ignores it."""

    def started(self, migration: str, run_id: str) -> None:
        """An attempt is on the record under this id; one that is taken over keeps the id it had.

        Not told of a start that was refused, nor of a dry run of which nothing can be recorded.
        """
        ...

    def phase(self, migration: str, phase: str) -> None:
        """A new phase begins: "preflight", "migrating", "verifying", ..."""
        ...

    def rows(self, done: int, total: int | None, held: int) -> None:
        """`done` of `total` rows are finished (total unknown: None), `held` of them held as issues."""
        ...

    def waiting(self, reason: str) -> None:
        """The run waits; the reason names what for."""
        ...


class SilentProgress:
    """A `Progress` that says nothing."""

    def started(self, migration: str, run_id: str) -> None: ...
    def phase(self, migration: str, phase: str) -> None: ...
    def rows(self, done: int, total: int | None, held: int) -> None: ...
    def waiting(self, reason: str) -> None: ...


@dataclass
class MigrationContext:
    """What a migration is handed.

    `connection` is inside the run's own transaction (a migration neither commits nor rolls back).
    `schema` offers idempotent DDL. `ask(prompt)` puts a question to the person at the terminal and returns the
    answer unseen by anyone else, or None when there is no terminal.
    """

    connection: Connection
    schema: SchemaChanges
    environment: str
    dry_run: bool
    verbose: bool
    batch_size: int | None
    log: logging.LoggerAdapter[logging.Logger]
    executed_by: str
    report: Progress = field(default_factory=SilentProgress)
    ask: Callable[[str], str | None] = lambda prompt: None
    completion: Callable[[str], datetime | None] = lambda name: None

    def completed_at(self, name: str) -> datetime | None:
        """When another migration's last run ended, in UTC; None unless it is COMPLETED in this environment."""
        return self.completion(name)

    def progress(self, done: int, total: int | None = None) -> None:
        """Tell whoever watches that `done` of `total` records are finished."""
        self.report.rows(done, total, 0)


class Migration:
    """A named one-time change, written as code that runs in one transaction with its own record.

    `up` runs at most once in a generation: once its transaction has committed, only verification follows.
    With `transactional = False` the library opens no transaction, and `applied(context)` must tell, after a crash,
    whether the work was done. Without `verify` a migration completes with `verified: false`.
    `deterministic = False` says that the same rows may become other values each time, as salted hashes do: a rehearsal
    then judges by verification alone.
    `requires_schema` names the Alembic revision without which it does not start.
    """

    name: ClassVar[str]
    version: ClassVar[str] = "1.0.0"
    description: ClassVar[str] = ""
    rollbackable: ClassVar[bool] = False
    requires: ClassVar[tuple[str, ...]] = ()
    requires_schema: ClassVar[str | None] = None
    manual: ClassVar[bool] = False
    blocks_startup: ClassVar[bool] = False
    transactional: ClassVar[bool] = True
    deterministic: ClassVar[bool] = True

    def preflight(self, context: MigrationContext) -> Awaitable[None] | None:
        """Raise `Refused` when the migration must not start. It may read, never write."""
        return None

    def up(self, context: MigrationContext) -> MigrationResult | Awaitable[MigrationResult]:
        """Do the work. Raising, or `success=False`, undoes it."""
        raise NotImplementedError

    def verify(self, context: MigrationContext) -> bool | Awaitable[bool]:
        """Check the work on a fresh connection, by other means than `up` used."""
        raise NotImplementedError

    def down(self, context: MigrationContext) -> MigrationRollbackResult | Awaitable[MigrationRollbackResult]:
        """Undo the work. Raising, or `success=False`, leaves it done."""
        raise NotImplementedError

    def applied(self, context: MigrationContext) -> bool | Awaitable[bool]:
        """Tell whether the work of a non-transactional `up` is done."""
        raise NotImplementedError

    @classmethod
    def defines(cls, *methods: str) -> bool:
        """Whether the class brings its own version of any of these methods."""
        return any(_defining_class(cls, method).__module__.split(".")[0] != _LIBRARY for method in methods)


_LIBRARY = __name__.split(".")[0]


def _defining_class(cls: type, method: str) -> type:
    return next((base for base in cls.__mro__ if method in vars(base)), Migration)
