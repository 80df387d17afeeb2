"""Roles of a database server that may do little, as an application's or a careful operator's."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, create_engine, text


@contextmanager
def plain_role(engine: Engine) -> Iterator[tuple[str, Engine]]:
    """A new role without any right on the engine's database: its name in SQL, and an engine that connects as it."""
    name = f"role_{secrets.token_hex(4)}"
    postgres = engine.dialect.name == "postgresql"
    spoken = name if postgres else f"{name}@'%'"
    with engine.begin() as connection:
        connection.execute(text(f"CREATE ROLE {name} LOGIN" if postgres else f"CREATE USER {spoken}"))
    role = create_engine(engine.url.set(username=name, password=None))
    try:
        yield spoken, role
    finally:
        role.dispose()
        with engine.begin() as connection:
            if postgres:
                connection.execute(text(f"DROP OWNED BY {name}"))
            connection.execute(text(f"DROP {'ROLE' if postgres else 'USER'} {spoken}"))
