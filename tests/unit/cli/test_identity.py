"""Where the token comes from that proves who acts: a file, the environment, or a person who is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from system_migration.cli import identity
from system_migration.cli.session import Session
from system_migration.errors import ConfigurationError
from system_migration.token_file import make_token


class Acting:
    """Stands where the migrator does, and remembers for whom it was to act."""

    needs_approval = True

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def acting_as(self, name: str, *, identity: str) -> Acting:
        self.asked.append((name, identity))
        return self


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch, scratch_folder: Path) -> dict[str, str]:
    """The tokens of ada and bob, by name."""
    made = {name: make_token(name) for name in ("ada", "bob")}
    file = scratch_folder / "tokens"
    file.write_text("\n".join(line for _, line in made.values()), encoding="utf-8")
    file.chmod(0o600)
    monkeypatch.setenv("MIGRATION_TOKENS", str(file))
    monkeypatch.setenv("REQUIRE_APPROVAL", "true")
    return {name: token for name, (token, _) in made.items()}


@pytest.mark.parametrize("given", ["file", "environment", "typed", "file before environment"])
def test_a_token_is_taken_from_where_it_is(
    given: str, tokens: dict[str, str], monkeypatch: pytest.MonkeyPatch, scratch_folder: Path
) -> None:
    file: Path | None = None
    if "file" in given:
        file = scratch_folder / "ada.token"
        file.write_text(f"  {tokens['ada']}\n", encoding="utf-8")
        file.chmod(0o600)
    if "environment" in given:
        monkeypatch.setenv("MIGRATION_TOKEN", tokens["bob" if file else "ada"])
    asked: list[str] = []
    monkeypatch.setattr(identity, "ask_hidden", lambda prompt: asked.append(prompt) or tokens["ada"])
    migrator: Any = Acting()
    identity.of_starter(Session({}), migrator, file)
    assert migrator.asked == [("ada", "token")]
    assert len(asked) == (given == "typed")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_token_that_others_may_read_or_change_proves_nothing(
    mode: int, tokens: dict[str, str], scratch_folder: Path
) -> None:
    file = scratch_folder / "ada.token"
    file.write_text(tokens["ada"], encoding="utf-8")
    file.chmod(mode)
    migrator: Any = Acting()
    with pytest.raises(ConfigurationError, match="of your token is open to others"):
        identity.of_starter(Session({}), migrator, file)
    assert migrator.asked == []


def test_a_token_given_for_its_file_is_not_told_to_anybody(tokens: dict[str, str]) -> None:
    migrator: Any = Acting()
    with pytest.raises(ConfigurationError) as error:
        identity.of_starter(Session({}), migrator, Path(tokens["ada"]))
    assert str(error.value) == (
        "The file of your token cannot be read (No such file or directory). Give --token-file the name of a file, not "
        "the token."
    )
    assert migrator.asked == []


def test_nobody_is_asked_where_no_start_needs_an_approval(
    tokens: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "ask_hidden", lambda prompt: pytest.fail(prompt))
    for setting, needed in (("true", False), ("false", True)):
        monkeypatch.setenv("REQUIRE_APPROVAL", setting)
        migrator: Any = Acting()
        migrator.needs_approval = needed
        assert identity.of_starter(Session({}), migrator, None) is migrator
        assert migrator.asked == []
