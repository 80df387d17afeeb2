"""The rows of one statement as PyMySQL would write them one value at a time, at a fraction of the price.

They travel as a single parameter, so that statement, log and error show a placeholder where the values go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

_SEPARATOR = "\x1f"


class Literals:
    """Columns that the driver writes into a statement as `(1,'a'),(2,'b')`. Its repr, on purpose, shows no value."""

    def __init__(self, columns: Sequence[Sequence[Any]], driver: Any) -> None:
        """For a statement of this PyMySQL connection, which learns here what to make of such a parameter."""
        self._columns = columns
        self._escape: Callable[[Any], str] = driver.escape
        driver.encoders.setdefault(Literals, lambda literals, mapping=None: literals.written())

    def written(self) -> str:
        """The rows. Raises what the driver raises for a value that it does not take, a NaN for instance."""
        row = "(" + ",".join(["%s"] * len(self._columns)) + ")"
        columns = [_written(column, self._escape) for column in self._columns]
        return ",".join(map(row.__mod__, zip(*columns, strict=True)))


def _written(values: Sequence[Any], escape: Callable[[Any], str]) -> Sequence[str]:
    """The driver's own literals of the values of a column."""
    kinds = set(map(type, values))
    if kinds == {int}:
        return list(map(str, values))
    if kinds == {str}:
        return _texts(values, escape)
    if kinds == {str, type(None)}:
        texts = iter(_texts([value for value in values if value is not None], escape))
        return ["NULL" if value is None else next(texts) for value in values]
    return list(map(escape, values))


def _texts(texts: Sequence[str], escape: Callable[[Any], str]) -> Sequence[str]:
    """All of them escaped at once: the driver replaces character by character, and leaves the separator alone."""
    joined = _SEPARATOR.join(texts)
    if joined.count(_SEPARATOR) != len(texts) - 1:
        return list(map(escape, texts))
    return escape(joined).replace(_SEPARATOR, f"'{_SEPARATOR}'").split(_SEPARATOR)
