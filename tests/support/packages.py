"""Packages of the npm registry that tests use: installed at the time of the test, into the user's cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.support.requirements import not_tested, required_program


def installed(name: str, version: str) -> Path:
    """The folder of a package. Ends the test where npm, or the package, cannot be had."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "system-migration-tests"
    wanted = cache / f"{name}-{version}"
    npm = required_program("npm", "npm")
    if not wanted.exists():
        cache.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=cache))
        ask = [npm, "install", "--prefix", scratch, "--no-audit", "--no-fund", "--ignore-scripts", f"{name}@{version}"]
        ran = subprocess.run([str(word) for word in ask], capture_output=True, text=True)
        if ran.returncode == 0 and not wanted.exists():
            scratch.rename(wanted)  # whole or not at all: somebody else may be installing it too
        shutil.rmtree(scratch, ignore_errors=True)
        if not wanted.exists():
            not_tested(f"npm could not install {name}@{version}: {ran.stderr.strip()[-300:]}")
    return wanted / "node_modules" / name
