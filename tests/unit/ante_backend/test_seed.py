"""Seeded accounts are what the legacy application would have written, and the command refuses politely."""

import collections
import re
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.schema import CreateTable

from ante_backend.faults import RowFault
from ante_backend.legacy_cipher import derive_key, parse_ciphertext, parse_iv
from ante_backend.plausibility import KeyRing
from ante_backend.seed import DAMAGES, create_legacy_table, insert_accounts, main, make_accounts
from ante_backend.tables import account

KEY = "seed test key"
RING = KeyRing([("main", derive_key(KEY))])


def outcome(row: Any) -> str:
    """The row's password, or the code of its fault."""
    try:
        return RING.open(parse_ciphertext(row["password"]), parse_iv(row["key"])).text
    except RowFault as fault:
        return fault.code


def stored(url: str) -> list[Any]:
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        rows = list(connection.execute(sa.select(account)).mappings())
    engine.dispose()
    return rows


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in ("DATABASE_URL", "BCRYPT_COST", "ENCRYPTION_KEYS_OLD", "ENCRYPTION_CANARY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ENCRYPTION_KEY", KEY)
    return f"sqlite:///{tmp_path / 'seed.db'}"


def test_every_account_opens_to_its_password_or_gives_its_damage():
    accounts = list(make_accounts(300, 30, KEY))
    assert len(accounts) == 300
    assert collections.Counter(a.damage for a in accounts) == {None: 270, **dict.fromkeys(DAMAGES, 5)}
    for seeded in accounts:
        assert outcome(seeded.row) == (seeded.damage or seeded.plaintext)
        assert (seeded.plaintext is None) == (seeded.damage is not None)


def test_people_are_invented_and_unique():
    accounts = [a.row for a in make_accounts(500, 0, KEY)]
    for column in ("id", "username", "email", "key"):
        assert len({row[column] for row in accounts}) == 500
    assert all(row["email"].endswith("@example.test") and row["email"].isascii() for row in accounts)


def test_passwords_are_a_realistic_mix():
    texts = [a.plaintext or "" for a in make_accounts(500, 0, KEY)]
    lengths = [len(text.encode()) for text in texts]
    assert min(lengths) >= 6
    assert max(lengths) > 16
    assert max(lengths) <= 72
    assert 10 < sum(not text.isascii() for text in texts) < 150


def test_the_same_arguments_give_the_same_accounts():
    first = list(make_accounts(20, 3, KEY, seed=5))
    assert first == list(make_accounts(20, 3, KEY, seed=5))
    assert first != list(make_accounts(20, 3, KEY, seed=6))


def test_accounts_numbered_later_are_other_people():
    first = {a.row["id"] for a in make_accounts(20, 0, KEY)}
    later = {a.row["id"] for a in make_accounts(20, 0, KEY, first=21)}
    assert not first & later


def test_three_damaged_ones_give_three_codes_spread_over_the_table():
    codes = [a.damage for a in make_accounts(30, 3, KEY)]
    assert [code for code in codes if code] == list(DAMAGES[:3])
    assert all(sum(code is not None for code in codes[start : start + 10]) == 1 for start in (0, 10, 20))


@pytest.mark.parametrize(("count", "damaged"), [(3, 4), (3, -1), (0, 1)])
def test_an_impossible_number_of_damaged_ones_is_refused_at_once(count: int, damaged: int):
    with pytest.raises(ValueError, match="between 0 and"):
        make_accounts(count, damaged, KEY)


def test_accounts_are_inserted_in_chunks(url: str):
    engine = sa.create_engine(url)
    create_legacy_table(engine)
    create_legacy_table(engine)  # harmless when it is there
    sums: list[int] = []
    assert insert_accounts(engine, make_accounts(2100, 0, KEY), sums.append) == 2100
    engine.dispose()
    assert sums == [1000, 2000, 2100]
    assert len(stored(url)) == 2100


