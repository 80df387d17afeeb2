"""How words become markup: what others wrote stays text."""

from __future__ import annotations

from system_migration.web.dashboard import pages


def test_what_stands_in_backticks_is_code_and_stays_text() -> None:
    assert pages._paragraphs("Give `--a <b>`.\nThen `c") == "Give <code>--a &lt;b&gt;</code>.<br>Then `c"
    assert pages._prose("`<script>`\u202e") == "<code>&lt;script&gt;</code>\\u202e"


def test_a_line_of_a_log_is_shown_as_it_was_said() -> None:
    assert pages._verbatim("said `a`\n<b>") == "said `a`<br>&lt;b&gt;"
