"""Whether a text from outside is text at all. Lowest level of the host: imports nothing of it."""

from __future__ import annotations


def is_text(value: str) -> bool:
    """Whether no half of a surrogate pair is in it, which no encoding and no database takes.

    JSON can spell one, and Python brings bytes of the environment in as such that are not UTF-8.
    """
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)
