"""How far a run is, in words: from its pulse while it goes on, from what is committed where there is none."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from system_migration.records import Batch, Followed, Pulse, Run, Tally
from system_migration.states import Outcome, RunKind
from system_migration.web.dashboard.progress import progress_of

BEGIN = datetime(2026, 3, 1, 12, tzinfo=UTC)
RUN = Run("id", "001-mark", RunKind.RUN, None, 1, "ada", "host", BEGIN, None, 0, 0, None)
PULSE = Pulse(BEGIN + timedelta(seconds=10), "migrating", 1_500, 6_000, None, 100, 1)
TALLY = Tally(1_500, 1_400, 50, 25, 5, 20)
GOING = Followed(RUN, "running", None, None, TALLY, PULSE)


def batches(rows: int = 100) -> list[Batch]:
    """Ten seconds of one batch a second."""
    return [Batch(1, n, rows, rows, 0, 0, 0, 0, 1.0, BEGIN + timedelta(seconds=n), 1, 1, "id") for n in range(1, 11)]


def test_a_run_that_goes_on_says_how_fast_and_how_long() -> None:
    found = progress_of(GOING, batches())
    assert found.in_words == "1,500 of 6,000 rows · 25 % · 100 rows/s · about 45 s left"


def test_without_a_batch_nothing_is_said_of_the_time() -> None:
    assert progress_of(GOING, []).in_words == "1,500 of 6,000 rows · 25 %"


def test_without_a_pulse_what_is_committed_counts() -> None:
    assert progress_of(replace(GOING, pulse=None), []).in_words == "1,480 rows"


def test_an_unknown_total_is_left_out() -> None:
    assert progress_of(replace(GOING, pulse=replace(PULSE, total=None)), []).in_words == "1,500 rows"


def test_a_stale_run_has_no_rate_and_no_time_left() -> None:
    found = progress_of(replace(GOING, state="stale"), batches())
    assert found.in_words == "1,500 of 6,000 rows · 25 %"
    assert not found.going


def test_a_run_that_stands_still_has_no_speed() -> None:
    later = replace(PULSE, at=BEGIN + timedelta(minutes=5))
    assert progress_of(replace(GOING, pulse=later), batches()).in_words == "1,500 of 6,000 rows · 25 %"


def test_a_killed_runner_had_done_what_is_committed() -> None:
    before = replace(PULSE, done=200)
    assert progress_of(replace(GOING, state="stale", pulse=before), []).done == 1_480
    of_a_retry = replace(PULSE, done=20, total=25)
    assert progress_of(replace(GOING, state="stale", pulse=of_a_retry), []).done == 20


def test_an_ended_run_says_what_it_did_and_how_long_it_took() -> None:
    done = replace(RUN, outcome=Outcome.SUCCEEDED, finished_at=BEGIN + timedelta(seconds=90), records_processed=7)
    found = progress_of(replace(GOING, run=done, state="succeeded", pulse=None), batches())
    assert (found.in_words, found.took) == ("1,480 rows", 90.0)
    imperative = replace(GOING, run=done, state="succeeded", pulse=None, progress=Tally(0, 0, 0, 0, 0, 0))
    assert progress_of(imperative, []).in_words == "7 rows"
