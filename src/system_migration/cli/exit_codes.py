"""The one table from error to exit code."""

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
FAILED = 1
USAGE = 2
WORK_PENDING = 3
HELD = 4
REFUSED = 5
NOT_YET = EXIT_NOT_YET
SIGNAL = 128

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
