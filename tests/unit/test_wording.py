"""Words for people: odd characters are shown, never obeyed."""

from __future__ import annotations

from system_migration import wording


def test_shown_escapes_what_a_terminal_would_obey() -> None:
    assert wording.shown("plain ünïcode 名") == "plain ünïcode 名"
    assert wording.shown("a\tb\r\n\x1b]0;x\x07\x9b\u202e\udcff") == "a\\tb\\r\\n\\x1b]0;x\\x07\\x9b\\u202e\\udcff"


def test_a_paragraph_keeps_its_lines_but_no_line_looks_like_another_message() -> None:
    assert wording.paragraph("two files:\nmigration: all is well\x1b") == "two files:\n  migration: all is well\\x1b"