def test_the_command_writes_what_it_says(url: str, capsys: pytest.CaptureFixture[str]):
    assert main(["--accounts", "40", "--damaged", "3", "--database-url", url]) == 0
    rows = stored(url)
    assert len(rows) == 40
    assert {outcome(row) for row in rows} >= set(DAMAGES[:3])
    assert capsys.readouterr().out == "40 accounts written, 3 of them damaged.\n"
    assert [dict(row) for row in rows] == [a.row for a in make_accounts(40, 3, KEY)]


def test_asked_for_logins_it_prints_a_user_and_a_developer_whose_passwords_are_right(
    url: str, capsys: pytest.CaptureFixture[str]
):
    assert main(["--accounts", "40", "--damaged", "3", "--logins", "--database-url", url]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    printed = dict(re.findall(r"^A (\w+): username (\S+), password .+$", line)[0] for line in lines)
    known = {a.row["username"]: a for a in make_accounts(40, 3, KEY)}
    is_developer = {kind: known[name].row["isDeveloper"] for kind, name in printed.items()}
    assert is_developer == {"developer": True, "user": False}
    for line, name in zip(lines, printed.values(), strict=True):
        assert line.endswith(f", password {known[name].plaintext}")


def test_the_database_may_come_from_the_environment(url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DATABASE_URL", url)
    assert main(["--accounts", "2"]) == 0
    assert len(stored(url)) == 2


def test_a_table_with_rows_is_refused_unless_appended_to(url: str, capsys: pytest.CaptureFixture[str]):
    command = ["--accounts", "10", "--database-url", url]
    assert main(command) == 0
    assert main(command) == 2
    assert "already holds 10 rows: add --append" in capsys.readouterr().err
    assert len(stored(url)) == 10
    assert main([*command, "--append"]) == 0
    assert len({row["username"] for row in stored(url)}) == 20


@pytest.mark.parametrize("key", [None, "", "  "])
def test_without_a_key_it_says_so(
    url: str, key: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    if key is None:
        monkeypatch.delenv("ENCRYPTION_KEY")
    else:
        monkeypatch.setenv("ENCRYPTION_KEY", key)
    assert main(["--accounts", "1", "--database-url", url]) == 2
    message = capsys.readouterr().err
    assert message.startswith("ENCRYPTION_KEY is ")
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    ("database", "reason"),
    [
        ("not a url", "cannot be read"),
        ("nosuch://host/db", "not supported"),
        ("postgresql://user:s3cret@host:port/db", "cannot be read"),
    ],
)
def test_a_database_that_cannot_be_named_is_refused(
    url: str, database: str, reason: str, capsys: pytest.CaptureFixture[str]
):
    assert main(["--accounts", "1", "--database-url", database]) == 2
    message = capsys.readouterr().err
    assert reason in message
    assert message.count("\n") == 1
    assert "s3cret" not in message


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "mysql", "mariadb"])
def test_a_database_that_does_not_answer_is_one_line(url: str, scheme: str, capsys: pytest.CaptureFixture[str]):
    assert main(["--accounts", "1", "--database-url", f"{scheme}://user:s3cret@127.0.0.1:1/db"]) == 1
    message = capsys.readouterr().err
    assert message.startswith("The database refused: ")
    assert message.count("\n") == 1
    assert "s3cret" not in message


@pytest.mark.parametrize(
    "options",
    [[], ["--accounts", "x"], ["--accounts", "-1"], ["--accounts", "1", "--damaged", "2"]],
    ids=" ".join,
)
def test_a_wrong_command_line_exits_2_and_writes_nothing(url: str, options: list[str], tmp_path: Path):
    with pytest.raises(SystemExit) as left:
        main([*options, "--database-url", url])
    assert left.value.code == 2
    assert list(tmp_path.iterdir()) == []


def test_the_table_has_the_legacy_shape_on_every_database():
    assert "passwordHash" not in account.c
    postgres = str(CreateTable(account).compile(dialect=postgresql.dialect()))
    mariadb = str(CreateTable(account).compile(dialect=mysql.dialect()))
    assert "key BYTEA" in postgres
    assert "VARBINARY(255)" in mariadb
    assert "DATETIME(6)" in mariadb
    assert "ENGINE=InnoDB" in mariadb
    assert "CHARSET=utf8mb4" in mariadb
