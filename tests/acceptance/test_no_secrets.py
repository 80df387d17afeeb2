"""Nothing secret or personal leaves the table it belongs to.

The password job runs in every way an operator may run it, well and badly; then everything that any process said, and
every table but "Account", is searched for the keys and for what the accounts hide.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import sqlalchemy as sa

from ante_backend.legacy_cipher import derive_key
from ante_backend.seed import make_accounts
from tests.support.accounts import DROP, NAME, create_table, insert, make
from tests.support.command import Environ, Project
from tests.support.databases import application_engine

SHORTEST = 8
WRONG_KEY = "a wrong key, invented here"
WRONG_PASSWORD = "surely not the password"
SEEDED = 12


class Search:
    """Looks for secrets in any of the ways in which text may spell them. Letter case does not matter."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._spellings = {
            spelling.casefold(): secret
            for secret in secrets
            if len(secret) >= SHORTEST
            for spelling in (secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], secret.encode().hex())
        }

    def find(self, text: str) -> list[str]:
        """The secrets in the text, each with what stands around it."""
        folded = text.casefold()
        found = []
        for spelling, secret in self._spellings.items():
            if (place := folded.find(spelling)) >= 0:
                found.append(f"{secret!r} in ...{folded[max(0, place - 60) : place + len(spelling) + 30]!r}")
        return found


def dump(project: Project, but: str) -> str:
    """Every row of every table except one, as text."""
    engine = application_engine(project.url)
    lines = []
    with engine.connect() as connection:
        for name in sa.inspect(connection).get_table_names():
            if name == but:
                continue
            table = sa.Table(name, sa.MetaData(), autoload_with=connection)
            for row in connection.execute(sa.select(table)):
                lines.append(f"{name}: " + " | ".join(map(_text, row)))
    engine.dispose()
    assert any(line.startswith("system_migration_event: ") for line in lines)
    return "\n".join(lines)


def _text(value: Any) -> str:
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex() + " " + bytes(value).decode(errors="replace")
    return str(value)


def assert_nothing_leaked(project: Project, search: Search, secret_table: str) -> None:
    leaks = [(ended.arguments[1:], leak) for ended in project.said for leak in search.find(ended.said)]
    leaks += [(("the tables",), leak) for leak in search.find(dump(project, secret_table))]
    assert not leaks, "\n".join(f"{' '.join(where)}: {leak}" for where, leak in leaks)


# The password job


