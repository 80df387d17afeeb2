"""The tables of a source, as far as copying rows needs to know them: names only, so that no type is too odd."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, FromClause, bindparam, column, table, tuple_
from sqlalchemy.types import NullType

from system_migration.store.tables import PREFIX

Key = tuple[Any, ...]
TableName = tuple[str | None, str]
"""Schema (None: the one that unqualified names mean) and name."""

KEYS_AT_ONCE = 500
"""How many rows one statement names."""


@dataclass(frozen=True)
class ForeignKey:
    """That these columns, unless one of them is NULL, have the values of a row of `parent`."""

    columns: tuple[str, ...]
    parent: TableName
    parent_columns: tuple[str, ...]


@dataclass(frozen=True)
class SourceTable:
    """One table. `columns` are those that are written, not generated; `key` tells its rows apart, empty if none does.

    `about` is how many rows it has, as far as is known without counting; `only` leaves out tables that inherit;
    `floats` are columns that the database shows rounded unless they are widened.
    """

    name: TableName
    columns: tuple[str, ...]
    key: tuple[str, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    about: int | None = None
    only: bool = False
    floats: frozenset[str] = frozenset()

    @property
    def clause(self) -> FromClause:
        """The table in SQL, its columns without types: what the driver reads is what it is given back."""
        names = dict.fromkeys((*self.columns, *self.key))
        return table(self.name[1], *(column(name) for name in names), schema=self.name[0])


def shown(name: TableName) -> str:
    """A table's name for people."""
    return name[1] if name[0] is None else f"{name[0]}.{name[1]}"


def is_ours(name: TableName) -> bool:
    """Whether it is a tracking table: a rehearsal keeps a record of its own."""
    return name[1].startswith(PREFIX)


def with_keys(found: Iterable[SourceTable]) -> dict[TableName, SourceTable]:
    """By name, without the tracking tables. One without a primary key gets what foreign keys refer to."""
    known = {each.name: each for each in found if not is_ours(each.name)}
    referred = {fk.parent: fk.parent_columns for each in known.values() for fk in each.foreign_keys}
    return {
        name: each if each.key or name not in referred else replace(each, key=referred[name])
        for name, each in known.items()
    }


def columns_of(source: FromClause, names: Sequence[str]) -> list[ColumnElement[Any]]:
    """Some columns of a table in SQL."""
    return [source.c[name] for name in names]


def is_one_of(columns: Sequence[ColumnElement[Any]], keys: Sequence[Key]) -> ColumnElement[bool]:
    """Whether the row has one of these values in `columns`, which are bound as the driver read them."""
    if len(columns) == 1:
        values = [key[0] for key in keys]
        return columns[0].in_(bindparam(None, values, type_=NullType(), expanding=True, unique=True))
    return tuple_(*columns, types=[NullType()] * len(columns)).in_(list(keys))


def portions(keys: Iterable[Key]) -> Iterable[list[Key]]:
    """Keys in portions that a statement can name."""
    listed = list(keys)
    return (listed[start : start + KEYS_AT_ONCE] for start in range(0, len(listed), KEYS_AT_ONCE))


Tables = Mapping[TableName, SourceTable]
