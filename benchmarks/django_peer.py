"""Django's `bulk_update`, in a virtual environment of its own: Django is no dependency of ours, nor of our tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from benchmarks.contestants import Arena
from benchmarks.harness import Timing, note

BATCH = 1_000  # its statement holds a CASE of so many arms: more rows at a time take longer, not shorter
_SCRIPT = Path(__file__).with_name("django_script.py")
_NEEDS = ("django", "psycopg[binary]", "PyMySQL")
_ENGINES = {"postgresql": "postgresql", "mariadb": "mysql"}


class NotInstalled(Exception):
    """Django could not be installed here."""


def bulk_update(arena: Arena) -> Timing:
    """Read a batch of objects, change them, `bulk_update` them. Raises `NotInstalled`."""
    ran = subprocess.run(
        [_python(), _SCRIPT, json.dumps(_address(arena)), str(BATCH)], capture_output=True, text=True, check=False
    )
    if ran.returncode != 0:
        raise RuntimeError((ran.stderr.splitlines() or ["no message"])[-1])
    return Timing(float(ran.stdout))


def _address(arena: Arena) -> dict[str, Any]:
    url = sa.make_url(arena.url)
    return {
        "ENGINE": f"django.db.backends.{_ENGINES[arena.kind]}",
        "NAME": url.database,
        "USER": url.username,
        "PASSWORD": url.password or "",
        "HOST": url.host,
        "PORT": url.port,
    }


def _python() -> Path:
    """The environment's interpreter; made and filled the first time, kept in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "system-migration-bench" / f"django-{sys.version_info.major}.{sys.version_info.minor}"
    python, complete = folder / "bin" / "python", folder / "complete"
    if not complete.exists():
        note("installing Django in an environment of its own")
        _run(sys.executable, "-m", "venv", "--clear", str(folder))
        _run(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *_NEEDS)
        complete.touch()
    return python


def _run(*command: str) -> None:
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if ran.returncode != 0:
        raise NotInstalled(f"{command[-1]} could not be installed; this peer was not measured")
