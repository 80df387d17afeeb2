"""PM2 itself runs the backend from deploy/ecosystem.config.js: it migrates first, and comes back after a SIGKILL."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy import pm2
from tests.deploy.conftest import ROOT
from tests.support.host import alive, free_port, wait_for

NAME = "001-password-bcrypt"
ECOSYSTEM = "deploy/ecosystem.config.js"
BIN = Path(sys.executable).parent
NOT_COMMITTED = (".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", "tests", "docs", "*.db*")
COMMITTER = {f"GIT_{who}_{what}": "tests" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """The variables of somebody's shell, without any of ours; where Python and its modules are."""
    return {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
    }


@pytest.fixture
def given(tmp_path: Path, shell: dict[str, str]) -> dict[str, str]:
    """What the backend must be given, for a database with accounts that are to be migrated."""
    (tmp_path / "accounts.db").touch()
    given = {
        "DATABASE_URL": f"sqlite:///{tmp_path}/accounts.db",
        "ENCRYPTION_KEY": "a key of tests, protects nothing",
        "AUTH_SECRET": "a secret for tokens, of tests only",
        "PORT": str(free_port()),
    }
    command(shell | given, "python", "-m", "ante_backend.seed", "--accounts", "12")
    return given


@pytest.fixture
def manager(shell: dict[str, str], tmp_path: Path) -> Iterator[pm2.Pm2]:
    with pm2.running(tmp_path / "pm2", shell, ROOT) as manager:
        yield manager


def command(environ: dict[str, str], *words: str) -> str:
    ran = subprocess.run([BIN / words[0], *words[1:]], cwd=ROOT, env=environ, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def answers(given: dict[str, str]) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{given['PORT']}/health/live", timeout=5) as answer:
            return int(answer.status) == 200
    except OSError:
        return False


def status(environ: dict[str, str]) -> str:
    listed = json.loads(command(environ, "migration", "status", "--json"))["migrations"]
    return str(next(each["status"] for each in listed if each["name"] == NAME))


def runs(environ: dict[str, str]) -> list[Any]:
    found: list[Any] = json.loads(command(environ, "migration", "history", NAME, "--json"))
    return found


def test_pm2_migrates_first_then_serves_and_restarts_what_was_killed(
    manager: pm2.Pm2, shell: dict[str, str], given: dict[str, str]
) -> None:
    manager.run("start", ECOSYSTEM, "--env", "production", given=given)
    wait_for(lambda: answers(given), 60, "the server")
    assert status(shell | given) == "COMPLETED"  # the server itself runs none
    first = manager.application()
    assert first["pm2_env"]["restart_time"] == 0
    assert first["pm2_env"]["MIGRATION_ENVIRONMENT"] == "production"
    words = Path(f"/proc/{first['pid']}/cmdline").read_bytes().split(b"\0")
    assert b"ante_backend" in words  # the process that PM2 watches is the server, not a shell before it
    ran = runs(shell | given)

    os.kill(first["pid"], signal.SIGKILL)
    wait_for(lambda: not alive(first["pid"]), 10, "the end of the server")
    wait_for(lambda: answers(given), 60, "the server, again")
    again = manager.application()
    assert again["pid"] != first["pid"]
    assert again["pm2_env"]["restart_time"] == 1
    assert runs(shell | given) == ran  # nothing was pending, so nothing ran

    manager.run("stop", "ante-backend")
    assert not alive(again["pid"])
    assert "Application shutdown complete" in manager.logs()


# pm2 deploy, to a host that is this machine


@pytest.fixture
def site(shell: dict[str, str], tmp_path: Path) -> Iterator[Path]:
    """Where `pm2 deploy` puts the code. `shell` says where that is, and from which repository it comes."""
    repository = tmp_path / "repository"
    shutil.copytree(ROOT, repository, ignore=shutil.ignore_patterns(*NOT_COMMITTED))
    for words in ("init --quiet --initial-branch=main", "add .", "commit --quiet --message=first"):
        subprocess.run(["git", *words.split()], cwd=repository, env=shell | COMMITTER, check=True)
    shell |= {
        "DEPLOY_HOST": "localhost",  # PM2 uses no ssh then
        "DEPLOY_REPO": str(repository),
        "DEPLOY_PATH": str(tmp_path / "site"),
        "USER": f"tests-{os.getpid()}",  # part of the name of PM2's log of deployments, which is always in /tmp
    }
    yield tmp_path / "site"
    Path(f"/tmp/pm2-deploy-{shell['USER']}.log").unlink(missing_ok=True)


def lend_environment(tree: Path) -> None:
    """Put this virtual environment's programs into the tree, so that its set-up finds them complete."""
    environment = tree / ".venv"
    environment.mkdir()
    for part in Path(sys.prefix).iterdir():
        if not part.name.startswith("."):
            (environment / part.name).symlink_to(part)
    wanted = hashlib.sha256((tree / "pyproject.toml").read_bytes() + (tree / "constraints.txt").read_bytes())
    (environment / ".installed").write_text(f"{wanted.hexdigest()}  -\n")


def write_environment(site: Path, given: dict[str, str]) -> None:
    lines = [f"{name}={shlex.quote(value)}\n" for name, value in given.items()]
    (site / "shared/environment").write_text("".join(lines), encoding="utf-8")


def test_pm2_deploy_migrates_the_new_code_before_it_starts_it(
    site: Path, manager: pm2.Pm2, shell: dict[str, str], given: dict[str, str]
) -> None:
    """Where the migration does not end well, nothing is started; PM2 is told of the variables by the host alone."""
    given["MIGRATION_ENVIRONMENT"] = "production"
    manager.run("deploy", ECOSYSTEM, "production", "setup")
    lend_environment(site / "source")

    write_environment(site, given | {"ENCRYPTION_KEY": "another key than that of the accounts"})
    said = manager.run("deploy", ECOSYSTEM, "production", "--force", code=1)
    assert "post-deploy hook failed" in said
    assert manager.run("jlist").splitlines()[-1] == "[]"

    write_environment(site, given)
    manager.run("deploy", ECOSYSTEM, "production", "--force")
    assert status(shell | given) == "COMPLETED"
    wait_for(lambda: answers(given), 60, "the server")
    assert Path(manager.application()["pm2_env"]["pm_cwd"]) == site / "source"
    manager.run("delete", "ante-backend")
