from __future__ import annotations

import pytest

from tests.trainyard import rows as db_rows
from tests.trainyard.artifacts.naming.test_alias_moves import move, remove
from tests.trainyard.artifacts.test_retries import ended_job
from trainyard.artifacts import aliases
from trainyard.database.connection import Database
from trainyard.serving_errors import AliasNotFound


@pytest.mark.parametrize("name", ["production", "a", "0", "v2_new-one", "a" * 63, "jobs", "latest2"])
def test_a_name_that_an_alias_may_have(name: str) -> None:
    assert aliases.is_alias_name(name)


@pytest.mark.parametrize("name", ["", "latest", "job_1", "ckpt_0abc", "Big", "-a", "a" * 64, "a b", "a\n", "ä", "a.b"])
def test_a_name_that_no_alias_may_have(name: str) -> None:
    assert not aliases.is_alias_name(name)


def test_an_owner_sees_only_their_own(database: Database) -> None:
    _, made = ended_job(database, 10)
    for name in ("b", "a"):
        move(database, name, made[0])
    with database.reading() as session:
        assert [row.name for row in aliases.list_aliases(session, db_rows.OWNER, limit=10).items] == ["a", "b"]
        page = aliases.list_aliases(session, db_rows.OWNER, limit=1)
        assert ([row.name for row in page.items], page.has_more) == (["a"], True)
        assert aliases.list_aliases(session, "somebody", limit=10).items == []
        assert {row.name for row in aliases.list_all_aliases(session)} == {"a", "b"}
        with pytest.raises(AliasNotFound):
            aliases.get_alias(session, "somebody", "a")
        with pytest.raises(AliasNotFound):
            aliases.list_moves(session, "somebody", "a", limit=10)


def test_the_moves_come_newest_first_in_pages_also_of_a_deleted_alias(database: Database) -> None:
    _, made = ended_job(database, 10, 20)
    for checkpoint in (*made, made[0]):
        move(database, "production", checkpoint)
    remove(database, "production")
    with database.reading() as session:
        page = aliases.list_moves(session, db_rows.OWNER, "production", limit=2)
        assert ([row.version for row in page.items], page.has_more) == ([4, 3], True)
        page = aliases.list_moves(session, db_rows.OWNER, "production", limit=2, before=3)
        assert ([row.version for row in page.items], page.has_more) == ([2, 1], False)
        assert aliases.list_moves(session, db_rows.OWNER, "production", limit=2, before=1).items == []
