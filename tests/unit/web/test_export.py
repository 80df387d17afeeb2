"""Cells of the file of held rows."""

from __future__ import annotations

import pytest

from system_migration.web.dashboard.export import cell, file_name


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("=1+1", "'=1+1"),
        ("+49 30", "'+49 30"),
        ("-1+cmd|' /C calc'!A0", "'-1+cmd|' /C calc'!A0"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\\t=1"),
        ("\r=1", "'\\r=1"),
        ("＝1", "'＝1"),
        ("-", "'-"),
        ("-1\n", "'-1\\n"),
        ("-1", "-1"),
        ("-12.50", "-12.50"),
        ("-٣", "'-٣"),
        ("a=1", "a=1"),
        ("x;=1+1", "x;'=1+1"),
        ("=1;@a; -2;＋3", "'=1;'@a; '-2;'＋3"),
        ('x;"=1+1"', 'x;"\'=1+1"'),
        ("x\t=1", "x\\t=1"),
        ("a;b", "a;b"),
        ("", ""),
        ("'=1", "'=1"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\r\nb", "a\\r\\nb"),
        ("\u202eabc", "\\u202eabc"),
    ],
)
def test_a_cell_is_text_to_a_spreadsheet_and_a_number_where_it_is_one(text: str, shown: str) -> None:
    assert cell(text) == shown


def test_the_name_of_the_file_is_one_everywhere() -> None:
    assert file_name("001-a", "") == "001-a-held-rows.csv"
    assert file_name('a/../b"\r\nSet-Cookie: x', "ü=1") == "a_.._b_Set-Cookie_x-held-rows-_1.csv"
    assert len(file_name("n" * 500, "c" * 500)) < 255
