"""Names of scratch databases, by which leftovers are told from what is in use and from what is somebody else's."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from system_migration.rehearsal import scratch_names

NOW = datetime(2026, 3, 29, 2, 30)


@pytest.fixture(autouse=True)
def frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch_names, "_now", lambda: NOW)


@pytest.mark.parametrize("source", ["shop", "a" * 63, "ü" * 40, "x_rehearsal_y", ""])
def test_a_name_is_told_by_its_age(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = scratch_names.make(source)
    assert len(name.encode()) <= 63
    assert name != scratch_names.make(source)
    for passed, left in ((timedelta(0), False), (timedelta(hours=24), False), (timedelta(hours=24, seconds=1), True)):
        monkeypatch.setattr(scratch_names, "_now", lambda passed=passed: NOW + passed)
        assert scratch_names.is_leftover(name, source) is left


@pytest.mark.parametrize(
    "name",
    [
        "shop",
        "shop_rehearsal",
        "shop_rehearsal_2026",
        "shop_rehearsal_20200101000000_0123456",
        "shop_rehearsal_20200101000000_01234567x",
        "myshop_rehearsal_20200101000000_01234567",
        "shop2_rehearsal_20200101000000_01234567",
        "shop_rehearsal_20209999000000_01234567",
    ],
)
def test_what_is_not_named_so_is_nobodys_leftover(name: str) -> None:
    assert not scratch_names.is_leftover(name, "shop")


def test_one_that_is_named_so_is() -> None:
    assert scratch_names.is_leftover("shop_rehearsal_20200101000000_01234567", "shop")
