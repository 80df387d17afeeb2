"""The one table from error to exit code. The sentence under each code is what the reference says about it."""

from __future__ import annotations

from system_migration.errors import (
    EXIT_NOT_YET,
    ConfigurationError,
    HeldElsewhere,
    Interrupted,
    MigrationFailed,
    MigrationSystemError,
    Refused,
)

DONE = 0
"""Done, or nothing to do; also when a part of the keys, or a retry, is done and other rows are left (PAUSED)."""
FAILED = 1
"""Failed, paused or cancelled; the reason is in `migration show NAME`."""
USAGE = 2
"""Usage or configuration; nothing was started."""
WORK_PENDING = 3
"""Work is pending (`migration status --check`)."""
HELD = 4
"""Another runner holds the migration; `--wait` waits instead."""
REFUSED = 5
"""Refused before any write to the data; also where a row named by `--key` is not held, or where another one acted in
the same moment."""
NOT_YET = EXIT_NOT_YET
"""`migration startup`: the deadline passed and the application must not serve yet; start it again."""
SIGNAL = 128
"""Plus the number of the signal, 130 for Ctrl-C and 143 for SIGTERM: stopped at a clean checkpoint; run it again to go
on."""

EXIT_CODES: dict[type[BaseException], int] = {
    MigrationSystemError: FAILED,
    MigrationFailed: FAILED,
    ConfigurationError: USAGE,
    HeldElsewhere: HELD,
    Refused: REFUSED,
    Interrupted: SIGNAL,  # plus the number of the signal: 130 for Ctrl-C, 143 for SIGTERM
}
"""The nearest class that an error has in this table decides; any other exception is a failure."""


def exit_code(error: BaseException) -> int:
    """The exit code for an error that ended a command."""
    code = next((EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES), FAILED)
    return code + error.signal_number if isinstance(error, Interrupted) else code
