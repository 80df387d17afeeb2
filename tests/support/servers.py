"""Real database servers for the tests: a free loopback port, a scratch directory, gone when the tests are.

Each class is a context manager: entering initialises and starts a server, leaving stops it and removes its
data. In between, `kill()` is a crash of the whole server and `start()` brings it back, same data, same port.
Works as root, where the servers run as an unprivileged user, and as a normal user.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import psycopg
import pymysql
from sqlalchemy import URL, make_url

from tests.support.host import (
    BinaryMissing,
    alive,
    children,
    free_port,
    program,
    scratch_directory,
    search_path,
    service_user,
    signal_quietly,
    wait_for,
)

TETHERED = Path(__file__).with_name("tethered.py")


class ServerFailed(Exception):
    """A server did not initialise, start or stop; the message ends with its log."""


class Server(ABC):
    """One server process and its data. Subclasses say how to initialise, start and reach it."""

    product: ClassVar[str]
    account: ClassVar[str]  # which system user runs it when we are root
    stop_signal: ClassVar[signal.Signals]  # ends it at once; the data is thrown away, so nothing needs to be tidy
    deadline: ClassVar[float] = 60.0

    def __init__(self, *, on_disk: bool = False, **settings: str) -> None:
        """`settings` are the server's own, by name: they stand for ours, which are made for tests.

        The data is in memory where there is room, unless it must be `on_disk`: for who measures.
        """
        self.settings, self.on_disk = settings, on_disk
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = -1
        self.user = service_user(self.account)
        self._locate()

    @property
    @abstractmethod
    def url(self) -> str:
        """The address, with every right, of a database that always exists."""

    @abstractmethod
    def _locate(self) -> None:
        """Find the programs, or raise BinaryMissing."""

    @abstractmethod
    def _initialise(self) -> None:
        """Make the data directory."""

    @abstractmethod
    def _command(self) -> list[str]: ...

    @abstractmethod
    def _where(self) -> str:
        """Connect, and ask the server for a path of its own: proof that it answers, and that it is ours."""

    def __enter__(self) -> Self:
        self.directory, self._lock = scratch_directory(self.user, on_disk=self.on_disk)
        self.log = self.directory / "server.log"
        try:
            self._initialise()
            self._start_on_a_free_port()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ServerFailed(f"{self.product} is not started")
        return self._process.pid

    def start(self) -> None:
        """Start on the data that is there, and return once a connection works."""
        if threading.current_thread() is not threading.main_thread():
            # The kernel's "parent" is the thread: the server would die when a helper thread ends.
            raise RuntimeError("start a server from the main thread only")
        if self.running:
            raise RuntimeError(f"{self.product} is already running")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._tethered(self.stop_signal, self._command()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env=self._environment(),
                start_new_session=True,  # Ctrl-C is for pytest, which then stops us
            )
        self._wait_until_ready()

    def stop(self) -> None:
        """End the server now, whatever its clients do. Does nothing when it is not running."""
        if self._process is None:
            return
        if self.running:
            self._process.send_signal(self.stop_signal)
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()
        self._process = None

    def kill(self) -> None:
        """Kill -9 every process of the server, as a crash does, and return when all are gone.

        Children too: a PostgreSQL backend outlives its postmaster until it next looks, and may still commit.
        """
        assert self._process is not None, "not started"
        self._process.send_signal(signal.SIGSTOP)  # no new children while we count them
        doomed = children(self._process.pid)
        self._process.kill()
        self._process.wait()
        for pid in doomed:
            signal_quietly(pid, signal.SIGKILL)
        wait_for(lambda: not any(alive(pid) for pid in doomed), 15, "the killed server's children to end")
        self._process = None

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _start_on_a_free_port(self) -> None:
        for attempt in range(5):
            self.port = free_port()
            try:
                return self.start()
            except ServerFailed as failure:  # someone was quicker to take the port
                if attempt == 4 or "already in use" not in str(failure).lower():
                    raise
                self.log.unlink()
        raise AssertionError("unreachable")

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        end = time.monotonic() + self.deadline
        while True:
            try:
                found = self._where()
                if not Path(found).is_relative_to(self.directory):
                    raise OSError(f"port {self.port} is answered by the server of {found}: address already in use")
                return
            except (OSError, psycopg.Error, pymysql.Error) as error:
                if self._process.poll() is not None:
                    reason = f"ended with {self._process.returncode}"
                elif time.monotonic() > end:
                    reason = f"did not answer within {self.deadline:.0f} s"
                else:
                    time.sleep(0.03)
                    continue
                self.stop()
                raise ServerFailed(f"{self.product} {reason}: {error}\n{self._log_tail()}") from error

    def _run(self, *command: str) -> None:
        """Run a program that prepares the data, as the server's user."""
        with self.log.open("ab") as log:
            done = subprocess.run(
                self._tethered(signal.SIGKILL, command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env=self._environment(),
                timeout=120,
                check=False,
            )
        if done.returncode != 0:
            raise ServerFailed(f"{command[0]} ended with {done.returncode}\n{self._log_tail()}")

    def _tethered(self, last_signal: signal.Signals, command: list[str] | tuple[str, ...]) -> list[str]:
        launcher = [sys.executable, "-I", "-S", str(TETHERED)]
        return [*launcher, str(int(last_signal)), str(os.getpid()), self.user or "", *command]

    def _environment(self) -> dict[str, str]:
        """A neutral one: no PG* or MYSQL* setting, and messages we can read."""
        return {"PATH": search_path(), "HOME": str(self.directory), "LC_ALL": "C.UTF-8", "TZ": "UTC"}

    def _log_tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join([f"--- last lines of {self.product}'s log:", *lines[-40:]])


class PostgresServer(Server):
    product = "postgresql"
    account = "postgres"
    stop_signal = signal.SIGQUIT  # "immediate"; also what ends its children when the tests are killed

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def _locate(self) -> None:
        for directory in _postgres_directories():
            if (directory / "initdb").exists() and (directory / "postgres").exists():
                self.binaries = directory
                return
        raise BinaryMissing("no PostgreSQL server (initdb, postgres) found: apt-get install postgresql")

    def _initialise(self) -> None:
        data = str(self.directory / "data")
        initdb = str(self.binaries / "initdb")
        encoding = ("--encoding=UTF8", "--locale=C.UTF-8")
        self._run(initdb, "-D", data, "-U", "postgres", "-A", "trust", "--no-sync", *encoding)

    def _command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.directory),
            "max_connections": "200",
            "shared_buffers": "32MB",
            "max_wal_size": "256MB",
            # Survives kill -9, which is all that tests can do: the system keeps what was written, synced or
            # not. synchronous_commit stays on, for without it a commit may not even have been written.
            "fsync": "off",
            "full_page_writes": "off",
        } | self.settings
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self.binaries / "postgres"), "-D", str(self.directory / "data"), *options]

    def _where(self) -> str:
        with psycopg.connect(self.url, connect_timeout=5) as connection:
            row = connection.execute("SHOW data_directory").fetchone()
        assert row is not None
        return str(row[0])


