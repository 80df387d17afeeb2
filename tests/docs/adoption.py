"""The pages for teams that begin: followed word for word, from an empty folder, as somebody would at a keyboard.

Beside what `pages` reads, a page may have files and changes of files. `<!-- file: PATH -->` before a block says that it
is the whole file, `<!-- change: PATH -->` that it is a change as `diff` shows one: what it takes away, with the lines
around it, must be in the file exactly once. `... &` starts a server, which goes on to the end of the page or to its
`kill %N`, and is waited for until it listens. Only two things are not done word for word: `pip install` lines are
skipped, and a port may be in use, so each gets another number.
"""

from __future__ import annotations

import re
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

from tests.docs.pages import BASH, ROOT, Step, check_said, perform, steps_of
from tests.support.command import Running, make_project, wait_until
from tests.support.host import free_port

PAGES = (
    "docs/how-to/use-with-flask.md",
    "docs/how-to/use-with-django.md",
    "docs/how-to/use-in-a-script.md",
    "docs/how-to/use-with-alembic.md",
    "docs/coming-from.md",
)
PORTS = re.compile(r"\b(5000|8000|8765)\b")

_PART = re.compile(
    r"^```console\n.*?^```$"
    r"|^<!-- (?P<how>file|change): (?P<path>\S+) -->\n```\w*\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


class Reader:
    """Somebody at a keyboard, in a folder of their own, with one shell."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.project = make_project(folder / "work", "")
        self._servers: list[Running] = []
        self._stack = stack
        environ = self.project.environ
        for name in ("DATABASE_URL", "MIGRATION_ENVIRONMENT"):
            del environ[name]  # the page has to say what it needs
        environ["PATH"] = f"{Path(sys.executable).parent}:{environ['PATH']}"

    def follow(self, page: str) -> None:
        """Do all that the page, by its path from the project's root, says."""
        text = _on_free_ports((ROOT / page).read_text(encoding="utf-8"))
        for part in _PART.finditer(text):
            if part["how"] == "file":
                self._write(part["path"], part["text"])
            elif part["how"] == "change":
                self._change(part["path"], part["text"])
            else:
                for step in steps_of(part[0]):
                    self._do(step)

    def _write(self, path: str, text: str) -> None:
        file = self.project.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def _change(self, path: str, text: str) -> None:
        file = self.project.folder / path
        before, after = ("".join(each) for each in _both_sides(text))
        found = file.read_text(encoding="utf-8")
        assert found.count(before) == 1, f"{path} has this {found.count(before)} times:\n{before}\n---\n{found}"
        file.write_text(found.replace(before, after), encoding="utf-8")

    def _do(self, step: Step) -> None:
        command = step.command
        if command.startswith("pip install "):
            return
        if command.startswith("cd "):
            self.project.folder /= command[3:]
        elif command.startswith("export "):
            self._export(command)
        elif command.startswith("kill %"):
            self._end(self._servers[int(command[6:]) - 1])
        elif command.endswith(" &"):
            self._serve(command[:-2])
        else:
            check_said(step, perform(step, self.project))

    def _export(self, command: str) -> None:
        ended = self.project.run("-euc", f"{command}; env -0", program=BASH)
        self.project.environ = dict(each.split("=", 1) for each in ended.out.split("\0") if each)

    def _serve(self, command: str) -> None:
        running = self._stack.enter_context(self.project.start("-euc", f"exec {command}", program=BASH))
        self._servers.append(running)
        port = int(re.findall(r"\b\d{5}\b", command)[-1])
        wait_until(lambda: _listens(port) or not running.going, f"{command} to listen")
        assert running.going, running.end()

    def _end(self, running: Running) -> None:
        running.signal(signal.SIGTERM)
        ended = running.end()
        assert ended.code in (0, -signal.SIGTERM), ended


def _on_free_ports(text: str) -> str:
    """The page, each of its ports replaced by a free one, the same all over it."""
    chosen = {port: str(free_port()) for port in sorted(set(PORTS.findall(text)))}
    return PORTS.sub(lambda found: chosen[found[0]], text)


def _both_sides(text: str) -> Iterator[list[str]]:
    lines = text.splitlines(keepends=True)
    yield [line[1:] or "\n" for line in lines if line[0] != "+"]
    yield [line[1:] or "\n" for line in lines if line[0] != "-"]


def _listens(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
