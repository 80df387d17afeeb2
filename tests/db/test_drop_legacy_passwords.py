"""The contract step: what may be deleted, what never, what it refuses, and life without the key afterwards."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from ante_backend import release
from ante_backend.passwords import Over72Policy, check_password, hash_password
from system_migration import Refused, RunOptions, Status
from system_migration.errors import Interrupted, MigrationFailed
from tests.support.accounts import DROP, KEY, NAME, OLD_KEY, both, change, create_table, insert, make, read

CLEARED = {"password": None, "key": None}


def identity(number: int) -> str:
    return f"account-{number:05}"


def password_of(number: int) -> str:
    return f"password {number}!"


def hash_of(password: str) -> str:
    return hash_password(password.encode(), 4, "hold")


def opens(row: dict[str, Any], password: str) -> bool:
    return check_password(password.encode(), row["passwordHash"], "hold")


def legacy(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("password", "key")}


def populate(engine: sa.Engine, accounts: int = 12, key: str = KEY) -> None:
    """Accounts that 001 has migrated."""
    create_table(engine)
    insert(engine, [make(number, password_of(number), key) for number in range(1, accounts + 1)])
    with both(engine) as m:
        m.run()


def age(engine: sa.Engine, days: float) -> None:
    """Let 001 have completed so long ago."""
    record = sa.table("system_migration_migration", sa.column("name"), sa.column("finished_at", sa.DateTime))
    then = datetime.now(UTC).replace(tzinfo=None, microsecond=0) - timedelta(days=days)
    with engine.begin() as connection:
        connection.execute(sa.update(record).where(record.c.name == NAME).values(finished_at=then))


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENCRYPTION_KEY", KEY)
    monkeypatch.setenv("LEGACY_OBSERVATION_DAYS", "0")


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], None]], None]:
    """Let the application act while a run proves the hash of an account; the preflight's sample is not counted."""

    def arrange(number: int, act: Callable[[], None]) -> None:
        monkeypatch.setenv("PASSWORD_VERIFY_SAMPLE", "1")
        wanted, seen = password_of(number).encode(), []

        def check_and_act(plain: bytes, stored: str, over_72: Over72Policy) -> bool:
            opened = check_password(plain, stored, over_72)
            if plain == wanted:
                seen.append(opened)
                if len(seen) == 1:
                    act()
            return opened

        monkeypatch.setattr(release, "check_password", check_and_act)

    return arrange


# What it does


