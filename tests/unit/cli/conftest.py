"""The command line without a database: a stub `Migrator`, and a caller that sees what a process would say."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from system_migration.cli import session, terminal
from system_migration.cli.main import main
from system_migration.migration import SilentProgress
from tests.unit.cli.stub import StubMigrator


@pytest.fixture(autouse=True)
def scratch_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Commands read pyproject.toml and write files where they stand."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """The command line configures logging for its process, which here is the suite's."""
    root = logging.getLogger()
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    yield
    root.handlers[:], logging.raiseExceptions = handlers, raising
    root.setLevel(level)


@pytest.fixture
def migrator(monkeypatch: pytest.MonkeyPatch) -> StubMigrator:
    """The stub, in the place of what `open_migrator` builds."""
    stub = StubMigrator()

    def open_stub(opened: session.Session, watcher: Any = None, **how: Any) -> StubMigrator:
        stub.calls.append(("open", opened.flags, how))
        return stub

    monkeypatch.setattr(session, "open_migrator", open_stub)
    monkeypatch.setattr(session, "open_registry", lambda opened: stub.registry)
    monkeypatch.setattr(session, "_watcher", lambda: _Quiet())
    return stub


class _Quiet(SilentProgress):
    def close(self) -> None: ...


class Told:
    """What one invocation said."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def migration(capfd: pytest.CaptureFixture[str]) -> Any:
    """Call the command line as a process would: arguments in; exit code, stdout and stderr out."""

    def call(*arguments: str) -> Told:
        code = main(list(arguments))
        return Told(code, *capfd.readouterr())

    return call


@pytest.fixture
def at_terminal(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sit someone at the terminal who types this, or nobody."""

    def sit(answer: str | None) -> None:
        monkeypatch.setattr(terminal, "interactive", lambda: answer is not None)
        monkeypatch.setattr(terminal.sys, "stdin", _Typing(answer or ""))

    return sit


class _Typing:
    def __init__(self, answer: str) -> None:
        self._answer = answer

    def readline(self) -> str:
        return self._answer + "\n"

    def isatty(self) -> bool:
        return False
