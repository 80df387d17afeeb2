"""`scripts/demo` in a copy of the tree: what a newcomer sees first."""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
from pathlib import Path

import pytest

from ante_backend.seed import create_legacy_table, insert_accounts, make_accounts
from tests.support.accounts import KEY
from tests.support.command import Ended, Project
from tests.support.databases import application_engine

ROOT = Path(__file__).parents[2]
VIRTUAL_ENVIRONMENT = Path(sys.prefix)
LEFT_OUT = shutil.ignore_patterns(".*", "*.db", "*.db-*", "tests", "docs")
ACCOUNTS = 20
"""The story is the same with a tenth of the accounts, and hashed as dearly as in production a tenth as long."""
CODES = ("ciphertext_not_hex", "iv_length", "odd_ciphertext")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The project elsewhere, with this virtual environment's programs, which its set-up finds complete."""
    copied = tmp_path / "copy"
    shutil.copytree(ROOT, copied, ignore=LEFT_OUT)
    environment = copied / ".venv"
    environment.mkdir()
    for part in VIRTUAL_ENVIRONMENT.iterdir():
        if not part.name.startswith("."):
            (environment / part.name).symlink_to(part)
    wanted = hashlib.sha256((copied / "pyproject.toml").read_bytes() + (copied / "constraints.txt").read_bytes())
    (environment / ".installed").write_text(f"{wanted.hexdigest()}  -\n")
    return copied


def sections(ended: Ended) -> dict[str, str]:
    """What was printed by command; a command that is shown twice is numbered."""
    found: dict[str, str] = {}
    for part in re.split(r"^\$ ", ended.out, flags=re.MULTILINE)[1:]:
        command, _, text = part.partition("\n")
        found[command if command not in found else f"{command} again"] = text
    return found


def check(ended: Ended, accounts: int) -> None:
    """Every section says what it must, in the order of the story."""
    good = accounts - 3
    said = sections(ended)
    before, after = (said[command] for command in said if "ante_backend.visit" in command)
    assert [command.split()[-1] if "-m" not in command else command.split()[2] for command in said] == [
        *("ante_backend.seed", "ante_backend", "ante_backend.visit"),
        *("status", "dry-run", "run", "verify", "again", "001-password-bcrypt"),
        *("ante_backend.proof", "ante_backend.visit"),
    ]
    for visit, status in ((before, "PENDING"), (after, "COMPLETED")):
        assert re.findall(r" (\d{3})$", visit, flags=re.MULTILINE) == ["401", "200", "200", "401", "403", "200"]
        assert f"001-password-bcrypt: {status}\n" in visit
    assert "PENDING" in said["migration status"]
    rehearsal = said["migration dry-run"]
    assert re.search(rf"rows to read +{accounts}\n", rehearsal)
    assert re.search(r"would change +[1-9]\d*\n", rehearsal)  # a sample, as large as the machine is fast
    assert re.search(r"would be held +3\n", rehearsal)
    assert re.match(rf"001-password-bcrypt  COMPLETED  {good} rows, 3 held .* verified\n", said["migration run"])
    assert "verified" in said["migration verify"]
    assert "not verified" not in ended.out
    assert re.search(rf"001-password-bcrypt +COMPLETED \(3 held\) +{good} ", said["migration status again"])
    held = said["migration issues 001-password-bcrypt"]
    assert sorted(code for code in CODES if code in held) == list(CODES)
    assert len(held.strip().splitlines()) == 4
    proof = said[next(command for command in said if "ante_backend.proof" in command)]
    assert "5 of 5 old passwords open their new hash." in proof
    assert "0 of 5 do with one character more." in proof
    assert max(map(len, ended.out.splitlines())) <= 140


def leave_an_earlier_one(folder: Path) -> None:
    """The database as an earlier run of the demo leaves it, as far as it would be in the way of another."""
    engine = application_engine(f"sqlite:///{folder}/demo.db")
    create_legacy_table(engine)
    insert_accounts(engine, make_accounts(ACCOUNTS, 3, KEY))
    engine.dispose()


def test_the_demo_tells_its_story_and_starts_afresh_the_second_time(copy: Path, tmp_path: Path) -> None:
    leave_an_earlier_one(copy)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environ = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(scratch), "LANG": "C.UTF-8"}
    demo = copy / "scripts" / "demo"
    text = demo.read_text()
    assert text.count("--accounts 200") == 4
    demo.write_text(text.replace("--accounts 200", f"--accounts {ACCOUNTS}"))
    check(Project(scratch, "", environ).run(program=demo), ACCOUNTS)
    assert (copy / "demo.db").exists()
    assert not list(scratch.glob("*.db"))
