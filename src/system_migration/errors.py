"""Everything that can go wrong, as a tree a caller can catch at the width it needs.

    MigrationSystemError
    ├── ConfigurationError      a setting, a command or a name is wrong
    │   ├── LoadError           migration files that do not load or contradict each other
    │   ├── UnknownMigration    a name that no migration file carries
    │   ├── UnknownRun          an id that no recorded run has
    │   ├── AuditKeyError       the key of the audit chain is missing, or another one
    │   ├── InvalidKey          a first or last key that no row of the table can have
    │   └── UnreadableKey       a text that can be the key of none of the held rows
    ├── Refused                 the start was refused; the data is as it was
    │   ├── NotHeld             ... because a row to be retried is not held
    │   ├── NotApproved         ... because nobody else approved it as it would run
    │   ├── WaitsForSchema      ... because a schema revision is not applied yet
    │   └── ChangedMeanwhile    ... because the migration is no longer as whoever acts has seen it
    ├── HeldElsewhere           another runner holds the lease
    │   └── LeaseLost           ... and took it from us: nothing more was written
    ├── MigrationFailed         work began and failed; what was committed is recorded
    │   ├── Paused              the run stopped itself, or was asked to, and waits for a person
    │   ├── Cancelled           an operator ended the run; only a start by name continues it
    │   └── VerificationFailed
    └── Interrupted             a clean stop at a batch edge, resumable
        └── Withdrawn           somebody ended a dry run or a verification

A message is one sentence or two: the thing, the reason, the next step. It never carries a secret or a row's values.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence

RUN_ENDED = "run.ended"
"""The `action` of the log record that tells why a run ended early. Whoever called learns the same by an exception."""


EXIT_NOT_YET = 75
"""`EX_TEMPFAIL`, with which a process exits that must not serve yet when its deadline passes. Start it again."""


class MigrationSystemError(Exception):
    """The base of every error this library raises on purpose.

    `reports` are those of the migrations that the same call had already finished.
    """

    reports: Sequence[object] = ()


class ConfigurationError(MigrationSystemError):
    """A setting, a command or a name is wrong; nothing was started."""


class LoadError(ConfigurationError):
    """One or more migration files do not load, or contradict each other."""


class UnknownMigration(ConfigurationError):
    """No migration has this name."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        self.name = name
        listing = ", ".join(known) if known else "none were found"
        super().__init__(f"There is no migration named {name!r}. Known migrations: {listing}.")


class UnknownRun(ConfigurationError):
    """No run has this id in this environment."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__("No run has this id in this environment. `migration history` lists the runs.")


class AuditKeyError(ConfigurationError):
    """The audit chain cannot be judged: its key is missing, or another one."""


class InvalidKey(ConfigurationError):
    """A first or last key that cannot be one of the table; nothing was started. `option` is a field of `RunOptions`."""

    def __init__(self, option: str, table: str, reason: str) -> None:
        self.option, self.table, self.reason = option, table, reason
        flag = option.replace("_", "-")
        super().__init__(f"--{flag} cannot be read as a key of table {table!r}: {reason}.")


class UnreadableKey(ConfigurationError):
    """A text that cannot be the key of a held row."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"--key cannot be a key of {name}: its held rows have keys of another kind.")


class Refused(MigrationSystemError):
    """The start was refused before any write to the data."""


class NotHeld(Refused):
    """Rows that were to be retried are not held. `first` is the key of the first of these `rows`, as it was given."""

    def __init__(self, name: str, rows: int, of: int, first: str) -> None:
        self.name, self.rows, self.of, self.first = name, rows, of, first
        super().__init__(f"{self.count}, the first of them {first!r}. {self.next_step}")

    @property
    def count(self) -> str:
        """How many, in words."""
        verb = "is" if self.rows == 1 else "are"
        return f"Migration {self.name} was to retry {self.of:,} rows, of which {self.rows:,} {verb} not held"

    @property
    def next_step(self) -> str:
        """What to do."""
        return f"Nothing was tried; `migration issues {self.name}` lists the held ones."


