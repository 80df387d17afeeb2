"""Printing: escapes, alignment, documents, and readers that go away."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from datetime import date
from decimal import Decimal

import pytest

from system_migration.cli import output
from system_migration.cli.logs import JsonLines, StderrHandler, TextLines, configure_logging


def test_columns_are_aligned() -> None:
    assert output.table(("A", "NUMBER"), [("long", 1), ("x\ny", 20)], right={1}) == [
        "A     NUMBER",
        "long       1",
        "x\\ny      20",
    ]


def test_a_document_holds_any_value_and_is_ascii(capsys) -> None:
    output.document({"a": [b"\x01", Decimal("1.50"), date(2025, 1, 2), float("inf"), 1.5, None, True, "\x9b名", (1,)]})
    text = capsys.readouterr().out
    assert text.isascii()
    assert json.loads(text) == {"a": ["01", "1.50", "2025-01-02", "inf", 1.5, None, True, "\x9b名", [1]]}


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_reader_that_went_away_is_no_error(stream) -> None:
    program = (
        "import sys; from system_migration.cli import output\n"
        "for _ in range(5000): output.lines(['x' * 100]); output.notice('y' * 100)\n"
        "sys.exit(3)"
    )
    other = "stderr" if stream == "stdout" else "stdout"
    pipes = {stream: subprocess.PIPE, other: subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-c", program], **pipes) as process:
        reading = getattr(process, stream)
        reading.read(10)
        reading.close()
    assert process.returncode == 3


def test_a_closed_stdout_is_no_error() -> None:
    done = subprocess.run(["sh", "-c", f"{sys.executable} -m system_migration.cli.main --help >&-"], check=False)
    assert done.returncode == 0


def test_a_terminal_that_lacks_a_letter_gets_its_escape() -> None:
    program = "from system_migration.cli import output; output.accept_any_text(); output.lines(['名'])"
    environment = {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=environment, check=True)
    assert done.stdout == b"\\u540d\n"


def record(**extra) -> logging.LogRecord:
    made = logging.LogRecord("system_migration.runner", logging.WARNING, "", 0, "row %s\nbad", ("a\x1b",), None)
    made.__dict__.update(extra)
    return made


def test_log_lines_are_single_lines_without_tracebacks() -> None:
    assert TextLines().format(record()) == "WARNING system_migration.runner: row a\\x1b\\nbad"
    try:
        raise ValueError("secret-value")
    except ValueError:
        told = record(exc_info=sys.exc_info(), action="batch", migration="001-a", run_id="r1")
    assert TextLines().format(told) == "WARNING system_migration.runner: row a\\x1b\\nbad (ValueError)"
    line = json.loads(JsonLines().format(told))
    assert line.pop("at").endswith("Z")
    assert line == {
        "level": "warning",
        "logger": "system_migration.runner",
        "message": "row a\x1b\nbad (ValueError)",
        "action": "batch",
        "migration": "001-a",
        "runId": "r1",
    }


def test_logging_is_configured_once_and_quiet_by_default(capsys) -> None:
    for verbose in (False, True):
        configure_logging("text", verbose=verbose)
        logging.getLogger("system_migration").info("a step")
    assert sum(isinstance(handler, StderrHandler) for handler in logging.getLogger().handlers) == 1
    assert capsys.readouterr().err == "INFO system_migration: a step\n"
