"""Print every figure, as `scripts/bench` does. Names given on the command line choose among them."""

from __future__ import annotations

import os
import platform
import sys

from benchmarks import memory, passwords, start_up

FIGURES = {"passwords": passwords.measure, "start-up": start_up.measure, "memory": memory.measure}


def main(chosen: list[str]) -> None:
    unknown = sorted(set(chosen) - set(FIGURES))
    if unknown:
        sys.exit(f"bench: no figure named {unknown[0]!r}; there are {', '.join(FIGURES)}")
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    for name in chosen or FIGURES:
        print(f"\n{name}")
        for line in FIGURES[name]():
            print(f"  {line}", flush=True)


main(sys.argv[1:])
