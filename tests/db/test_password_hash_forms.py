"""The form of a stored hash, judged by each database as Python judges it."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from ante_backend.hash_audit import is_well_formed
from ante_backend.passwords import hash_password, is_recognised_hash

SALT_AND_DIGEST = "dDIYKo1/kZI5exic5mqjY.Xe.ydUtu6ed7bCXnpW7bxRYqVP8EbkG"
PREHASHED = hash_password(b"x" * 80, 4, "prehash")

GOOD = [
    *(f"${prefix}$10${SALT_AND_DIGEST}" for prefix in ("2a", "2b", "2y")),
    f"$2b$04${SALT_AND_DIGEST}",
    f"$2b$31${SALT_AND_DIGEST}",
    PREHASHED,
    PREHASHED.replace("r=4", "r=10"),
]
BAD = [
    "junk",
    " ",
    f"$2x$10${SALT_AND_DIGEST}",
    f"$2B$10${SALT_AND_DIGEST}",
    f"$2$10${SALT_AND_DIGEST}",
    f"2b$10${SALT_AND_DIGEST}",
    f"$2b$03${SALT_AND_DIGEST}",
    f"$2b$32${SALT_AND_DIGEST}",
    f"$2b$1${SALT_AND_DIGEST}",
    f"$2b$10${SALT_AND_DIGEST[:-1]}",
    f"$2b$10${SALT_AND_DIGEST}x",
    f"$2b$10${SALT_AND_DIGEST} ",
    f"$2b$10${SALT_AND_DIGEST}\n",
    f" $2b$10${SALT_AND_DIGEST}",
    f"\n$2b$10${SALT_AND_DIGEST}",
    f"$2b$10$*{SALT_AND_DIGEST[1:]}",
    f"$2b$10$é{SALT_AND_DIGEST[1:]}",
    f"{{bcrypt}}$2b$10${SALT_AND_DIGEST}",
    "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$RdescudvJCsgt3ub+b1dWRWJTmaaJObG",
    PREHASHED.replace("r=4", "r=04"),
    PREHASHED.replace("v=2", "v=1"),
    PREHASHED.replace("sha256", "SHA256"),
    PREHASHED + "\n",
    PREHASHED[:-1],
]


@pytest.mark.parametrize("collation", ["server's", "bytewise"])
def test_every_database_knows_a_hash_as_python_does(engine: sa.Engine, collation: str) -> None:
    mariadb = engine.dialect.name == "mysql"
    kind = sa.String(255, collation="utf8mb4_bin") if mariadb and collation == "bytewise" else sa.String(255)
    table = sa.Table("stored", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("hash", kind))
    values = [*GOOD, *BAD]
    with engine.begin() as connection:
        table.create(connection)
        connection.execute(
            sa.insert(table), [{"id": number, "hash": value} for number, value in enumerate(values, start=1)]
        )
        query = sa.select(table.c.hash, is_well_formed(table.c.hash)).order_by(table.c.id)
        judged = [(stored, bool(good)) for stored, good in connection.execute(query)]
    assert judged == [(value, is_recognised_hash(value)) for value in values]
    assert judged == [*((value, True) for value in GOOD), *((value, False) for value in BAD)]


def test_a_null_is_neither(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        assert connection.scalar(sa.select(is_well_formed(sa.cast(sa.null(), sa.String(255))))) is None
