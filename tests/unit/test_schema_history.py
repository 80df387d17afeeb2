"""Whether a schema revision is applied, judged by where a database is and by the scripts, if there are any."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from system_migration import ConfigurationError, Migration, Registry
from system_migration.errors import LoadError, WaitsForSchema
from system_migration.schema_history import SchemaHistory
from tests.support.alembic import Schema


def requiring(revision: object) -> type[Migration]:
    """A migration that waits for a revision."""
    declared = {"name": "002-later", "requires_schema": revision, "up": lambda self, context: None}
    return type("Later", (Migration,), {"__module__": __name__} | declared)


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Schema:
    """first - second - third - merged, with other beside second; and apart, which depends on third."""
    made = Schema(tmp_path_factory.mktemp("schema"))
    made.add("first")
    made.add("second", "first")
    made.add("third", "second")
    made.add("other", "first")
    made.add("merged", ("third", "other"))
    made.add("apart", depends_on="third")
    return made


@pytest.mark.parametrize(
    "current",
    [("second",), ("third",), ("other", "second"), ("other", "third"), ("merged",), ("apart",), ("gone", "third")],
)
def test_a_revision_is_applied_where_the_database_is_at_it_or_at_what_comes_after(
    schema: Schema, current: tuple[str, ...]
) -> None:
    assert SchemaHistory(str(schema.ini)).missing(requiring("second"), current) is None


@pytest.mark.parametrize(
    ("current", "said"),
    [
        (None, "schema revision second, the database has no table alembic_version"),
        ((), "schema revision second, the database is at no revision"),
        (("first",), "schema revision second, the database is at first"),
        (("other",), "schema revision second, the database is at other"),
        (
            ("gone",),
            "schema revision second, the database is at gone; there is no gone in the scripts of {ini}",
        ),
        (
            ("first", "gone"),
            "schema revision second, the database is at first and gone; there is no gone in the scripts of {ini}",
        ),
    ],
)
def test_else_it_is_said_where_the_database_is(schema: Schema, current: tuple[str, ...] | None, said: str) -> None:
    history = SchemaHistory(str(schema.ini))
    assert history.missing(requiring("second"), current) == said.format(ini=schema.ini)
    with pytest.raises(WaitsForSchema, match="Migration 002-later waits for schema revision second, the database"):
        history.demand(requiring("second"), current)


@pytest.mark.parametrize("revision", ["secon", "fourth"])
def test_what_is_no_whole_revision_is_said_to_be_none(schema: Schema, revision: str) -> None:
    said = SchemaHistory(str(schema.ini)).missing(requiring(revision), ("merged",))
    assert said is not None
    assert f"there is no {revision} in the scripts of" in said


def test_without_scripts_only_the_very_revision_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    history = SchemaHistory()
    assert history.missing(requiring("second"), ("other", "second")) is None
    assert history.missing(requiring("second"), ("third",)) == (
        "schema revision second, the database is at third; whether that includes it only Alembic's scripts tell, and "
        "alembic.ini is not here"
    )


def test_scripts_are_read_anew_when_the_database_has_moved(tmp_path: Path) -> None:
    schema = Schema(tmp_path)
    schema.add("first")
    history = SchemaHistory(str(schema.ini))
    assert history.missing(requiring("first"), ("second",)) is not None
    schema.add("second", "first")
    schema.add("third", "second")
    assert history.missing(requiring("first"), ("third",)) is None


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"ALEMBIC_CONFIG names .*/other\.ini, which is no file"):
        SchemaHistory(str(tmp_path / "other.ini")).missing(requiring("second"), ("first",))


def test_scripts_that_do_not_load_are_said_not_to(tmp_path: Path) -> None:
    schema = Schema(tmp_path)
    (tmp_path / "alembic/versions/broken.py").write_text("raise ValueError('a secret')")
    with pytest.raises(
        ConfigurationError, match=r"cannot be read with .* \(ValueError\)\. `alembic history`"
    ) as raised:
        SchemaHistory(str(schema.ini)).missing(requiring("second"), ("first",))
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("revision", ["", "head", "base", "ae10+1", "a:b", "label@head", "two words", ("a", "b"), 12])
def test_what_names_no_single_revision_does_not_load(revision: object) -> None:
    with pytest.raises(LoadError, match=r"\(Later\): requires_schema must be one whole Alembic revision"):
        Registry([requiring(revision)])


def test_what_is_declared_is_listed() -> None:
    assert [each.requires_schema for each in Registry([requiring("ae1027a6acf1")]).listed()] == ["ae1027a6acf1"]


def test_while_a_migration_waits_the_scripts_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Schema(tmp_path)
    made.add("first")
    made.add("second", "first")
    made.ini.write_text(f"{made.ini.read_text()}prepend_sys_path = {tmp_path}\npath_separator = os\n")
    script = next((tmp_path / "alembic" / "versions").glob("second*"))
    script.write_text(f"{script.read_text()}\nwith open({str(tmp_path / 'read')!r}, 'a') as f:\n    f.write('x')\n")
    history = SchemaHistory(str(made.ini))
    monkeypatch.setattr(sys, "path", path := list(sys.path))
    for _ in range(3):
        assert history.missing(requiring("second"), ("first",)) is not None
    assert (tmp_path / "read").read_text() == "x"
    assert path.count(str(tmp_path)) == 1
    assert history.missing(requiring("first"), ("second",)) is None  # another state of the database, another look
    assert (tmp_path / "read").read_text() == "xx"


def test_what_alembic_finds_in_the_projects_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Schema(tmp_path)
    made.add("first")
    made.add("second", "first")
    (tmp_path / "pyproject.toml").write_text(f"[tool.alembic]\nscript_location = '{tmp_path / 'alembic'}'\n")
    made.ini.write_text("[alembic]\n")
    monkeypatch.chdir(tmp_path)
    assert SchemaHistory().missing(requiring("first"), ("second",)) is None
