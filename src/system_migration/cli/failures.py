"""What is said about an error: an exit code, a short word for programs, and a sentence without secrets."""

from __future__ import annotations

import os
import re
import sys
import sysconfig
import traceback
from typing import Any

from system_migration.cli.exit_codes import FAILED, exit_code
from system_migration.errors import MigrationSystemError

_DRIVERS = ("sqlite3", "psycopg", "pymysql")


def describe(error: BaseException) -> tuple[int, str, str]:
    """Exit code, slug and sentence for whatever ended a command.

    Only our own errors are quoted: the text of any other may carry a row's values or a password.
    """
    if isinstance(error, MigrationSystemError):
        return exit_code(error), slug(error), without_passwords(str(error))
    if _is_database_error(error):
        return FAILED, "database", _database_sentence(error)
    return FAILED, "unexpected", _unexpected_sentence(error)


def as_document(error: MigrationSystemError) -> dict[str, str]:
    """The error as it stands in a JSON document."""
    return {"code": slug(error), "message": without_passwords(str(error))}


def slug(error: BaseException) -> str:
    """The class's name as one word for programs: `HeldElsewhere` is `held-elsewhere`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", type(error).__name__).lower()


def without_passwords(text: str) -> str:
    """The text with the user and password of any URL in it masked."""
    return re.sub(r"://\S*@", "://***@", text)  # up to the last @: a password may hold a slash


def _is_database_error(error: BaseException) -> bool:
    from_sqlalchemy = "sqlalchemy.exc" in sys.modules and isinstance(
        error, sys.modules["sqlalchemy.exc"].SQLAlchemyError
    )
    return from_sqlalchemy or type(error).__module__.split(".")[0] in _DRIVERS


def _database_sentence(error: Any) -> str:
    cause = getattr(error, "orig", None) or error
    code = _driver_code(cause)
    detail = f"{type(cause).__name__}, {code}" if code else type(cause).__name__
    if getattr(error, "statement", "none") is None and type(error).__name__ == "OperationalError":
        what, then = "The database could not be reached", "Check --database-url and that the server runs"
    else:
        what, then = "The database answered with an error", "See `migration status` for where things stand"
    return f"{what} ({detail}). {then}; `migration doctor` looks closer."


def _driver_code(cause: Any) -> str | None:
    if state := getattr(cause, "sqlstate", None):
        return f"SQLSTATE {state}"
    if name := getattr(cause, "sqlite_errorname", None):
        return str(name)
    if cause.args and isinstance(cause.args[0], int):
        return f"error {cause.args[0]}"
    return None


def _unexpected_sentence(error: BaseException) -> str:
    return (
        f"Unexpected {type(error).__name__} at {_location(error)}. Its text is withheld, as it may carry data. "
        "`migration status` shows where things stand."
    )


def _location(error: BaseException) -> str:
    """The deepest line of code that is neither Python's own nor an installed package's."""
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    foreign = tuple(sysconfig.get_paths()[kind] for kind in ("stdlib", "purelib", "platlib"))
    own = [frame for frame in frames if not frame[0].startswith((*foreign, "<"))]
    file, line = (own or frames or [("an unknown place", 0)])[-1]
    here = os.getcwd() + os.sep
    return f"{file.removeprefix(here)}:{line}"
