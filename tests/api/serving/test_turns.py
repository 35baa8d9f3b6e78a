import threading
import time
from collections.abc import Iterator

import pytest

from api.serving.turns import FairPool, FairQueue, Turn


@pytest.fixture
def pool() -> Iterator[FairPool]:
    pool = FairPool(2, "test")
    yield pool
    pool.stop()


def test_requests_take_turns_in_the_order_in_which_they_came() -> None:
    queue: FairQueue[str] = FairQueue()
    many, one, two = Turn(), Turn(), Turn()
    for number in range(4):
        queue.put(many, f"many {number}")
    queue.put(one, "one")
    queue.put(two, "two 0")
    queue.put(two, "two 1")
    assert len(queue) == 7
    assert list(queue.drain()) == ["many 0", "one", "two 0", "many 1", "two 1", "many 2", "many 3"]
    assert len(queue) == 0
    assert queue.take() is None


def test_who_comes_while_another_is_served_waits_for_one_item_of_it() -> None:
    queue: FairQueue[str] = FairQueue()
    many, late = Turn(), Turn()
    for number in range(3):
        queue.put(many, f"many {number}")
    assert queue.take() == (many, "many 0")
    queue.put(late, "late")
    assert list(queue.drain()) == ["many 1", "late", "many 2"]


def test_whoever_may_not_go_keeps_its_place() -> None:
    queue: FairQueue[str] = FairQueue()
    first, second = Turn(), Turn()
    queue.put(first, "a")
    queue.put(second, "b")
    assert queue.take(lambda turn, item: item == "b") == (second, "b")
    assert queue.take(lambda turn, item: item == "b") is None
    assert queue.take() == (first, "a")


def test_a_request_leaves_one_thread_to_the_others(pool: FairPool) -> None:
    greedy, other = Turn(), Turn()
    leave = threading.Event()
    waiting = [pool.submit(greedy, leave.wait, 60) for _ in range(5)]
    assert pool.submit(other, lambda: "done").result(60) == "done"
    assert [future.running() for future in waiting] == [True, False, False, False, False]
    leave.set()
    assert all(future.result(60) for future in waiting)


def test_what_is_cancelled_is_not_begun_and_what_fails_fails_alone(pool: FairPool) -> None:
    turn, leave = Turn(), threading.Event()
    begun: list[str] = []
    first = pool.submit(turn, leave.wait, 60)
    given_up, wanted = pool.submit(turn, begun.append, "given up"), pool.submit(turn, begun.append, "wanted")
    failing = pool.submit(turn, lambda: 1 // 0)
    assert given_up.cancel()
    leave.set()
    assert first.result(60)
    assert wanted.result(60) is None
    assert begun == ["wanted"]
    with pytest.raises(ZeroDivisionError):
        failing.result(60)


def test_the_end_waits_for_what_has_begun_and_cancels_the_rest(pool: FairPool) -> None:
    turn, leave = Turn(), threading.Event()
    begun, waiting = pool.submit(turn, leave.wait, 60), pool.submit(turn, leave.wait, 60)
    while not begun.running():
        time.sleep(0.001)
    threading.Timer(0.05, leave.set).start()
    pool.stop()
    assert begun.result(0)
    assert waiting.cancelled()
    assert pool.submit(turn, leave.wait, 0).cancelled()
