"""The only module that prints: results on stdout, notices on stderr.

A reader that goes away (`migration logs ... | head`) never changes what a command does or its exit code. Imports
nothing heavy, because `migration --help` prints through it too.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys

from system_migration.wording import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from typing import Any, TextIO


def accept_any_text() -> None:
    """Let stdout spell what its encoding lacks as an escape instead of failing."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], right: Collection[int] = ()) -> list[str]:
    """Aligned columns; those in `right` are aligned to the right."""
    cells = [list(headings), *([shown(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def lines(texts: Iterable[str]) -> None:
    """Print result lines, already escaped where they carry foreign text, on stdout."""
    _write(sys.stdout, "".join(f"{text}\n" for text in texts))


def printer() -> Callable[[str], None]:
    """What prints a result line on what is stdout now, whatever stands in for it later.

    For results that are too many to be kept until the migrator is closed.
    """
    stream = sys.stdout
    return lambda text: _write(stream, f"{text}\n")


def document(value: Any) -> None:
    """Print one JSON document on stdout, in ASCII, so that no terminal interprets what is in it."""
    import json

    _write(sys.stdout, json.dumps(_plain(value), indent=2, allow_nan=False) + "\n")


def notice(text: str) -> None:
    """Print a line for the person who watches, on stderr."""
    with contextlib.suppress(OSError):  # the terminal is gone; the work is not
        _write(sys.stderr, text + "\n")


def _write(stream: TextIO | None, text: str) -> None:
    if stream is None:  # started with the stream closed
        return
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        _discard_from_now_on(stream)


def _discard_from_now_on(stream: TextIO) -> None:
    """Point the stream at nothing: else the interpreter complains when it flushes it at the end."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, stream.fileno())
    os.close(nothing)


def _plain(value: Any) -> Any:
    """A value that JSON can hold: a key or a sample may be of any type a database has."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and value - value == 0:  # neither infinite nor NaN
        return value
    return str(value)
