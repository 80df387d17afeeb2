"""What each database's errors mean, provoked on the real databases."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError

from system_migration.store.dialects import Fault, dialect_of
from tests.db.test_workbench import quick
from tests.support.databases import KINDS, application_engine, fresh_database
from tests.support.host import free_port
from tests.support.servers import Server

FUSSY = "CREATE TABLE fussy (id INTEGER PRIMARY KEY, n SMALLINT NOT NULL CHECK (n >= 0), d DATE, t {text})"
SHORT_TEXT = {"sqlite": "TEXT CHECK (length(t) < 4)", "postgresql": "VARCHAR(3)", "mariadb": "VARCHAR(3)"}
A_ROW = "INSERT INTO fussy (id, n) VALUES (1, 1)"
A_CHANGE = "UPDATE fussy SET n = n + 1"

Case = tuple[list[str], Fault]

EVERYWHERE: dict[str, Case] = {
    "a duplicate": ([A_ROW], Fault.ROW),
    "a NULL": (["UPDATE fussy SET n = NULL"], Fault.ROW),
    "a check": (["UPDATE fussy SET n = -1"], Fault.ROW),
    "a value too long": (["UPDATE fussy SET t = 'four'"], Fault.ROW),
    "a missing table": (["SELECT * FROM nowhere"], Fault.NO_TABLE),
    "a missing column": (["SELECT nothing FROM fussy"], Fault.STOP),
    "a mistake in the statement": (["SELEKT 1"], Fault.STOP),
}


def _raised(code: str) -> list[str]:
    """PostgreSQL's error of this code, raised as a trigger may raise it."""
    return [f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{code}'; END $$"]


def _signalled(number: int, words: str = "") -> list[str]:
    """MariaDB's error of this number, raised as a trigger may raise it."""
    return [f"SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {number}, MESSAGE_TEXT = '{words}'"]


ON: dict[str, dict[str, Case]] = {
    "postgresql": {
        "a value out of range": (["UPDATE fussy SET n = 70000"], Fault.ROW),
        "a value of another type": (["UPDATE fussy SET t = CAST('no date' AS date)"], Fault.ROW),
        "a statement past its time": (["SET LOCAL statement_timeout = 10", "SELECT pg_sleep(9)"], Fault.RETRY),
        "a transaction idle for too long": (
            ["SET LOCAL idle_in_transaction_session_timeout = 1", "WAIT", A_CHANGE],
            Fault.LOST,
        ),
        "a deadlock": (_raised("40P01"), Fault.RETRY),
        "a serialization failure": (_raised("40001"), Fault.RETRY),
        "a read-only transaction": (["SET TRANSACTION READ ONLY", A_CHANGE], Fault.WAIT),
        "a full disk": (_raised("53100"), Fault.WAIT),
        "too many connections": (_raised("53300"), Fault.WAIT),
        "a server not yet ready": (_raised("57P03"), Fault.WAIT),
        "a terminated session": (["SELECT pg_terminate_backend(pg_backend_pid())"], Fault.LOST),
        "a trigger's objection": (_raised("P0001"), Fault.ROW),
        "a missing right": (["SET LOCAL ROLE pg_monitor", A_CHANGE], Fault.STOP),
    },
    "mariadb": {
        "a value out of range": (["UPDATE fussy SET n = 70000"], Fault.ROW),
        "a value of another type": (["UPDATE fussy SET d = 'no date'"], Fault.ROW),
        "a statement past its time": (["SET STATEMENT max_statement_time = 0.01 FOR SELECT SLEEP(9)"], Fault.RETRY),
        "a deadlock": (_signalled(1213), Fault.RETRY),
        "a row changed since": (_signalled(1020), Fault.RETRY),
        "a killed statement": (_signalled(1317), Fault.RETRY),
        "a read-only transaction": (["START TRANSACTION READ ONLY", A_CHANGE], Fault.WAIT),
        "a read-only server": (_signalled(1290, "running with the --read-only option"), Fault.WAIT),
        "another option": (_signalled(1290, "running with the --secure-file-priv option"), Fault.STOP),
        "a full table": (_signalled(1114), Fault.WAIT),
        "a full disk": (_signalled(1030, 'Got error 28 "No space left on device" from storage engine'), Fault.WAIT),
        "a broken table": (_signalled(1030, 'Got error 126 "Index is corrupted" from storage engine'), Fault.STOP),
        "too many connections": (_signalled(1040), Fault.WAIT),
        "a killed session": (["KILL CONNECTION_ID()"], Fault.LOST),
        "a trigger's objection": (["SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'"], Fault.ROW),
    },
    "sqlite": {
        "a full disk": (["PRAGMA max_page_count = 1", "CREATE TABLE more (x BLOB)"], Fault.WAIT),
        "a connection that only reads": (["PRAGMA query_only = 1", A_CHANGE], Fault.WAIT),
        "a value of another type": (["INSERT INTO fussy (id, n) VALUES ('one', 1)"], Fault.ROW),
        "a value too big": (["SELECT zeroblob(2000000000)"], Fault.ROW),
    },
}
CASES = [
    pytest.param(kind, *case, id=f"{kind}: {name}") for kind in KINDS for name, case in (EVERYWHERE | ON[kind]).items()
]


@pytest.fixture(scope="module")
def fussy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Engine]]:
    """An engine on a database of a kind, with a table that refuses much. Its connections are never used twice."""
    made: dict[str, Engine] = {}
    servers = {"postgresql": "postgres_server_url", "mariadb": "mariadb_server_url"}
    with ExitStack() as stack:

        def get(kind: str) -> Engine:
            if kind not in made:
                if kind == "sqlite":
                    url = f"sqlite:///{tmp_path_factory.mktemp('fussy') / 'fussy.sqlite'}"
                else:
                    url = stack.enter_context(fresh_database(request.getfixturevalue(servers[kind])))
                made[kind] = quick(application_engine(url))
                with made[kind].begin() as connection:
                    provoke(connection, [FUSSY.format(text=SHORT_TEXT[kind]), A_ROW])
            return made[kind]

        yield get


