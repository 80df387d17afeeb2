"""Where there is no Chromium, nobody may believe that the page was tested."""

from __future__ import annotations

import pytest

from tests.browser import chromium


@pytest.mark.parametrize(("required", "outcome"), [("", pytest.skip.Exception), ("1", pytest.fail.Exception)])
def test_without_chromium_it_is_a_loud_skip_or_a_failure(
    monkeypatch: pytest.MonkeyPatch, required: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setattr("tests.support.host.SYSTEM_DIRECTORIES", ())
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("REQUIRE_DATABASES", required)
    monkeypatch.delenv("CHROMIUM", raising=False)
    with pytest.raises(outcome, match="NOT TESTED: no chromium found: apt-get install chromium"):
        with chromium.launched():
            pass
