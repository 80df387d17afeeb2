"""What a database tells about a table, about a query's plan and about its own load. Everything here only reads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ClauseElement, Connection, Executable, Select, Table
from sqlalchemy.ext.compiler import compiles


@dataclass(frozen=True)
class Trigger:
    """A trigger or rule that an UPDATE of the written columns sets off. `instead`: it replaces the UPDATE."""

    name: str
    instead: bool = False


class Inspection(ABC):
    """One database product, looked at before and while it is worked on."""

    def not_a_table(self, connection: Connection, name: str, schema: str | None) -> str | None:
        """Why batches cannot be written to what has this name, as "is a view"; None for a table that they can."""
        return None

    @abstractmethod
    def sorts(self, connection: Connection, query: Select[Any]) -> bool:
        """Whether the rows of an ordered query would be sorted, and not come from an index in that order."""

    def hides_rows(self, connection: Connection, table: Table) -> bool:
        """Whether the database shows this role a part of the rows only."""
        return False

    def missing_rights(
        self, connection: Connection, table: Table, reads: Sequence[str], writes: Sequence[str]
    ) -> list[str]:
        """The rights this role lacks, each as "SELECT on column y"."""
        return []

    def missing_table_rights(
        self, connection: Connection, added_to: Sequence[Table], changed: Sequence[Table]
    ) -> list[str]:
        """The rights that this role lacks to add rows to tables and to change them, each as "UPDATE on table x"."""
        return []

    @abstractmethod
    def update_triggers(self, connection: Connection, table: Table, writes: Sequence[str]) -> list[Trigger]:
        """What else happens when the columns are written, as far as this role may know."""

    def replication_lag(self, connection: Connection) -> float | None:
        """Seconds that the replicas are behind, infinite where one stands still; None where nothing is known."""
        return None

    def active_sessions(self, connection: Connection) -> int | None:
        """How many other sessions of the server are at work now; None where there is no such thing."""
        return None


class Explain(Executable, ClauseElement):
    """A query with EXPLAIN before it, the values bound as in the query itself."""

    inherit_cache = False

    def __init__(self, keyword: str, query: ClauseElement) -> None:
        self.keyword, self.query = keyword, query


@compiles(Explain)
def _explain(element: Explain, compiler: Any, **options: Any) -> str:
    return f"{element.keyword} {compiler.process(element.query, **options)}"
