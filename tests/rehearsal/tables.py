"""The tables that the migrations of these tests are about, and a dozen rows, each different."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

metadata = sa.MetaData()
_TABLE: dict[str, Any] = {"mysql_engine": "InnoDB", "mariadb_engine": "InnoDB"}

person = sa.Table(
    "person",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("name", sa.String(40), nullable=False),
    sa.Column("phone", sa.String(40)),
    sa.Column("digits", sa.String(200)),
    sa.Column("score", sa.Integer, nullable=False),
    sa.Column("touched", sa.Integer, nullable=False, server_default="0"),
    sa.Column("note", sa.String(100)),
    **_TABLE,
)
booking = sa.Table(
    "booking",
    metadata,
    sa.Column("hotel", sa.String(10), primary_key=True),
    sa.Column("night", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("price", sa.Integer, nullable=False),
    sa.Column("cents", sa.Integer),
    **_TABLE,
)
journal = sa.Table(
    "journal",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("text", sa.String(100)),
    sa.Column("at", sa.DateTime, server_default=sa.func.current_timestamp()),
    **_TABLE,
)

PEOPLE = [
    {"id": number, "name": f"person {number}", "phone": f"+49 30 {number * 7919 % 9973:05}", "score": number * 10}
    for number in range(1, 13)
]
BOOKINGS = [{"hotel": f"h{number % 3}", "night": number, "price": number * 11} for number in range(1, 13)]


def fill(connection: sa.Connection) -> None:
    """Create the tables and fill them."""
    metadata.create_all(connection)
    connection.execute(sa.insert(person), PEOPLE)
    connection.execute(sa.insert(booking), BOOKINGS)


def digits_of(phone: str) -> str:
    return "".join(character for character in phone if character.isdigit())
