"""A paced application on the table that is being migrated, in a process of its own: `python -m benchmarks.application`.

It says "ready" once connected, then changes and reads one row after the other, by primary key, each at its appointed
time. It ends after the number of requests asked for, or when its input is closed, and prints when each request was
due and how many milliseconds after that it was answered: a request that waits for the one before counts its wait.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time

import psycopg

RATE = 200.0
"""Requests a second."""


def main(address: str, rows: str, requests: str) -> None:
    closed = threading.Event()
    threading.Thread(target=_watch_input, args=(closed,), daemon=True).start()
    with psycopg.connect(address, autocommit=True) as connection:
        print("ready", flush=True)
        samples = _serve(connection, int(rows), int(requests), closed)
    print(json.dumps(samples))


def _watch_input(closed: threading.Event) -> None:
    sys.stdin.read()
    closed.set()


def _serve(
    connection: psycopg.Connection, rows: int, requests: int, closed: threading.Event
) -> list[tuple[float, float]]:
    samples: list[tuple[float, float]] = []
    due = time.monotonic()
    while not closed.is_set() and (requests == 0 or len(samples) < requests):
        due += 1 / RATE
        if closed.wait(max(0.0, due - time.monotonic())):
            break
        key = random.randint(1, rows)
        connection.execute("UPDATE item SET touched = touched + 1 WHERE id = %s", (key,))
        connection.execute("SELECT v FROM item WHERE id = %s", (key,))
        samples.append((due, (time.monotonic() - due) * 1000))
    return samples


if __name__ == "__main__":
    main(*sys.argv[1:])
