"""What a test needs of the machine and does not find: a loud skip at home, a failure where everything is required."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest

from tests.support.host import BinaryMissing, program

NOT_TESTED = "NOT TESTED"


def not_tested(why: str) -> NoReturn:
    """End the test: it is skipped, or fails with REQUIRE_DATABASES=1. The summary repeats why."""
    if os.environ.get("REQUIRE_DATABASES") == "1":
        pytest.fail(f"{NOT_TESTED}: {why}", pytrace=False)
    pytest.skip(f"{NOT_TESTED}: {why}")


def required_program(name: str, package: str) -> Path:
    """A program of this machine, or the test ends here."""
    missing = ""
    try:
        return Path(program(name, package))
    except BinaryMissing as error:
        missing = str(error)
    not_tested(missing)
