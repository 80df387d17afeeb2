"""The token file: private, strict, and read again when it changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fastapi import HTTPException
from fastapi.security import HTTPAuthorizationCredentials

from system_migration import ConfigurationError
from system_migration.web.tokens import TokenFile, make_token


def write(path: Path, *lines: str, mode: int = 0o600) -> Path:
    fresh = path.with_suffix(".new")
    fresh.write_text("\n".join(lines) + "\n", encoding="utf-8")
    fresh.chmod(mode)
    os.replace(fresh, path)
    return path


def may(file: TokenFile, token: str | None) -> str:
    return file.require(None if token is None else HTTPAuthorizationCredentials(scheme="Bearer", credentials=token))


def test_a_token_lets_its_owner_in_and_no_other(tmp_path: Path) -> None:
    (ada, ada_line), (eve, eve_line) = make_token("ada"), make_token("eve@example.test")
    file = TokenFile(write(tmp_path / "tokens", "# developers", "", ada_line, f"  {eve_line}"))
    assert (may(file, ada), may(file, eve)) == ("ada", "eve@example.test")
    for wrong in (None, "", ada[:-1], ada + "x", ada_line.partition(":")[2], "ö"):
        with pytest.raises(HTTPException) as refused:
            may(file, wrong)
        assert refused.value.status_code == 401
        assert refused.value.headers == {"WWW-Authenticate": "Bearer"}


def test_a_line_taken_out_acts_at_once(tmp_path: Path) -> None:
    (ada, ada_line), (eve, eve_line) = make_token("ada"), make_token("eve")
    file = TokenFile(write(tmp_path / "tokens", ada_line, eve_line))
    assert may(file, eve) == "eve"
    write(tmp_path / "tokens", ada_line)
    assert may(file, ada) == "ada"
    with pytest.raises(HTTPException):
        may(file, eve)


@pytest.mark.parametrize("mode", [0o604, 0o666, 0o620, 0o602])
def test_a_file_that_others_may_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    _, line = make_token("ada")
    with pytest.raises(ConfigurationError, match="is open to others"):
        TokenFile(write(tmp_path / "tokens", line, mode=mode))


def test_a_file_that_goes_bad_lets_nobody_in(tmp_path: Path) -> None:
    ada, line = make_token("ada")
    file = TokenFile(write(tmp_path / "tokens", line, mode=0o640))
    assert may(file, ada) == "ada"
    (tmp_path / "tokens").chmod(0o644)
    with pytest.raises(ConfigurationError):
        may(file, ada)
    (tmp_path / "tokens").unlink()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        may(file, ada)


@pytest.mark.parametrize("line", ["ada", "ada:secret", "ada:" + "A" * 64, ":" + "0" * 64, "a b:c:" + "0" * 64, "é" * 3])
def test_a_line_that_is_none_is_named_by_its_number_alone(tmp_path: Path, line: str) -> None:
    with pytest.raises(ConfigurationError, match="Line 2 of the token file") as refused:
        TokenFile(write(tmp_path / "tokens", "# developers", line))
    assert line not in str(refused.value)


def test_a_file_without_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="names nobody"):
        TokenFile(write(tmp_path / "tokens", "# nobody yet"))
