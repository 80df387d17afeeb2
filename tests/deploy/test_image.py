"""What the image holds and what it does when it is started, asked and stopped."""

from __future__ import annotations

import os
import re
import sys
from importlib.metadata import Distribution
from pathlib import Path

from tests.deploy.build_context import Context
from tests.deploy.conftest import OLDER, PLANTED, ROOT
from tests.deploy.dockerfile import Image
from tests.support.requirements import not_tested

LOOK = """
import os, sys
found = [f"{at}/{name}" for top in sys.argv[1:] for at, _, files in os.walk(top) for name in [".", *files]]
assert len(found) > 1000
print(*[name for name in found if os.access(name, os.W_OK)], sep="")
"""


def sources(folder: Path) -> set[str]:
    return {str(path.relative_to(ROOT)) for path in folder.rglob("*.py")}


def test_the_build_is_sent_the_sources_and_nothing_that_lies_about(checkout: Path) -> None:
    sent = {str(path) for path in Context(checkout).files()}
    assert sent.isdisjoint(PLANTED)
    code = sources(ROOT / "src") | sources(ROOT / "ante_backend")
    assert {name for name in sent if name.endswith(".py")} == code
    assert {name for name in sent if "/" not in name} == {"LICENSE", "README.md", "constraints.txt", "pyproject.toml"}


def test_the_image_holds_the_host_and_no_more_of_the_tree(image: Image) -> None:
    held = image.files("/app")
    assert {name.removeprefix("/app/") for name in held if name.endswith(".py")} == sources(ROOT / "ante_backend")
    assert [name for name in held if not re.fullmatch(r"/app/ante_backend/.*\.pyc?", name)] == []


def test_the_image_holds_the_library_whole(image: Image) -> None:
    held = {name.partition("/site-packages/")[2] for name in image.files("/venv")}
    assert {name.removeprefix("src/") for name in sources(ROOT / "src")} <= held


def test_everything_is_compiled_once_and_for_all(image: Image) -> None:
    """A start neither compiles nor looks whether a source is newer: bit 0 of the flags without bit 1."""
    files = [name for name in image.files("/app") + image.files("/venv") if name.endswith(".pyc")]
    flags = {name: (image.root / name.lstrip("/")).read_bytes()[4] for name in files}
    assert {name: flag for name, flag in flags.items() if flag != 0b01} == {}
    ours = [
        name
        for name in image.files("/app") + image.files("/venv")
        if re.search(r"(ante_backend|system_migration)/.*\.py$", name)
    ]
    compiled = {re.sub(r"__pycache__/(\w+)\.cpython-\d+\.pyc$", r"\1.py", name) for name in files}
    assert len(ours) > 100
    assert [name for name in ours if name not in compiled] == []


def test_every_version_is_the_pinned_one(image: Image, checkout: Path) -> None:
    constraints = (checkout / "constraints.txt").read_text(encoding="utf-8")
    assert OLDER in constraints
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", constraints, re.MULTILINE))
    by_name = {normal(name): version for name, version in pinned.items()}
    (site,) = (image.root / "venv/lib").glob("python3*/site-packages")
    installed = {normal(each.metadata["Name"]): each.version for each in map(Distribution.at, site.glob("*.dist-info"))}
    assert {"sqlalchemy", "psycopg", "fastapi", "bcrypt", "cryptography"} < set(installed)
    assert {name: version for name, version in installed.items() if by_name.get(name) != version} == {
        "system-migration": installed["system-migration"]
    }
    assert set(installed).isdisjoint({"pip", "pytest", "hatchling", "ruff", "mypy"})


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_what_the_image_says_of_itself(image: Image) -> None:
    said = image.stage
    assert {"RUN_MIGRATIONS_ON_STARTUP": "true", "AUTO_MIGRATE": "false"}.items() <= said.environ.items()
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", said.user)  # a number, not root's
    assert said.ports == [said.environ["PORT"]]
    assert [name for name in said.environ if re.search("KEY|SECRET|PASSWORD|URL", name)] == []


def test_a_process_of_the_image_is_given_nothing_of_this_machine(image: Image, tmp_path: Path) -> None:
    """The stand-in for a container must not lend the image what it lacks."""
    ask = (
        "import os, sys, system_migration as s; print(os.getuid(), s.__file__, *sys.path[1:], *os.environ, sep=chr(10))"
    )
    log = tmp_path / "log"
    assert image.start("python", "-c", ask, log=log).wait(20) == 0, log.read_text()
    uid, *said = log.read_text().splitlines()
    assert uid != "0"
    paths = [Path(line) for line in said if line.startswith("/")]
    here = [path for path in paths if not path.is_relative_to(image.root)]
    assert [path for path in here if not path.is_relative_to(sys.base_prefix)] == []  # stands for the base image's
    assert {line for line in said if not line.startswith("/")} <= {*image.stage.environ, "LC_CTYPE"}
    assert image.start("python", "-c", "import pytest", log=log).wait(20) == 1


def test_no_process_of_the_image_can_change_it(image: Image, tmp_path: Path) -> None:
    """Its files are root's. Where the tests are not run by root, they are the tester's own."""
    if os.geteuid() != 0:
        not_tested("another user's rights, because the tests are not run by root")
    log = tmp_path / "log"
    asked = image.start("python", "-c", LOOK, image.inside("/app"), image.inside("/venv"), log=log)
    assert asked.wait(20) == 0, log.read_text()
    assert log.read_text() == "\n"
