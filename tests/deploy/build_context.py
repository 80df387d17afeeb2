"""What a build is sent: the tree, less what .dockerignore names. Compared once with what the real client sends."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath


class Context:
    """The files that a build is sent: those below `root` that .dockerignore does not leave out."""

    def __init__(self, root: Path) -> None:
        self.root = root
        lines = (root / ".dockerignore").read_text(encoding="utf-8").splitlines()
        self._rules = [_rule(line.strip()) for line in lines if line.strip() and not line.startswith("#")]

    def holds(self, path: PurePosixPath) -> bool:
        """The last rule that names the path, or a folder above it, decides."""
        names = [str(path), *(str(parent) for parent in path.parents if parent.name)]
        kept = True
        for keeps, pattern in self._rules:
            if any(pattern.fullmatch(name) for name in names):
                kept = keeps
        return kept

    def files(self, below: str = ".") -> list[PurePosixPath]:
        start = self.root / below
        found = [start] if start.is_file() else [path for path in start.rglob("*") if path.is_file()]
        relative = [PurePosixPath(path.relative_to(self.root)) for path in found]
        return sorted(path for path in relative if self.holds(path))


def _rule(line: str) -> tuple[bool, re.Pattern[str]]:
    keeps = line.startswith("!")
    words = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", line.lstrip("!"))
    return keeps, re.compile("".join(words.get(part, part if part[:1] == "[" else re.escape(part)) for part in parts))
