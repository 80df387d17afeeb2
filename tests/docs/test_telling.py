"""The pages about notifications, spans and metrics: their examples work, and they name what there is."""

from __future__ import annotations

import inspect
import json
import re
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from system_migration import Migrator, Notification, Registry, Settings, facts, telemetry
from system_migration.webhook import webhook_of
from tests.support.receiver import SECRET, Received, receiving
from tests.unit.test_webhook import NEWS

HOW_TO = Path(__file__).parents[2] / "docs/how-to"
NOTIFIED = (HOW_TO / "get-notified.md").read_text(encoding="utf-8")
TRACED = (HOW_TO / "trace-and-measure.md").read_text(encoding="utf-8")


def example(page: str, name: str) -> str:
    found = re.search(rf"<!-- example: {name} -->\n```python\n(.*?)```", page, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture(scope="module")
def received() -> Received:
    """A message as a receiver gets it."""
    with receiving() as receiver:
        webhook_of(Settings(webhook_url=receiver.url, webhook_secret=SECRET, environment="production"))(NEWS)
    return receiver.received[0]


@pytest.fixture(scope="module")
def verified() -> Any:
    names: dict[str, Any] = {}
    exec(example(NOTIFIED, "receiver"), names)
    return names["verified"]


def test_the_receiver_of_the_page_takes_what_is_sent(verified: Any, received: Received) -> None:
    assert verified(SECRET, received.headers, received.body)
    rotated = received.headers | {"webhook-signature": f"v1,b2xk {received.headers['webhook-signature']}"}
    assert verified(SECRET, rotated, received.body)


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-id": "msg_other"},
        {"webhook-timestamp": str(int(time.time()) - 299)},
        {"webhook-timestamp": "soon"},
        {"webhook-signature": "v1,"},
        {"webhook-signature": ""},
    ],
    ids=str,
)
def test_it_refuses_what_somebody_else_changed(verified: Any, received: Received, change: dict[str, str]) -> None:
    assert not verified(SECRET, received.headers | change, received.body)
    assert not verified(SECRET, received.headers, received.body + b" ")
    assert not verified("whsec_" + "A" * 44, received.headers, received.body)


def test_it_refuses_what_was_signed_long_ago(
    verified: Any, received: Received, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = time.time() + 301
    monkeypatch.setattr(time, "time", lambda: later)
    assert not verified(SECRET, received.headers, received.body)


def test_the_hook_of_the_page_is_told(tmp_path: Path) -> None:
    said: list[str] = []
    given = {"engine": sa.create_engine(f"sqlite:///{tmp_path / 'x.sqlite'}"), "registry": Registry([])}
    names: dict[str, Any] = given | {"settings": Settings(), "post_to_chat": said.append}
    exec(example(NOTIFIED, "hook"), names)
    names["tell_the_team"](NEWS)
    migrator: Migrator = names["migrator"]
    migrator.close()
    assert said == ["001-x failed in production: 97 rows, 3 held"]


def test_the_document_of_the_page_has_the_names_of_what_is_sent(received: Received) -> None:
    shown = re.search(r"```json\n(.*?)```", NOTIFIED, re.DOTALL)
    assert shown is not None
    assert list(json.loads(shown[1])) == list(received.news)
    assert len(received.news) == len(fields(Notification))


def test_every_metric_for_prometheus_is_described_with_its_labels_and_no_other(tmp_path: Path) -> None:
    pytest.importorskip("prometheus_client")
    from system_migration.web.metrics import Standing

    described = dict(re.findall(r"^\| `(system_migration_\w+)` \| (.*?) \|", TRACED, re.MULTILINE))
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'x.sqlite'}")
    with Migrator(engine, Registry([]), Settings(environment="test")) as migrator:
        there = {
            f"{family.name}_total" if family.type == "counter" else family.name: ", ".join(
                f"`{label}`" for label in family._labelnames
            )
            for family in Standing(migrator).collect()
        }
    assert described == there


def test_every_name_that_opentelemetry_is_told_is_described() -> None:
    source = inspect.getsource(telemetry)
    names = set(re.findall(r'"(system_migration\.[\w.]+)"', source))
    assert len(names) > 8
    short = {name.removeprefix("system_migration") for name in names} | {".rows.changed", ".rows.vanished"}
    assert [name for name in sorted(short) if name not in TRACED and f"system_migration{name}" not in TRACED] == []
    assert all(f"`{name}`" in TRACED for name in (telemetry.RUN_SPAN, telemetry.BATCH_SPAN))


def test_every_outcome_is_described() -> None:
    outcomes = {value for name, value in vars(facts).items() if name.isupper() and isinstance(value, str)}
    assert len(outcomes) == 7
    assert [each for each in sorted(outcomes) if f"`{each}`" not in TRACED] == []


def test_the_webhook_s_settings_are_described() -> None:
    for variable in ("MIGRATION_WEBHOOK_URL", "MIGRATION_WEBHOOK_SECRET"):
        assert re.search(rf"^\| `{variable}` \|", NOTIFIED, re.MULTILINE)


def test_what_sets_up_opentelemetry_on_the_page_is_the_sdk_s() -> None:
    compile(example(TRACED, "telemetry"), "page", "exec")
