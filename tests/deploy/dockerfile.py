"""A Dockerfile's steps, carried out in a directory: what its image holds and does, where no container engine is.

The build really runs: pip installs what the constraints name, the bytecode is compiled. What is missing is the base
image (this machine's Python stands for it), the walls around a container, and the engine itself.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tests.deploy.build_context import Context

NOT_PYTHON = shutil.ignore_patterns("site-packages", "test", "tests", "idlelib", "tkinter", "config-*")


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk
        shutil.copy2(source, target)


class StepFailed(Exception):
    """A RUN of the build did not exit with 0; the message is the end of what it said."""


@dataclass(frozen=True)
class Instruction:
    """One instruction: its name in capitals, its flags, and the rest of its line."""

    name: str
    text: str
    flags: dict[str, str]

    @property
    def form(self) -> list[str]:
        """The words of the JSON form, which no shell reads."""
        words: list[str] = json.loads(self.text)
        return words


def read(path: Path) -> list[Instruction]:
    """The instructions of a Dockerfile, without comments and with continued lines joined."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    text = re.sub(r"\\\n", " ", "\n".join(lines))
    return [_instruction(line) for line in text.splitlines() if line.strip()]


def _instruction(line: str) -> Instruction:
    name, _, rest = line.strip().partition(" ")
    flags = {}
    while found := re.match(r"\s*--([a-z-]+)=(\S+)\s+", rest):
        flags[found[1]] = found[2]
        rest = rest[found.end() :]
    return Instruction(name.upper(), rest.strip(), flags)


@dataclass
class Stage:
    """What an image says of itself."""

    environ: dict[str, str] = field(default_factory=lambda: {"PATH": "/usr/local/bin:/usr/bin:/bin"})
    folder: str = "/"
    user: str = "root"
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    health_flags: dict[str, str] = field(default_factory=dict)
    ports: list[str] = field(default_factory=list)


