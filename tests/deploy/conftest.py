"""The image, built once."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.build_context import Context
from tests.deploy.dockerfile import Image, StepFailed
from tests.support.host import scratch_directory
from tests.support.requirements import not_tested

ROOT = Path(__file__).parents[2]
CACHES = shutil.ignore_patterns(".venv", ".git", ".*_cache", ".hypothesis", "__pycache__")

PLANTED = (
    ".env",
    ".git/config",
    "development.db",
    "development.db-wal",
    "dump.sql",
    "ante_backend/.env",
    "ante_backend/accounts.db",
    "ante_backend/__pycache__/old.cpython-311.pyc",
    "src/system_migration/.secret",
    "src/shop.db-journal",
)
"""What may lie about in the folder of somebody who builds an image, and belongs in none."""

OLDER = "idna==3.10"
"""Not the newest, so that nobody gets it by chance."""


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree of somebody who has worked in it."""
    copy = tmp_path_factory.mktemp("checkout") / "tree"
    shutil.copytree(ROOT, copy, ignore=CACHES)
    for name in PLANTED:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text("planted", encoding="utf-8")
    constraints = (copy / "constraints.txt").read_text(encoding="utf-8")
    (copy / "constraints.txt").write_text(re.sub("(?m)^idna==.*", OLDER, constraints), encoding="utf-8")
    return copy


@pytest.fixture(scope="session")
def image(checkout: Path) -> Iterator[Image]:
    """The image that deploy/Dockerfile makes of that tree. Without a package index it cannot be built."""
    (folder, lock), failed = scratch_directory(None), ""
    folder.chmod(0o755)  # the image's user has to walk through it
    try:
        image = Image(checkout / "deploy/Dockerfile", Context(checkout), folder / "root", ("/venv", "/app"))
        image.bring_python()
        yield image
    except StepFailed as error:
        failed = str(error)
    finally:
        shutil.rmtree(folder)
        os.close(lock)
    if failed:
        not_tested(failed)
