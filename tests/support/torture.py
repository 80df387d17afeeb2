"""How long the tests that count take, and the seed of their random choices.

Both come from the environment, so that a child has what its parent has: TORTURE_LONG=1 (as `pytest --long`) asks for
full numbers, TORTURE_SEED chooses what is random.
"""

from __future__ import annotations

import os

SEED = int(os.environ.get("TORTURE_SEED", "1"))


def scale(short: int, long: int) -> int:
    """The number that applies."""
    return long if os.environ.get("TORTURE_LONG") == "1" else short


def be_long() -> None:
    """Full numbers, from here on and in all children."""
    os.environ["TORTURE_LONG"] = "1"