class Image:
    """The last stage of a Dockerfile, below `root`, which stands for the root of its file system.

    `folders` are the image's absolute paths; where a step or a variable names one, it means the one below `root`.
    """

    def __init__(self, dockerfile: Path, context: Context, root: Path, folders: tuple[str, ...]) -> None:
        self.root, self.stage = root, Stage()
        self._context, self._folders = context, re.compile(rf"(?<![\w.])({'|'.join(folders)})\b")
        self._arguments: dict[str, str] = {}
        self._stages: dict[str, Path] = {}
        self._name = ""
        for instruction in read(dockerfile):
            getattr(self, f"_{instruction.name.lower()}")(instruction)

    def inside(self, text: str) -> str:
        """The text, with the image's folders where they are on this machine."""
        return self._folders.sub(lambda found: f"{self.root}{found[1]}", text)

    def files(self, below: str) -> list[str]:
        """The files of the image, by their names in it."""
        return sorted(
            f"/{path.relative_to(self.root)}" for path in Path(self.inside(below)).rglob("*") if path.is_file()
        )

    @property
    def folder(self) -> Path:
        """Where a process of the image begins."""
        return self.root / self.stage.folder.lstrip("/")

    @property
    def as_user(self) -> list[str]:
        """What to put before a command so that it runs as the image's user, if we are root, and ends when we do."""
        user, _, group = self.stage.user.partition(":")
        other = [f"--reuid={user}", f"--regid={group}", "--clear-groups"] if os.geteuid() == 0 else []
        return ["setpriv", *other, "--pdeathsig=KILL"]

    def start(self, *command: str, environ: dict[str, str] | None = None, log: Path) -> subprocess.Popen[bytes]:
        """A container: the image's command or another, with the image's variables and the given ones, and no others."""
        with log.open("ab") as out:
            return subprocess.Popen(
                [*self.as_user, *self._located(list(command) or self.stage.command)],
                cwd=self.folder,
                env={**self.stage.environ, **(environ or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def bring_python(self) -> None:
        """Put this machine's Python where the base image has its own, if the image's user cannot reach it.

        The last step: the build uses ours.
        """
        base, brought = Path(sys.base_prefix), self.root / "usr/local"
        if all(folder.stat().st_mode & 0o001 for folder in (base, *base.parents)):
            return
        python = Path(os.path.realpath(sys.executable))
        library = Path(os.__file__).parent
        shutil.copytree(library, brought / "lib" / library.name, ignore=NOT_PYTHON, copy_function=_link)
        (brought / "bin").mkdir()
        for file, folder in [(python, "bin"), *((shared, "lib") for shared in (base / "lib").glob("libpython*.so*"))]:
            _link(str(file), str(brought / folder / file.name))
        self.stage.environ["LD_LIBRARY_PATH"] = str(brought / "lib")  # where Python is built to share a library
        self._use_python(brought / "bin" / python.name)

    def _use_python(self, python: Path) -> None:
        venv = Path(self.inside("/venv"))
        (venv / "bin/python").unlink()
        (venv / "bin/python").symlink_to(python)
        told = re.sub("(?m)^home = .*", f"home = {python.parent}", (venv / "pyvenv.cfg").read_text(encoding="utf-8"))
        (venv / "pyvenv.cfg").write_text(told, encoding="utf-8")

    def _located(self, command: list[str]) -> list[str]:
        """The command with its program looked for where the container would look."""
        program = shutil.which(command[0], path=self.stage.environ["PATH"])
        assert program is not None, f"the image has no {command[0]}"
        assert Path(program).is_relative_to(self.root), f"{command[0]} is this machine's, not the image's"
        return [program, *command[1:]]

    def _arg(self, it: Instruction) -> None:
        name, _, default = it.text.partition("=")
        self._arguments[name] = default

    def _from(self, it: Instruction) -> None:
        """Begin a stage. The one before moves away, so that its paths are those of the next one while that is built."""
        if self.root.exists():
            self._stages[self._name] = self.root.rename(self.root.with_name(f"stage-{self._name}"))
        self.root.mkdir(parents=True)
        self.stage, self._name = Stage(), it.text.partition(" AS ")[2]

    def _env(self, it: Instruction) -> None:
        name, _, value = it.text.partition("=")
        expanded = re.sub(r"\$\{?(\w+)\}?", lambda found: self.stage.environ[found[1]], value)
        self.stage.environ[name] = self.inside(expanded)

    def _workdir(self, it: Instruction) -> None:
        self.stage.folder = it.text
        (self.root / it.text.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def _copy(self, it: Instruction) -> None:
        *sources, target = it.text.split()
        into = self.root / str(PurePosixPath(self.stage.folder) / target).lstrip("/")
        for source in sources:
            if "from" in it.flags:
                shutil.copytree(self._stages[it.flags["from"]] / source.lstrip("/"), into, symlinks=True)
            else:
                self._copy_from_context(source, into, within=target.endswith("/"))

    def _copy_from_context(self, source: str, into: Path, *, within: bool) -> None:
        """A file, or what is in a folder; what .dockerignore leaves out does not exist."""
        files = self._context.files(source)
        assert files, f"COPY {source}: the build would find nothing there"
        for file in files:
            name = PurePosixPath(file.name) if str(file) == source else file.relative_to(source)
            to = into / name if within or str(file) != source else into
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self._context.root / file, to)

    def _run(self, it: Instruction) -> None:
        """Run it with this machine's Python first on the path, and with how this machine reaches its package index."""
        outside = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        path = f"{Path(sys.executable).parent}:{self.stage.environ['PATH']}"
        ran = subprocess.run(
            ["/bin/sh", "-c", self.inside(it.text)],
            cwd=self.folder,
            env={**outside, **self.stage.environ, "PATH": path},
            capture_output=True,
            text=True,
        )
        if ran.returncode != 0:
            raise StepFailed(f"RUN {it.text}: exit {ran.returncode}: {ran.stderr[-1000:]}")

    def _user(self, it: Instruction) -> None:
        self.stage.user = it.text

    def _expose(self, it: Instruction) -> None:
        self.stage.ports.append(it.text)

    def _healthcheck(self, it: Instruction) -> None:
        self.stage.health = Instruction("CMD", it.text.removeprefix("CMD "), {}).form
        self.stage.health_flags = it.flags

    def _cmd(self, it: Instruction) -> None:
        self.stage.command = it.form


def stop(process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM, seconds: float = 10.0) -> int:
    """Ask it to stop, as an engine does, and return its exit status. It must have ended by itself in time."""
    process.send_signal(number)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise
