"""Every file under deploy/, and the workflow, passes the tool that judges its kind."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.requirements import not_tested, required_program

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
WORKFLOW = ROOT / ".github/workflows/deploy.yml"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
SCRIPTS = [DEPLOY / "start.sh", ROOT / ".ci/run", *sorted((ROOT / "scripts").iterdir())]
INSTALLED = Path(sys.executable).parent


def tool(name: str) -> str:
    """A tool that scripts/setup installs, as a Python package."""
    found = shutil.which(name, path=f"{INSTALLED}:{os.environ['PATH']}")
    return found or not_tested(f"no {name} found: scripts/setup installs it")


def said_by(*command: str | Path, cwd: Path = ROOT) -> str:
    """What a tool says of a file that it finds right: it exits with 0."""
    ran = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True)
    assert ran.returncode == 0, f"{command[0]} exits with {ran.returncode}: {ran.stdout}{ran.stderr}"
    return ran.stdout + ran.stderr


def test_the_dockerfile_passes_hadolint() -> None:
    said_by(tool("hadolint"), "--strict-labels", "--failure-threshold", "style", DEPLOY / "Dockerfile")


def test_the_compose_file_fits_the_schema() -> None:
    said_by(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml")


def test_the_workflow_fits_the_schema() -> None:
    said_by(tool("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", WORKFLOW)


def test_the_workflow_passes_the_security_lint_at_its_strictest() -> None:
    """Offline it looks at all but what needs the service: whether a pinned commit belongs to the version beside it."""
    said_by(tool("zizmor"), "--offline", "--no-config", "--persona", "pedantic", WORKFLOW)


@pytest.mark.parametrize("script", SCRIPTS, ids=[script.name for script in SCRIPTS])
def test_every_script_passes_shellcheck(script: Path) -> None:
    said_by(tool("shellcheck"), "--severity", "style", script)


def test_every_script_can_be_started() -> None:
    assert [script.name for script in SCRIPTS if not script.stat().st_mode & 0o111] == []


def test_pm2_can_read_the_ecosystem_file() -> None:
    """Node loads it as PM2 would; the sketch's `pre_deploy`, which PM2 drops, is in no application."""
    node = required_program("node", "nodejs")
    said_by(node, "--check", DEPLOY / "ecosystem.config.js")
    loaded = said_by(node, "--print", "JSON.stringify(require('./ecosystem.config.js'))", cwd=DEPLOY)
    (application,) = json.loads(loaded)["apps"]
    assert application["env"] == {"RUN_MIGRATIONS_ON_STARTUP": "true", "AUTO_MIGRATE": "false"}
    assert "pre_deploy" not in application
    assert (Path(application["cwd"]) / application["script"]).resolve() == DEPLOY / "start.sh"


# systemd


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """The units as installed on a host whose /opt/ante-backend is this checkout."""
    copies = []
    for unit in UNITS:
        text = unit.read_text(encoding="utf-8")
        assert "/opt/ante-backend/.venv/bin/" in text
        copy = tmp_path / unit.name
        copy.write_text(re.sub("/opt/ante-backend/.venv/bin", str(INSTALLED), text), encoding="utf-8")
        copies.append(copy)
    return copies


def test_systemd_finds_nothing_wrong_with_the_units(units: list[Path]) -> None:
    analyze = required_program("systemd-analyze", "systemd")
    assert said_by(analyze, "verify", "--man=no", *units) == ""


@pytest.mark.parametrize("unit", UNITS, ids=[unit.stem for unit in UNITS])
def test_systemd_finds_little_exposed(unit: Path) -> None:
    """On its scale from 0 to 10, where a unit that says nothing has 9.6; what is left is the network they need."""
    analyze = required_program("systemd-analyze", "systemd")
    said_by(analyze, "security", "--offline=true", "--threshold=15", "--no-pager", unit)
