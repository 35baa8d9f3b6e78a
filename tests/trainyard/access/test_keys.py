"""Keys as rows: made, found, revoked."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from trainyard.access.key_text import digest_of
from trainyard.access.keys import KeyRecord, create_key, find_keys, list_keys, note_uses, revoke_key
from trainyard.access.refusals import KeyNotFound
from trainyard.access.scopes import Scope
from trainyard.database.access_tables import ApiKey
from trainyard.database.connection import Database
from trainyard.errors import InvalidRequest


def test_a_key_is_stored_as_a_digest_alone(database: Database) -> None:
    with database.writing() as session:
        row, text = create_key(session, owner="ada", scopes=[Scope.TRAIN, Scope.READ, Scope.READ], name="laptop")
    assert (row.digest, row.scopes, row.last_used_at) == (digest_of(text), ["read", "train"], None)
    assert text.startswith(row.prefix + "_")
    with database.reading() as session:
        stored = session.execute(select(ApiKey.__table__)).one()
        assert text not in str(stored)
        assert text[len(row.prefix) + 1 :] not in str(stored)
        assert find_keys(session, [row.prefix, "ty_nothing"]) == {
            row.prefix: KeyRecord(row.prefix, row.digest, "ada", frozenset({Scope.READ, Scope.TRAIN}))
        }


def test_a_revoked_key_is_gone_and_stays_gone(database: Database) -> None:
    with database.writing() as session:
        row, _ = create_key(session, owner="ada", scopes=Scope)
        kept, _ = create_key(session, owner="ada", scopes=Scope)
    with database.writing() as session:
        assert revoke_key(session, row.id) == row.prefix
    with database.writing() as session:
        with pytest.raises(KeyNotFound):
            revoke_key(session, row.id)
        assert list(find_keys(session, [row.prefix, kept.prefix])) == [kept.prefix]


def test_keys_are_listed_newest_first_in_pages(database: Database) -> None:
    ids = []
    for owner in ("ada", "bob", "ada"):
        with database.writing() as session:
            ids.append(create_key(session, owner=owner, scopes=[Scope.READ])[0].id)
    with database.reading() as session:
        page = list_keys(session, limit=2, after=None)
        assert ([row.id for row in page.items], page.has_more) == (ids[:0:-1], True)
        assert [row.id for row in list_keys(session, limit=2, after=ids[1]).items] == ids[:1]
        with pytest.raises(InvalidRequest):
            list_keys(session, limit=2, after="key_nothing")


def test_a_use_is_written_once_a_minute(database: Database) -> None:
    with database.writing() as session:
        row, _ = create_key(session, owner="ada", scopes=[Scope.READ])
    for written in (1, 0):
        with database.writing() as session:
            assert note_uses(session, [row.prefix, "ty_nothing"]) == written
    with database.writing() as session:
        used = session.get_one(ApiKey, row.id)
        assert used.last_used_at is not None
        assert used.last_used_at >= used.created_at
        used.last_used_at -= 61
    with database.writing() as session:
        assert note_uses(session, [row.prefix]) == 1
