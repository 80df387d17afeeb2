"""The scratch copies that a rehearsal works on: made once from the source, then handed out as often as asked for.

The source is only ever read.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from sqlalchemy import Engine


class Copies(Protocol):
    """Scratch databases on demand, all with the same rows. `not_covered` says, in sentences, what they lack."""

    not_covered: Sequence[str]

    def fresh(self) -> AbstractContextManager[Engine]:
        """A scratch database of its own, without tracking tables; removed at the end, also after an error or Ctrl-C."""
        ...
