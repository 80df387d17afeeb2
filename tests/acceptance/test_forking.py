"""A forked process is, to the program, what a new interpreter is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import Project, wait_until
from tests.support.forking import AT_THE_START, Forked, can_fork

Start = Callable[..., Forked]
ENVIRON = {"PATH": os.defpath, "TZ": "Asia/Kathmandu", "ODD": "ä=b\nc"} | AT_THE_START

ALL_IT_SEES = """
import json, os, signal, sys, threading, time
print(json.dumps({
    "arguments": sys.argv, "path": sys.path, "name": __name__, "file": __file__,
    "environ": dict(os.environ), "folder": os.getcwd(), "time zone": time.tzname, "umask": os.umask(0),
    "descriptors": [number for number in range(3, 64) if os.path.lexists(f"/proc/self/fd/{number}")],
    "streams": [(s.encoding, s.errors, s.line_buffering, s.isatty()) for s in (sys.stdin, sys.stdout, sys.stderr)],
    "input": sys.stdin.read(), "flags": list(sys.flags), "prefix": sys.prefix, "hooks": repr(sys.excepthook),
    "signals": [repr(signal.getsignal(number)) for number in sorted(signal.valid_signals())],
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])), "threads": threading.active_count(),
    "ours": [name for name in sys.modules if name.startswith(("system_migration", "ante_backend", "tests"))],
}))
print("heard", file=sys.stderr)
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Call it with the text of a program; what it says is in `out` and `err`. Killed, if need be, at the end."""
    started: list[Forked] = []

    def start_one(text: str, *arguments: str) -> Forked:
        program = tmp_path / "program"
        program.write_text(text, encoding="utf-8")
        with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
            forked = Forked((str(program), *arguments), tmp_path, ENVIRON, out.fileno(), err.fileno())
        started.append(forked)
        return forked

    yield start_one
    for forked in started:
        forked.kill()
        forked.wait(60)


def said(folder: Path) -> tuple[str, str]:
    return (folder / "out").read_text(encoding="utf-8"), (folder / "err").read_text(encoding="utf-8")


def test_it_sees_what_a_new_interpreter_sees(start: Start, tmp_path: Path) -> None:
    assert start(ALL_IT_SEES, "an argument", "--ü").wait(60) == 0
    out, err = said(tmp_path)
    found: dict[str, Any] = json.loads(out)
    command = (sys.executable, str(tmp_path / "program"), "an argument", "--ü")
    told = subprocess.run(
        command, cwd=tmp_path, env=ENVIRON, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    )
    assert found == json.loads(told.stdout)
    assert err == told.stderr == "heard\n"
    assert found["ours"] == []


@pytest.mark.parametrize(
    ("text", "code", "err"),
    [
        ("", 0, ""),
        ("import sys; sys.exit(5)", 5, ""),
        ("import sys; sys.exit()", 0, ""),
        ("import sys; sys.exit('no')", 1, "no\n"),
        ("raise ValueError('no')", 1, "ValueError: no\n"),
        ("import os; os.kill(os.getpid(), 9)", -9, ""),
        ("import os; os._exit(7)", 7, ""),
        ("import atexit, sys; atexit.register(print, 'end', file=sys.stderr)", 0, "end\n"),
        (
            "import sys, threading, time\n"
            "threading.Thread(target=lambda: (threading.main_thread().join(), print('end', file=sys.stderr))).start()",
            0,
            "end\n",
        ),
    ],
)
def test_it_ends_as_an_interpreter_does(start: Start, tmp_path: Path, text: str, code: int, err: str) -> None:
    assert start(text).wait(60) == code
    assert said(tmp_path)[1].endswith(err)


def test_a_signal_reaches_it(start: Start, tmp_path: Path) -> None:
    forked = start("import signal, sys; print('there', flush=True); signal.pause()")
    with pytest.raises(subprocess.TimeoutExpired):
        forked.wait(0.01)
    wait_until(lambda: "there" in said(tmp_path)[0] or forked.poll() is not None, "the program to begin", 60)
    forked.send_signal(signal.SIGTERM)
    assert forked.wait(60) == forked.poll() == -signal.SIGTERM
    forked.kill()  # does nothing


def test_the_commands_of_a_project_are_forked(sqlite_project: Project) -> None:
    assert can_fork(sqlite_project.environ) is (sys.platform == "linux")
    with sqlite_project.start("--version") as running:
        assert isinstance(running.process, Forked)
        assert running.end().code == 0


def test_what_only_a_new_interpreter_heeds_is_left_to_one() -> None:
    assert can_fork(ENVIRON) is (sys.platform == "linux")
    for name in ("PYTHONPATH", "LC_ALL", "LANG"):
        assert not can_fork({**ENVIRON, name: "other"})
