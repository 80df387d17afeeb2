"""The scratch copies of a rehearsal: the same rows, or a sample where all foreign keys hold; the source as it was."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine, ForeignKey, ForeignKeyConstraint

from system_migration import BatchMigration, Migration, MigrationResult, Migrator, Refused, Registry, Row, Settings
from system_migration.errors import ConfigurationError
from system_migration.rehearsal import copying_sqlite, scratch_names
from system_migration.rehearsal import tables as rehearsed_tables
from system_migration.rehearsal.copies import copied
from system_migration.rehearsal.copying_mariadb import _ask as mariadb_ask
from system_migration.rehearsal.copying_mariadb import _snapshot as mariadb_snapshot
from system_migration.rehearsal.copying_postgresql import _ask as postgresql_ask
from system_migration.rehearsal.copying_postgresql import _snapshot as postgresql_snapshot
from system_migration.rehearsal.sampling import TooSlow
from system_migration.rehearsal.watching import Watch
from tests.support.databases import application_engine
from tests.support.roles import plain_role

ROWS = 60
ACCOUNTS, COMPANIES, REGIONS, NOTES = 800, 400, 300, 200

metadata = sa.MetaData()
region = sa.Table(
    "region",
    metadata,
    sa.Column("country", sa.String(2), primary_key=True),
    sa.Column("code", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("name", sa.String(20)),
)
company = sa.Table(
    "company",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("owner_id", sa.Integer, ForeignKey("account.id", use_alter=True, name="fk_company_owner")),
)
account = sa.Table(
    "account",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("phone", sa.String(20)),
    sa.Column("manager_id", sa.Integer, ForeignKey("account.id")),
    sa.Column("company_id", sa.Integer, ForeignKey("company.id")),
    sa.Column("country", sa.String(2)),
    sa.Column("region", sa.Integer),
    ForeignKeyConstraint(["country", "region"], ["region.country", "region.code"]),
)
note = sa.Table(  # a child of accounts, that nothing refers to
    "note",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("account_id", sa.Integer, ForeignKey("account.id")),
)
odd = sa.Table(  # small, with values that are easily lost on the way
    "odd Name",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("text %s", sa.String(60, collation=None)),
    sa.Column("bytes", sa.LargeBinary),
    sa.Column("real", sa.Float(24)),
    sa.Column("double", sa.Double),
    sa.Column("amount", sa.Numeric(20, 6)),
    sa.Column("day", sa.Date),
    sa.Column("at", sa.DateTime(timezone=True)),
)
TABLES = [region, company, account, note, odd]


class Phones(BatchMigration):
    name = "001-phones"
    table = "account"
    reads = ("phone",)
    writes = ("phone_e164",)

    def prepare(self, schema: Any) -> None:
        schema.add_column("account", sa.Column("phone_e164", sa.String(20)))

    def pending(self, t: sa.FromClause) -> sa.ColumnElement[bool]:
        return t.c.phone_e164.is_(None) & t.c.phone.is_not(None)

    def transform(self, row: Row) -> dict[str, Any]:
        return {"phone_e164": row.phone}


class Imperative(Migration):
    name = "002-imperative"

    def up(self, context: Any) -> MigrationResult:
        return MigrationResult()


def fill(engine: Engine) -> None:
    """Every account but each tenth is pending; its manager is the account of half its number."""
    own = sa.MetaData()  # a foreign key that was once added later is never again created with its table
    for table in TABLES:
        table.to_metadata(own)
    own.create_all(engine)
    accounts = [
        {
            "id": n,
            "phone": None if n % 10 == 0 else f"0{n}",
            "manager_id": n // 2 or None,
            "company_id": (n + 1) // 2,
            "country": None if n % 7 == 0 else "de",
            "region": n % REGIONS,
        }
        for n in range(1, ACCOUNTS + 1)
    ]
    with engine.begin() as connection:
        connection.execute(region.insert(), [{"country": "de", "code": n, "name": "ä"} for n in range(REGIONS)])
        connection.execute(company.insert(), [{"id": n} for n in range(1, COMPANIES + 1)])
        connection.execute(account.insert(), accounts)
        owned = company.update().where(company.c.id == sa.bindparam("company"))
        connection.execute(
            owned.values(owner_id=sa.bindparam("owner")),
            [{"company": n, "owner": n} for n in range(1, COMPANIES + 1)],
        )
        connection.execute(note.insert(), [{"account_id": n} for n in range(1, NOTES + 1)])
        connection.execute(note.delete().where(note.c.id > NOTES - 5))  # the next number is not the highest plus one
        connection.execute(odd.insert(), odd_rows(engine))


def odd_rows(engine: Engine) -> list[dict[str, Any]]:
    plain: dict[str, Any] = {
        "id": 7,
        "text %s": "tab\tline\nback\\slash 'quote' \"double\" \\N 100 % ünï 🙂",
        "bytes": bytes(range(256)),
        "real": 0.1,
        "double": 0.1 + 0.2,
        "amount": Decimal("12345678901234.000001"),
        "day": date(1, 1, 1),
        "at": datetime(2024, 10, 27, 1, 30, 0, tzinfo=UTC),
    }
    return [plain, {**dict.fromkeys(plain), "id": 8}, {**plain, "id": 9, "text %s": "", "bytes": b""}]


@pytest.fixture
def source(engine: Engine) -> Engine:
    fill(engine)
    return engine


def fingerprint(engine: Engine, tables: Sequence[sa.Table] = TABLES) -> dict[str, str]:
    """A digest of every row of each table."""
    with engine.connect() as connection:
        return {
            table.name: hashlib.sha256(
                repr(connection.execute(table.select().order_by(*table.primary_key.columns)).all()).encode()
            ).hexdigest()
            for table in tables
        }


def count(engine: Engine, table: sa.Table, *conditions: Any) -> int:
    with engine.connect() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(table).where(*conditions)).scalar_one()


def orphans(engine: Engine) -> list[str]:
    """The foreign keys that do not hold."""
    broken = []
    with engine.connect() as connection:
        for table in TABLES:
            for key in table.foreign_key_constraints:
                child, parent = table.alias(), key.referred_table.alias()
                joined = sa.and_(*(child.c[e.parent.name] == parent.c[e.column.name] for e in key.elements))
                lost = (
                    sa.select(sa.func.count())
                    .select_from(child.outerjoin(parent, joined))
                    .where(
                        *(child.c[e.parent.name].is_not(None) for e in key.elements),
                        parent.c[key.elements[0].column.name].is_(None),
                    )
                )
                if connection.execute(lost).scalar_one():
                    broken.append(f"{table.name} {key.column_keys}")
    return broken


def scratch_left(engine: Engine) -> set[str]:
    """Every database of the server, or what rehearsals have in the temporary folder."""
    if engine.dialect.name == "sqlite":
        return {each.name for each in Path(tempfile.gettempdir()).glob("*_rehearsal_*")}
    listing = "SELECT datname FROM pg_database" if engine.dialect.name == "postgresql" else "SHOW DATABASES"
    with engine.connect() as connection:
        return set(connection.execute(sa.text(listing)).scalars())


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests of the machine have scratch files too."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


# The same rows


def test_a_copy_has_every_row_as_it_is_and_goes_on_numbering_where_the_source_stands(source: Engine) -> None:
    before = fingerprint(source)
    with closing(Migrator(source, Registry([Phones]), settings=Settings(environment="testing"))) as migrator:
        migrator.init()
    with copied(source, Phones, rows=None) as copies:
        assert copies.not_covered == []
        for _ in range(2):  # what one of them is used for, the next does not see
            with copies.fresh() as copy:
                assert fingerprint(copy) == before
                assert not [t for t in sa.inspect(copy).get_table_names() if t.startswith("system_migration_")]
                with copy.begin() as connection:
                    made = connection.execute(note.insert().values(account_id=1)).inserted_primary_key
                    connection.execute(account.update().values(phone="changed"))
                assert made is not None
                if copy.dialect.name != "sqlite":  # which counts on from the highest
                    assert made[0] == NOTES + 1
    assert fingerprint(source) == before


def test_a_table_as_large_as_the_limit_is_whole(source: Engine) -> None:
    with copied(source, Phones, rows=ACCOUNTS) as copies, copies.fresh() as copy:
        assert copies.not_covered == []
        assert fingerprint(copy) == fingerprint(source)


@pytest.mark.databases("sqlite")
def test_a_database_in_memory_is_copied_to_files() -> None:
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    fill(engine)
    with copied(engine, Phones) as copies, copies.fresh() as copy:
        assert copy.url.database != ":memory:"
        assert fingerprint(copy) == fingerprint(engine)
    engine.dispose()


# A sample


def test_a_sample_has_both_ends_mostly_pending_rows_and_all_that_its_foreign_keys_need(source: Engine) -> None:
    with copied(source, Phones, rows=ROWS) as copies, copies.fresh() as copy:
        assert orphans(copy) == []
        with copy.connect() as connection:
            ids = set(connection.execute(sa.select(account.c.id)).scalars())
        assert {1, 2, 3, ACCOUNTS - 1, ACCOUNTS - 2} <= ids
        assert {n // 100 for n in ids} == set(range(ACCOUNTS // 100 + 1))  # spread over all of the key
        assert ROWS < len(ids) < ACCOUNTS
        pending = {n for n in ids if n % 10}
        assert len(pending) > ROWS // 2
        assert len(ids - pending) >= ROWS // 10
        assert count(copy, note) == 0
        assert count(copy, odd) == 3
        assert 0 < count(copy, region) < REGIONS
        told = dict(sentence.split(" was copied in part, ") for sentence in copies.not_covered)
    assert set(told) == {"account", "company", "region", "note"}
    assert told["account"].startswith(f"{len(ids)} ")
    assert told["account"].endswith(f": {ROWS} chosen, {len(ids) - ROWS} that foreign keys need")
    assert told["note"].endswith(": 0 that foreign keys need")


def test_for_an_imperative_migration_every_large_table_is_sampled(source: Engine) -> None:
    with copied(source, Imperative, rows=ROWS) as copies, copies.fresh() as copy:
        assert orphans(copy) == []
        assert count(copy, note) == ROWS
        assert all(count(copy, table) >= ROWS for table in (account, company, region))


@pytest.mark.databases("sqlite")
def test_rows_that_need_each_other_without_end_are_refused(source: Engine) -> None:
    with source.begin() as connection:  # every account needs the one before
        connection.execute(account.update().values(manager_id=sa.case((account.c.id > 1, account.c.id - 1))))
    with pytest.raises(Refused, match=r"^A sample would need more than 400 rows, most of them of account, because"):
        with copied(source, Phones, rows=4):
            raise AssertionError("unreachable")


@pytest.mark.databases("sqlite")
def test_a_table_without_a_key_and_one_that_is_not_there(source: Engine) -> None:
    class Elsewhere(Phones):
        table = "Acount"

    with pytest.raises(Refused, match=r"^Table 'Acount' of migration 001-phones is not among the tables that can be"):
        with copied(source, Elsewhere):
            raise AssertionError("unreachable")


# The source


@pytest.mark.databases("postgresql", "mariadb")
def test_the_application_goes_on_while_it_is_copied_from_one_moment(source: Engine) -> None:
    """One connection has an uncommitted change all the while, another commits at every step: none is waited for."""
    other = application_engine(source.url)
    steps: list[str] = []

    def commit(sentence: str) -> None:
        steps.append(sentence)
        assert_only_read(other)
        with other.begin() as connection:
            connection.execute(region.update().values(name=f"{len(steps)}"))
            connection.execute(company.insert().values(id=1000 + len(steps)))

    before = fingerprint(source)
    with source.connect() as busy:
        busy.execute(account.update().where(account.c.id == 1).values(phone="not committed"))
        with copied(source, Phones, rows=ROWS, progress=commit) as copies, copies.fresh() as copy:
            busy.rollback()
            assert orphans(copy) == []
            with copy.connect() as connection:  # each commit changed all of them, and none is seen
                assert connection.execute(sa.select(region.c.name).distinct()).scalars().all() == ["ä"]
                assert connection.execute(sa.select(sa.func.max(company.c.id))).scalar_one() <= COMPANIES
    assert len(steps) > 5
    after = fingerprint(source)
    assert {name for name in after if after[name] != before[name]} == {"region", "company"}
    other.dispose()


def assert_only_read(engine: Engine) -> None:
    """No transaction of the copying has locks on tables but those of a SELECT; on rows it has none."""
    on_tables = (
        "SELECT DISTINCT mode FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE locktype = 'relation'"
        " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " AND a.backend_type = 'client backend' AND backend_xid IS NULL AND l.relation > 16384"
    )
    on_rows = "SELECT max(trx_rows_locked) FROM information_schema.innodb_trx WHERE trx_is_read_only = 1"
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            assert set(connection.execute(sa.text(on_tables)).scalars()) == {"AccessShareLock"}
        else:
            assert connection.execute(sa.text(on_rows)).scalar_one() == 0


@pytest.mark.databases("sqlite")
def test_a_file_is_copied_while_the_application_writes_to_it(source: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying_sqlite, "PAGES", 5)
    writes = iter(range(3))

    def commit(sentence: str) -> None:
        if sentence.startswith("copying the database") and next(writes, None) is not None:
            with source.begin() as connection:  # the backup begins anew
                connection.execute(region.update().values(name="both"))
                connection.execute(account.update().values(phone="both"))

    with copied(source, Phones, rows=None, progress=commit) as copies, source.connect() as busy:
        busy.execute(account.update().values(phone="not committed"))
        with copies.fresh() as copy:
            busy.rollback()
            assert fingerprint(copy) == fingerprint(source)
    assert next(writes, None) is None


@pytest.mark.databases("postgresql", "mariadb")
def test_the_server_itself_refuses_to_write_where_rows_are_read_from(source: Engine) -> None:
    snapshot = postgresql_snapshot if source.dialect.name == "postgresql" else mariadb_snapshot
    with snapshot(source) as connection:
        with pytest.raises(sa.exc.DBAPIError, match=r"read-only|READ ONLY"):
            connection.execute(account.delete())


@pytest.mark.databases("postgresql", "mariadb")
def test_a_look_that_takes_too_long_is_told_and_the_snapshot_goes_on(source: Engine) -> None:
    if source.dialect.name == "postgresql":
        snapshot, ask, limit = postgresql_snapshot, postgresql_ask, "SET LOCAL statement_timeout = 50"
        long: Any = sa.select(sa.cast(sa.func.pg_sleep(20), sa.Text))
    else:
        snapshot, ask, limit = mariadb_snapshot, mariadb_ask, "SET SESSION max_statement_time = 0.05"
        numbers = sa.table("seq_1_to_1000000000", sa.column("seq"))
        long = sa.select(sa.func.count()).select_from(numbers).where(sa.func.sqrt(numbers.c.seq) == 0)
    counted = sa.select(sa.func.count()).select_from(company)
    with snapshot(source) as connection:
        assert ask(connection, counted) == [(COMPANIES,)]
        connection.execute(sa.text(limit))
        with pytest.raises(TooSlow):
            ask(connection, long)
        with source.begin() as other:
            other.execute(company.insert().values(id=9_999))
        assert ask(connection, counted) == [(COMPANIES,)]


# The end


class Stopped(BaseException):
    """As KeyboardInterrupt, which pytest takes for its own."""


@pytest.mark.parametrize("error", [ValueError, Stopped])
def test_nothing_is_left_behind_after_an_error(source: Engine, error: type[BaseException]) -> None:
    before = scratch_left(source)
    forgotten: list[sa.Connection] = []

    def fail() -> None:
        with copied(source, Phones) as copies, copies.fresh(), copies.fresh() as second:
            assert len(scratch_left(source)) > len(before)
            forgotten.append(second.connect())
            forgotten[0].execute(account.select()).all()
            raise error

    with pytest.raises(error):
        fail()
    assert scratch_left(source) == before
    forgotten[0].invalidate()  # its database is gone


def test_nothing_is_left_behind_when_the_copying_itself_is_interrupted(source: Engine) -> None:
    before = scratch_left(source)

    def interrupt(sentence: str) -> None:
        if sentence.startswith(("copying account", "copying the database")):
            raise Stopped

    with pytest.raises(Stopped):
        with copied(source, Phones, progress=interrupt):
            raise AssertionError("unreachable")
    assert scratch_left(source) == before


def test_what_a_killed_rehearsal_left_is_removed_when_it_is_old(
    source: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "system-migration" if source.dialect.name == "sqlite" else source.url.database or ""
    recent = scratch_names.make(name)
    others = scratch_names.make(f"{name}x")
    now = scratch_names._now()
    with monkeypatch.context() as then:
        then.setattr(scratch_names, "_now", lambda: now - timedelta(hours=25))
        old, old_of_others = scratch_names.make(name), scratch_names.make(f"{name}x")
    made = [recent, others, old, old_of_others]
    with scratches(source, made):
        told: list[str] = []
        with copied(source, Phones, progress=told.append):
            assert set(made) - scratch_left(source) == {old}
    assert [sentence for sentence in told if old in sentence and sentence.startswith("removing")]
    assert not [sentence for sentence in told if recent in sentence or others in sentence]


@contextmanager
def scratches(engine: Engine, names: Sequence[str]) -> Iterator[None]:
    """Scratch databases, or folders, with these names."""
    if engine.dialect.name == "sqlite":
        for name in names:
            (Path(tempfile.gettempdir()) / name).mkdir()
        yield
        return
    quote = engine.dialect.identifier_preparer.quote_identifier
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        try:
            for name in names:
                connection.execute(sa.text(f"CREATE DATABASE {quote(name)}"))
            yield
        finally:
            for name in names:
                connection.execute(sa.text(f"DROP DATABASE IF EXISTS {quote(name)}"))


def test_copying_ends_when_its_time_is_up() -> None:
    with pytest.raises(Refused, match=r"^Copying took longer than 0 s and was given up; nothing was left behind\. "):
        Watch(lambda sentence: None, seconds=0).heed()


# Rights and servers


@pytest.mark.databases("postgresql", "mariadb")
def test_a_role_that_may_not_create_databases_is_told_the_right_and_the_other_way(source: Engine) -> None:
    with plain_role(source) as (spoken, role):
        allow(source, f"GRANT SELECT ON account TO {spoken}")
        expected = (
            r"^Role 'role_\w+' may not create databases on the server at 127\.0\.0\.1, which a rehearsal needs for its "
            r'copies\. Let an administrator ALTER ROLE "role_\w+" CREATEDB, or give --scratch the address of a server'
            if source.dialect.name == "postgresql"
            else r"^User 'role_\w+' may not create databases on the server at 127\.0\.0\.1, which .* for its copies\. "
            r"Let an administrator GRANT ALL ON `test\\_\w+\\_rehearsal\\_%`\.\* to it, or give --scratch the address"
        )
        with pytest.raises(Refused, match=expected):
            with copied(role, Phones):
                raise AssertionError("unreachable")


@pytest.mark.databases("postgresql", "mariadb")
def test_a_role_with_few_rights_copies_what_it_may_read_to_where_it_may_write(source: Engine) -> None:
    with plain_role(source) as (spoken, role):
        for table in ("account", "company", "region"):
            allow(source, f"GRANT SELECT ON {table} TO {spoken}")
        with copied(role, Phones, rows=None, scratch=source) as copies, copies.fresh() as copy:
            assert fingerprint(copy, [account, company, region]) == fingerprint(source, [account, company, region])
            if source.dialect.name == "postgresql":
                assert "rows of note: this role may not read it" in copies.not_covered
    assert scratch_left(source) == scratch_left(source)


@pytest.mark.databases("postgresql", "mariadb")
def test_the_rights_that_the_refusal_names_are_enough(source: Engine) -> None:
    allow(source, "CREATE VIEW people AS SELECT id FROM account")  # to see one on MariaDB takes a right of its own
    missing = ["view people: this role may not read it"] if source.dialect.name == "mysql" else []
    with plain_role(source) as (spoken, role):
        if source.dialect.name == "postgresql":
            allow(source, f"ALTER ROLE {spoken} CREATEDB")
            allow(source, f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {spoken}")
        else:
            name = str(source.url.database).replace("_", r"\_")
            allow(source, f"GRANT ALL ON `{name}\\_rehearsal\\_%`.* TO {spoken}")
            allow(source, f"GRANT SELECT ON {source.url.database}.* TO {spoken}")
        with copied(role, Phones, rows=ROWS) as copies, copies.fresh() as copy:
            assert [sentence for sentence in copies.not_covered if " in part, " not in sentence] == missing
            assert orphans(copy) == []
        if source.dialect.name == "mysql":
            allow(source, f"REVOKE ALL PRIVILEGES, GRANT OPTION FROM {spoken}")


def allow(engine: Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(statement, execution_options={"no_parameters": True})


@pytest.mark.databases("sqlite")
def test_scratch_must_be_of_the_same_product(source: Engine) -> None:
    for url, words in (
        ("postgresql+psycopg://nowhere/x", r"^The scratch server is PostgreSQL, the database is SQLite\."),
        ("sqlite:///elsewhere", r"^Copies of a SQLite database are files in the temporary folder: set TMPDIR"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            with copied(source, Phones, scratch=sa.create_engine(url)):
                raise AssertionError("unreachable")


# What belongs to a schema beside its tables

Make = Callable[[Engine], None]


def schema_of(engine: Engine) -> None:
    """A view, a function, a trigger that writes, and things that a copy must not have."""
    statements = {
        "sqlite": [
            "CREATE VIEW people AS SELECT id FROM account",
            "CREATE TRIGGER noted AFTER UPDATE ON account BEGIN INSERT INTO note (account_id) VALUES (new.id); END",
        ],
        "postgresql": [
            "CREATE SCHEMA crm",
            "CREATE TYPE mood AS ENUM ('ok', 'bad')",
            "CREATE TABLE crm.client (id int PRIMARY KEY, account_id int REFERENCES account, moods mood[],"
            " twice int GENERATED ALWAYS AS (id * 2) STORED, CHECK (id > 0))",
            "INSERT INTO crm.client VALUES (1, 1, '{ok,bad}')",
            "CREATE VIEW people AS SELECT id FROM account",
            "CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN INSERT INTO note (account_id) VALUES (new.id); RETURN new; END $$",
            "CREATE TRIGGER noted AFTER UPDATE ON account FOR EACH ROW EXECUTE FUNCTION noted()",
            "CREATE PUBLICATION news FOR TABLE account",
            f"ALTER DATABASE {engine.url.database} SET app.tenant = 'a, b'",
        ],
        "mysql": [
            "CREATE VIEW people AS SELECT id FROM account",
            "CREATE FUNCTION one() RETURNS int RETURN 1",
            "CREATE TRIGGER noted AFTER UPDATE ON account FOR EACH ROW INSERT INTO note (account_id) VALUES (new.id)",
            "CREATE TRIGGER abroad AFTER UPDATE ON account FOR EACH ROW INSERT INTO mysql.func (name) VALUES ('x')",
            "CREATE SEQUENCE number START WITH 5",
            "SELECT NEXTVAL(number)",
            "CREATE TABLE client (id int PRIMARY KEY DEFAULT NEXTVAL(number), b bit(3), t time(3), y year, d date,"
            " f float,"
            " twice int GENERATED ALWAYS AS (id * 2) STORED, u uuid, CHECK (id > 0))",
            "CREATE TABLE tag (name varchar(9) PRIMARY KEY) COLLATE utf8mb4_general_ci",
            "CREATE TABLE tagged (id int AUTO_INCREMENT PRIMARY KEY, tag varchar(9) COLLATE utf8mb4_general_ci,"
            " FOREIGN KEY (tag) REFERENCES tag (name))",
            f"INSERT INTO tag VALUES ('new'), {', '.join(f'({number})' for number in range(ROWS))}",
            "SET SESSION sql_mode = 'ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO'",
            "INSERT INTO tagged VALUES (0, 'new'), (1, 'new'), (2, 'new')",
            "CREATE TABLE labelled LIKE tagged",
            "ALTER TABLE labelled ADD FOREIGN KEY (tag) REFERENCES tag (name)",
            "INSERT INTO labelled VALUES (0, 'NEW')",
            "INSERT INTO client (id, b, t, y, d, f, u) VALUES"
            " (0 + 1, b'101', '-12:01:02.5', 1999, '2024-00-10', 1 / 3, UUID())",
        ],
    }
    with engine.begin() as connection:
        for statement in statements[engine.dialect.name]:
            connection.exec_driver_sql(statement)


def test_views_functions_and_triggers_are_there_and_what_reaches_out_is_not(
    source: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsed_tables, "KEYS_AT_ONCE", 1)  # a row that has two spellings is not copied twice
    schema_of(source)
    with copied(source, Phones, rows=ROWS) as copies, copies.fresh() as copy:
        left_out = [sentence for sentence in copies.not_covered if " in part, " not in sentence]
        with copy.begin() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM people").scalar_one() == count(copy, account)
            connection.execute(account.update().where(account.c.id == 1).values(phone="1"))
            assert connection.execute(sa.select(note.c.account_id)).scalars().all() == [1]
            if copy.dialect.name == "postgresql":
                client = connection.exec_driver_sql("SELECT id, moods::text, twice FROM crm.client").one()
                assert tuple(client) == (1, "{ok,bad}", 2)
                assert connection.exec_driver_sql("SHOW app.tenant").scalar_one() == "a, b"
            if copy.dialect.name == "mysql":
                of = "SELECT id, b + 0, CAST(t AS char), y, CAST(d AS char), f + 0e0, twice, one(), nextval(number)"
                of += " FROM client"
                row = tuple(connection.exec_driver_sql(of).one())
                tagged = "SELECT count(*), min(id), count(name) FROM tagged JOIN tag ON tag = name"
                assert tuple(connection.exec_driver_sql(tagged).one()) == (3, 0, 3)
                # A thousand numbers of the sequence are cached.
                assert row == (1, 5, "-12:01:02.500", 1999, "2024-00-10", 0.3333333432674408, 2, 1, 1005)
    expected = {
        "sqlite": [],
        "postgresql": ["publication news: it reaches beyond the database"],
        "mysql": ["trigger abroad: it names another database"],
    }
    assert left_out == expected[source.dialect.name]


@pytest.mark.databases("postgresql")
def test_without_pg_dump_tables_are_copied_and_the_rest_is_said_to_be_missing(
    source: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with copied(source, Phones, rows=ROWS) as copies, copies.fresh() as copy:
        assert [s for s in copies.not_covered if s.startswith("views, functions, triggers and checks of the schema: ")]
        assert orphans(copy) == []
        assert fingerprint(copy, [odd]) == fingerprint(source, [odd])
        held = {tuple(fk["constrained_columns"]) for fk in sa.inspect(copy).get_foreign_keys("account")}
        assert held == {("manager_id",), ("company_id",), ("country", "region")}
        with copy.begin() as connection:
            assert connection.execute(note.insert().values(account_id=1)).inserted_primary_key == (NOTES + 1,)
