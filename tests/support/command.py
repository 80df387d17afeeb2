"""The installed command `migration` as a process of its own, in a project of its own, as an operator starts it.

Whatever a process says is kept with its project, and a traceback in it fails the test, whatever the test looks for.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa

from tests.support.databases import application_engine
from tests.support.forking import LANG, Forked, can_fork

COMMAND = Path(sys.executable).with_name("migration")
ENVIRONMENT = "acceptance"
Environ = Mapping[str, str | None]

PATIENCE = 200.0
"""After this many seconds a process hangs, and the test fails. Never reached in a test that passes."""


def wait_until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds:.0f} s in vain for {what}"
        time.sleep(0.005)


@dataclass(frozen=True)
class Ended:
    """How a process ended, and all it said."""

    arguments: tuple[str, ...]
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)

    @property
    def said(self) -> str:
        return self.out + self.err

    def __str__(self) -> str:
        return f"{' '.join(self.arguments)} exited with {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


class Running:
    """A process that goes on while the test does. Killed, if need be, when the block is left."""

    def __init__(
        self,
        arguments: tuple[str, ...],
        folder: Path,
        environ: Mapping[str, str],
        said: Path,
        keep: list[Ended],
        *,
        fork: bool,
    ) -> None:
        self.arguments, self._keep, self._ended = arguments, keep, None
        self._out, self._err = said.with_suffix(".out"), said.with_suffix(".err")
        self.process: subprocess.Popen[bytes] | Forked
        with self._out.open("wb") as out, self._err.open("wb") as err:
            if fork:
                self.process = Forked(arguments, folder, environ, out.fileno(), err.fileno())
            else:
                self.process = subprocess.Popen(
                    arguments, cwd=folder, env=dict(environ), stdin=subprocess.DEVNULL, stdout=out, stderr=err
                )

    _ended: Ended | None

    @property
    def going(self) -> bool:
        return self.process.poll() is None

    def err(self) -> str:
        """What stderr says so far."""
        return self._err.read_text(encoding="utf-8", errors="replace")

    def wait_for(self, words: str) -> None:
        """Wait until stderr says so."""
        wait_until(lambda: words in self.err() or not self.going, f"{words!r} on stderr of {self.arguments}")
        assert words in self.err(), self.end()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> Ended:
        """Let it end."""
        if self._ended is None:
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"it did not end: {self._read()}") from None
            self._ended = self._read()
            self._keep.append(self._ended)
        assert "Traceback" not in self._ended.said, self._ended
        return self._ended

    def _read(self) -> Ended:
        out = self._out.read_text(encoding="utf-8", errors="replace")
        return Ended(self.arguments, self.process.returncode, out, self.err())

    def kill(self) -> Ended:
        """Kill -9, now."""
        self.process.kill()
        return self.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.going:
            self.process.kill()
            self.process.wait()


@dataclass
class Project:
    """A folder with migrations, a database, and the environment variables that a process is given.

    Its commands are forked from a process that has loaded the libraries, or, unless `forks`, are started from nothing.
    """

    folder: Path
    url: str
    environ: dict[str, str]
    forks: bool = True
    said: list[Ended] = field(default_factory=list)
    _started: int = 0

    def write(self, stem: str, text: str) -> Path:
        """Write `migrations/STEM.py`."""
        (self.folder / "migrations").mkdir(exist_ok=True)
        path = self.folder / "migrations" / f"{stem}.py"
        path.write_text(text, encoding="utf-8")
        return path

    def start(self, *arguments: str, env: Environ | None = None, program: Path = COMMAND) -> Running:
        """Start `migration ARGUMENTS`. A variable given as None is unset."""
        self._started += 1
        variables = {name: value for name, value in {**self.environ, **(env or {})}.items() if value is not None}
        said = self.folder / "said" / f"{self._started:04}"
        said.parent.mkdir(exist_ok=True)
        fork = self.forks and program == COMMAND and can_fork(variables)
        return Running((str(program), *arguments), self.folder, variables, said, self.said, fork=fork)

    def run(self, *arguments: str, code: int = 0, env: Environ | None = None, program: Path = COMMAND) -> Ended:
        """`migration ARGUMENTS` from start to end, which must be with `code`."""
        with self.start(*arguments, env=env, program=program) as running:
            ended = running.end()
        assert ended.code == code, ended
        return ended

    def json(self, *arguments: str, code: int = 0, env: Environ | None = None) -> Any:
        """The document that `migration ARGUMENTS --json` prints."""
        return self.run(*arguments, "--json", code=code, env=env).document

    def status(self, name: str) -> dict[str, Any]:
        """One migration as `status --json` shows it."""
        found: dict[str, Any] = next(m for m in self.json("status")["migrations"] if m["name"] == name)
        return found

    def sql(self, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """Run one statement as the application would, and commit."""
        engine = application_engine(self.url)
        try:
            with engine.begin() as connection:
                result = connection.execute(sa.text(statement), parameters)
                return [tuple(row) for row in result] if result.returns_rows else []
        finally:
            engine.dispose()

    # Gates: where a migration of the test stops until the test lets it go on; see workload.GATE

    def reached(self, gate: str) -> bool:
        return (self.folder / "gates" / f"{gate}.reached").exists()

    def wait_at(self, gate: str, running: Running) -> None:
        """Wait until the migration stands at the gate."""
        wait_until(lambda: self.reached(gate) or not running.going, f"the gate {gate}")
        assert self.reached(gate), running.end()

    def open(self, gate: str) -> None:
        (self.folder / "gates").mkdir(exist_ok=True)
        (self.folder / "gates" / f"{gate}.open").touch()


def make_project(folder: Path, url: str) -> Project:
    """An empty project. Nothing of the developer's environment reaches its processes but where programs are."""
    folder.mkdir()
    environ = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "LANG": LANG,
        "DATABASE_URL": url,
        "MIGRATION_ENVIRONMENT": ENVIRONMENT,
    }
    if "PYTHONPATH" in os.environ:  # a checkout other than the installed one is tested
        environ["PYTHONPATH"] = os.environ["PYTHONPATH"]
    return Project(folder, url, environ)