class NotApproved(Refused):
    """A run needs the approval of another developer, and has none that fits it; nothing was started."""

    def __init__(self, name: str, reason: str, next_step: str) -> None:
        self.name, self.reason = name, reason
        super().__init__(f"Migration {name} is not approved for this start: {reason}. {next_step}")


class WaitsForSchema(Refused):
    """The schema revision that a migration requires is not applied. `reason` says which, and where the database is."""

    def __init__(self, name: str, reason: str) -> None:
        self.name, self.reason = name, reason
        super().__init__(f"Migration {name} waits for {reason}. Run `alembic upgrade`, then start it again.")


class ChangedMeanwhile(Refused):
    """Somebody acted on the migration since the actor looked at it, so nothing was done in the actor's name.

    `happened` is a sentence that says where it stands, and who did what when.
    """

    def __init__(self, name: str, happened: str) -> None:
        self.name, self.happened = name, happened
        super().__init__(f"{happened} Look at it, then decide again.")


class HeldElsewhere(MigrationSystemError):
    """Another runner holds the lease of a migration. `sentence` says so; the message has the next step with it."""

    def __init__(self, name: str, held_by: str) -> None:
        self.name, self.held_by, self.sentence = name, held_by, f"Migration {name} is being run by {held_by}."
        super().__init__(f"{self.sentence} Wait for it, or start with --wait to continue after it.")

    @staticmethod
    def on_older_tables(name: str, held_by: str, pausable: bool) -> HeldElsewhere:
        """Where nothing can be written until the run of an older program has ended, not even a request to it."""
        held = HeldElsewhere(name, held_by)
        end = f"pause it with the older program's `migration pause {name}`" if pausable else "stop its process"
        held.sentence = (
            f"Migration {name} is being run by {held_by} on an older program's tracking tables, which this one cannot "
            f"upgrade until that run ends: wait for it, or {end}."
        )
        held.args = (held.sentence,)
        return held


class LeaseLost(HeldElsewhere):
    """This runner no longer holds the lease; its open batch was rolled back."""

    def __init__(self, name: str, reason: str) -> None:
        self.name, self.held_by = name, "another runner"
        self.sentence = f"Migration {name} is being run by another runner."
        MigrationSystemError.__init__(
            self,
            f"This runner lost its lease on {name} ({reason}); its open batch was rolled back and nothing "
            f"more was written. See `migration status`.",
        )


class MigrationFailed(MigrationSystemError):
    """A run began and failed; the reason is stored with the run."""

    def __init__(self, name: str, reason: str) -> None:
        self.name, self.reason = name, reason
        super().__init__(f"Migration {name} failed: {reason}")


class Paused(MigrationFailed):
    """The run stopped itself because going on needs a decision, or because an operator asked for it."""

    def __init__(self, name: str, reason: str, next_step: str = "") -> None:
        self.name, self.reason = name, reason
        MigrationSystemError.__init__(self, f"Migration {name} paused: {reason} {next_step}".rstrip())


class Cancelled(MigrationFailed):
    """An operator ended the run. What was committed stays, and is recorded."""

    def __init__(self, name: str, by: str) -> None:
        self.name, self.by = name, by
        self.reason = (
            f"cancelled by {by}. What is committed stays; `migration run {name}` continues, nothing else starts it."
        )
        MigrationSystemError.__init__(self, f"Migration {name} was {self.reason}")


class VerificationFailed(MigrationFailed):
    """The separate check on a fresh connection did not hold."""

    def __init__(self, name: str, reason: str) -> None:
        self.name, self.reason = name, reason
        MigrationSystemError.__init__(self, f"Migration {name} did not verify: {reason}")


class Interrupted(MigrationSystemError):
    """A signal asked for a stop; the run ended at a clean checkpoint and can be resumed."""

    def __init__(self, signal_number: int) -> None:
        self.signal_number = signal_number
        name = signal.Signals(signal_number).name
        super().__init__(f"Stopped by {name} at a clean checkpoint. Start it again to continue where it stopped.")


class Withdrawn(Interrupted):
    """Somebody ended what only looks; nothing was changed by it."""

    def __init__(self, by: str) -> None:
        self.by, self.signal_number = by, int(signal.SIGTERM)
        MigrationSystemError.__init__(self, f"Cancelled by {by} before its end. It changed nothing; start it anew.")
