"""How the commands of a page are read, and tried as a reader would try them.

In a block that is fenced as `console`, a line that begins with `$ ` is a command for a shell. `# exits with N` after it
says how it ends, 0 otherwise. The lines that follow must be among what it says; `...` stands for anything. An
`export` lasts until the end of the page. A comment such as `<!-- meanwhile: two weeks pass -->` names
what happens in between, which the test brings about.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from string import Template

from system_migration.cli.main import main
from tests.support.command import Ended, Project

ROOT = Path(__file__).parents[2]
BASH = Path("/bin/bash")

_PART = re.compile(r"^ *```console\n(?P<block>.*?)^ *```|^<!-- meanwhile: (?P<event>.*?) -->", re.DOTALL | re.MULTILINE)
_EXITS = re.compile(r"\s+# exits with (\d+)$")

Events = Mapping[str, Callable[[Project], object]]


@dataclass
class Step:
    """A command and what it must say; or, with `event`, what happens before the next one."""

    command: str = ""
    code: int = 0
    said: list[str] = field(default_factory=list)
    event: str | None = None


def steps_of(text: str) -> Iterator[Step]:
    """What a page does, in order."""
    for part in _PART.finditer(text):
        if part["event"] is not None:
            yield Step(event=part["event"])
        else:
            yield from _commands(textwrap.dedent(part["block"]))


def _commands(block: str) -> Iterator[Step]:
    step: Step | None = None
    for line in block.replace("\\\n", " ").splitlines():
        if line.startswith("$ "):
            if step is not None:
                yield step
            exits = _EXITS.search(line)
            step = Step(_EXITS.sub("", line[2:]), int(exits[1]) if exits else 0)
        elif line.strip():
            assert step is not None, f"{line!r} stands before any command"
            step.said.append(line)
    if step is not None:
        yield step


def follow(page: str, project: Project, events: Events | None = None) -> None:
    """Do all that the page (its path from the project's root) says."""
    steps = list(steps_of((ROOT / page).read_text(encoding="utf-8")))
    assert steps, f"{page} has no commands"
    for step in steps:
        if step.event is not None:
            (events or {})[step.event](project)
        elif step.command.startswith("export "):
            pairs = (word.partition("=") for word in shlex.split(step.command)[1:])
            project.environ.update({name: Template(value).substitute(project.environ) for name, _, value in pairs})
        elif step.command.startswith("unset "):
            for name in step.command.split()[1:]:
                project.environ.pop(name, None)
        else:
            check_said(step, perform(step, project))


def perform(step: Step, project: Project) -> Ended:
    """Run the command; `migration` itself in a fork of this process, which has loaded it already, else in a shell."""
    words = shlex.split(step.command)
    given = dict(word.split("=", 1) for word in words[: _assignments(words)])
    arguments = words[len(given) :]
    if arguments[0] != "migration" or set(step.command) & set("|&;<>$`"):
        return project.run("-euc", step.command, code=step.code, program=BASH)
    ended = _forked(tuple(arguments), project, project.environ | given)
    assert "Traceback" not in ended.said, ended
    assert ended.code == step.code, ended
    return ended


def _assignments(words: list[str]) -> int:
    return next(number for number, word in enumerate(words) if "=" not in word)


@cache
def _load() -> None:
    """What every child would else load for itself."""
    for name in ("cli", "running", "batching", "store"):
        package = import_module(f"system_migration.{name}")
        for found in walk_packages(package.__path__, package.__name__ + "."):
            import_module(found.name)
    for name in ("alembic.operations", "bcrypt", "cryptography.hazmat.primitives.ciphers.modes", "rich.progress"):
        import_module(name)


def _forked(arguments: tuple[str, ...], project: Project, environ: Mapping[str, str]) -> Ended:
    """A process of its own without the time that a start costs: a page has many commands."""
    _load()
    out, err = project.folder / "said.out", project.folder / "said.err"
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.chdir(project.folder)
            os.environ.clear()
            os.environ.update(environ)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for number, path in ((1, out), (2, err)):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
            code = main(list(arguments[1:]))
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return Ended(arguments, os.waitstatus_to_exitcode(status), out.read_text(), err.read_text())


def check_said(step: Step, ended: Ended) -> None:
    """Whether the command said all that the page shows, in whatever order, on either of its streams."""
    heard = _even(ended.out), _even(ended.err)
    patterns = {line: ".*?".join(map(re.escape, _even(line).split("..."))) for line in step.said}
    missing = [line for line, pattern in patterns.items() if not any(re.search(pattern, text) for text in heard)]
    assert not missing, f"{step.command} did not say {missing}\n{ended}"


def _even(text: str) -> str:
    return " ".join(text.split())