def secrets(vectors: dict[str, Any], rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    for key in (vectors["encryption_key"], vectors["other_encryption_key"], WRONG_KEY):
        yield key
        yield derive_key(key).hex()
    yield vectors["derived_key_hex"]
    yield WRONG_PASSWORD
    for row in rows:
        yield row["email"]
        yield row["password"] or ""
        yield row["key"].hex() if row["key"] else ""
        if row["key"]:
            yield row["key"].decode("latin-1")
    for group in ("accounts", "damaged", "foreign_key_rows"):
        for vector in vectors[group]:
            yield vector.get("plaintext") or ""
            yield vector.get("plaintext_utf8_hex") or ""
            yield vector.get("key_text") or ""


def vector_rows(vectors: dict[str, Any], *groups: str) -> list[dict[str, Any]]:
    rows = []
    for vector in (vector for group in groups for vector in vectors[group]):
        iv = bytes.fromhex(vector["key_hex"]) if vector["key_hex"] else (vector.get("key_text") or "").encode() or None
        email = vector.get("email", f"{vector['username']}@example.test")
        rows.append(
            make(int(vector["id"]), "")
            | {"id": str(vector["id"]), "email": email, "username": vector["username"]}
            | {"password": vector["password"], "key": iv}
        )
    return rows


def test_the_password_job_tells_no_secret(sqlite_project: Project, vectors: dict[str, Any]) -> None:
    project = sqlite_project
    project.environ |= {
        "MIGRATIONS": "ante_backend.migrations",
        "ENCRYPTION_KEY": vectors["encryption_key"],
        "PASSWORD_VERIFY_SAMPLE": "4",
    }
    seeded = list(make_accounts(SEEDED, 0, vectors["encryption_key"]))
    rows = vector_rows(vectors, "accounts", "damaged") + [account.row for account in seeded]
    foreign = vector_rows(vectors, "foreign_key_rows")
    engine = application_engine(project.url)
    create_table(engine, password=sa.Text())
    insert(engine, rows + foreign)
    told = [account.plaintext or "" for account in seeded]
    search = Search([*secrets(vectors, rows + foreign), *told])

    # Badly: with what is missing or wrong, and with rows under another key
    project.run("run", "--verbose", code=5, env={"ENCRYPTION_KEY": None})
    project.run("run", "--verbose", code=5, env={"ENCRYPTION_KEY": WRONG_KEY})
    project.json("dry-run", "--verbose", code=5, env={"ENCRYPTION_KEY": WRONG_KEY})
    project.run("run", "--verbose", code=5, env={"ENCRYPTION_CANARY": f"user01:{WRONG_PASSWORD}"})
    project.json("run", code=5, env={"ENCRYPTION_CANARY": f"{rows[0]['email']}:{WRONG_PASSWORD}"})
    project.run("run", code=5, env={"ENCRYPTION_CANARY": "correct horse battery staple"})  # forgot the name
    assert "--max-issues" in project.run("run", "--verbose", code=5).err
    project.run("run", code=5, env={"BCRYPT_COST": "4"})
    assert "passwordHash" not in {column["name"] for column in sa.inspect(engine).get_columns("Account")}

    # Well: the ring has all keys
    ring: Environ = {"ENCRYPTION_KEYS_OLD": vectors["other_encryption_key"]}
    accept = ("--verbose", "--max-issues", "40")
    project.run("run", "--verbose", code=5, env=ring)
    project.run("dry-run", *accept, "--full", env=ring)
    project.json("dry-run", *accept, env={**ring, "LOG_FORMAT": "json"})
    done = project.run("run", *accept, env={**ring, "LOG_FORMAT": "json"})
    assert "COMPLETED" in done.out
    for arguments in (["status"], ["issues", NAME], ["logs", NAME], ["show", NAME], ["history"]):
        project.json(*arguments)
        project.run(*arguments)
    project.run("doctor")
    project.json("verify", "--verbose", env=ring)

    # Badly again: a hash that is not its password's
    hashed = project.sql('SELECT min("id") FROM "Account" WHERE "passwordHash" IS NOT NULL')[0][0]
    project.sql('UPDATE "Account" SET "passwordHash" = \'$2b$10$\' || :rest WHERE "id" = :id', rest="." * 53, id=hashed)
    project.run("verify", "--verbose", code=1, env={**ring, "PASSWORD_VERIFY_SAMPLE": "500"})
    project.run("verify", "--verbose", code=5, env={**ring, "ENCRYPTION_KEY": None})
    project.json("show", NAME)

    # The contract step: too early, too many held, then for some accounts
    project.run("run", DROP, "--verbose", code=5, env=ring)
    now: Environ = {**ring, "LEGACY_OBSERVATION_DAYS": "0"}
    assert "--max-issues" in project.run("run", DROP, "--verbose", code=5, env=now).err
    assert "PAUSED" in project.run("run", DROP, "--verbose", "--max-issues", "60", "--to-key", "11", env=now).out
    assert "stale_hash" in project.run("issues", DROP).out
    project.json("show", DROP)
    engine.dispose()

    assert len(project.said) > 25
    assert_nothing_leaked(project, search, "Account")


# Failures that quote a value

SECRETS = ["O'Brien keeps plaintext", "swordfish-and-chips", "hartigan@mail.example.test"]
EMAIL = "o'hartigan@mail.example.test"
"""With an apostrophe: whoever masks what a message quotes may stop there."""

PEOPLE = """
import sqlalchemy as sa

from system_migration import BatchMigration, Migration, MigrationResult


class _Person(BatchMigration):
    table = "person"
    reads = ("secret", "email")
    writes = ("email",)
    sensitive = ("secret", "email")
    max_issues = 1


class TransformRaises(_Person):
    name = "001-transform-raises"

    def transform(self, row):
        raise ValueError(f"{row.email} cannot have {row.secret}")


class CheckRaises(_Person):
    name = "001-check-raises"

    def transform(self, row):
        return {"email": row.email}

    def check(self, row):
        return int(row.secret) == 1  # ValueError: invalid literal for int() with base 10: 'swordfish-and-chips'


class DuplicateValue(_Person):
    name = "001-duplicate-value"

    def transform(self, row):
        return {"email": "o'hartigan@mail.example.test"}


class LongValue(_Person):
    name = "001-long-value"

    def transform(self, row):
        return {"email": row.secret * 20}


class StatementQuotes(Migration):
    name = "001-statement-quotes"

    def up(self, context):
        context.connection.execute(sa.text("UPDATE person SET amount = CAST(:value AS INTEGER)"), {"value": SECRET})
        context.connection.execute(sa.text("INSERT INTO person SELECT id, secret, email, 0 FROM person"))
        return MigrationResult()


class ColumnQuotes(Migration):
    name = "001-column-quotes"

    def up(self, context):
        context.connection.execute(sa.text("UPDATE person SET email = 'o''hartigan@mail.example.test'"))
        return MigrationResult()


SECRET = "swordfish-and-chips"
"""


def people(project: Project) -> None:
    project.sql(
        "CREATE TABLE person (id INTEGER PRIMARY KEY, secret VARCHAR(100), email VARCHAR(100) UNIQUE, amount INTEGER)"
    )
    for number, secret in enumerate(SECRETS[:2], start=1):
        project.sql(
            "INSERT INTO person (id, secret, email) VALUES (:id, :secret, :email)",
            id=number,
            secret=secret,
            email=f"{number}-{EMAIL}",
        )
    project.write("001_people", PEOPLE)


def test_no_failure_quotes_a_value(project: Project) -> None:
    people(project)
    search = Search(SECRETS)
    for name in project.json("pending"):
        with project.start("run", name, "--verbose") as running:
            ended = running.end()
        assert ended.code in (0, 1), ended  # SQLite, for one, takes a text of any length
    project.json("status")
    project.run("doctor")
    assert_nothing_leaked(project, search, "person")


def test_the_search_finds_what_is_planted(sqlite_project: Project) -> None:
    project = sqlite_project
    people(project)
    search = Search(SECRETS)
    name = project.json("pending")[0]
    project.run("skip", name, "--reason", f"because of {SECRETS[1].upper()}")
    assert search.find(dump(project, "person"))
    assert search.find(project.run("show", name).said)
    for text in (
        json.dumps({"reason": "O'Brien keeps plaintext"}),
        repr("O'Brien keeps plaintext"),
        f"0x{SECRETS[1].encode().hex()}",
    ):
        assert search.find(text)
    assert Search(["schlüssel", "short"]).find(json.dumps("ein Schlüssel")) == [
        "'schlüssel' in ...'\"ein schl\\\\u00fcssel\"'"
    ]
    assert Search(["short"]).find("short") == []
