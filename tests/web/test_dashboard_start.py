"""The forms of the verbs: what will happen is written on them, a dry run is ticked, nothing dangerous is filled in."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

import httpx
import pytest
import sqlalchemy as sa

from system_migration.web.dashboard import options
from system_migration.web.dashboard.starting import FORMS
from system_migration.web.queries import RunOneQuery
from tests.support.databases import application_engine
from tests.web.screens import buttons
from tests.web.serving import Increment, Mark, make_items, served
from tests.web.test_dashboard_actions import Undoable, fields, send

pytestmark = pytest.mark.databases("sqlite")
NAME = Increment.name


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A signed-in developer of a production with one completed migration and one that is pending."""
    engine = application_engine(f"sqlite:///{tmp_path_factory.mktemp('forms') / 'forms.sqlite'}")
    make_items(engine)
    with served(engine, Mark, Undoable, environment="production") as server, server.browser() as ada:
        server.migrator.run(NAME)
        yield ada
    engine.dispose()


def page(client: httpx.Client, verb: str = "run", name: str = "001-mark", **query: str | list[str]) -> str:
    answer = client.get(f"/m/{name}/start", params={"verb": verb, **query})
    assert answer.status_code == 200, answer.text
    return answer.text


def is_ticked(page: str, name: str = "dryRun") -> bool:
    return re.search(rf'<input type="checkbox" id="{name}"[^>]* checked', page) is not None


def test_a_dry_run_is_ticked_and_both_labels_say_what_will_happen(production: httpx.Client) -> None:
    form = page(production)
    assert is_ticked(form)
    assert '<span class="when-dry">Dry-run 001-mark</span>' in form
    assert '<span class="when-real">Run 001-mark in production</span>' in form
    assert '<input type="hidden" name="dryRun" value="false">' in form
    assert "There is no dry run yet. Make one first" in form


def test_only_the_word_no_unticks_it(production: httpx.Client) -> None:
    assert is_ticked(page(production, dryRun=["false", "true"]))
    assert is_ticked(page(production, dryRun="0"))
    assert not is_ticked(page(production, dryRun="false"))


def test_a_rollback_is_rehearsed_first_too(production: httpx.Client) -> None:
    form = page(production, "rollback", NAME)
    assert is_ticked(form)
    assert "Dry-run the rollback of 002-increment" in form
    assert "Roll back 002-increment in production" in form


@pytest.mark.parametrize("verb", ["run", "rollback", "retry"])
def test_the_environments_name_is_never_filled_in(production: httpx.Client, verb: str) -> None:
    name = "001-mark" if verb == "run" else NAME
    form = page(production, verb, name, confirm="production", dryRun="false")
    (field,) = re.findall(r'<input id="confirm"[^>]*>', form)
    assert "value" not in field
    assert 'autocomplete="off"' in field


def test_elsewhere_no_name_is_asked_for(engine: sa.Engine) -> None:
    make_items(engine)
    with served(engine, Mark) as server, server.browser() as ada:
        assert 'id="confirm"' not in page(ada)
        assert "Run 001-mark in staging" in page(ada)


def test_what_was_typed_before_a_sign_in_is_there_again(production: httpx.Client) -> None:
    form = page(production, batchSize='"><b>', verbose="true", fromKey="a b", dryRun=["false"])
    assert 'name="batchSize" value="&#34;&gt;&lt;b&gt;"' in form
    assert 'name="fromKey" value="a b"' in form
    assert is_ticked(form, "verbose")
    assert "<details open><summary>Settled" in form
    reset = page(production, "reset", NAME, reason="a </textarea><b>")
    assert "a &lt;/textarea&gt;&lt;b&gt;</textarea>" in reset


