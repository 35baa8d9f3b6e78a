"""Measures three ways to number the events of a yard in the transactions of its changes, on PostgreSQL.

    .venv/bin/python -m bench.event_numbers [--connections 1 8 32] [--seconds 5] [--rounds 2]

Starts a server of its own that writes to disk as it would in use. Each connection changes a job of its own, with an
event of the job and one of the yard, and commits, over and over; the ways take turns. Prints commits a second and the
longest commit. The ways:

- unsafe: the number comes from a sequence. A reader may miss an event that commits after one with a higher number; this
  is the baseline;
- marked: the same, and the transaction holds a shared lock that says from where on it drew: what the product does, by
  its own expression (`trainyard.database.event_tables`);
- counted: the number comes from one row, which each transaction locks until it has committed.

With `frozen`, one connection falls silent for three seconds after it has drawn a number: the longest commit of the
others says whether they waited for it.
"""

from __future__ import annotations

import argparse
import threading
import time
from dataclasses import dataclass
from typing import Any

import psycopg
from sqlalchemy import select
from sqlalchemy.dialects import postgresql

from tests.postgres import serving
from trainyard.database.connection import Database
from trainyard.database.event_tables import next_event_number
from trainyard.database.schema import migrate

DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "max_connections": 200}
SILENT_S = 3.0
_DIALECT: Any = postgresql.dialect
MARKED = str(select(next_event_number()).compile(dialect=_DIALECT())).removeprefix("SELECT ")
NUMBERS = {
    "unsafe": "nextval('yard_event_numbers')",
    "marked": MARKED.partition(" AS ")[0],
    "counted": "(SELECT value FROM counted)",
}
CHANGE = """
WITH changed AS (
    UPDATE bench_jobs SET seq = seq + 1, at = EXTRACT(EPOCH FROM clock_timestamp()) WHERE id = %s RETURNING id, seq
){counter}, logged AS (
    INSERT INTO bench_job_events SELECT id, seq, 'x' FROM changed
)
INSERT INTO bench_yard_events (number, owner, subject) SELECT {number}, 'local', id FROM changed
"""
COUNTER = ", counted AS (UPDATE bench_counter SET value = value + 1 RETURNING value)"
TABLES = """
CREATE TABLE bench_jobs (id int PRIMARY KEY, seq int, at double precision);
CREATE TABLE bench_job_events (job int, seq int, what text, PRIMARY KEY (job, seq));
CREATE TABLE bench_yard_events (number bigint PRIMARY KEY, owner text, subject text);
CREATE TABLE bench_counter (value bigint);
INSERT INTO bench_counter VALUES (1000000000);
INSERT INTO bench_jobs SELECT n, 0, 0 FROM generate_series(1, 100) n;
"""


@dataclass
class Seen:
    """What one connection measured."""

    commits: int = 0
    longest_s: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each round")
    parser.add_argument("--rounds", type=int, default=2, help="of each way, in turns")
    given = parser.parse_args()
    with serving(settings=DURABLE) as url:
        database = Database(url)
        migrate(database)
        database.close()
        dsn = url.replace("postgresql+psycopg", "postgresql")
        with psycopg.connect(dsn) as connection:
            connection.execute(TABLES)
        for count in given.connections:
            for frozen in (False, True):
                for _ in range(1 if frozen else given.rounds):
                    for way in NUMBERS:
                        _print_round(dsn, way, count, given.seconds, frozen)


def _print_round(dsn: str, way: str, count: int, seconds: float, frozen: bool) -> None:
    statement = CHANGE.format(counter=COUNTER if way == "counted" else "", number=NUMBERS[way])
    seen = [Seen() for _ in range(count)]
    until = time.monotonic() + seconds
    threads = [
        threading.Thread(target=_commit_until, args=(dsn, statement, number, until, into))
        for number, into in enumerate(seen, start=1)
    ]
    if frozen:
        threads.append(threading.Thread(target=_fall_silent, args=(dsn, statement)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate, longest = sum(each.commits for each in seen) / seconds, max(each.longest_s for each in seen)
    name = f"{count:3} connections, {way}{', frozen' if frozen else ''}"
    print(f"{name:40} {rate:7.0f} commits/s   longest {1000 * longest:7.0f} ms", flush=True)


def _commit_until(dsn: str, statement: str, job: int, until: float, seen: Seen) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        while (began := time.monotonic()) < until:
            connection.execute(statement, (job,), prepare=True)
            seen.commits += 1
            seen.longest_s = max(seen.longest_s, time.monotonic() - began)


def _fall_silent(dsn: str, statement: str) -> None:
    time.sleep(0.5)
    with psycopg.connect(dsn) as connection:
        connection.execute(statement, (100,))
        time.sleep(SILENT_S)


if __name__ == "__main__":
    main()
