"""Migrations for the workers of a cluster, which import them by name."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from system_migration import BatchMigration, Refused, Row

SECRET = "CLUSTER_SECRET"
SEEN = "CLUSTER_SEEN"


class Plus(BatchMigration):
    """In place, so that a row that is done twice, or never, shows. Slow enough to be killed in between."""

    name = "001-plus"
    table = "item"
    reads = ("origin", "y")
    writes = ("y",)

    def transform(self, row: Row) -> Mapping[str, Any]:
        time.sleep(0.008)
        return {"y": row.y + 1}


class Keyed(Plus):
    """Needs a secret of the worker's own, and notes what else the worker has."""

    name = "001-keyed"

    def setup_worker(self) -> None:
        if SECRET not in os.environ:
            raise Refused(f"{SECRET} is not set. Give it to every process that transforms rows.")
        if SEEN in os.environ:
            with Path(os.environ[SEEN]).open("a") as file:
                file.write(f"{os.getpid()} {' '.join(sorted(os.environ))}\n")

    def transform(self, row: Row) -> Mapping[str, Any]:
        return {"y": row.y + len(os.environ[SECRET])}


class SlowKeyed(Keyed):
    """Slow enough that a worker may join in between."""

    name = "001-slow-keyed"

    def transform(self, row: Row) -> Mapping[str, Any]:
        time.sleep(0.008)
        return super().transform(row)


class Deadly(Plus):
    """Its rows end their process, or the worker that the process belongs to."""

    name = "001-deadly"

    def transform(self, row: Row) -> Mapping[str, Any]:
        if row.origin == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if row.origin == 3:
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60)
        return {"y": row.y + 1}
