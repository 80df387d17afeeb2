"""Print the figures named on the command line, or all. A figure that fails is reported, and the others go on."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from pathlib import Path

from benchmarks import cluster, latency, memory, passwords, processes, start_up, writers
from benchmarks.harness import machine, note, sentence
from benchmarks.plan import DATABASES, Plan

Figure = Callable[[Plan], Iterable[str]]

FIGURES: dict[str, Figure] = {
    "writers": writers.measure,
    "latency": latency.measure,
    "passwords": passwords.measure,
    "processes": processes.measure,
    "cluster": cluster.measure,
    "memory": memory.measure,
    "start-up": start_up.measure,
}
ON_REQUEST: dict[str, Figure] = {"memory-postgresql": memory.measure_on_postgresql}


def main(arguments: list[str]) -> int:
    """1 when a figure could not be measured. A goal that is missed is a result, not a failure."""
    asked = _asked(arguments)
    plan = Plan(asked.scale, tuple(asked.on or DATABASES), asked.only)
    lines, failed = [], False
    for line in _report(asked.figures or list(FIGURES), plan):
        print(line, flush=True)
        lines.append(line)
        failed = failed or "**failed**" in line
    if asked.write:
        asked.write.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 1 if failed else 0


def _asked(arguments: list[str]) -> argparse.Namespace:
    known = FIGURES | ON_REQUEST
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=", ".join(known))
    parser.add_argument("--on", action="append", choices=DATABASES, help="of the writers' databases only these")
    parser.add_argument("--only", default="", metavar="TEXT", help="of the writers only those with TEXT in their names")
    parser.add_argument("--scale", type=float, default=1.0, help="0.1: a tenth of the rows, to try the code")
    parser.add_argument("--write", type=Path, metavar="FILE", help="keep the tables as markdown")
    asked = parser.parse_args(arguments)
    for unknown in set(asked.figures) - set(known):
        parser.error(f"no figure named {unknown!r}; there are {', '.join(known)}")
    return asked


def _report(names: list[str], plan: Plan) -> Iterator[str]:
    began = time.monotonic()
    yield "# Benchmark results"
    yield ""
    yield f"Written by `scripts/bench` on {date.today():%d %B %Y}; what each figure means is in `benchmarks/`."
    yield from machine()
    if plan.scale != 1:
        yield f"**Scaled by {plan.scale:g}: this tries the code, the figures mean nothing.**"
    for name in names:
        yield ""
        yield f"## {name.replace('-', ' ').capitalize()}"
        yield ""
        yield from _measured(name, plan)
    note(f"{time.monotonic() - began:.0f} s in all")


def _measured(name: str, plan: Plan) -> Iterator[str]:
    try:
        yield from (FIGURES | ON_REQUEST)[name](plan)
    except Exception as error:  # the other figures are still worth having
        note(f"{name}: {error!r}")
        yield f"**failed**: {sentence(error)}"


if __name__ == "__main__":  # worker processes import this module again
    sys.exit(main(sys.argv[1:]))
