"""The known migrations: unique, complete, in the order in which they run."""

from __future__ import annotations

import heapq
import inspect
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from system_migration import code
from system_migration.batch_migration import BatchMigration
from system_migration.errors import LoadError, UnknownMigration
from system_migration.migration import Migration
from system_migration.records import Listed

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_REVISION = re.compile(r"[^\s@:+-]+")
"""What Alembic takes for the name of one revision; the others are for reckoning with several."""
_SEVERAL = ("head", "heads", "base", "current")


class Registry:
    """Migration classes, checked against their contract and against each other.

    Raises `LoadError`, naming the files, for a duplicate name, a missing requirement, a cycle, or a class that
    declares less than its form needs.
    """

    def __init__(self, migrations: Sequence[type[Migration]]) -> None:
        problems = [problem for migration in migrations for problem in _contract_problems(migration)]
        problems += _duplicates(migrations)
        if problems:
            raise LoadError(" ".join(problems))
        for migration in migrations:
            code.keep_sources(migration)
        self._by_name = {migration.name: migration for migration in migrations}
        self._names = _ordered(self._by_name)

    def __iter__(self) -> Iterator[type[Migration]]:
        return (self._by_name[name] for name in self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __getitem__(self, name: str) -> type[Migration]:
        if name not in self._by_name:
            raise UnknownMigration(name, self.names)
        return self._by_name[name]

    @property
    def names(self) -> tuple[str, ...]:
        """All names, in order."""
        return tuple(self._names)

    def listed(self) -> list[Listed]:
        """What each file declares, in order."""
        return [
            Listed(
                name=migration.name,
                version=migration.version,
                description=migration.description,
                rollbackable=migration.rollbackable,
                manual=migration.manual,
                requires=tuple(migration.requires),
                file=file_of(migration),
                requires_schema=migration.requires_schema,
            )
            for migration in self
        ]


def file_of(migration: type[Migration]) -> str | None:
    """The file that defines a migration, as far as it has one."""
    import sys

    module = sys.modules.get(migration.__module__)
    return getattr(module, "__file__", None)


def _label(migration: type[Migration]) -> str:
    file = file_of(migration)
    return f"{Path(file).name if file else migration.__module__} ({migration.__qualname__})"


def _contract_problems(migration: type[Migration]) -> list[str]:
    label, name = _label(migration), getattr(migration, "name", None)
    problems = []
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        problems.append(f"{label}: name must be letters, digits, '.', '_' and '-', such as '002-normalize-phones'.")
    if isinstance(migration.requires, str):
        problems.append(f'{label}: requires must be a tuple of names, such as ("001-first",).')
    if migration.requires_schema is not None and not _is_revision(migration.requires_schema):
        problems.append(f'{label}: requires_schema must be one whole Alembic revision, such as "ae1027a6acf1".')
    if migration.rollbackable and not migration.defines("down") and not issubclass(migration, BatchMigration):
        problems.append(f"{label}: rollbackable = True needs a down() method.")
    if migration.manual and migration.blocks_startup:
        problems.append(f"{label}: no start of the application waits for a manual migration: drop blocks_startup.")
    if not migration.transactional and not migration.defines("applied"):
        problems.append(
            f"{label}: transactional = False needs applied(context) -> bool, to tell after a crash whether it is done."
        )
    if issubclass(migration, BatchMigration):
        problems += _declaration_problems(migration, label)
        ways = [method for method in ("transform", "assign") if migration.defines(method)]
        needed = ("table", "writes") if ways == ["assign"] else ("table", "reads", "writes")
        missing = [part for part in needed if not migration.defines(part)]
        missing += [] if ways else ["transform"]
        if len(ways) > 1:
            problems.append(f"{label}: define transform() or assign(), not both.")
        if missing:
            problems.append(f"{label}: a BatchMigration needs {', '.join(missing)}.")
    elif not migration.defines("up"):
        problems.append(f"{label}: a Migration needs an up() method.")
    return problems


def _is_revision(value: object) -> bool:
    return isinstance(value, str) and value not in _SEVERAL and _REVISION.fullmatch(value) is not None


def _declaration_problems(migration: type[BatchMigration], label: str) -> list[str]:
    problems = [
        f'{label}: {part} must be a tuple of column names, such as ("phone",).'
        for part in ("reads", "writes", "sensitive")
        if isinstance(getattr(migration, part, ()), str)
    ]
    problems += [
        f"{label}: {part} names a column twice."
        for part in ("reads", "writes")
        if isinstance(names := getattr(migration, part, ()), tuple) and len(set(names)) < len(names)
    ]
    problems += [
        f"{label}: {method}() must not be async."
        for method in ("transform", "assign", "check", "pending", "prepare", "setup_worker")
        if inspect.iscoroutinefunction(getattr(migration, method))
    ]
    return problems


def _duplicates(migrations: Sequence[type[Migration]]) -> list[str]:
    seen: dict[str, type[Migration]] = {}
    problems = []
    for migration in migrations:
        name = str(getattr(migration, "name", None))
        if name in seen:
            problems.append(
                f"The name {name!r} is used twice: in {_label(seen[name])} and {_label(migration)}. Rename one."
            )
        seen[name] = migration
    return problems


def _ordered(by_name: dict[str, type[Migration]]) -> list[str]:
    """By number, but never before what a migration requires."""
    waiting = {name: set(migration.requires) for name, migration in by_name.items()}
    for name, required in waiting.items():
        for missing in sorted(required - set(by_name)):
            raise LoadError(f"{_label(by_name[name])}: requires {missing!r}, which does not exist.")
    ready = [rank(name) for name, required in waiting.items() if not required]
    heapq.heapify(ready)
    ordered: list[str] = []
    while ready:
        done = heapq.heappop(ready)[-1]
        ordered.append(done)
        for name, required in waiting.items():
            if done in required:
                required.discard(done)
                if not required:
                    heapq.heappush(ready, rank(name))
    if len(ordered) < len(by_name):
        stuck = ", ".join(_label(by_name[name]) for name in sorted(set(by_name) - set(ordered)))
        raise LoadError(f"These migrations require each other in a circle, or wait for one that does: {stuck}.")
    return ordered


def is_numbered(name: str) -> bool:
    """Whether a name tells by a number where it comes."""
    return math.isfinite(rank(name)[0])


def rank(name: str) -> tuple[float, str, str]:
    """Where a name comes among others that require nothing: by its number."""
    number = re.match(r"\d+", name)
    return (float(number.group()) if number else math.inf, name, name)