def provoke(connection: Connection, statements: list[str]) -> None:
    for statement in statements:
        if statement == "WAIT":
            wait_until_closed(connection)
        else:
            connection.exec_driver_sql(statement)


def wait_until_closed(connection: Connection) -> None:
    """Until the server has ended the session: its socket becomes readable then."""
    assert select.select([connection.connection.dbapi_connection.fileno()], [], [], 10)[0]  # type: ignore[union-attr]


def fault_of(engine: Engine, error: DBAPIError) -> Fault:
    return dialect_of(engine).fault(error)


@pytest.mark.parametrize(("kind", "statements", "fault"), CASES)
def test_a_statement_fails(fussy: Callable[[str], Engine], kind: str, statements: list[str], fault: Fault) -> None:
    engine = fussy(kind)
    with pytest.raises(DBAPIError) as caught, engine.connect() as connection:
        provoke(connection, statements)
    assert fault_of(engine, caught.value) is fault


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_a_row_is_locked_by_another(fussy: Callable[[str], Engine], kind: str) -> None:
    engine = fussy(kind)
    with engine.begin() as other, engine.connect() as ours:
        other.execute(text(A_CHANGE))
        with pytest.raises(DBAPIError) as caught:
            ours.execute(text("SELECT n FROM fussy FOR UPDATE NOWAIT"))
    assert fault_of(engine, caught.value) is Fault.RETRY


def test_another_writes_to_the_file(fussy: Callable[[str], Engine]) -> None:
    """Both ways: the lock is taken, and what was read is no longer the newest."""
    options = {"timeout": 0, "isolation_level": None}  # None: only the transactions begun here
    engine = create_engine(fussy("sqlite").url, connect_args=options)
    dialect = dialect_of(engine)
    with engine.connect() as other, engine.connect() as ours:
        provoke(other, ["PRAGMA journal_mode = WAL", "BEGIN IMMEDIATE"])
        with pytest.raises(DBAPIError) as busy:
            provoke(ours, ["BEGIN IMMEDIATE"])
        ours.rollback()
        provoke(ours, ["BEGIN"])
        ours.exec_driver_sql("SELECT * FROM fussy").all()
        provoke(other, [A_CHANGE, "COMMIT"])
        with pytest.raises(DBAPIError) as outdated:
            provoke(ours, [A_CHANGE])
    engine.dispose()
    assert [(dialect.code(each.value), dialect.fault(each.value)) for each in (busy, outdated)] == [
        ("SQLITE_BUSY", Fault.RETRY),
        ("SQLITE_BUSY_SNAPSHOT", Fault.RETRY),
    ]


