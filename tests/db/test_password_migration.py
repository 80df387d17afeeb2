"""The password migration beside an application at work, and all the ways in which it must not start."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from ante_backend import passwords
from ante_backend.passwords import check_password, hash_password
from system_migration import Refused, RunOptions, Status
from system_migration.errors import VerificationFailed
from tests.support.accounts import (
    KEY,
    NAME,
    OLD_KEY,
    PasswordBcrypt,
    change,
    create_table,
    insert,
    make,
    migrator,
    read,
)

VICTIM = "account-00007"

Meanwhile = Callable[[str, Callable[[], None]], None]


def password_of(number: int) -> str:
    return f"password {number}!"


def populate(engine: sa.Engine, accounts: int = 20, *, former: int = 0, **columns: Any) -> dict[str, dict[str, Any]]:
    """Accounts in the legacy table, the last `former` of them under the former key."""
    create_table(engine, **columns)
    keys = [*[KEY] * (accounts - former), *[OLD_KEY] * former]
    insert(engine, [make(number, password_of(number), key) for number, key in enumerate(keys, start=1)])
    return read(engine)


@pytest.fixture(autouse=True)
def encryption_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENCRYPTION_KEY", KEY)


# Refused before the first write


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("another key altogether", "ENCRYPTION_KEY is wrong: it opens 0 of 40 encrypted passwords"),
        (KEY + "\n", "Without the line break at its end it would be right"),
        (None, "ENCRYPTION_KEY is not set"),
        ("   ", "ENCRYPTION_KEY is blank"),
    ],
    ids=["wrong", "newline", "missing", "blank"],
)
def test_without_the_right_key_nothing_is_touched(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch, key: str | None, said: str
) -> None:
    before = populate(engine, 40)
    if key is None:
        monkeypatch.delenv("ENCRYPTION_KEY")
    else:
        monkeypatch.setenv("ENCRYPTION_KEY", key)
    with migrator(engine) as m:
        with pytest.raises(Refused) as refused:
            m.run(options=RunOptions(max_issues=1000))
        (report,) = m.dry_run()
    assert said in str(refused.value)
    assert report.refusal == str(refused.value)
    assert key is None or key.strip() == "" or key.strip() not in str(refused.value)
    assert read(engine) == before


def test_half_the_rows_under_another_key_are_refused_until_that_key_is_given(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = populate(engine, 40, former=20)
    with migrator(engine) as m:
        with pytest.raises(Refused) as refused:
            m.run()
        assert str(refused.value).startswith(
            "20 of 40 encrypted passwords cannot be read with ENCRYPTION_KEY: accounts account-00021 to account-00040 "
            "(created 2022-01-22 to 2022-02-10). They are a block"
        )
        assert read(engine) == before

        monkeypatch.setenv("ENCRYPTION_KEYS_OLD", OLD_KEY)
        (report,) = m.run()
    assert (report.status, report.verified, report.records_processed) == (Status.COMPLETED, True, 40)
    after = read(engine)
    assert all(
        check_password(password_of(number).encode(), after[f"account-{number:05}"]["passwordHash"], "hold")
        for number in (1, 20, 21, 40)
    )


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (sa.String(40), "holds 40 characters, and a hash has 60"),
        (sa.CHAR(72), "has a fixed width"),
        (sa.Integer(), "is not text"),
    ],
)
def test_a_hash_column_that_cannot_hold_a_hash_is_refused(
    engine: sa.Engine, kind: sa.types.TypeEngine[Any], said: str
) -> None:
    before = populate(engine, passwordHash=kind)
    with migrator(engine) as m, pytest.raises(Refused, match=said):
        m.run()
    assert read(engine) == before


@pytest.mark.databases("sqlite")
def test_a_table_without_the_legacy_columns_is_refused(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(
            sa.schema.CreateTable(sa.Table("Account", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True)))
        )
    with migrator(engine) as m, pytest.raises(Refused, match="no column 'password'"):
        m.run()


# Too few accounts to prove the key


@pytest.mark.parametrize("name", ["person1", "person1@example.test"])
def test_a_canary_proves_the_key_of_a_small_table(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    create_table(engine)
    insert(engine, [make(1, "one:pw"), make(2, "two")])
    with migrator(engine) as m:
        with pytest.raises(Refused, match="ENCRYPTION_CANARY='username:password'"):
            m.run()
        monkeypatch.setenv("ENCRYPTION_CANARY", f"{name}:one:pX\n")
        with pytest.raises(Refused, match="ENCRYPTION_CANARY line 1 does not fit"):
            m.run()
        monkeypatch.setenv("ENCRYPTION_CANARY", "nobody:x")
        with pytest.raises(Refused, match="line 1 names no account"):
            m.run()
        monkeypatch.setenv("ENCRYPTION_CANARY", f"{name}:one:pw\n")
        (report,) = m.run()
    assert (report.records_processed, report.verified) == (2, True)


@pytest.mark.databases("sqlite")
def test_the_person_at_the_terminal_proves_the_key(engine: sa.Engine) -> None:
    create_table(engine)
    insert(engine, [make(1, "one"), make(2, "two")])
    answers: Iterator[str] = iter(["person2", "twö", "person2", "two"])
    with migrator(engine, ask=lambda prompt: next(answers)) as m:
        with pytest.raises(Refused, match="The answer does not fit"):
            m.run()
        (report,) = m.run()
    assert report.records_processed == 2


def test_later_runs_need_the_key_the_first_began_with(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    populate(engine)
    with migrator(engine) as m:
        m.run()
        insert(engine, [make(number, password_of(number), OLD_KEY) for number in range(100, 140)])
        monkeypatch.setenv("ENCRYPTION_KEY", OLD_KEY)
        with pytest.raises(Refused, match="The ENCRYPTION_KEY differs from the one this migration began with"):
            m.run(NAME)
        monkeypatch.setenv("ENCRYPTION_KEY", KEY)
        monkeypatch.setenv("ENCRYPTION_KEYS_OLD", OLD_KEY)
        (report,) = m.run(NAME)
    assert (report.records_processed, report.verified) == (60, True)


# Nothing to do


@pytest.mark.parametrize("accounts", [0, 20])
def test_nothing_pending_needs_no_key(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch, accounts: int) -> None:
    populate(engine, accounts, passwordHash=sa.String(255))
    stored = hash_password(b"only the hash", 4, "hold")
    with engine.begin() as connection:
        connection.execute(sa.update(sa.table("Account", sa.column("password"))).values(password=None))
    for number in range(1, accounts + 1, 2):
        change(engine, f"account-{number:05}", passwordHash=stored)
    before = read(engine)
    monkeypatch.delenv("ENCRYPTION_KEY")
    with migrator(engine) as m:
        (report,) = m.run()
        (again,) = m.run(NAME)
        (verified,) = m.verify(NAME)
    assert (report.status, report.records_processed, report.verified) == (Status.COMPLETED, 0, True)
    assert (again.records_processed, verified.verified) == (0, True)
    assert read(engine) == before


def test_an_empty_hash_is_none_and_a_good_one_is_kept(engine: sa.Engine) -> None:
    populate(engine, passwordHash=sa.String(255))
    good = hash_password(password_of(2).encode(), 5, "hold")
    change(engine, "account-00001", passwordHash="")
    change(engine, "account-00002", passwordHash=good)
    with migrator(engine) as m:
        (report,) = m.run()
    after = read(engine)
    assert (report.records_processed, report.verified) == (19, True)
    assert check_password(password_of(1).encode(), after["account-00001"]["passwordHash"], "hold")
    assert after["account-00002"]["passwordHash"] == good


@pytest.mark.databases("sqlite")
def test_soft_deleted_and_inactive_accounts_are_migrated_too(engine: sa.Engine) -> None:
    populate(engine)
    change(engine, "account-00001", isDeleted=True)
    change(engine, "account-00002", status="INACTIVE")
    with migrator(engine) as m:
        (report,) = m.run()
    assert report.records_processed == 20


# Hashes of no known form


def test_a_junk_hash_is_held_and_never_overwritten(engine: sa.Engine) -> None:
    populate(engine, passwordHash=sa.String(255))
    junk = {
        "account-00001": "junk",
        "account-00002": "$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA",
        "account-00003": " ",
    }
    for identity, stored in junk.items():
        change(engine, identity, passwordHash=stored)
    change(engine, "account-00002", password=None, key=None)
    with migrator(engine) as m:
        (report,) = m.run()
        issues = {issue.key: issue.code for issue in m.issues(NAME)}
    assert (report.status, report.verified, report.records_processed) == (Status.COMPLETED, True, 17)
    assert issues == dict.fromkeys(junk, "unrecognised_hash")
    after = read(engine)
    assert {identity: after[identity]["passwordHash"] for identity in junk} == junk


@pytest.mark.parametrize("tampered", ["cut", "swapped"])
def test_verification_finds_a_hash_that_was_spoilt_later(engine: sa.Engine, tampered: str) -> None:
    populate(engine)
    with migrator(engine) as m:
        m.run()
        hashes = {identity: row["passwordHash"] for identity, row in read(engine).items()}
        if tampered == "cut":
            change(engine, VICTIM, passwordHash=hashes[VICTIM][:59])
        else:
            change(engine, VICTIM, passwordHash=hashes["account-00008"])
        (report,) = m.verify(NAME)
        said = [line.message for line in m.logs(NAME, level="error")]
    assert not report.verified
    if tampered == "swapped":
        assert said == [f"account {VICTIM}: the stored hash is not that of its encrypted password"]


# Beside the application


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    """Let the application act exactly while the batch hashes a certain password."""

    def arrange(password: str, act: Callable[[], None]) -> None:
        acts = [act]

        def hash_and_act(plain: bytes, cost: int, over_72: passwords.Over72Policy) -> str:
            stored = hash_password(plain, cost, over_72)
            if plain == password.encode() and acts:
                acts.pop()()
            return stored

        monkeypatch.setattr(passwords, "hash_password", hash_and_act)

    return arrange


def test_a_password_changed_in_the_legacy_application_survives(engine: sa.Engine, meanwhile: Meanwhile) -> None:
    before = populate(engine)
    new = {name: make(9_000, "the new password")[name] for name in ("password", "key")}
    meanwhile(password_of(7), lambda: change(engine, VICTIM, **new))
    with migrator(engine) as m:
        (report,) = m.run()
    after = read(engine)
    assert (report.status, report.verified, report.changed_meanwhile) == (Status.COMPLETED, True, 1)
    assert check_password(b"the new password", after[VICTIM]["passwordHash"], "hold")
    assert not check_password(password_of(7).encode(), after[VICTIM]["passwordHash"], "hold")
    assert {name: after[VICTIM][name] for name in new} == new
    for identity in before.keys() - {VICTIM}:
        assert {**before[identity], "passwordHash": after[identity]["passwordHash"]} == after[identity]


def test_a_password_changed_in_the_new_application_survives(engine: sa.Engine, meanwhile: Meanwhile) -> None:
    populate(engine)
    stored = hash_password(b"the new password", 4, "hold")
    meanwhile(password_of(7), lambda: change(engine, VICTIM, passwordHash=stored, password=None, key=None))
    with migrator(engine) as m:
        (report,) = m.run()
    after = read(engine)[VICTIM]
    assert (report.status, report.verified, report.records_processed) == (Status.COMPLETED, True, 19)
    assert (after["passwordHash"], after["password"], after["key"]) == (stored, None, None)


def test_a_hash_that_a_login_wrote_meanwhile_is_kept(engine: sa.Engine, meanwhile: Meanwhile) -> None:
    populate(engine)
    stored = hash_password(password_of(7).encode(), 5, "hold")
    meanwhile(password_of(7), lambda: change(engine, VICTIM, passwordHash=stored))
    with migrator(engine) as m:
        (report,) = m.run()
    assert (report.status, report.verified, report.records_processed) == (Status.COMPLETED, True, 19)
    assert read(engine)[VICTIM]["passwordHash"] == stored


def test_a_new_hash_beside_the_old_ciphertext_is_kept_and_reported(engine: sa.Engine, meanwhile: Meanwhile) -> None:
    populate(engine)
    stored = hash_password(b"the new password", 4, "hold")
    meanwhile(password_of(7), lambda: change(engine, VICTIM, passwordHash=stored))
    with migrator(engine) as m:
        with pytest.raises(VerificationFailed):
            m.run()
        assert f"account {VICTIM}:" in m.logs(NAME, level="error")[0].message
        assert read(engine)[VICTIM]["passwordHash"] == stored

        change(engine, VICTIM, password=None, key=None)
        (report,) = m.run()
    assert report.verified
    assert read(engine)[VICTIM]["passwordHash"] == stored


@pytest.mark.databases("sqlite")
def test_an_account_deleted_meanwhile_is_counted(engine: sa.Engine, meanwhile: Meanwhile) -> None:
    populate(engine)

    def delete() -> None:
        table = sa.Table("Account", sa.MetaData(), autoload_with=engine)
        with engine.begin() as connection:
            connection.execute(sa.delete(table).where(table.c.id == VICTIM))

    meanwhile(password_of(7), delete)
    with migrator(engine) as m:
        (report,) = m.run()
    assert (report.verified, report.records_processed, report.vanished) == (True, 19, 1)


# In the log


def test_weak_ivs_are_counted_and_do_not_block(engine: sa.Engine) -> None:
    populate(engine)
    insert(engine, [make(0, "with a zero IV"), *(make(60, password_of(n)) | {"id": f"twin-{n}"} for n in (1, 2, 3))])
    insert(engine, [make(70, "x") | {"key": None}])
    with migrator(engine) as m:
        (report,) = m.run()
        said = [line.message for line in m.logs(NAME, level="warning")]
    assert (report.records_processed, report.verified) == (24, True)
    assert said == [
        "1 account skipped: an encrypted password without its IV cannot be read",
        "1 account with an all-zero IV: their ciphertexts share one keystream",
        "3 accounts share an IV with another: their ciphertexts share a keystream",
    ]


# The declaration


def test_a_medium_blob_of_ivs_works_too(engine: sa.Engine) -> None:
    populate(engine, key=sa.LargeBinary().with_variant(mysql.BLOB(), "mysql"))
    with migrator(engine) as m:
        (report,) = m.run()
    assert report.verified


def test_it_declares_what_the_specification_says() -> None:
    assert (PasswordBcrypt.name, PasswordBcrypt.version) == ("001-password-bcrypt", "1.0.0")
    assert PasswordBcrypt.description == "Migrates passwords from AES-256-CTR encryption to bcrypt hashing"
    assert PasswordBcrypt.rollbackable is False


def test_importing_it_loads_nothing_heavy() -> None:
    program = (
        "import importlib, sys, system_migration.batch_migration, sqlalchemy; before = set(sys.modules);"
        "importlib.import_module('ante_backend.migrations.001_password_bcrypt');"
        "print(*sorted(name for name in set(sys.modules) - before if not name.startswith('system_migration')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"bcrypt", "cryptography", "ante_backend.settings", "ante_backend.key_preflight", "hashlib"}
