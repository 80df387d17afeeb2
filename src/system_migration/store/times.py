"""Database time: the only clock that leases, records and audits use."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Dialect
from sqlalchemy.dialects.mysql import DATETIME
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC with microseconds, aware in Python whatever the database keeps."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None or dialect.name == "postgresql":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class after(FunctionElement[datetime]):  # noqa: N801  (an SQL function, spelled like one)
    """The database's clock, plus `seconds`: the time of the statement, not of its transaction."""

    type = UtcDateTime()
    inherit_cache = True


def now() -> after:
    """The database's clock."""
    return after(0.0)


@compiles(after, "postgresql")
def _postgresql(element: Any, compiler: Any, **kw: Any) -> str:
    return f"(clock_timestamp() + make_interval(secs => {compiler.process(element.clauses, **kw)}))"


@compiles(after, "mysql")
@compiles(after, "mariadb")
def _mariadb(element: Any, compiler: Any, **kw: Any) -> str:
    # UTC_TIMESTAMP has no hour that happens twice, unlike the session's local time at the end of summer.
    return f"TIMESTAMPADD(MICROSECOND, 1000000 * {compiler.process(element.clauses, **kw)}, UTC_TIMESTAMP(6))"


@compiles(after, "sqlite")
def _sqlite(element: Any, compiler: Any, **kw: Any) -> str:
    seconds = compiler.process(element.clauses, **kw)
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', {seconds} || ' seconds')"