class MariadbServer(Server):
    product = "mariadb"
    account = "mysql"
    stop_signal = signal.SIGKILL  # an orderly shutdown takes a second, to tidy data that we delete

    @property
    def url(self) -> str:
        return f"mysql://root@127.0.0.1:{self.port}/mysql"

    def _locate(self) -> None:
        self.daemon = program("mariadbd", "mariadb-server")
        self.installer = program("mariadb-install-db", "mariadb-server")

    def _initialise(self) -> None:
        self._run(
            self.installer,
            *self._storage(),
            "--auth-root-authentication-method=normal",  # root@127.0.0.1, without a password
            "--skip-name-resolve",
            "--skip-test-db",
        )

    def _command(self) -> list[str]:
        return [
            self.daemon,
            *self._storage(),
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            f"--socket={self.directory / 'mariadb.sock'}",
            f"--pid-file={self.directory / 'mariadb.pid'}",
            "--max-connections=200",
            # 2, and not 0: 0 keeps a second of commits in the process, so kill -9 would lose them.
            "--innodb-flush-log-at-trx-commit=2",
            "--innodb-buffer-pool-size=64M",
            "--character-set-server=utf8mb4",
            "--skip-log-bin",
            "--skip-name-resolve",
            *(f"--{name}={value}" for name, value in self.settings.items()),  # the last one counts
        ]

    def _storage(self) -> list[str]:
        return [
            "--no-defaults",
            f"--datadir={self.directory / 'data'}",
            # Its own: a MariaDB that starts deletes the temporary tables of every other one that shares /tmp.
            f"--tmpdir={self.directory}",
            "--innodb-log-file-size=16M",
        ]

    def _where(self) -> str:
        options: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": self.port,
            "user": "root",
            "connect_timeout": 5,
        }
        with pymysql.connect(**options) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT @@datadir")
            row = cursor.fetchone()
        assert row is not None
        return str(row[0])