def test_a_value_that_no_text_of_postgresql_can_hold(fussy: Callable[[str], Engine]) -> None:
    """The driver refuses it, so there is no code."""
    engine = fussy("postgresql")
    with pytest.raises(DBAPIError) as caught, engine.connect() as connection:
        connection.execute(text("UPDATE fussy SET t = :t"), {"t": "\0"})
    assert fault_of(engine, caught.value) is Fault.ROW


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_nobody_listens(fussy: Callable[[str], Engine], kind: str) -> None:
    url = make_url(fussy(kind).url).set(host="127.0.0.1", port=free_port())
    assert fault_of_connecting(url.render_as_string(hide_password=False)) is Fault.LOST


def fault_of_connecting(url: str) -> Fault:
    engine = quick(application_engine(url))
    with pytest.raises(DBAPIError) as caught, engine.connect():
        pass
    return fault_of(engine, caught.value)


def plain(url: str, **changes: object) -> str:
    return make_url(url).set(**changes).render_as_string(hide_password=False)  # type: ignore[arg-type]


def test_a_server_that_will_not_have_us_either_later(postgres_url: str, mariadb_url: str) -> None:
    assert fault_of_connecting(plain(postgres_url, database="nowhere")) is Fault.STOP
    assert fault_of_connecting(plain(postgres_url, username="nobody")) is Fault.STOP
    assert fault_of_connecting(plain(mariadb_url, username="nobody", password="wrong")) is Fault.STOP
    assert fault_of_connecting(plain(mariadb_url, database="nowhere")) is Fault.STOP


def test_a_role_that_has_its_connections(postgres_url: str) -> None:
    """A refusal to connect carries no code in PostgreSQL, and is no refusal for good."""
    engine = application_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE ROLE crowded LOGIN CONNECTION LIMIT 0"))
    try:
        assert fault_of_connecting(plain(postgres_url, username="crowded")) in (Fault.WAIT, Fault.LOST)
    finally:
        with engine.begin() as connection:
            connection.execute(text("DROP ROLE crowded"))
        engine.dispose()


@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
def test_the_server_dies(request: pytest.FixtureRequest, kind: str) -> None:
    server: Server = request.getfixturevalue(f"mortal_{kind}")
    engine = quick(application_engine(server.url))
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        server.kill()
        with pytest.raises(DBAPIError) as while_connected:
            connection.execute(text("SELECT 1"))
    with pytest.raises(DBAPIError) as while_connecting:
        engine.connect()
    assert fault_of(engine, while_connected.value) is Fault.LOST
    assert fault_of(engine, while_connecting.value) is Fault.LOST


def test_a_user_on_a_mariadb_that_is_switched_to_read_only(mortal_mariadb: Server) -> None:
    administrator = quick(application_engine(mortal_mariadb.url, isolation_level="AUTOCOMMIT"))
    with administrator.connect() as connection, fresh_database(mortal_mariadb.url) as url:
        connection.exec_driver_sql("CREATE USER plain@127.0.0.1")
        connection.exec_driver_sql("GRANT ALL ON *.* TO plain@127.0.0.1")
        connection.exec_driver_sql("REVOKE READ ONLY ADMIN ON *.* FROM plain@127.0.0.1")
        connection.exec_driver_sql("SET GLOBAL read_only = 1")
        engine = quick(application_engine(plain(url, username="plain")))
        with pytest.raises(DBAPIError) as caught, engine.connect() as ours:
            ours.exec_driver_sql("CREATE TABLE t (id INT)")
        connection.exec_driver_sql("SET GLOBAL read_only = 0")
    assert fault_of(engine, caught.value) is Fault.WAIT


def test_a_sqlite_file_opened_to_read(tmp_path: Path) -> None:
    file = tmp_path / "kept.sqlite"
    file.touch()
    engine = create_engine(f"sqlite:///file:{file}?mode=ro&uri=true")
    with pytest.raises(DBAPIError) as caught, engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE t (id INT)")
    assert fault_of(engine, caught.value) is Fault.WAIT
