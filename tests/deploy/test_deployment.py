"""A whole deployment on PostgreSQL, in production: the image serves, the workflow migrates, SIGTERM ends it."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.conftest import ROOT
from tests.deploy.containers import interpolate
from tests.deploy.dockerfile import Image, stop
from tests.deploy.test_compose import BACKEND
from tests.support.host import free_port, wait_for

WORKFLOW: dict[str, Any] = yaml.safe_load((ROOT / ".github/workflows/deploy.yml").read_text(encoding="utf-8"))
STEPS = {step["name"]: step for step in WORKFLOW["jobs"]["deploy"]["steps"]}
GIVEN = {
    "POSTGRES_PASSWORD": "none is asked",
    "ENCRYPTION_KEY": "a key of tests, protects nothing",
    "AUTH_SECRET": "a secret for tokens, of tests only",
    "MIGRATION_ENVIRONMENT": "production",
}
ENGINE = """#!/bin/sh
# Stands for `docker exec NAME COMMAND...`: in the image's folder, as its user, with the container's variables, without
# a terminal.
[ "$1 $2" = "exec ante-backend" ] || exit 64
shift 2
cd {folder} && exec {user} env -i {environ} "$@" </dev/null
"""


@dataclass
class Container:
    """The backend as compose starts it: the image's variables, then those of the file."""

    image: Image
    environ: dict[str, str]
    folder: Path

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def execute(self, *command: str) -> subprocess.Popen[bytes]:
        return self.image.start(*command, environ=self.environ, log=self.log)

    def healthy(self) -> bool:
        """What the engine's HEALTHCHECK finds."""
        return self.execute(*self.image.stage.health).wait(10) == 0

    def asked(self, path: str) -> int:
        """The status with which the server answers, or 0."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.environ['PORT']}{path}", timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0


@pytest.fixture
def container(image: Image, postgres_url: str, tmp_path: Path) -> Container:
    told = {name: interpolate(value, GIVEN) for name, value in BACKEND["environment"].items()}
    told |= {"DATABASE_URL": postgres_url, "PORT": str(free_port())}  # there is no network named "database" here
    container = Container(image, told, tmp_path)
    seeded = container.execute("python", "-m", "ante_backend.seed", "--accounts", "12")
    assert seeded.wait(30) == 0, container.log.read_text()
    return container


@pytest.fixture
def server(container: Container) -> Iterator[subprocess.Popen[bytes]]:
    process = container.execute()
    try:
        wait_for(lambda: container.asked("/health/live") == 200 or process.poll() is not None, 30, "the server")
        assert process.poll() is None, container.log.read_text()
        yield process
    finally:
        process.kill()
        process.wait()


def run_step(name: str, container: Container) -> str:
    """What a step of the workflow prints, run as a runner does on Linux: by `bash -e`, nobody at a terminal."""
    shim = container.folder / "bin/docker"
    shim.parent.mkdir(exist_ok=True)
    variables = {**container.image.stage.environ, **container.environ}
    environ = " ".join(shlex.quote(f"{key}={value}") for key, value in variables.items())
    user = shlex.join(container.image.as_user)
    folder = shlex.quote(str(container.image.folder))
    shim.write_text(ENGINE.format(folder=folder, user=user, environ=environ), encoding="utf-8")
    shim.chmod(0o755)
    outside = {"PATH": f"{shim.parent}:{os.defpath}", "GITHUB_ACTOR": "somebody"}
    ran = subprocess.run(
        ["bash", "-e", "-c", STEPS[name]["run"]], env=outside, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_the_workflow_migrates_what_the_image_serves(container: Container, server: subprocess.Popen[bytes]) -> None:
    """In production, where a run asks for a confirmation that nobody can give here."""
    assert container.healthy()
    assert container.asked("/health/ready") == 200  # it serves both forms: what is pending keeps it from nothing
    said = run_step("Run migrations", container)
    before, _, after = said.partition("COMPLETED")  # the image finds the migrations, and there is something to do
    assert "PENDING" in before
    assert "12 rows" in after
    assert "github:somebody" in run_step("Tell what happened", container)
    assert server.poll() is None


def test_sigterm_reaches_the_server_which_ends_cleanly_and_soon(
    container: Container, server: subprocess.Popen[bytes]
) -> None:
    """What an engine sends goes to the first process; a shell there would keep it to itself until the SIGKILL."""
    status = stop(server)
    assert status in (0, -signal.SIGTERM, 128 + signal.SIGTERM)
    assert "Application shutdown complete" in container.log.read_text()
    assert not container.healthy()
