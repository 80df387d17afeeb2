"""A page of rows as one text, which the server writes and Python's JSON reader takes apart, both of them in C.

PyMySQL reads a result row by row in Python, and that is what limits a fast migration. So the page is made a derived
table, and its values are concatenated in one aggregate: a row is whole by construction. Nothing else is taken on trust:
an answer that was cut, that has a value too few or whose keys do not ascend is no answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from operator import lt
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, String, case, func, literal_column
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.type_api import TypeEngine

_INTEGERS = {mysql.TINYINT, mysql.SMALLINT, mysql.MEDIUMINT, mysql.INTEGER, mysql.BIGINT}
_TEXTS = {mysql.CHAR, mysql.VARCHAR, mysql.TINYTEXT, mysql.TEXT, mysql.MEDIUMTEXT, mysql.LONGTEXT}
_OWN = "system_migration_"
_LONGEST = 1 << 30
"""As many bytes as `max_allowed_packet` can allow; that limit stays."""

_NULL, _COMMA = literal_column("'null'", String), literal_column("','", String)


class _Roomy(Select[Any]):
    """A SELECT whose aggregates may become long: for this statement alone, so that no session remembers it."""

    inherit_cache = True


@compiles(_Roomy)
def _with_room(query: _Roomy, compiler: Any, **options: Any) -> str:
    return f"SET STATEMENT group_concat_max_len = {_LONGEST} FOR {compiler.visit_select(query, **options)}"


def is_integer(stored: TypeEngine[Any]) -> bool:
    """Whether the values of such a column are written as JSON's integers; those filled up with zeros are not."""
    return type(stored) in _INTEGERS and not getattr(stored, "zerofill", False)


def can_gather(stored: TypeEngine[Any]) -> bool:
    """Whether the values of such a column arrive as the driver would read them: proven by a test for each type."""
    return is_integer(stored) or type(stored) in _TEXTS


def gather(
    connection: Connection, query: Select[Any], columns: Sequence[tuple[ColumnElement[Any], TypeEngine[Any]]], keys: int
) -> list[tuple[Any, ...]] | None:
    """The rows of a `query` for these columns, given with their stored types; the first `keys` of them are the key.

    None when the answer cannot be trusted: ask the plain query then.
    """
    if not _decodes_as_usual(connection.connection.driver_connection):
        return None
    result = connection.execute(_gathering(query, columns))
    cut = result.cursor.warning_count > 0
    ((count, text),) = result.cursor.fetchall()  # not through the result, which would log the row where it logs rows
    result.close()
    return None if cut else unpacked(text or "", count, len(columns), keys)


def _decodes_as_usual(driver: Any) -> bool:
    """Whether this PyMySQL connection has not been told to read text or numbers in a way of its own."""
    from pymysql.converters import decoders  # an extra: imported where MariaDB is in use

    return bool(driver.encoding == "utf8" and driver.decoders == decoders)


def _gathering(query: Select[Any], columns: Sequence[tuple[ColumnElement[Any], TypeEngine[Any]]]) -> Select[Any]:
    named = [column.label(f"{_OWN}{number}") for number, (column, _) in enumerate(columns)]
    page = query.with_only_columns(*named).subquery(_OWN + "page")
    values: list[ColumnElement[Any]] = []
    for column, (_, stored) in zip(page.c, columns, strict=True):
        # JSON_QUOTE, because JSON_ARRAY would take the text of a JSON column for the JSON that it is. It makes NULL of
        # a text that it cannot convert: then the row is left out of the aggregate, and missed.
        value = column if is_integer(stored) else func.json_quote(column)
        values += [case((column.is_(None), _NULL), else_=value), _COMMA]
    return _Roomy(func.count(), func.group_concat(*values[:-1])).select_from(page)


def unpacked(text: str, count: int, width: int, keys: int) -> list[tuple[Any, ...]] | None:
    """The rows that a text like `1,"a",2,"b"` holds, if it holds them all, whole and in the order of their keys."""
    try:
        flat = json.loads(f"[{text}]")
    except ValueError:
        return None
    if len(flat) != count * width:
        return None
    columns = [flat[start::width] for start in range(width)]
    return list(zip(*columns, strict=True)) if _ascends(columns[:keys]) else None


def _ascends(key: Sequence[Sequence[int]]) -> bool:
    """Whether the keys are in order, each once. They are integers, which Python orders as the database does."""
    whole: Iterable[Any] = key[0] if len(key) == 1 else zip(*key, strict=True)
    ordered = list(whole)
    return all(map(lt, ordered, ordered[1:]))
