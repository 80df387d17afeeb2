"""The passwords of the system we replace, typed into ours; and what it said meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from ante_backend.passwords import check_password
from tests.acceptance.test_no_secrets import Search, secrets, vector_rows
from tests.support.backend import ACCOUNT, SECRET, Backend, account_database, configuration

GROUPS = ("accounts", "damaged", "foreign_key_rows")


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest, tmp_path: Any, vectors: dict[str, Any]) -> Iterator[Backend]:
    keys = {"encryption_key": vectors["encryption_key"], "encryption_keys_old": (vectors["other_encryption_key"],)}
    with account_database(request.param, tmp_path, request) as url:
        with Backend(configuration(url, **keys)) as backend:
            if request.param == "postgresql":
                with backend.engine.begin() as connection:
                    connection.exec_driver_sql('ALTER TABLE "Account" ALTER COLUMN "password" TYPE text')
            yield backend


def store(backend: Backend, rows: list[dict[str, Any]]) -> None:
    with backend.engine.begin() as connection:
        connection.execute(sa.insert(ACCOUNT), rows)


def test_every_vector_behaves_and_nothing_of_it_is_told(
    backend: Backend, vectors: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    rows = vector_rows(vectors, *GROUPS)
    store(backend, rows)
    answers: list[httpx.Response] = []

    def log_in(name: str, password: str) -> int:
        answers.append(backend.log_in(name, password))
        return answers[-1].status_code

    for vector in (*vectors["accounts"], *vectors["foreign_key_rows"]):
        username, password = vector["username"], vector["plaintext"]
        assert log_in(username, password) == 200, username
        stored = backend.row(username)["passwordHash"]
        if len(password.encode()) <= 72 and "\0" not in password:
            assert check_password(password.encode(), stored, "hold"), username
        else:
            assert stored is None, username
        assert log_in(vector.get("email", username), password) == 200
        answers.append(backend.me(answers[-1].json()["accessToken"]))
    by_id = {vector["id"]: vector for vector in vectors["accounts"]}
    for wrong in vectors["wrong_logins"]:
        assert log_in(by_id[wrong["account_id"]]["username"], wrong["password"]) == 401
    for vector in vectors["damaged"]:
        for password in ("", "correct horse battery staple", vector["password"] or "x"):
            assert log_in(vector["username"], password) == 401

    said = "\n".join([*(f"{each.text}\n{each.headers}" for each in answers), caplog.text])
    assert sum(record.name == "uvicorn.access" for record in caplog.records) == len(answers)
    search = Search([*secrets(vectors, rows), SECRET, *(backend.row(row["username"])["email"] for row in rows)])
    assert search.find(said) == []
    hashes = [stored for row in rows if (stored := backend.row(row["username"])["passwordHash"])]
    assert len(hashes) > 30
    assert not any(stored in said or stored[7:29] in said for stored in hashes)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_every_hash_that_node_made_opens(backend: Backend, vectors: dict[str, Any]) -> None:
    by_id = {vector["id"]: vector for vector in vectors["accounts"]}
    for number, made in enumerate(vectors["bcrypt_hashes"]):
        plaintext = by_id[made["account_id"]]["plaintext"]
        username = backend.add(None, passwordHash=made["hash"], id=f"hash-{number}")
        status = backend.log_in(username, plaintext).status_code
        fits = made["verifies_utf8_hex"] == plaintext.encode().hex() and "\0" not in plaintext
        assert status == (200 if fits else 401), made
        assert backend.row(username)["passwordHash"] == made["hash"]
