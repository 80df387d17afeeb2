"""The whole job on the accounts that the replaced system encrypted, beside 300 others, on every database."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import sqlalchemy as sa

from ante_backend.hash_audit import HashAudit
from ante_backend.passwords import check_password
from ante_backend.seed import SeededAccount, make_accounts
from system_migration import Refused, RunOptions, Status
from tests.support.accounts import (
    NAME,
    PasswordBcrypt,
    QuickPasswordBcrypt,
    change,
    create_table,
    insert,
    make,
    migrator,
    read,
)

# By the account's number: what a run holds it for. The others end as hashes; 1003 and 1005 are not selected.
HELD = {
    "13": "control_character",
    **dict.fromkeys(("36", "37", "38", "39"), "over_72_bytes"),
    "40": "nul_byte",
    "1001": "odd_ciphertext",
    "1002": "ciphertext_not_hex",
    "1004": "empty_ciphertext",
    **dict.fromkeys(("1006", "1007", "1008", "1009"), "iv_length"),
    **dict.fromkeys(("1010", "1011", "1012"), "not_utf8"),
}
SKIPPED = {"1003", "1005"}


def load(engine: sa.Engine, vectors: dict[str, Any], iv_column: str, *, foreign: bool = False) -> list[SeededAccount]:
    """Vectors and seeded accounts in the legacy table, whose IV column is of `bytes` or of `text`."""
    create_table(engine, password=sa.Text(), **({"key": sa.String(64)} if iv_column == "text" else {}))
    seeded = list(make_accounts(300, 0, vectors["encryption_key"]))
    rows = [row for group in ("accounts", "damaged") for row in vectors[group]]
    rows += vectors["foreign_key_rows"] if foreign else []
    insert(engine, [_row(vector, iv_column) for vector in rows])
    insert(engine, [one.row | ({"key": one.row["key"].hex()} if iv_column == "text" else {}) for one in seeded])
    return seeded


def _row(vector: dict[str, Any], iv_column: str) -> dict[str, Any]:
    text = vector["key_hex"] or vector.get("key_text")
    if iv_column == "text" or text is None:
        iv = text
    else:
        iv = bytes.fromhex(vector["key_hex"]) if vector["key_hex"] else vector["key_text"].encode()
    return make(int(vector["id"]), "") | {
        "id": str(vector["id"]),
        "email": vector.get("email", f"{vector['username']}@example.test"),
        "username": vector["username"],
        "password": vector["password"],
        "key": iv,
    }


def without_hash(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "passwordHash"}


def assert_as_expected(
    engine: sa.Engine, vectors: dict[str, Any], seeded: list[SeededAccount], before: dict[str, dict[str, Any]]
) -> None:
    after = read(engine)
    assert {identity: without_hash(row) for identity, row in after.items()} == before
    for vector in vectors["accounts"]:
        identity, stored = str(vector["id"]), after[str(vector["id"])]["passwordHash"]
        if identity in HELD:
            assert vector["expect"].endswith(HELD[identity])
            assert stored is None
        else:
            assert vector["expect"] == "migrate"
            assert check_password(bytes.fromhex(vector["plaintext_utf8_hex"]), stored, "hold"), identity
    for vector in vectors["damaged"]:
        assert after[str(vector["id"])]["passwordHash"] is None
    for one in seeded:
        assert one.plaintext is not None
        stored = after[one.row["id"]]["passwordHash"]
        assert stored.startswith("$2b$")
        assert len(stored) == 60
    for one in seeded[::30]:  # verification has compared each of them; these few by other code
        assert one.plaintext is not None
        assert check_password(one.plaintext.encode(), after[one.row["id"]]["passwordHash"], "hold")


@pytest.mark.parametrize("iv_column", ["bytes", "text"])
def test_the_vectors_are_refused_without_consent_and_end_as_expected_with_it(
    engine: sa.Engine,
    vectors: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    iv_column: str,
) -> None:
    # At its real cost on one database alone: what a hash costs, half a minute for them all, no database can change.
    real = iv_column == "bytes" and engine.dialect.name == "sqlite"
    migration = PasswordBcrypt if real else QuickPasswordBcrypt
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("ENCRYPTION_KEY", vectors["encryption_key"])
    seeded = load(engine, vectors, iv_column)
    before = read(engine)

    with migrator(engine, migration) as m:
        with pytest.raises(Refused) as refused:
            m.run()
        assert f"--max-issues {len(HELD)}." in str(refused.value)
        assert read(engine) == before  # the same columns, too

        (report,) = m.run(options=RunOptions(max_issues=40))
        issues = m.issues(NAME)
        told = [str(refused.value), repr(report), repr(issues), repr(m.show(NAME)), repr(m.logs(NAME))]

    assert (report.status, report.verified) == (Status.COMPLETED, True)
    assert (report.records_processed, report.issues) == (300 + 40 + 12 - len(HELD) - len(SKIPPED), len(HELD))
    assert {issue.key: issue.code for issue in issues} == HELD
    assert_as_expected(engine, vectors, seeded, before)
    assert_nothing_leaked(engine, vectors, caplog.text, *told)


def assert_nothing_leaked(engine: sa.Engine, vectors: dict[str, Any], *told: str) -> None:
    rows = [row for group in ("accounts", "damaged", "foreign_key_rows") for row in vectors[group]]
    secrets = [vectors["encryption_key"], vectors["derived_key_hex"], vectors["other_encryption_key"]]
    secrets += [str(row.get(name) or "") for row in rows for name in ("plaintext", "password", "key_hex", "email")]
    kept = []
    with engine.connect() as connection:
        for name in set(sa.inspect(engine).get_table_names()) - {"Account"}:
            table = sa.Table(name, sa.MetaData(), autoload_with=engine)
            kept += [str(tuple(row)) for row in connection.execute(sa.select(table))]
    everything = "\n".join([*told, *kept])
    assert len(kept) > 20
    assert [secret for secret in secrets if len(secret) >= 8 and secret in everything] == []


@pytest.mark.parametrize("in_ring", [True, False])
def test_rows_under_a_former_key_need_that_key(
    engine: sa.Engine, vectors: dict[str, Any], monkeypatch: pytest.MonkeyPatch, in_ring: bool
) -> None:
    monkeypatch.setenv("ENCRYPTION_KEY", vectors["encryption_key"])
    seeded = load(engine, vectors, "bytes", foreign=True)
    before = read(engine)
    if not in_ring:
        with migrator(engine) as m, pytest.raises(Refused, match="cannot be read with ENCRYPTION_KEY: accounts"):
            m.run()
        assert read(engine) == before
        return

    monkeypatch.setenv("ENCRYPTION_KEYS_OLD", vectors["other_encryption_key"])
    with migrator(engine) as m:
        (report,) = m.run(options=RunOptions(max_issues=40))
        ambiguous = {issue.key for issue in m.issues(NAME)} - set(HELD)
    assert (report.status, report.verified) == (Status.COMPLETED, True)
    # A short text has a meaning under both keys by chance: one byte in three times, six bytes in 140.
    short = {str(vector["id"]) for vector in vectors["accounts"] if vector["utf8_bytes"] <= 2}
    short |= {one.row["id"] for one in seeded if len(one.row["password"]) <= 16}
    assert ambiguous <= short
    assert len(ambiguous) < 10
    after = read(engine)
    for vector in vectors["foreign_key_rows"]:
        assert check_password(vector["plaintext"].encode(), after[str(vector["id"])]["passwordHash"], "hold")
    for one in seeded[::30]:
        if one.row["id"] not in ambiguous:
            assert one.plaintext is not None
            assert check_password(one.plaintext.encode(), after[one.row["id"]]["passwordHash"], "hold")
    assert {identity: without_hash(row) for identity, row in after.items()} == before


@pytest.mark.databases("sqlite")
def test_sqlite_may_hold_both_kinds_of_iv_in_one_column(
    engine: sa.Engine, vectors: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENCRYPTION_KEY", vectors["encryption_key"])
    load(engine, vectors, "bytes")
    texts = [row for group in ("accounts", "damaged") for row in vectors[group] if row["key_stored_as"] == "hex_text"]
    with engine.begin() as connection:
        for row in texts:
            value = {"iv": row.get("key_text") or row["key_hex"], "id": str(row["id"])}
            connection.execute(sa.text('UPDATE "Account" SET "key" = :iv WHERE id = :id'), value)
    with migrator(engine) as m:
        (report,) = m.run(options=RunOptions(max_issues=40))
        assert {issue.key: issue.code for issue in m.issues(NAME)} == HELD
    assert report.verified


@pytest.mark.parametrize("policy", ["truncate", "prehash"])
def test_long_passwords_by_policy(
    engine: sa.Engine, vectors: dict[str, Any], monkeypatch: pytest.MonkeyPatch, policy: Any
) -> None:
    monkeypatch.setenv("ENCRYPTION_KEY", vectors["encryption_key"])
    monkeypatch.setenv("PASSWORD_OVER_72_BYTES", policy)
    load(engine, vectors, "bytes")
    with migrator(engine) as m:
        (report,) = m.run(options=RunOptions(max_issues=40))
        said = [line.message for line in m.logs(NAME) if "its hash covers the first 72" in line.message]
    assert report.verified
    after = read(engine)
    long = [vector for vector in vectors["accounts"] if vector["utf8_bytes"] > 72]
    assert len(long) == 4
    for vector in long:
        plain, stored = bytes.fromhex(vector["plaintext_utf8_hex"]), after[str(vector["id"])]["passwordHash"]
        assert check_password(plain, stored, policy)
        assert check_password(plain[:72] + b"other", stored, policy) is (policy == "truncate")
    assert sorted(said) == sorted(
        f"account {vector['id']}: the password is over 72 bytes, its hash covers the first 72"
        for vector in long
        if policy == "truncate"
    )


def test_hashes_that_node_made_are_kept_and_verify(
    engine: sa.Engine, vectors: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENCRYPTION_KEY", vectors["encryption_key"])
    create_table(engine, password=sa.Text(), passwordHash=sa.String(255))
    insert(engine, [_row(vector, "bytes") for vector in vectors["accounts"]])
    made = {
        str(h["account_id"]): h["hash"]
        for h in vectors["bcrypt_hashes"]
        if h["python_bcrypt5_full_plaintext"] == "True"
    }
    assert len(made) > 10
    for identity, stored in made.items():
        change(engine, identity, passwordHash=stored)

    with migrator(engine) as m:
        (report,) = m.run(options=RunOptions(max_issues=40))
    assert report.verified
    after = read(engine)
    assert {identity: after[identity]["passwordHash"] for identity in made} == made


def test_node_and_the_audit_agree_on_every_hash(vectors: dict[str, Any]) -> None:
    rows = {str(vector["id"]): vector for vector in vectors["accounts"]}
    for policy in ("hold", "truncate"):
        audit = HashAudit([vectors["other_encryption_key"], vectors["encryption_key"]], policy)
        for made in vectors["bcrypt_hashes"]:
            row = rows[str(made["account_id"])]
            expected = made["python_bcrypt5_full_plaintext"] == "True" or (
                policy == "truncate" and made["verifies_utf8_hex"] is not None
            )
            assert audit.opens(row["password"], bytes.fromhex(row["key_hex"]), made["hash"]) is expected, made["hash"]