class Pgbouncer(Server):
    """Transaction pooling in front of the PostgreSQL at `behind`: few server connections for many clients.

    Every database of that server is reachable under its own name, with the user and password of `behind`.
    """

    product = "pgbouncer"
    account = "postgres"
    stop_signal = signal.SIGKILL  # it has no data, and newer versions wait for their clients on SIGTERM

    def __init__(self, behind: str, *, pool_size: int = 3) -> None:
        self.behind = make_url(behind)
        self.pool_size = pool_size
        super().__init__()

    @property
    def url(self) -> str:
        """The administration console; it takes SHOW commands only."""
        return self.url_for("pgbouncer")

    def url_for(self, database: str) -> str:
        address = URL.create("postgresql", self._user, self.behind.password, "127.0.0.1", self.port, database)
        return address.render_as_string(hide_password=False)

    @property
    def _user(self) -> str:
        return self.behind.username or "postgres"

    def _locate(self) -> None:
        self.daemon = program("pgbouncer", "pgbouncer")

    def _initialise(self) -> None:
        users = self.directory / "users.txt"
        users.write_text(f'"{self._user}" "{self.behind.password or ""}"\n')
        users.chmod(0o644)  # the directory itself is closed to others

    def _command(self) -> list[str]:
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "trust",
            "auth_file": self.directory / "users.txt",
            "admin_users": self._user,
            "pool_mode": "transaction",
            "default_pool_size": self.pool_size,
            "max_client_conn": 200,
            "ignore_startup_parameters": "extra_float_digits",
        }
        if self._version() >= (1, 21):  # an unknown setting before
            settings["max_prepared_statements"] = 0
        target = f"host={self.behind.host} port={self.behind.port or 5432}"
        lines = ["[databases]", f"* = {target}", "[pgbouncer]", *(f"{k} = {v}" for k, v in settings.items())]
        configuration = self.directory / "pgbouncer.ini"
        configuration.write_text("\n".join(lines) + "\n")
        configuration.chmod(0o644)
        return [self.daemon, str(configuration)]

    def _version(self) -> tuple[int, ...]:
        told = subprocess.run([self.daemon, "--version"], capture_output=True, text=True, check=True).stdout
        found = re.search(r"(\d+)\.(\d+)", told)
        return tuple(int(part) for part in found.groups()) if found else (0, 0)

    def _where(self) -> str:
        return self.configuration()["conffile"]

    def configuration(self) -> dict[str, str]:
        """What the running pgbouncer says its settings are."""
        with psycopg.connect(self.url, autocommit=True, connect_timeout=5) as console:
            return {row[0]: row[1] for row in console.execute("SHOW CONFIG")}


def _postgres_directories() -> list[Path]:
    """Where PostgreSQL's programs may be: Debian keeps them off PATH, a directory for each version."""

    def version(directory: Path) -> float:
        try:
            return float(directory.parent.name)
        except ValueError:
            return 0.0

    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=version, reverse=True)
    if pg_config := shutil.which("pg_config"):
        told = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        places.append(Path(told.stdout.strip()))
    if on_path := shutil.which("initdb"):
        places.append(Path(on_path).resolve().parent)
    return places
