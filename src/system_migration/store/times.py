"""Database time: the only clock that leases, records and audits use."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from system_migration.store.types import UtcDateTime


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
