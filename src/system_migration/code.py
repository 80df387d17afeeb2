"""Has a migration's code changed since its run began? Answered by a checksum that ignores layout and comments."""

from __future__ import annotations

import hashlib
import inspect
import io
import sys
import tokenize
from functools import cache
from types import ModuleType
from weakref import WeakKeyDictionary

from system_migration.migration import Migration

ALGORITHM = "tokens-1"
_LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.ENCODING}
_STRUCTURE = {tokenize.NEWLINE: "\\n", tokenize.INDENT: "\\>", tokenize.DEDENT: "\\<"}
"""Where a statement or a block ends is code; with how many blanks, or in which kind of line break, is not."""


def checksum(migration: type[Migration]) -> tuple[str, str]:
    """The algorithm's name and the checksum of the module that defines the migration, and of its version.

    The name is stored beside the value, so that a later algorithm never makes old runs look changed.
    """
    made = _MADE.get(migration)
    if made is None or made[0] != migration.version:
        text = f"{migration.__qualname__}\n{migration.version}\n{_normalised_source(migration)}"
        made = _MADE[migration] = migration.version, hashlib.sha256(text.encode()).hexdigest()
    return ALGORITHM, made[1]


def with_bases(migration: type[Migration]) -> str:
    """The checksum, behind its algorithm's name, and one of the files of the classes that it inherits from.

    Not of this library's and Python's own, which are the installation and nobody's migration.
    """
    made = hashlib.sha256()
    for name, base in sorted({base.__module__: base for base in migration.__mro__}.items()):
        if name != migration.__module__ and name.partition(".")[0] not in _INSTALLED:
            made.update(f"{name}\n{_normalised_source(base)}\n".encode())
    return ":".join((*checksum(migration), made.hexdigest()))


def keep_sources(migration: type[Migration]) -> None:
    """Read the files that define it, once and for all: a deployment may replace them, and this process runs these."""
    for each in migration.__mro__:
        source(each)


_INSTALLED = sys.stdlib_module_names | {__name__.partition(".")[0]}
_MADE: WeakKeyDictionary[type[Migration], tuple[str, str]] = WeakKeyDictionary()
"""The checksum of each class, and its version: whoever looks at many migrations asks for them again and again."""


def changed(migration: type[Migration], algorithm: str | None, stored: str | None) -> bool:
    """Whether the code differs from the one a checksum was stored for. An unknown algorithm tells nothing."""
    return algorithm == ALGORITHM and stored is not None and checksum(migration)[1] != stored


def source(migration: type) -> str | None:
    """The text of the file that defines the migration, as it was when it was first asked for; None without a file."""
    module = inspect.getmodule(migration)
    try:
        return _text_of(module) if module else None
    except (OSError, TypeError):
        return None


def _normalised_source(migration: type) -> str:
    module = inspect.getmodule(migration)
    try:
        return _of_module(module) if module else normalised(inspect.getsource(migration))
    except (OSError, TypeError, tokenize.TokenError):
        return repr(sorted(vars(migration)))  # typed into an interpreter: there is no source to read


@cache
def _of_module(module: ModuleType) -> str:
    return normalised(_text_of(module))


@cache
def _text_of(module: ModuleType) -> str:
    """Read once, as the module itself was: a file that is replaced later is not the code that runs here."""
    return inspect.getsource(module)


def normalised(source: str) -> str:
    """Python code without what does not change its meaning: comments, blank lines, the width of its layout."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return "\n".join(_STRUCTURE.get(token.type, token.string) for token in tokens if token.type not in _LAYOUT)
