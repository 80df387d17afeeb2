"""The screen of a run in a browser: fresh without a reload, quiet about numbers, good to those who use the keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from system_migration.web.serving import Serving
from tests.browser.watching import Watch
from tests.support.databases import application_engine
from tests.support.host import wait_for
from tests.web.serving import PATIENCE, Served, gated, make_items, served
from tests.web.test_dashboard_run import Telling, start

pytestmark = pytest.mark.databases("sqlite")
HIDE = """hidden => {
  Object.defineProperty(document, 'hidden', {configurable: true, get: () => hidden});
  document.dispatchEvent(new Event('visibilitychange'));
}"""
TELL_THE_END = """window.over = new Promise(resolve => {
  window.EventSource = class extends EventSource {
    constructor(address) {
      super(address);
      this.addEventListener('end', resolve);
    }
  };
});"""
HOLD_LOOKS = """() => {
  const real = window.fetch, held = new Promise(resolve => { window.letGo = resolve; });
  window.asked = new Promise(resolve => {
    window.fetch = (...all) => { resolve(); return held.then(() => real(...all)); };
  });
}"""


@pytest.fixture
def server(database_url: str) -> Iterator[Served]:
    engine = application_engine(database_url)
    make_items(engine)
    with served(engine) as found:
        yield found
    engine.dispose()


@pytest.fixture
def signed_in(page: Page, server: Served) -> Page:
    page.context.add_cookies([{"name": "session", "value": "ada-token", "url": server.url}])
    return page


def begin(server: Served) -> str:
    """Start the increment, which stops at the gate in row 8. The run's id."""
    with server.client() as client:
        found: str = client.post("/run/002-increment", params={"batchSize": 1, "workers": 1}).json()["run"]["id"]
        return found


def open_run(page: Page, server: Served, run_id: str, query: str = "") -> None:
    page.goto(f"{server.url}/migrations/runs/{run_id}{query}")
    page.get_by_role("heading", level=1).wait_for()


def listeners(server: Served) -> int:
    """How many event streams of runs the server has."""
    (poller,) = [each.poller for each in Serving._all.values() if each.migrator is server.migrator]
    return sum(channel.listeners for channel in poller._channels.values())


def state_of(page: Page) -> Any:
    return page.locator("[data-live=state] .badge").first


def test_it_follows_the_run_to_its_end_without_a_reload(signed_in: Page, server: Served) -> None:
    with gated() as gate:
        run_id = begin(server)
        assert gate.reached.wait(PATIENCE)
        open_run(signed_in, server, run_id)
        expect(state_of(signed_in)).to_have_text("RUNNING")
        expect(signed_in.locator("#freshness")).to_have_text("Live: this page updates itself.")
        expect(signed_in.locator("#announce")).to_be_empty()
        signed_in.evaluate("window.still = true")
        summary = signed_in.locator("#duration-table summary")
        summary.click()
        gate.opened.set()
        expect(state_of(signed_in)).to_have_text("SUCCEEDED")
    expect(signed_in.locator("[data-live=progress]")).to_contain_text("20 rows")
    expect(signed_in.locator("#announce")).to_have_text("This run: succeeded")
    expect(signed_in.locator("#freshness")).to_have_text("This run has ended.")
    expect(signed_in.locator("#freshness")).not_to_contain_class("alarm")
    assert signed_in.evaluate("window.still")
    assert signed_in.locator("#duration-table").get_attribute("open") is not None
    expect(summary).to_be_focused()
    wait_for(lambda: listeners(server) == 0, PATIENCE, "the end of its stream")


def test_the_report_of_a_dry_run_appears_when_it_ends(signed_in: Page, server: Served) -> None:
    with gated() as gate:
        with server.client() as client:
            run_id = client.post("/run/002-increment", params={"dryRun": "true"}).json()["run"]["id"]
        assert gate.reached.wait(PATIENCE)
        open_run(signed_in, server, run_id)
        expect(state_of(signed_in)).to_have_text("RUNNING")
        expect(signed_in.get_by_role("heading", name="Report")).to_have_count(0)
        gate.opened.set()
        expect(signed_in.get_by_role("heading", name="Report")).to_be_visible()