def test_reversible_passwords_go_and_nobody_needs_the_key_any_more(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    populate(engine)
    change(engine, identity(12), passwordHash=hash_of("set by its owner"), **CLEARED)
    before = read(engine)
    with both(engine) as m:
        (report,) = m.run(DROP)
        assert (report.status, report.verified, report.records_processed) == (Status.COMPLETED, True, 11)
        after = read(engine)
        assert after == {name: row | CLEARED for name, row in before.items()}
        assert all(opens(after[identity(number)], password_of(number)) for number in range(1, 12))

        monkeypatch.delenv("ENCRYPTION_KEY")
        assert [(again.records_processed, again.verified) for again in (*m.run(NAME), *m.run(DROP))] == [
            (12, True),
            (11, True),
        ]
        assert [(report.name, report.verified) for report in m.verify()] == [(NAME, True), (DROP, True)]
        assert "nothing to compare with" in " ".join(line.message for line in m.logs(NAME))
    assert read(engine) == after


@pytest.mark.databases("sqlite")
def test_it_runs_only_when_named_after_the_first_one(engine: sa.Engine) -> None:
    create_table(engine)
    insert(engine, [make(number, password_of(number)) for number in range(1, 9)])
    with both(engine) as m:
        with pytest.raises(Refused, match=f"requires {NAME}, which is PENDING"):
            m.run(DROP)
        assert [report.name for report in m.run()] == [NAME]
        assert m.run() == []
        assert all(row["password"] for row in read(engine).values())


@pytest.mark.databases("sqlite")
def test_an_iv_alone_is_cleared_and_a_tab_in_a_password_is_no_obstacle(engine: sa.Engine) -> None:
    populate(engine)
    change(engine, identity(1), password=None, passwordHash=None)
    change(engine, identity(2), **legacy(make(2, "a\tb")), passwordHash=hash_of("a\tb"))  # as a login upgrades it
    with both(engine) as m:
        (report,) = m.run(DROP)
    assert (report.records_processed, report.issues) == (12, 0)
    assert all(legacy(row) == CLEARED for row in read(engine).values())


@pytest.mark.databases("sqlite")
def test_each_hash_is_proven_with_one_bcrypt_whichever_key_opens_it(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    populate(engine)
    other = {number: make(number, password_of(number), OLD_KEY) for number in (3, 4)}
    for number, row in other.items():
        change(engine, identity(number), **legacy(row))
    monkeypatch.setenv("ENCRYPTION_KEYS_OLD", OLD_KEY)
    monkeypatch.setenv("PASSWORD_VERIFY_SAMPLE", "1")
    tried = []

    def counting(plain: bytes, stored: str, over_72: Over72Policy) -> bool:
        tried.append(plain)
        return check_password(plain, stored, over_72)

    monkeypatch.setattr(release, "check_password", counting)
    with both(engine) as m:
        (report,) = m.run(DROP)
    assert report.records_processed == 12
    assert len(tried) == 12 + 1
    assert {password_of(number).encode() for number in range(1, 13)} == set(tried)


@pytest.mark.databases("sqlite")
def test_samples_are_proven_on_the_cores_that_the_process_may_use(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 0)  # no number of threads: the machine's cores are not asked for
    populate(engine)
    with both(engine) as m:
        assert m.verify(NAME)
        (report,) = m.run(DROP)
    assert report.records_processed == 12


# What it holds


def test_a_password_that_the_old_application_wrote_is_never_lost(engine: sa.Engine) -> None:
    populate(engine)
    newest = legacy(make(9_000, "the newest password"))
    change(engine, identity(7), **newest)
    with both(engine) as m:
        with pytest.raises(Refused) as refused:
            m.run(DROP)
        (dry,) = m.dry_run(DROP)
        assert str(refused.value) == dry.refusal
        assert "1 account would keep their reversible password (1 stale_hash), and 0 may." in str(refused.value)
        assert "Something still writes the old columns: stop it first." in str(refused.value)

        (report,) = m.run(DROP, RunOptions(max_issues=1))
        assert (report.status, report.verified, report.issues) == (Status.COMPLETED, True, 1)
        assert [(issue.key, issue.code) for issue in m.issues(DROP)] == [(identity(7), "stale_hash")]
        after = read(engine)
        assert legacy(after[identity(7)]) == newest
        assert all(legacy(row) == CLEARED for name, row in after.items() if name != identity(7))

        # The way out: the hash goes, 001 makes the right one, and the row is tried again.
        change(engine, identity(7), passwordHash=None)
        (mended,) = m.run(NAME)
        report = m.retry(DROP)
    assert (mended.records_processed, report.issues, report.verified) == (13, 0, True)
    row = read(engine)[identity(7)]
    assert legacy(row) == CLEARED
    assert opens(row, "the newest password")


@pytest.mark.databases("sqlite")
def test_what_the_sample_does_not_see_is_held_all_the_same(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    populate(engine, 30)
    with both(engine) as m:
        m.run(DROP, RunOptions(to_key=identity(2)))  # proves the keys
        newest = legacy(make(9_000, "the newest password"))
        change(engine, identity(30), **newest)
        monkeypatch.setattr("ante_backend.hash_audit.random_sample", lambda rows, size: list(rows)[:1])
        with pytest.raises(MigrationFailed, match="rows held: 1, allowed: 0"):
            m.run(DROP)
    after = read(engine)
    assert legacy(after[identity(30)]) == newest
    assert sum(legacy(row) == CLEARED for row in after.values()) == 29


@pytest.fixture
def held(engine: sa.Engine) -> dict[str, str]:
    """Accounts without a hash to go by: their ids, and why they are held."""
    populate(engine, 12)
    long, latin = make(20, "x" * 73), make(21, "short")
    latin |= legacy(make(21, "garbage under a key that nobody has", "lost key"))
    insert(engine, [long, latin, make(22, "without an IV", key=KEY) | {"key": None}])
    change(engine, identity(12), passwordHash="$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA")
    change(engine, identity(11), password="zz" * 8)
    codes = {20: "no_hash", 21: "no_hash", 22: "no_hash", 12: "unrecognised_hash", 11: "ciphertext_not_hex"}
    return {identity(number): code for number, code in codes.items()}


def test_accounts_without_a_good_hash_keep_all_they_have(engine: sa.Engine, held: dict[str, str]) -> None:
    before = read(engine)
    with both(engine) as m:
        with pytest.raises(Refused, match=r"3 no_hash, 1 unrecognised_hash, 1 ciphertext_not_hex.*--max-issues 5"):
            m.run(DROP, RunOptions(max_issues=4))
        assert read(engine) == before
        (dry,) = m.dry_run(DROP, RunOptions(max_issues=5), full=True)
        assert (dry.would_hold, dry.would_change) == (5, 10)
        (report,) = m.run(DROP, RunOptions(max_issues=5))
        assert {issue.key: issue.code for issue in m.issues(DROP)} == held
    after = read(engine)
    assert (report.status, report.verified, report.records_processed) == (Status.COMPLETED, True, 10)
    assert {name: after[name] for name in held} == {name: before[name] for name in held}
    assert all(legacy(row) == CLEARED for name, row in after.items() if name not in held)


@pytest.mark.databases("sqlite")
def test_what_is_held_needs_the_key_and_says_so(
    engine: sa.Engine, held: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with both(engine) as m:
        m.run(DROP, RunOptions(max_issues=5))
        monkeypatch.delenv("ENCRYPTION_KEY")
        for start in (lambda: m.run(DROP), lambda: m.retry(DROP), lambda: m.run(NAME)):
            with pytest.raises(Refused, match="ENCRYPTION_KEY is not set"):
                start()
        (verified,) = m.verify(DROP)
    assert verified.verified


# What it refuses


def test_the_hashes_are_observed_first(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    populate(engine)
    wanted = 14
    monkeypatch.delenv("LEGACY_OBSERVATION_DAYS")
    before = read(engine)
    with both(engine) as m:
        for passed, left in ((0, wanted), (wanted - 0.5, 1)):
            age(engine, passed)
            with pytest.raises(Refused, match=f"to be observed for {wanted} days") as refused:
                m.run(DROP)
            assert f"Start again in {left} days" in str(refused.value)
            (dry,) = m.dry_run(DROP)
            assert dry.refusal == str(refused.value)
        assert read(engine) == before
        age(engine, wanted + 0.01)
        m.run(DROP, RunOptions(to_key=identity(5)))
        m.run(NAME)  # which puts off no end of what has begun
        (report,) = m.run(DROP)
    assert report.records_processed == 12


@pytest.mark.databases("sqlite")
def test_what_never_completed_was_never_observed(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    create_table(engine, passwordHash=sa.String(255))
    insert(engine, [make(1, password_of(1)) | {"passwordHash": hash_of(password_of(1))}])
    monkeypatch.setenv("LEGACY_OBSERVATION_DAYS", "1")
    with both(engine) as m:
        (dry,) = m.dry_run(DROP)
        assert dry.refusal
        assert "did not complete here" in dry.refusal
        m.skip(NAME, "logins have made all hashes")
        with pytest.raises(Refused, match="LEGACY_OBSERVATION_DAYS=0"):
            m.run(DROP)
        monkeypatch.setenv("LEGACY_OBSERVATION_DAYS", "0")
        (report,) = m.run(DROP)
    assert report.records_processed == 1


@pytest.mark.databases("sqlite")
def test_what_001_could_still_hash_it_must_hash_first(engine: sa.Engine) -> None:
    populate(engine)
    insert(engine, [make(50, password_of(50))])
    before = read(engine)
    with both(engine) as m:
        with pytest.raises(Refused, match=f"Account {identity(50)}, .*`migration run {NAME}`"):
            m.run(DROP, RunOptions(max_issues=100))
        assert read(engine) == before
        m.run(NAME)
        (report,) = m.run(DROP)
    assert report.records_processed == 13


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("another key altogether", "None of 12 hashes that were tried opens with its encrypted password"),
        (None, "ENCRYPTION_KEY is not set"),
    ],
    ids=["wrong", "missing"],
)
@pytest.mark.databases("sqlite")
def test_without_the_right_key_nothing_is_touched(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch, key: str | None, said: str
) -> None:
    populate(engine)
    before = read(engine)
    if key is None:
        monkeypatch.delenv("ENCRYPTION_KEY")
    else:
        monkeypatch.setenv("ENCRYPTION_KEY", key)
    with both(engine) as m, pytest.raises(Refused, match=said):
        m.run(DROP, RunOptions(max_issues=1000))
    assert read(engine) == before


@pytest.mark.databases("sqlite")
def test_it_cannot_be_undone_and_says_so_before_it_starts(engine: sa.Engine, caplog: pytest.LogCaptureFixture) -> None:
    populate(engine)
    with both(engine) as m:
        (dry,) = m.dry_run(DROP)
        assert dry.rollback == "cannot be rolled back: it declares rollbackable = False."
        assert "this deletes the reversible passwords of 12 accounts for good" in caplog.text
        caplog.clear()
        assert dry.refusal is None
        assert {value for sample in dry.samples for value in {**sample.before, **sample.after}.values()} == {"***"}
        m.run(DROP)
        messages = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert messages == [
            "this deletes the reversible passwords of 12 accounts for good: no rollback brings them back, only a backup"
        ]
        with pytest.raises(Refused, match="cannot be rolled back"):
            m.rollback(DROP)


# Beside the application, and cut short


def test_a_password_set_meanwhile_in_the_new_application_stays(
    engine: sa.Engine, meanwhile: Callable[[int, Callable[[], None]], None]
) -> None:
    populate(engine)
    stored = hash_of("the newest password")
    with both(engine) as m:
        meanwhile(7, lambda: change(engine, identity(7), passwordHash=stored, **CLEARED))
        (report,) = m.run(DROP)
    row = read(engine)[identity(7)]
    assert (report.status, report.verified, report.issues) == (Status.COMPLETED, True, 0)
    assert (row["passwordHash"], legacy(row)) == (stored, CLEARED)


def test_a_password_set_meanwhile_in_the_old_application_is_held(
    engine: sa.Engine, meanwhile: Callable[[int, Callable[[], None]], None]
) -> None:
    populate(engine)
    newest = legacy(make(9_000, "the newest password"))
    with both(engine) as m:
        m.run(DROP, RunOptions(to_key=identity(3)))  # proves the keys, whatever the next sample says
        meanwhile(7, lambda: change(engine, identity(7), **newest))
        (report,) = m.run(DROP, RunOptions(max_issues=1))
        assert [(issue.key, issue.code) for issue in m.issues(DROP)] == [(identity(7), "stale_hash")]
    assert (report.status, report.verified) == (Status.COMPLETED, True)
    assert legacy(read(engine)[identity(7)]) == newest


@pytest.mark.databases("sqlite")
def test_another_key_cannot_continue_what_was_begun(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    populate(engine)
    with both(engine) as m:
        m.run(DROP, RunOptions(to_key=identity(5)))
        monkeypatch.setenv("ENCRYPTION_KEY", OLD_KEY)
        monkeypatch.setenv("ENCRYPTION_KEYS_OLD", KEY)
        with pytest.raises(Refused, match="The ENCRYPTION_KEY differs from the one this migration began with"):
            m.run(DROP)


@pytest.mark.databases("sqlite")
def test_a_run_that_was_stopped_goes_on(
    engine: sa.Engine, meanwhile: Callable[[int, Callable[[], None]], None]
) -> None:
    populate(engine)
    before = read(engine)
    with both(engine) as m:
        meanwhile(7, lambda: m.request_stop(signal.SIGTERM))
        with pytest.raises(Interrupted):
            m.run(DROP, RunOptions(batch_size=3, workers=1))
    between = read(engine)
    assert 0 < sum(legacy(row) == CLEARED for row in between.values()) < 12
    assert all(legacy(row) in (CLEARED, legacy(before[name])) for name, row in between.items())
    with both(engine) as m:
        (report,) = m.run(DROP)
    assert (report.status, report.verified, report.records_processed) == (Status.COMPLETED, True, 12)
    assert read(engine) == {name: row | CLEARED for name, row in before.items()}
