"""PostgreSQL's catalogue, its plans and its activity."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Select, Table, text

from system_migration.errors import ConfigurationError
from system_migration.store.dialects.inspection import Explain, Inspection, Trigger

_NOT_TABLES = {"v": "is a view", "m": "is a materialized view", "f": "is a foreign table", "S": "is a sequence"}


class PostgreSQLInspection(Inspection):
    """Names are resolved by the server, along its search_path, as for the queries themselves."""

    def not_a_table(self, connection: Connection, name: str, schema: str | None) -> str | None:
        kind = connection.execute(
            text("SELECT relkind FROM pg_class WHERE oid = to_regclass(:name)"),
            {"name": _quoted(connection, name, schema)},
        ).scalar_one_or_none()
        return _NOT_TABLES.get(kind) if kind else None

    def sorts(self, connection: Connection, query: Select[Any]) -> bool:
        (plan,) = connection.execute(Explain("EXPLAIN (FORMAT JSON)", query)).scalar_one()
        return any("Sort" in node for node in _nodes(plan))

    def hides_rows(self, connection: Connection, table: Table) -> bool:
        return bool(connection.execute(text("SELECT row_security_active(:name)"), _named(connection, table)).scalar())

    def missing_rights(
        self, connection: Connection, table: Table, reads: Sequence[str], writes: Sequence[str]
    ) -> list[str]:
        columns = [*reads, *writes]
        wanted = ["SELECT"] * len(reads) + ["UPDATE"] * len(writes)
        found = connection.execute(
            text(_MISSING_COLUMN_RIGHTS), {**_named(connection, table), "columns": columns, "wanted": wanted}
        )
        return [f"{right} on column {column}" for right, column in found]

    def missing_table_rights(
        self, connection: Connection, added_to: Sequence[Table], changed: Sequence[Table]
    ) -> list[str]:
        names = [table.name for table in (*added_to, *changed)]
        wanted = ["INSERT"] * len(added_to) + ["UPDATE"] * len(changed)
        found = connection.execute(text(_MISSING_TABLE_RIGHTS), {"names": names, "wanted": wanted})
        return [f"{right} on {name}" for right, name in found]

    def update_triggers(self, connection: Connection, table: Table, writes: Sequence[str]) -> list[Trigger]:
        found = connection.execute(text(_UPDATE_TRIGGERS), {**_named(connection, table), "writes": list(writes)})
        return [Trigger(name, instead) for name, instead in found]

    def replication_lag(self, connection: Connection) -> float | None:
        _check_sees_others(connection)
        lag = connection.execute(text("SELECT extract(epoch FROM max(replay_lag)) FROM pg_stat_replication"))
        seconds = lag.scalar_one()  # NULL without a replica, and while all of them have caught up
        return None if seconds is None else float(seconds)

    def active_sessions(self, connection: Connection) -> int | None:
        _check_sees_others(connection)
        return int(connection.execute(text(_ACTIVE)).scalar_one())


_MISSING_COLUMN_RIGHTS = """
SELECT wanted, col FROM unnest(CAST(:wanted AS text[]), CAST(:columns AS text[])) WITH ORDINALITY t(wanted, col, place)
 WHERE NOT has_column_privilege(CAST(:name AS regclass), col, wanted)
 ORDER BY place
"""

# A column that numbers itself (serial) takes from a sequence, which has rights of its own.
_MISSING_TABLE_RIGHTS = """
SELECT wanted, 'table ' || name FROM unnest(CAST(:wanted AS text[]), CAST(:names AS text[])) AS t(wanted, name)
 WHERE to_regclass(name) IS NOT NULL AND NOT has_table_privilege(name, wanted)
UNION ALL
SELECT DISTINCT 'USAGE', 'sequence ' || sequence.relname FROM unnest(CAST(:names AS text[])) name
  JOIN pg_depend ON refobjid = to_regclass(name) AND deptype = 'a'
  JOIN pg_class sequence ON sequence.oid = objid
 WHERE CASE WHEN sequence.relkind = 'S' THEN NOT has_sequence_privilege(sequence.oid, 'USAGE') END
 ORDER BY 2, 1
"""

# tgtype: bit 16 says UPDATE; tgattr: the columns of UPDATE OF, empty for all; ev_type 2: a rule for UPDATE.
_UPDATE_TRIGGERS = """
SELECT tgname, false FROM pg_trigger
 WHERE tgrelid = CAST(:name AS regclass) AND NOT tgisinternal AND tgenabled <> 'D' AND tgtype & 16 <> 0
   AND (tgattr = '' OR EXISTS (SELECT FROM pg_attribute WHERE attrelid = tgrelid AND attnum = ANY (tgattr)
                                  AND attname = ANY (:writes)))
UNION ALL
SELECT rulename, is_instead FROM pg_rewrite
 WHERE ev_class = CAST(:name AS regclass) AND ev_type = '2' AND ev_enabled <> 'D'
 ORDER BY 1
"""

_ACTIVE = """
SELECT count(*) FROM pg_stat_activity
 WHERE state = 'active' AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


def _check_sees_others(connection: Connection) -> None:
    """Without the right, other roles' sessions look idle and replicas look fast: better to know nothing."""
    if not connection.execute(text("SELECT pg_has_role('pg_read_all_stats', 'USAGE')")).scalar_one():
        raise ConfigurationError(
            "The role does not see the activity of others, so the health check is blind. GRANT pg_read_all_stats to it."
        )


def _nodes(plan: Mapping[str, Any]) -> Iterator[str]:
    top = plan.get("Plan", plan)
    yield top["Node Type"]
    for below in top.get("Plans", ()):
        yield from _nodes(below)


def _named(connection: Connection, table: Table) -> dict[str, str]:
    return {"name": _quoted(connection, table.name, table.schema)}


def _quoted(connection: Connection, name: str, schema: str | None) -> str:
    quote = connection.dialect.identifier_preparer.quote_identifier
    return ".".join(quote(part) for part in (schema, name) if part)
