"""Has a migration's code changed since its run began? Answered by a checksum that ignores layout and comments."""

from __future__ import annotations

import hashlib
import inspect
import io
import tokenize

from system_migration.migration import Migration

ALGORITHM = "tokens-1"
_LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING}


def checksum(migration: type[Migration]) -> tuple[str, str]:
    """The algorithm's name and the checksum of the module that defines the migration, and of its version.

    The name is stored beside the value, so that a later algorithm never makes old runs look changed.
    """
    text = f"{migration.__qualname__}\n{migration.version}\n{_normalised_source(migration)}"
    return ALGORITHM, hashlib.sha256(text.encode()).hexdigest()


def changed(migration: type[Migration], algorithm: str | None, stored: str | None) -> bool:
    """Whether the code differs from the one a checksum was stored for. An unknown algorithm tells nothing."""
    return algorithm == ALGORITHM and stored is not None and checksum(migration)[1] != stored


def _normalised_source(migration: type[Migration]) -> str:
    try:
        source = inspect.getsource(inspect.getmodule(migration) or migration)
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        return "\n".join(token.string for token in tokens if token.type not in _LAYOUT)
    except (OSError, TypeError, tokenize.TokenError):
        return repr(sorted(vars(migration)))  # typed into an interpreter: there is no source to read
