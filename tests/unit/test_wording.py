"""Words for people: odd characters are shown, never obeyed."""

from __future__ import annotations

from system_migration import wording
from system_migration.records import StatusReport


def test_shown_escapes_what_a_terminal_would_obey() -> None:
    assert wording.shown("plain ünïcode 名") == "plain ünïcode 名"
    assert wording.shown("a\tb\r\n\x1b]0;x\x07\x9b\u202e\udcff") == "a\\tb\\r\\n\\x1b]0;x\\x07\\x9b\\u202e\\udcff"


def test_a_paragraph_keeps_its_lines_but_no_line_looks_like_another_message() -> None:
    assert wording.paragraph("two files:\nmigration: all is well\x1b") == "two files:\n  migration: all is well\\x1b"


def test_what_comes_next_names_a_few_and_counts_the_others() -> None:
    names = [f"{number:03}-a" for number in range(1, 6)]
    report = StatusReport("staging", [], names)
    assert wording.next_step(report).count("start") == 5
    assert wording.next_step(report, 2) == "`migration run` would start 001-a, then start 002-a, then 3 more."
    assert wording.next_step(StatusReport("staging", [], [])) == "nothing; `migration run` has no work."
