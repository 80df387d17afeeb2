"""Held rows on the page: by reason, by key, page by page, as a file, and tried again."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Iterator
from typing import Any, ClassVar

import httpx
import pytest
import sqlalchemy as sa

from system_migration import BatchMigration, MigrationSystemError, Row, RowIssue, RunOptions
from tests.web.screens import ODD, ODD_SHOWN, assert_harmless, words
from tests.web.serving import Served, served, wait_until_ended

ROWS = 250
ALL_HELD = RunOptions(batch_size=ROWS, workers=1)
KEYS = {1: "=1+1", 2: "-5", 3: ODD, 4: "ü & <b>", 5: "@x", 6: "a\nb"}
"""Keys that something may take for more than text; all others are their numbers."""


class Odd(BatchMigration):
    """Holds what `held` says: each third row for one reason, the others for another."""

    name = "003-odd"
    table = "odd"
    reads = ("n",)
    writes = ("n",)
    max_issues = ROWS
    rollbackable = True
    held: ClassVar[set[int]] = set()

    def transform(self, row: Row) -> dict[str, Any]:
        if row.n in self.held:
            raise RowIssue("=third" if row.n % 3 == 0 else "other", ODD if row.n == 3 else "as it is")
        return {"n": row.n + 1_000}


@pytest.fixture
def odd(engine: sa.Engine) -> sa.Engine:
    """A table whose keys are texts, the odd ones included."""
    Odd.held = set(range(1, ROWS + 1))
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE odd (k VARCHAR(100) PRIMARY KEY, n INTEGER NOT NULL)"))
        values = [{"k": KEYS.get(n, str(n)), "n": n} for n in range(1, ROWS + 1)]
        connection.execute(sa.text("INSERT INTO odd (k, n) VALUES (:k, :n)"), values)
    return engine


@pytest.fixture
def server(odd: sa.Engine) -> Iterator[Served]:
    with served(odd, Odd) as server:
        server.migrator.run(Odd.name, ALL_HELD)
        yield server


@pytest.fixture
def ada(server: Served) -> Iterator[httpx.Client]:
    with server.browser() as client:
        yield client


def keys(page: httpx.Response) -> list[str]:
    """The keys that a page lists, as they stand there."""
    found = re.findall(r'<th scope="row" class="key mono">(.*?)</th>', page.text)
    return [html.unescape(key) for key in found]


def pages(client: httpx.Client, address: str) -> Iterator[httpx.Response]:
    """A page and those behind it."""
    following: str | None = address
    while following:
        page = client.get(following)
        assert page.status_code == 200, page.text
        yield page
        link = re.search(r'rel="next" href="/migrations([^"]*)"', page.text)
        following = html.unescape(link[1]) if link else None


def form_of(page: httpx.Response) -> dict[str, list[str]]:
    """All that the form of chosen rows has."""
    start = page.text.index("data-choose")
    form = page.text[start : page.text.index("</form>", start)]
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r'name="(token|request|seen|key)" value="([^"]*)"', form):
        found.setdefault(name, []).append(html.unescape(value))
    return found


def test_every_row_is_on_one_page_and_each_page_is_bounded(ada: httpx.Client) -> None:
    found = [keys(page) for page in pages(ada, f"/m/{Odd.name}/held")]
    assert [len(page) for page in found] == [100, 100, 50]
    shown = {KEYS.get(n, str(n)) for n in range(1, ROWS + 1)} - {ODD, "a\nb"} | {ODD_SHOWN, "a\\nb"}
    assert {key for page in found for key in page} == shown


def test_rows_are_counted_and_listed_by_reason(ada: httpx.Client) -> None:
    first = ada.get(f"/m/{Odd.name}/held")
    assert "Held rows 250" in words(first)
    assert "All 250 other 167 =third 83" in words(first)
    assert sum(len(keys(page)) for page in pages(ada, f"/m/{Odd.name}/held?code=%3Dthird")) == 83
    nothing = ada.get(f"/m/{Odd.name}/held?code=no-such")
    assert "No more rows. Show all 250" in words(nothing)


def test_a_row_is_found_by_its_key(ada: httpx.Client) -> None:
    for key, shown in ((ODD, ODD_SHOWN), ("ü & <b>", "ü & <b>"), ("77", "77")):
        page = ada.get(f"/m/{Odd.name}/held", params={"key": key})
        assert keys(page) == [shown]
    assert "No row with this key is held. Show all 250" in words(ada.get(f"/m/{Odd.name}/held?key=nobody"))


def test_nothing_in_a_row_acts(ada: httpx.Client) -> None:
    for page in pages(ada, f"/m/{Odd.name}/held"):
        assert_harmless(page)
    file = ada.get(f"/m/{Odd.name}/held.csv")
    assert "\x1b" not in file.text
    assert "\u202e" not in file.text


def table(file: httpx.Response) -> list[list[str]]:
    return list(csv.reader(io.StringIO(file.content.decode("utf-8-sig"), newline=""), strict=True))


def test_all_rows_are_had_as_a_file(monkeypatch: pytest.MonkeyPatch, ada: httpx.Client) -> None:
    monkeypatch.setattr("system_migration.web.dashboard.export.PORTION", 50)  # the last portion is full
    file = ada.get(f"/m/{Odd.name}/held.csv")
    assert file.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert file.headers["content-disposition"] == 'attachment; filename="003-odd-held-rows.csv"'
    assert file.content.startswith(b"\xef\xbb\xbfKey,Code,Message,Held since (UTC)\r\n")
    rows = table(file)[1:]
    assert len({row[0] for row in rows}) == len(rows) == ROWS
    by_key = {row[0]: row for row in rows}
    assert {"'=1+1", "-5", ODD_SHOWN, "ü & <b>", "'@x", "a\\nb", "77"} <= by_key.keys()
    assert by_key[ODD_SHOWN][1:3] == ["'=third", ODD_SHOWN]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", by_key["77"][3])
    some = table(ada.get(f"/m/{Odd.name}/held.csv?code=%3Dthird"))
    assert {row[1] for row in some[1:]} == {"'=third"}
    assert len(some) == 84


@pytest.mark.databases("sqlite")
def test_a_file_that_breaks_off_does_not_look_whole(
    monkeypatch: pytest.MonkeyPatch, server: Served, ada: httpx.Client
) -> None:
    monkeypatch.setattr("system_migration.web.dashboard.export.PORTION", 50)
    read = server.migrator.issues_after

    def once(name: str, after: str | None = None, **options: Any) -> Any:
        if after is not None:
            raise MigrationSystemError("the database went away")
        return read(name, after, **options)

    monkeypatch.setattr(server.migrator, "issues_after", once)
    with pytest.raises(httpx.RemoteProtocolError):
        ada.get(f"/m/{Odd.name}/held.csv")


def test_chosen_rows_are_tried_again_and_no_others(odd: sa.Engine, server: Served, ada: httpx.Client) -> None:
    page = ada.get(f"/m/{Odd.name}/held", params={"key": ODD})
    form = form_of(page)
    (chosen,) = form["key"]
    Odd.held = set()
    answer = ada.post(f"/m/{Odd.name}/retry", data={**form, "rows": "chosen"})
    assert answer.status_code == 303, answer.text
    run_id = answer.headers["location"].rpartition("/")[2]
    with server.client() as api:
        wait_until_ended(api, run_id)
    assert server.migrator.issue_of(Odd.name, ODD) is None
    assert len(server.migrator.issues(Odd.name)) == ROWS - 1
    with odd.connect() as connection:
        assert connection.execute(sa.text("SELECT n FROM odd WHERE n > 1000")).scalars().all() == [1_003]
    assert "retry" in words(ada.get("/history"))
    assert chosen not in answer.headers["location"]


@pytest.mark.databases("sqlite")
def test_none_chosen_is_not_all(server: Served, ada: httpx.Client) -> None:
    form = form_of(ada.get(f"/m/{Odd.name}/held"))
    answer = ada.post(f"/m/{Odd.name}/retry", data={**form, "key": [], "rows": "chosen"})
    assert answer.status_code != 303
    assert "No row was chosen" in words(answer)
    assert len(server.migrator.issues(Odd.name)) == ROWS


@pytest.mark.databases("sqlite")
def test_a_whole_page_of_chosen_rows_is_not_too_much_for_the_host(ada: httpx.Client) -> None:
    form = form_of(ada.get(f"/m/{Odd.name}/held"))
    assert len(form["key"]) == 100
    request = ada.build_request("POST", f"/m/{Odd.name}/retry", data={**form, "rows": "chosen", "confirm": "c" * 64})
    assert len(request.content) < 16 * 1024


@pytest.mark.databases("sqlite")
def test_in_production_the_environments_name_is_asked_for(odd: sa.Engine) -> None:
    with served(odd, Odd, environment="production") as server, server.browser() as client:
        server.migrator.run(Odd.name, ALL_HELD)
        page = client.get(f"/m/{Odd.name}/held")
    assert 'name="confirm"' in page.text
    assert "This is production" in words(page)


@pytest.mark.databases("sqlite")
def test_what_a_rollback_left_is_called_so_and_is_not_tried_again(odd: sa.Engine) -> None:
    Odd.held = set()
    with served(odd, Odd) as server, server.browser() as client:
        assert "has not run here yet" in words(client.get(f"/m/{Odd.name}/held"))
        server.migrator.run(Odd.name, ALL_HELD)
        assert "No row is held. There is nothing to do." in words(client.get(f"/m/{Odd.name}/held"))
        with odd.begin() as connection:
            connection.execute(sa.text("UPDATE odd SET n = -1 WHERE n = 1077"))
        server.migrator.rollback(Odd.name)
        page = client.get(f"/m/{Odd.name}/held")
    assert "Rows not restored 1" in words(page)
    assert keys(page) == ["77"]
    assert "/retry" not in page.text


@pytest.mark.databases("sqlite")
def test_a_key_of_another_kind_is_a_sentence_at_its_field(api: Served) -> None:
    api.migrator.run("002-increment")
    with api.browser() as client:
        page = client.get("/m/002-increment/held?key=thirteen")
        assert keys(client.get("/m/002-increment/held?key=13")) == ["13"]
    assert page.status_code == 422
    assert "This cannot be a key of its table: a value of type int is expected." in words(page)
    assert 'value="thirteen"' in page.text
    assert 'aria-invalid="true" aria-describedby="key-fault"' in page.text


@pytest.mark.databases("sqlite")
def test_while_somebody_is_starting_it_no_retry_is_offered(odd: sa.Engine, server: Served, ada: httpx.Client) -> None:
    assert "/retry" in ada.get(f"/m/{Odd.name}/held").text
    with odd.begin() as connection:  # as a runner leaves it that has claimed the migration, and not begun its run
        far = "'2099-01-01 00:00:00'"
        connection.execute(
            sa.text(f"UPDATE system_migration_lease SET released = 0, expires_at = {far}, takeover_at = {far}")
        )
    page = ada.get(f"/m/{Odd.name}/held")
    assert "/retry" not in page.text
    assert "is just starting it." in words(page)
