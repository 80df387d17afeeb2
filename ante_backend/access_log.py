"""The server's log of requests names paths and no queries: a query may name a row, and a row's key may be an address.

A path cannot: ours hold names of migrations and ids of runs.
"""

from __future__ import annotations

import logging


class _WithoutQuery(logging.Filter):
    """Cuts the query off the path; nothing else that uvicorn logs of a request has a question mark."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                argument.partition("?")[0] if isinstance(argument, str) else argument for argument in record.args
            )
        return True


_without_query = _WithoutQuery()


def hide_queries() -> None:
    """From now on, of every server in this process. A logger's filters outlive another configuration of logging."""
    logging.getLogger("uvicorn.access").addFilter(_without_query)  # not twice
