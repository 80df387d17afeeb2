"""Going on with a run that was left unfinished: for real, with what its start said, from whichever screen."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

import httpx
import pytest
import sqlalchemy as sa

from system_migration import RunOptions
from tests.web.screens import buttons, part, press, words
from tests.web.serving import Increment, Mark, Served, served
from tests.web.test_dashboard_actions import fields, send
from tests.web.test_dashboard_run import start
from tests.web.test_dashboard_start import is_ticked

pytestmark = pytest.mark.databases("sqlite")
NAME = Increment.name
OPTIONS = RunOptions(batch_size=5, workers=1, max_rate=10_000.0, max_issues=3)


def leave(engine: sa.Engine) -> None:
    """As a killed runner leaves the latest run."""
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE system_migration_migration SET status = 'RUNNING'"))
        connection.execute(sa.text("UPDATE system_migration_run SET outcome = NULL, finished_at = NULL"))
        connection.execute(sa.text("UPDATE system_migration_lease SET released = 0, expires_at = renewed_at"))


@pytest.fixture
def stale(items: sa.Engine) -> Iterator[Served]:
    """A server that has a stale run."""
    with served(items, Increment) as server:
        server.migrator.acting_as("bob").run(NAME, OPTIONS)
        leave(items)
        yield server


@pytest.fixture
def ada(stale: Served) -> Iterator[httpx.Client]:
    with stale.browser() as client:
        yield client


def forms(page: httpx.Response, key: str) -> list[str]:
    """Where the buttons with this id lead."""
    return [html.unescape(found) for found in re.findall(rf'id="{key}"[^>]* href="([^"]+)"', page.text)]


def value(page: httpx.Response, name: str) -> str:
    found = re.search(rf'<input id="{name}" name="{name}" value="([^"]*)"', page.text)
    assert found is not None
    return found[1]


def test_from_every_screen_it_is_no_rehearsal(stale: Served, ada: httpx.Client) -> None:
    run = stale.migrator.history(NAME)[0].id
    leads = [
        *forms(ada.get("", follow_redirects=True), "first"),
        *forms(ada.get(f"/m/{NAME}"), "verb-run"),
        *forms(ada.get(f"/runs/{run}"), "verb-run"),
    ]
    assert len(leads) == 3
    for address in leads:
        page = ada.get(stale.url + address)
        assert f"Run {NAME} in staging" in page.text
        assert not is_ticked(page.text), address


def test_its_dry_run_is_one(stale: Served, ada: httpx.Client) -> None:
    (address,) = forms(ada.get(f"/m/{NAME}"), "verb-cancel")
    assert "dryRun" not in address
    stale.migrator.cancel(NAME)
    stale.migrator.reset(NAME, "once more")
    (address,) = forms(ada.get(f"/m/{NAME}"), "verb-dry-run")
    assert is_ticked(ada.get(stale.url + address).text)
    (address,) = forms(ada.get(f"/m/{NAME}"), "verb-run")
    assert is_ticked(ada.get(stale.url + address).text)


def test_the_form_has_what_its_start_said(ada: httpx.Client) -> None:
    page = ada.get(f"/m/{NAME}/start")
    assert [value(page, name) for name in ("batchSize", "maxRate", "maxIssues", "maxRows")] == ["5", "10000", "3", ""]
    assert "They are filled in as it was started." in words(page)
    assert "Make one first" not in words(page)
    assert "batch size 5 · workers 1 · max rate 10000 · max issues 3" in words(part(ada.get(f"/m/{NAME}"), "events"))


def test_a_paused_one_too_and_no_other(stale: Served, ada: httpx.Client) -> None:
    stale.migrator.pause(NAME)
    (address,) = forms(ada.get(f"/m/{NAME}"), "options-resume")
    assert value(ada.get(stale.url + address), "maxRate") == "10000"
    stale.migrator.resume(NAME)
    page = ada.get(f"/m/{NAME}/start?verb=retry")
    assert value(page, "maxRate") == ""
    assert "as it was started" not in words(page)


def test_the_plain_button_goes_on_as_it_was_started(stale: Served, ada: httpx.Client) -> None:
    stale.migrator.pause(NAME)
    press(ada, ada.get(f"/m/{NAME}"), "resume")
    assert last_options(stale) == OPTIONS


def test_the_form_says_all_of_its_options(stale: Served, ada: httpx.Client) -> None:
    stale.migrator.pause(NAME)
    send(ada, "resume", fields(stale), {"maxRate": "", "batchSize": "7", "maxIssues": "3"})
    assert last_options(stale) == RunOptions(batch_size=7, max_issues=3)


def last_options(server: Served) -> RunOptions:
    start = server.migrator.last_start(NAME)
    assert start is not None
    return start.options


def test_what_was_emptied_stays_empty(stale: Served, ada: httpx.Client) -> None:
    typed = {"maxRate": "", "batchSize": "0", "dryRun": "false"}
    page = send(ada, "run", fields(stale), typed)
    assert page.status_code == 422
    assert (value(page, "maxRate"), value(page, "batchSize"), value(page, "maxIssues")) == ("", "0", "3")
    with stale.browser(None) as nobody:
        away = send(nobody, "run", fields(stale), typed)
    back = httpx.URL(away.headers["location"]).params["next"]
    page = ada.get(stale.url + back)
    assert (value(page, "maxRate"), value(page, "batchSize")) == ("", "0")


def test_beside_the_badge_stale_is_not_said_again(stale: Served, ada: httpx.Client) -> None:
    run = stale.migrator.history(NAME)[0].id
    for address in (f"/m/{NAME}", f"/m/{NAME}/start", f"/m/{NAME}/start?verb=skip", f"/runs/{run}", ""):
        page = ada.get(address, follow_redirects=True)
        assert "STALE" in words(page)
        assert '<span class="note">stale</span>' not in page.text


def test_the_screen_of_a_run_leads_to_the_options_as_that_of_the_migration(items: sa.Engine) -> None:
    with served(items, Mark, Increment) as server, server.browser() as ada:
        run = start(server, f"/run/{NAME}")
        there, here = ada.get(f"/m/{NAME}"), ada.get(f"/runs/{run}")
        assert buttons(here) == buttons(there)
        assert forms(here, "options-retry") == [f"/migrations/m/{NAME}/start?verb=retry&run={run}"]
        assert forms(there, "options-retry") == [f"/migrations/m/{NAME}/start?verb=retry"]
