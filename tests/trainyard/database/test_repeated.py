from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select, text

from trainyard.database.connection import Database
from trainyard.database.repeated import REPEATED, plan_once

pytestmark = pytest.mark.postgres

ASKED = text("SELECT 1 + CAST(:number AS int)")
PREPARED = text("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'SELECT 1 + CAST(%'")


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    database = Database(postgres_url)
    yield database
    database.close()


def ask(database: Database, **options: Any) -> int:
    with database.writing() as session:
        assert session.connection().execute(ASKED.execution_options(**options), {"number": 2}).scalar_one() == 3
        return int(session.scalar(PREPARED) or 0)


def test_a_statement_that_is_repeated_is_prepared_when_it_is_first_used(database: Database) -> None:
    assert ask(database) == 0
    assert ask(database, **REPEATED) == 1
    assert ask(database, **REPEATED) == 1


def test_what_is_prepared_outlives_reads_on_the_same_connection(database: Database) -> None:
    ask(database, **REPEATED)
    for _ in range(3):
        with database.reading() as session:
            assert session.scalar(PREPARED) == 1, "another connection, or it was forgotten"


def test_a_prepared_statement_is_planned_once_only_within_the_transaction_that_asks_for_it(database: Database) -> None:
    setting = text("SELECT current_setting('plan_cache_mode')")
    plans = text("SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement LIKE 'SELECT 1 +%'")
    with database.writing() as session:
        session.execute(select(plan_once()))
        for _ in range(3):
            session.connection().execute(ASKED.execution_options(**REPEATED), {"number": 2})
        assert tuple(session.execute(plans).one()) == (3, 0)
        assert session.scalar(setting) == "force_generic_plan"
    with database.reading() as session:
        assert session.scalar(setting) == "auto"


def test_a_read_is_no_transaction_on_postgresql(database: Database) -> None:
    with database.reading() as session:
        first, second = (session.scalar(text("SELECT pg_current_xact_id()::text")) for _ in range(2))
    assert first != second
