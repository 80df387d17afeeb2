"""What is said after a form led on to another page: a code in the address, of which only the meaning is shown.

Each tells what was done, not how it stands: whoever loads the page again reads it again, when others have acted.
"""

from __future__ import annotations

from urllib.parse import quote

NAME = "said"
SENTENCES = {
    "paused": "It was paused.",
    "pause-asked": "The pause was asked for; the runner obeys within a batch.",
    "pause-taken-back": "The pause was taken back: the run goes on.",
    "cancelled": "It was cancelled. What is committed stays; only a start by name goes on.",
    "cancel-asked": "The cancellation was asked for; the runner obeys within a batch.",
    "skipped": "It was marked as not to be run here.",
    "reset": "It was made pending again, and a new generation has begun.",
    "approved": "It was approved: another developer can start it, as the dry run has shown it.",
    "withdrawn": "The approval was withdrawn.",
    "starting": "It is being started. Its run, or why there is none, appears here when the checks before it are over.",
    "nothing": "There was nothing to do, so nothing was done.",
}


def sentence(code: str | None) -> str | None:
    """What the code means; None for what is no code of ours."""
    return SENTENCES.get(code or "")


def with_code(path: str, code: str) -> str:
    """The address at which the page says it."""
    assert code in SENTENCES, code
    return f"{path}?{NAME}={quote(code)}"