def test_the_end_is_told_when_it_is_seen(signed_in: Page, server: Served) -> None:
    signed_in.add_init_script(TELL_THE_END)
    with gated() as gate:
        run_id = begin(server)
        assert gate.reached.wait(PATIENCE)
        open_run(signed_in, server, run_id)
        expect(signed_in.locator("#freshness")).to_have_text("Live: this page updates itself.")
        signed_in.evaluate(HOLD_LOOKS)
        gate.opened.set()
        signed_in.evaluate("async () => { await over; await asked; }")
    assert state_of(signed_in).text_content() == "RUNNING"
    assert signed_in.locator("#freshness").text_content() == "Live: this page updates itself."
    signed_in.evaluate("() => letGo()")
    expect(signed_in.locator("#freshness")).to_have_text("This run has ended.")
    assert state_of(signed_in).text_content() == "SUCCEEDED"


def test_a_button_that_goes_leaves_the_focus_where_it_was(signed_in: Page, server: Served) -> None:
    with gated() as gate:
        run_id = begin(server)
        assert gate.reached.wait(PATIENCE)
        open_run(signed_in, server, run_id)
        signed_in.locator("#verb-pause").focus()
        gate.opened.set()
        expect(state_of(signed_in)).to_have_text("SUCCEEDED")
    expect(signed_in.locator("[data-live=state]")).to_be_focused()


def test_a_tab_that_nobody_sees_has_no_stream(signed_in: Page, server: Served) -> None:
    with gated() as gate:
        run_id = begin(server)
        assert gate.reached.wait(PATIENCE)
        open_run(signed_in, server, run_id)
        wait_for(lambda: listeners(server) == 1, PATIENCE, "its stream")
        signed_in.evaluate(HIDE, True)
        wait_for(lambda: listeners(server) == 0, PATIENCE, "the end of its stream")
        gate.opened.set()
        wait_for(lambda: server.migrator.run_by_id(run_id).ended, PATIENCE, "the end of the run")
        expect(state_of(signed_in)).to_have_text("RUNNING")
        signed_in.evaluate(HIDE, False)
        expect(state_of(signed_in)).to_have_text("SUCCEEDED")


def test_it_says_when_the_session_is_over(signed_in: Page, server: Served, watch: Watch) -> None:
    with gated() as gate:
        run_id = begin(server)
        assert gate.reached.wait(PATIENCE)
        open_run(signed_in, server, run_id)
        wait_for(lambda: listeners(server) == 1, PATIENCE, "its stream")
        del server.developers.names["ada-token"]
        gate.opened.set()
        expect(signed_in.locator("#freshness")).to_contain_text("You are signed out.")
        expect(signed_in.locator("#freshness")).to_contain_class("alarm")
        expect(state_of(signed_in)).to_have_text("RUNNING")
    wait_for(lambda: listeners(server) == 0, PATIENCE, "the end of its stream")


def test_the_newest_lines_are_in_sight_without_a_script(signed_in: Page, server: Served) -> None:
    Telling.lines = 120
    with served(server.migrator._database.engine, Telling) as telling:
        run_id = start(telling, "/run/003-telling")
        signed_in.context.add_cookies([{"name": "session", "value": "ada-token", "url": telling.url}])
        open_run(signed_in, telling, run_id)
        box = signed_in.locator(".tail")
        assert box.evaluate("box => box.scrollHeight > box.clientHeight && Math.abs(box.scrollTop) < 1")
        last = signed_in.locator(".tail li").last
        inside = "(line, box) => line.getBoundingClientRect().bottom <= box.getBoundingClientRect().bottom + 1"
        assert last.evaluate(inside, box.element_handle())