def test_every_option_of_the_api_has_its_field_hint_and_limits(production: httpx.Client) -> None:
    form = html.unescape(page(production, allowEnvironment="true"))
    listed = {*options.changeable("run"), *options.fixed("run")}
    elsewhere = {"dryRun", "full", "confirm", "wait"}
    assert {field.name for field in listed} | elsewhere == {str(f.alias) for f in RunOneQuery.model_fields.values()}
    for field in listed:
        assert field.hint
        assert f'id="{field.name}-hint">{field.hint}<' in form
        assert f'aria-describedby="{field.name}-hint"' in form
    later = form[form.index("Can change later") : form.index("Settled at the start")]
    assert {f.name for f in options.changeable("run")} == set(re.findall(r'<input[^>]* name="(\w+)"', later))


def test_each_verb_has_its_form_and_no_other_has(production: httpx.Client) -> None:
    for verb in FORMS:
        assert production.get(f"/m/{NAME}/start", params={"verb": verb}).status_code == 200
    assert production.get(f"/m/{NAME}/start", params={"verb": "prune"}).status_code == 422
    assert production.get(f"/m/{NAME}/start?verb=run&verb=reset").status_code == 422


def test_what_the_state_does_not_offer_is_no_form_but_a_reason(production: httpx.Client) -> None:
    form = page(production, "run", NAME)
    assert f'action="/migrations/m/{NAME}/run"' not in form
    assert "nothing tells which rows it missed" in form


def test_where_a_requirement_waits_only_a_dry_run_can_be_asked_for(engine: sa.Engine) -> None:
    class Waiting(Mark):
        name = "003-waiting"
        requires = (Increment.name,)

    make_items(engine)
    with served(engine, Increment, Waiting) as server, server.browser() as ada:
        form = page(ada, name="003-waiting", dryRun="false")
        assert "Only a dry run is possible now." in form
        assert "Run 003-waiting in" not in form
        assert re.findall(r'name="dryRun" value="(\w+)"', form) == ["false", "true"]


def test_the_latest_dry_run_stands_beside_the_form(engine: sa.Engine) -> None:
    make_items(engine)
    with served(engine, Increment) as server, server.browser() as ada:
        server.migrator.dry_run(NAME)
        form = page(ada, name=NAME)
        assert "Latest dry run" in form
        assert "Would be held" in form


def test_chosen_rows_are_kept_in_the_form_of_a_retry(production: httpx.Client) -> None:
    form = page(production, "retry", NAME, key=["13", "14"])
    assert "2 chosen rows will be tried again, and no others." in form
    assert re.findall(r'name="key" value="(\d+)"', form) == ["13", "14"]


def test_a_database_of_another_environment_can_be_acted_on_only_with_a_tick(engine: sa.Engine) -> None:
    make_items(engine)
    with served(engine, Mark, environment="staging") as server:
        server.migrator.init()
    with served(engine, Mark, environment="test") as server, server.browser() as ada:
        assert "belongs to" in page(ada, "skip")
        refused = send(ada, "skip", fields(server, name="001-mark"), {"reason": "no"}, name="001-mark")
        assert refused.status_code == 409
        assert 'id="allowEnvironment"' in refused.text
        done = {"reason": "no", "allowEnvironment": "true"}
        answer = send(ada, "skip", fields(server, name="001-mark"), done, name="001-mark")
        assert answer.status_code == 303


def test_the_dry_run_of_a_rollback_is_never_shown_as_one_of_a_run(items: sa.Engine) -> None:
    with served(items, Mark, Undoable) as server, server.browser() as ada:
        server.migrator.run(NAME)
        server.migrator.dry_run(NAME)
        assert "The latest dry run was of a run. Make one first" in page(ada, "rollback", NAME)
        server.migrator.dry_rollback(NAME)  # from a shell, which leaves no event
        assert "<dt>Would be undone</dt><dd>19</dd>" in page(ada, "rollback", NAME)
        assert "<dt>Would be undone</dt><dd>19</dd>" in ada.get(f"/m/{NAME}").text
        rehearsal = ada.get(f"/runs/{server.migrator.history(NAME)[0].id}")
        assert "<dt>Would be undone</dt><dd>19</dd>" in rehearsal.text
        assert buttons(rehearsal) == ["rollback"]
        server.migrator.rollback(NAME)
        form = page(ada, "run", NAME)
        assert "The latest dry run was of a rollback. Make one first" in form
        assert "Would be undone" not in form
