"""Moves of aliases: what they write, what they keep from removal, and where a rollback goes."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import select, update

from tests.trainyard import rows as db_rows
from tests.trainyard.artifacts.test_retries import delete, ended_job
from trainyard.artifacts import aliases
from trainyard.artifacts.checkpoints import resolve_model
from trainyard.artifacts.naming import alias_moves
from trainyard.artifacts.naming.alias_moves import Mover, Target
from trainyard.database.connection import Database
from trainyard.database.tables import Alias, AliasMove, Checkpoint
from trainyard.errors import CheckpointNotFound, CheckpointPruned, Conflict, InUse, InvalidRequest, ServiceError
from trainyard.serving_errors import AliasMoved, AliasNotFound, NothingToRollBackTo

ME = Mover(db_rows.OWNER, "req_me")


def move(database: Database, name: str, checkpoint: str, **more: Any) -> Alias:
    with database.writing() as session:
        return alias_moves.move_alias(session, ME, name, Target(checkpoint, **more))


def roll_back(database: Database, name: str, version: int | None = None) -> Alias:
    with database.writing() as session:
        found = alias_moves.find_rollback(session, ME.owner, name, version)
        return alias_moves.roll_back(session, ME, name, *found)


def remove(database: Database, name: str) -> None:
    with database.writing() as session:
        alias_moves.delete_alias(session, ME, name)


def history(database: Database, name: str) -> list[tuple[int, str, str | None]]:
    with database.reading() as session:
        page = aliases.list_moves(session, ME.owner, name, limit=100)
        return [(row.version, row.action.value, row.checkpoint_id) for row in page.items]


def test_a_move_is_numbered_dated_and_recorded(database: Database) -> None:
    _, made = ended_job(database, 10, 20, 30)
    first = move(database, "production", made[0])
    assert (first.version, first.previous_id, first.moved_by) == (1, None, "local")
    second = move(database, "production", made[1], canary_id=made[2], canary_share=0.25)
    assert (second.version, second.checkpoint_id, second.previous_id) == (2, made[1], made[0])
    assert (second.canary_id, second.canary_share) == (made[2], 0.25)
    assert second.updated_at >= first.updated_at
    with database.reading() as session:
        rows = list(session.scalars(select(AliasMove).order_by(AliasMove.version)))
    assert [(row.version, row.request_id, row.canary_share) for row in rows] == [
        (1, "req_me", None),
        (2, "req_me", 0.25),
    ]
    again = move(database, "production", made[1], canary_id=made[2], canary_share=0.25)
    assert again.version == 2, "repeating a move changes nothing"


def test_a_deleted_alias_keeps_its_history_and_its_version_never_goes_back(database: Database) -> None:
    _, made = ended_job(database, 10, 20)
    move(database, "production", made[0])
    remove(database, "production")
    with pytest.raises(AliasNotFound):
        remove(database, "production")
    with database.reading() as session, pytest.raises(AliasNotFound):
        aliases.get_alias(session, ME.owner, "production")
    assert move(database, "production", made[1]).version == 3
    assert history(database, "production") == [
        (3, "move", made[1]), (2, "delete", None), (1, "move", made[0])
    ]  # fmt: skip
    with database.reading() as session, pytest.raises(AliasNotFound):
        aliases.list_moves(session, ME.owner, "never", limit=10)


@pytest.mark.parametrize("name", ["latest", "job_1", "Big"])
def test_a_name_that_no_alias_may_have(database: Database, name: str) -> None:
    _, made = ended_job(database, 10)
    with pytest.raises(InvalidRequest, match="name is"):
        move(database, name, made[0])


def test_the_hundred_and_first_alias_is_refused(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alias_moves, "MAX_ALIASES", 2)
    _, made = ended_job(database, 10, 20)
    move(database, "a", made[0])
    move(database, "b", made[0])
    with pytest.raises(Conflict, match="2 aliases"):
        move(database, "c", made[0])
    assert move(database, "a", made[1]).version == 2


class TestRollback:
    def test_goes_back_step_by_step_and_not_forwards_again(self, database: Database) -> None:
        _, made = ended_job(database, 10, 20, 30)
        for checkpoint in made:
            move(database, "production", checkpoint)
        assert roll_back(database, "production").checkpoint_id == made[1]
        assert roll_back(database, "production").checkpoint_id == made[0]
        with pytest.raises(NothingToRollBackTo):
            roll_back(database, "production")
        assert history(database, "production")[:2] == [(5, "rollback", made[0]), (4, "rollback", made[1])]

    def test_ends_a_canary_and_a_shadow_first(self, database: Database) -> None:
        _, made = ended_job(database, 10, 20, 30)
        move(database, "production", made[0])
        move(database, "production", made[1])
        move(database, "production", made[1], canary_id=made[2], canary_share=0.1)
        move(database, "production", made[1], canary_id=made[2], canary_share=0.5, shadow_id=made[0])
        back = roll_back(database, "production")
        assert (back.checkpoint_id, back.canary_id, back.canary_share, back.shadow_id) == (made[1], None, None, None)
        assert roll_back(database, "production").checkpoint_id == made[0]

    def test_of_a_promoted_canary_goes_to_what_was_stable_before(self, database: Database) -> None:
        _, made = ended_job(database, 10, 20)
        move(database, "production", made[0])
        move(database, "production", made[0], canary_id=made[1], canary_share=0.1)
        move(database, "production", made[1])
        back = roll_back(database, "production")
        assert (back.checkpoint_id, back.canary_id) == (made[0], None)

    def test_to_a_version_of_choice(self, database: Database) -> None:
        _, made = ended_job(database, 10, 20, 30)
        for checkpoint in made:
            move(database, "production", checkpoint)
        assert roll_back(database, "production", 1).checkpoint_id == made[0]
        for version in (99, 2**40):
            with pytest.raises(InvalidRequest, match="history"):
                roll_back(database, "production", version)

    def test_of_what_is_not_there(self, database: Database) -> None:
        with pytest.raises(AliasNotFound):
            roll_back(database, "production")


class TestKeeps:
    def test_what_an_alias_names_and_what_it_may_go_back_to_is_not_pruned(self, database: Database) -> None:
        db_rows.submit(database)
        lease = db_rows.claim(database)
        old = [db_rows.commit(database, lease, step, keep_latest=9) for step in (10, 20, 30, 40)]
        move(database, "production", old[0])
        move(database, "production", old[1], canary_id=old[2], canary_share=0.1, shadow_id=old[3])
        newer = [db_rows.commit(database, lease, step) for step in (50, 60, 70)]
        kept = {key for key, status in db_rows.statuses(database).items() if status == "committed"}
        assert kept == {*old, *newer[-2:]}

    @pytest.mark.parametrize("part", ["checkpoint_id", "canary_id", "shadow_id"])
    def test_a_job_whose_checkpoint_is_named_can_not_be_deleted(self, database: Database, part: str) -> None:
        job_id, [named] = ended_job(database, 10)
        _, [other] = ended_job(database, 10)
        parts: dict[str, Any] = {"checkpoint_id": other, part: named}
        if part == "canary_id":
            parts["canary_share"] = 0.5
        with database.writing() as session:
            alias_moves.move_alias(session, ME, "production", Target(**parts))
        with pytest.raises(InUse, match="production"):
            delete(database, job_id)

    def test_a_job_that_an_alias_could_go_back_to_can_be_deleted(self, database: Database) -> None:
        job_id, [old] = ended_job(database, 10)
        _, [new] = ended_job(database, 10)
        move(database, "production", old)
        move(database, "production", new)
        delete(database, job_id)
        with pytest.raises(CheckpointNotFound, match="version 1 of alias 'production'"):
            roll_back(database, "production")
        assert history(database, "production")[-1] == (1, "move", old), "the history still names it"

    def test_a_checkpoint_that_is_gone_is_not_named(self, database: Database) -> None:
        _, made = ended_job(database, 10, 20)
        move(database, "production", made[0])
        with database.writing() as session:
            session.execute(update(Checkpoint).where(Checkpoint.id == made[1]).values(status="pruned"))
        with pytest.raises(CheckpointPruned) as refused:
            move(database, "production", made[0], canary_id=made[1], canary_share=0.5)
        assert refused.value.param == "canary.checkpoint"
        assert history(database, "production") == [(1, "move", made[0])], "nothing was moved"


def test_resolving_names_the_field_that_is_wrong(database: Database) -> None:
    job_id, made = ended_job(database, 10)
    with database.reading() as session:

        def resolve(**wanted: Any) -> Target:
            given: dict[str, Any] = {"checkpoint": made[0], "canary": None, "shadow": None} | wanted
            return alias_moves.resolve_target(session, ME.owner, **given)

        assert resolve(checkpoint=job_id) == Target(made[0])
        wrong: list[tuple[dict[str, Any], str]] = [
            ({"checkpoint": "ckpt_0"}, "checkpoint"),
            ({"canary": ("ckpt_0", 0.5)}, "canary.checkpoint"),
            ({"shadow": "ckpt_0"}, "shadow"),
            ({"canary": (made[0], 0.5)}, "canary.checkpoint"),
            ({"shadow": made[0]}, "shadow"),
            ({"checkpoint": "Nope!"}, "checkpoint"),
        ]
        for wanted, param in wrong:
            with pytest.raises(ServiceError) as refused:
                resolve(**wanted)
            assert refused.value.param == param


def test_an_alias_is_a_model_reference(database: Database) -> None:
    _, made = ended_job(database, 10, 20)
    move(database, "production", made[0])
    with database.reading() as session:
        assert resolve_model(session, ME.owner, "production").id == made[0]
        with pytest.raises(AliasNotFound):
            resolve_model(session, "somebody", "production")


def test_movers_at_once_take_turns_and_no_version_is_lost(database: Database) -> None:
    made = [ended_job(database, 10)[1][0] for _ in range(4)]
    results: list[object] = []
    barrier = threading.Barrier(4)

    def one(checkpoint: str) -> None:
        barrier.wait()
        for _ in range(20):
            try:
                results.append(move(database, "production", checkpoint).version)
                return
            except AliasMoved:
                continue

    threads = [threading.Thread(target=one, args=(checkpoint,)) for checkpoint in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, results)) == ["1", "2", "3", "4"]
    moves = history(database, "production")
    assert [version for version, *_ in moves] == [4, 3, 2, 1]
    assert {checkpoint for *_, checkpoint in moves} == set(made)


def test_of_a_move_and_a_deletion_of_the_job_at_once_only_one_wins(database: Database) -> None:
    for _ in range(5):
        job_id, [named] = ended_job(database, 10)
        refused: list[str] = []
        barrier = threading.Barrier(2)

        def attempt(action: Any, *args: Any, barrier: Any = barrier, refused: list[str] = refused) -> None:
            barrier.wait()
            try:
                action(database, *args)
            except ServiceError as exc:
                refused.append(type(exc).__name__)

        both = [(move, "production", named), (delete, job_id)]
        threads = [threading.Thread(target=attempt, args=it) for it in both]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert refused in (["InUse"], ["CheckpointNotFound"])
        if refused == ["InUse"]:
            remove(database, "production")
