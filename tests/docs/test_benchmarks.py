"""The benchmarks measure what they say: every row changed once, whoever is measured. Their figures are not tested."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from benchmarks import __main__ as command
from benchmarks import databases
from benchmarks.contestants import ONE_UPDATE, Arena, Contestant, one_update, one_update_by_function
from benchmarks.harness import Timing, judged, percentile, sentence
from benchmarks.plan import Plan
from benchmarks.workload import TEXT, fill_source, fresh_table, wrong_rows
from benchmarks.writers import compete, contestants
from system_migration import connect
from tests.support.databases import application_engine
from tests.support.host import MEMORY

ROWS = 200


@pytest.fixture
def arena(sqlite_url: str) -> Iterator[tuple[sa.Engine, Arena]]:
    engine = connect(sqlite_url)
    fill_source(engine, TEXT, ROWS)
    yield engine, Arena("sqlite", sqlite_url, TEXT)
    engine.dispose()


def compete_once(arena: tuple[sa.Engine, Arena], *everybody: Contestant) -> dict[str, Timing | str]:
    return compete(*arena, ROWS, everybody)


@pytest.mark.parametrize("contestant", contestants("sqlite"), ids=lambda contestant: contestant.name)
def test_every_contestant_changes_every_row_once(arena: tuple[sa.Engine, Arena], contestant: Contestant) -> None:
    result = compete_once(arena, contestant)[contestant.name]
    assert isinstance(result, Timing), result
    assert 0 < result.seconds <= (result.whole or result.seconds)


def but_not_the_last_row(arena: Arena) -> Timing:
    return statement(arena, f"UPDATE item SET v = substr(v, 2) || substr(v, 1, 1) WHERE id < {ROWS}")


def one_row_twice(arena: Arena) -> Timing:
    one_update(arena)
    return statement(arena, "UPDATE item SET v = substr(v, 2) || substr(v, 1, 1) WHERE id = 7")


def without_one_row(arena: Arena) -> Timing:
    one_update(arena)
    return statement(arena, "DELETE FROM item WHERE id = 7")


def statement(arena: Arena, text: str) -> Timing:
    engine = connect(arena.url)
    with engine.begin() as connection:
        connection.execute(sa.text(text))
    engine.dispose()
    return Timing(0.001)


@pytest.mark.parametrize("careless", [but_not_the_last_row, one_row_twice, without_one_row])
def test_a_contestant_that_errs_in_one_row_has_no_time(
    arena: tuple[sa.Engine, Arena], careless: Callable[[Arena], Timing]
) -> None:
    results = compete_once(arena, Contestant(ONE_UPDATE, one_update), Contestant("careless", careless))
    assert results["careless"] == "RowsWrong: 1 of 200 rows do not hold the right value afterwards"
    assert isinstance(results[ONE_UPDATE], Timing)


def test_each_round_gets_the_table_as_it_was(arena: tuple[sa.Engine, Arena]) -> None:
    engine, place = arena
    fresh_table(engine, TEXT)
    one_update_by_function(place)
    assert wrong_rows(engine, TEXT, ROWS) == 0
    fresh_table(engine, TEXT)
    assert wrong_rows(engine, TEXT, ROWS) == ROWS


def test_the_results_are_kept_as_markdown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "RESULTS.md"
    command.main(["writers", "--on", "sqlite", "--scale", "0.001", "--write", str(kept)])
    lines = kept.read_text().splitlines()
    assert capsys.readouterr().out.splitlines() == lines
    assert lines[0] == "# Benchmark results"
    assert any("cores" in line and "Python 3" in line for line in lines)
    assert any("the figures mean nothing" in line for line in lines)
    for contestant in contestants("sqlite"):
        assert any(line.startswith(f"| {contestant.name} |") for line in lines)


@pytest.mark.parametrize(
    ("figure", "scale"), [("passwords", 0.01), ("processes", 0.005), ("memory", 0.005), ("start-up", 0.01)]
)
def test_every_figure_can_be_measured(figure: str, scale: float) -> None:
    assert len(list(command.FIGURES[figure](Plan(scale)))) > 3


@pytest.mark.usefixtures("postgres_url")  # skips where there is no server
def test_what_an_application_feels_can_be_measured() -> None:
    lines = list(command.FIGURES["latency"](Plan(0.02)))
    names = [line.split(" | ")[0] for line in lines[-3:]]
    assert names == ["| none", "| unthrottled", "| max_rate at a quarter of that"]


def test_a_figure_that_fails_is_reported_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(plan: Plan) -> Iterable[str]:
        yield "begun"
        raise OSError("no space left in /var/lib/some/where")

    monkeypatch.setitem(command.FIGURES, "writers", broken)
    monkeypatch.setitem(command.FIGURES, "memory", lambda plan: [f"{plan.rows(1000)} rows"])
    assert command.main(["writers", "memory", "--scale", "0.1"]) == 1
    printed = capsys.readouterr().out
    assert "begun\n**failed**: OSError: no space left in …\n" in printed
    assert "## Memory\n\n100 rows\n" in printed
    assert command.main(["memory"]) == 0


def test_a_figure_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["memory", "wirters"])
    assert "no figure named 'wirters'; there are writers, latency" in capsys.readouterr().err


def test_goals_are_judged_and_errors_told_without_paths() -> None:
    assert judged(0.9, 0.9) == "≥ 0.9: met"
    assert judged(0.89, 0.9) == "≥ 0.9: MISSED"
    assert judged(32.1, 32, at_most=True) == "≤ 32: MISSED"
    assert percentile(list(range(1, 201)), 0.99) == 198
    assert sentence(OSError("cannot open /home/someone/secret.db\nmore")) == "OSError: cannot open …"


@pytest.mark.parametrize(
    ("kind", "question", "answer", "place"),
    [
        (
            "postgresql",
            "SELECT current_setting('fsync') || ' ' || current_setting('shared_buffers')",
            "on 256MB",
            "SHOW data_directory",
        ),
        (
            "mariadb",
            "SELECT concat(@@innodb_flush_log_at_trx_commit, ' ', @@innodb_buffer_pool_size)",
            "1 268435456",
            "SELECT @@datadir",
        ),
    ],
)
def test_the_servers_sync_what_they_commit_to_a_disk(
    kind: str, question: str, answer: str, place: str, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue("postgres_url" if kind == "postgresql" else "mariadb_url")  # skips where there is none
    with databases.database(kind) as url:
        engine = application_engine(url)
        with engine.connect() as connection:
            assert connection.scalar(sa.text(question)) == answer
            assert not Path(str(connection.scalar(sa.text(place)))).is_relative_to(MEMORY)
