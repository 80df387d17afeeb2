"""The README names every command."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def test_every_command_is_named_in_the_readme() -> None:
    """`migration --help` is the list; a command that a reader cannot find there does not exist for him."""
    shown = subprocess.run(
        [Path(sys.executable).with_name("migration"), "--help"], capture_output=True, text=True, check=True
    ).stdout
    commands = re.findall(r"^  ([a-z][a-z-]+) {2,}[A-Z]", shown, re.MULTILINE)
    assert {"run", "pause", "prune"} <= set(commands)
    text = README.read_text(encoding="utf-8")
    missing = [name for name in commands if not re.search(rf"`(migration )?{name}\b", text)]
    assert not missing
