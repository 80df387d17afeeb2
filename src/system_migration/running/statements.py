"""Reading SQL just far enough to keep user code from leaving the transaction it was given. Pure."""

from __future__ import annotations

import re

_NOISE = re.compile(
    r"""  '(?:[^']|'')*'              # text
      | "(?:[^"]|"")*"              # a quoted name
      | (\$\w*\$).*?\1              # PostgreSQL's dollar-quoted text
      | --[^\n]* | \#[^\n]*         # comments to the end of the line
      | /\*(?!!).*?\*/              # comments, but not those that MariaDB executes
    """,
    re.VERBOSE | re.DOTALL,
)
_ENDS = re.compile(r"(COMMIT|ROLLBACK(?!\s+TO)|ABORT|BEGIN|START\s+TRANSACTION|END|PREPARE\s+TRANSACTION)\b", re.I)
_NEVER_COMMITS = re.compile(
    r"(SELECT|WITH|VALUES|INSERT|UPDATE|DELETE|REPLACE|SAVEPOINT|RELEASE|ROLLBACK\s+TO|EXPLAIN|SHOW|DESCRIBE|DESC"
    r"|SET\s+@|CREATE\s+(OR\s+REPLACE\s+)?TEMPORARY\s+TABLE|DROP\s+TEMPORARY\s+TABLE|DO)\b",
    re.I,
)


def ends_transaction(sql: str) -> bool:
    """Whether any of the statements begins, commits or rolls back a transaction."""
    return any(_ENDS.match(statement) for statement in _statements(sql))


def may_commit(sql: str) -> bool:
    """Whether any of the statements is not known to leave the transaction open where DDL commits it."""
    return any(not _NEVER_COMMITS.match(statement) for statement in _statements(sql))


def _statements(sql: str) -> list[str]:
    parts = (part.strip().lstrip("(").lstrip() for part in _NOISE.sub(" ", sql).split(";"))
    return [part for part in parts if part]
