"""The files that `migration new` writes."""

from __future__ import annotations

import importlib
import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from system_migration.discovery import locate
from system_migration.errors import ConfigurationError, LoadError

TESTS = Path("tests") / "migrations"
LONGEST_SLUG = 60


@dataclass(frozen=True)
class Written:
    """The new migration's name, and the two files."""

    name: str
    file: Path
    test: Path


def write(title: str, migrations: str) -> Written:
    """Write the next numbered migration and its test. Raises `ConfigurationError` and writes nothing if it cannot."""
    words = _words(title)
    folder, package = _home(migrations)
    stem = f"{_next_number(folder):03}_{'_'.join(words)}"
    file, test = folder / f"{stem}.py", TESTS / f"test_{stem}.py"
    for path in (file, test):
        if path.exists():
            raise ConfigurationError(f"{path} exists already and is left as it is. Choose another title.")
    name = stem.replace("_", "-")
    names = {
        "name": name,
        "class_name": _class_name(words),
        "title": " ".join(words),
        "migrations": json.dumps(migrations) if package else f"str({_from_test(folder)})",
        "imports": "" if package else "from pathlib import Path\n\n",
        "function": f"test_{'_'.join(words)}",
    }
    _make_folder(folder, package=package)
    TESTS.mkdir(parents=True, exist_ok=True)
    _create(file, MIGRATION.substitute(names))
    _create(test, TEST.substitute(names))
    importlib.invalidate_caches()  # else discovery may not see a file this young
    return Written(name, file, test)


def place(written: Written, names: Sequence[str]) -> dict[str, Any]:
    """Where discovery sees the new migration among all `names`. Raises `ConfigurationError` if it does not."""
    if written.name not in names:
        raise ConfigurationError(
            f"{written.file} was written, but discovery does not find {written.name} in --migrations."
        )
    index = names.index(written.name)
    return {
        "name": written.name,
        "file": str(written.file),
        "test": str(written.test),
        "position": index + 1,
        "of": len(names),
        "after": names[index - 1] if index else None,
    }


def _words(title: str) -> list[str]:
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    words = re.findall(r"[a-z0-9]+", plain)
    if not words or len("_".join(words)) > LONGEST_SLUG:
        raise ConfigurationError(
            f"The title {title!r} does not make a file name. Give 1 to {LONGEST_SLUG} letters or digits of a to z."
        )
    return words


def _class_name(words: Sequence[str]) -> str:
    name = "".join(word.capitalize() for word in words)
    return name if name[0].isalpha() else f"Migration{name}"


def _home(migrations: str) -> tuple[Path, bool]:
    """The folder that new files go to, which may not exist yet, and whether it is a package."""
    try:
        folder, package = locate(migrations)
    except LoadError:
        return _new_home(migrations)
    return _from_here(folder), package is not None


def _new_home(migrations: str) -> tuple[Path, bool]:
    parent, dot, child = migrations.rpartition(".")
    if not dot or not all(part.isidentifier() for part in migrations.split(".")):
        return Path(migrations), False
    try:
        return _from_here(locate(parent)[0]) / child, True
    except LoadError:
        return Path(*migrations.split(".")), True


def _from_here(folder: Path) -> Path:
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder


def _next_number(folder: Path) -> int:
    found = [re.match(r"(\d+)_.*\.py$", path.name) for path in folder.glob("*.py")] if folder.is_dir() else []
    return max((int(match[1]) for match in found if match), default=0) + 1


def _from_test(folder: Path) -> str:
    """The folder as the test's code says it: relative to the test, so that it runs from anywhere."""
    if folder.is_absolute():
        return f"Path({json.dumps(str(folder))})"
    return f"Path(__file__).parents[{len(TESTS.parts)}] / {json.dumps(folder.as_posix())}"


def _make_folder(folder: Path, *, package: bool) -> None:
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing if package else ():
        _create(path / "__init__.py", "")


def _create(path: Path, text: str) -> None:
    with path.open("x", encoding="utf-8") as file:
        file.write(text)


MIGRATION = Template('''\
"""$title: an example to edit. It stores the phone numbers of table "account" in E.164."""

import re
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from system_migration import BatchMigration, RowIssue


class $class_name(BatchMigration):
    name = "$name"
    version = "1.0.0"
    description = "Store phone numbers in E.164"

    table = "account"  # its primary key, of any type, names the rows
    reads = ("phone",)  # the columns that transform sees
    writes = ("phone_e164",)  # the columns that it returns
    sensitive = ("phone", "phone_e164")  # masked wherever a value would be shown
    max_issues = 0  # how many rows may stay held in a completed run

    def prepare(self, schema: Any) -> None:
        """Change the schema first. Runs again after an interruption, so it must be repeatable, as this is."""
        schema.add_column("account", sa.Column("phone_e164", sa.String(20)))

    def pending(self, t: Any) -> Any:
        """Which rows still need the change, in SQL; false once transform's values are written."""
        return t.c.phone_e164.is_(None) & t.c.phone.is_not(None)

    def transform(self, row: Any) -> Mapping[str, Any]:
        """The new values of one row. Pure: it may run more than once for a row, and in several threads."""
        digits = "".join(character for character in row.phone if character.isdigit())
        if not 8 <= len(digits) <= 15:
            # The row stays as it is and is listed by key; the message must not carry the row's values.
            raise RowIssue("not-a-phone-number", "E.164 has 8 to 15 digits")
        return {"phone_e164": f"+{digits}"}

    def check(self, row: Any) -> bool:
        """Verify one row that is no longer pending, by other means than transform used."""
        return row.phone is None or row.phone_e164 == "+" + re.sub(r"[^0-9]", "", row.phone)
''')

TEST = Template('''\
"""Rehearses $name: edit it together with the migration.

On scratch databases with these rows the migration is run, run again, killed, damaged and written to meanwhile. The
test fails at the first promise that it breaks, with the keys of rows that show it.
"""

${imports}import sqlalchemy as sa

from system_migration import discover

MIGRATIONS = $migrations

account = sa.Table(
    "account",
    sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("phone", sa.String(40)),
)
phones = ["+49 30 123456", "0049 30 123457", "(030) 123-458", "+1 202 555 0143", "+44 20 7946 0958", "030-99999", None]


def $function(rehearse):
    rows = [{"id": number, "phone": phone} for number, phone in enumerate(phones, start=1)]
    rehearse(discover(MIGRATIONS)["$name"], tables=account, rows=rows)
''')
