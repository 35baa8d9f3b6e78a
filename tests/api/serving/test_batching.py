import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from api.serving import batch_sizes, batching
from api.serving.batching import Batcher, Rows
from api.serving.turns import Turn


class Doubler:
    precision = "fp32"
    class_names = ("only",)
    input_shape = (1, 1, 1)

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()

    def preprocess(self, image: int) -> int:
        return image

    def take_input(self, values_CHW: Any) -> int:
        return int(values_CHW.sum())

    def compute(self, inputs: list[int]) -> Rows:
        self.batches.append(inputs)
        assert self.gate.wait(60)
        if 13 in inputs:
            raise ValueError("unlucky")
        return Rows([[2.0 * value] for value in inputs], [0.5 * value for value in inputs])


@pytest.fixture
def batcher() -> Iterator[Batcher]:
    batcher = Batcher(max_batch=3)
    yield batcher
    batcher.stop()


def test_images_of_one_model_are_computed_together_in_their_order(batcher: Batcher) -> None:
    first, second = Doubler(), Doubler()
    first.gate.set()
    second.gate.set()
    futures = [batcher.put(model, value) for value, model in enumerate([first, second, first, first, first])]
    batcher.start()
    assert [future.result(60).probabilities for future in futures] == [[0.0], [2.0], [4.0], [6.0], [8.0]]
    assert (first.batches, second.batches) == ([[0, 2, 3], [4]], [[1]])
    assert futures[0].result().batch_size == 3


def test_an_image_that_nobody_waits_for_is_not_computed(batcher: Batcher) -> None:
    model = Doubler()
    model.gate.set()
    given_up, wanted = batcher.put(model, 1), batcher.put(model, 2)
    given_up.cancel()
    batcher.start()
    assert wanted.result(60).probabilities == [4.0]
    assert model.batches == [[2]]


def test_a_failed_batch_fails_alone(batcher: Batcher) -> None:
    model = Doubler()
    model.gate.set()
    batcher.start()
    with pytest.raises(ValueError, match="unlucky"):
        batcher.put(model, 13).result(60)
    assert batcher.put(model, 1).result(60).probabilities == [2.0]


def test_what_waits_at_the_end_is_still_computed(batcher: Batcher) -> None:
    model = Doubler()
    batcher.start()
    futures = [batcher.put(model, value) for value in range(5)]
    threading.Timer(0.05, model.gate.set).start()
    batcher.stop()
    assert [future.result(0).probabilities for future in futures] == [[0.0], [2.0], [4.0], [6.0], [8.0]]
    assert batcher.put(model, 1).cancelled()


def test_a_request_of_many_images_lets_the_others_go_between(batcher: Batcher) -> None:
    model = Doubler()
    model.gate.set()
    many = Turn()
    futures = [batcher.put(model, value, many) for value in range(6)]
    futures.append(batcher.put(model, 100, Turn()))
    batcher.start()
    assert [future.result(60).probabilities[0] for future in futures] == [0, 2, 4, 6, 8, 10, 200]
    assert model.batches == [[0, 100, 1], [2, 3, 4], [5]]


def test_a_batch_that_would_take_long_is_made_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(Doubler):
        def compute(self, inputs: list[int]) -> Rows:
            time.sleep(0.01 * len(inputs))
            return super().compute(inputs)

    monkeypatch.setattr(batch_sizes, "BATCH_S", 0.05)
    batcher, slow, quick = Batcher(max_batch=64), Slow(), Doubler()
    slow.gate.set()
    quick.gate.set()
    batcher.start()
    batcher.put(slow, 0).result(60)
    batcher.put(quick, 0).result(60)
    slow.gate.clear()  # until all are there
    order = slow.batches = quick.batches = list[list[int]]()
    many = Turn()
    futures = [batcher.put(slow, 100 + value, many) for value in range(40)]
    other = batcher.put(quick, 1, Turn())
    slow.gate.set()
    assert other.result(60).batch_size == 1
    assert [future.result(60).batch_size <= 5 for future in futures] == [True] * 40
    assert order.index([1]) <= 2, "it waits for what is being computed, and at most for one batch more"
    batcher.stop()


class Unheard:
    """An inbox of images whose answers nobody wants."""

    def deliver(self, items: Any, places: Any, batch: Any) -> None:
        pass


def test_batches_are_long_until_another_model_is_asked_for_and_again_when_that_is_long_ago() -> None:
    def ask(model: Doubler, images: int, at: float) -> None:
        for _ in range(images):
            batcher.add(batching.Item(model, 1, at, None, Unheard()), Turn())

    def take_all() -> list[int]:
        batcher._image_s[model] = 0.01  # 6 of them take 60 ms, 16 of them 160 ms
        sizes = []
        while batcher.num_waiting:
            sizes.append(len(batcher._take()))
        return sizes

    batcher, model, other = Batcher(max_batch=64), Doubler(), Doubler()
    ask(model, 20, at=1)
    assert take_all() == [16, 4]
    ask(model, 20, at=100)
    ask(other, 1, at=101)
    ask(model, 6, at=102)
    assert take_all() == [6, 6, 6, 6, 1, 2], "also of what has waited since before the other one came"
    ask(model, 20, at=110)
    assert take_all() == [6, 6, 6, 2]
    ask(model, 20, at=150)
    assert take_all() == [16, 4]


def test_an_image_is_computed_at_once_only_while_nothing_else_is_to_be_done(batcher: Batcher) -> None:
    def make_item() -> batching.Item:
        return batching.Item(model, 1, time.perf_counter(), None, inbox)

    class Inbox:
        def deliver(self, items: Any, places: Any, batch: Any) -> None:
            delivered.append(threading.current_thread().name)

    model, inbox, delivered = Doubler(), Inbox(), list[str]()
    assert not batcher.compute_at_once(make_item()), "nobody knows yet how long it takes"
    model.gate.set()
    batcher.start()
    assert batcher.put(model, 1).result(60)
    while not batcher.is_idle:
        time.sleep(0.001)
    batcher._alone_s[model] = 0.0001  # whatever the machine was doing
    assert batcher.compute_at_once(make_item())
    model.gate.clear()
    computed = batcher.put(model, 2)
    while not computed.running():
        time.sleep(0.001)
    assert not batcher.compute_at_once(make_item()), "something is being computed"
    model.gate.set()
    assert computed.result(60).probabilities == [4.0]
    batcher.stop()
    assert not batcher.compute_at_once(make_item()), "it has ended"
    assert delivered == [threading.current_thread().name]
