"""The host's tables, in the legacy application's shape. The migration adds `passwordHash`."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

_MARIADB = ("mysql", "mariadb")  # one server, two names in SQLAlchemy URLs

_IV = sa.LargeBinary().with_variant(mysql.VARBINARY(255), *_MARIADB)
_TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), *_MARIADB)


def utc_now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


metadata = sa.MetaData()

account = sa.Table(
    "Account",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("email", sa.String(255), nullable=False),
    sa.Column("username", sa.String(255), nullable=False),
    sa.Column("firstName", sa.String(255)),
    sa.Column("lastName", sa.String(255)),
    sa.Column("password", sa.String(200)),
    sa.Column("key", _IV),
    sa.Column("isDeveloper", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("isDeleted", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("status", sa.String(32), nullable=False, server_default="ACTIVE"),
    sa.Column("createdAt", _TIME, nullable=False, default=utc_now),
    sa.Column("updatedAt", _TIME, nullable=False, default=utc_now),
    # A login looks for both at once, and reads the whole table if one is missing.
    sa.Index("Account_email_idx", "email"),
    sa.Index("Account_username_idx", "username"),
    mysql_engine="InnoDB",
    mysql_charset="utf8mb4",
    mariadb_engine="InnoDB",
    mariadb_charset="utf8mb4",
)
