from __future__ import annotations

import pytest

from tests.trainyard import rows as db_rows
from trainyard.artifacts.datasets import get_dataset, list_datasets
from trainyard.database.connection import Database
from trainyard.errors import DatasetNotFound


def test_a_dataset_is_found_by_id_and_by_name_by_those_who_may_use_it(database: Database) -> None:
    db_rows.add_dataset(database)
    db_rows.add_dataset(database, "ds_mine", "alice")
    with database.reading() as session:
        for reference in ("digits", "ds_digits"):
            assert get_dataset(session, "bob", reference).id == "ds_digits"
        assert get_dataset(session, "alice", "mine").id == "ds_mine"
        for reference in ("mine", "ds_mine", "nothing", "", "a\x00b", "\ud800"):
            with pytest.raises(DatasetNotFound):
                get_dataset(session, "bob", reference)
        assert [row.id for row in list_datasets(session, "bob", limit=5).items] == ["ds_digits"]
