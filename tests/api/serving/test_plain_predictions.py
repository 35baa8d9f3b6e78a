"""Predictions of small images in the event loop: what is written, and what becomes of those that nobody waits for."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from api.serving import batching
from api.serving.batching import Batcher, Rows
from api.serving.decoding import Decoding
from api.serving.interface import ModelInfo, PlainAnswer
from api.serving.loading import Loaded
from api.serving.plain_predictions import PlainPredictions, write_answer
from api.serving.resolution import Choice, Resolution
from tests.hostile_images import encode
from trainyard.errors import InvalidImage, ServiceError

TINY = encode(Image.new("RGB", (8, 8), "white"), "PNG")
DAMAGED = TINY.replace(b"IDATx", b"IDATy")


class Odd:
    precision = "fp32"
    class_names = ('a"b', "ü", "c")
    input_shape = (3, 8, 8)

    def __init__(self) -> None:
        self.gate, self.batches = threading.Event(), list[int]()
        self.threads, self.delay_s = list[str](), 0.0
        self.row = [0.25, 0.5, 0.25]

    def take_input(self, values_CHW: Any) -> Any:
        return values_CHW

    def preprocess(self, image: Any) -> Any:
        return image

    def compute(self, inputs: list[Any]) -> Rows:
        assert self.gate.wait(60)
        self.batches.append(len(inputs))
        self.threads.append(threading.current_thread().name)
        time.sleep(self.delay_s)
        if self.row == []:
            raise ValueError("it can't")
        return Rows(np.array([self.row] * len(inputs)), [0.0] * len(inputs))


class One:
    """Knows one model, which is always there."""

    def __init__(self, model: Odd) -> None:
        self.model = model

    def choose_at_once(self, owner: str, reference: str) -> Choice | None:
        loaded = Loaded("ckpt_1", "local", "job_1", 2, 5, "a" * 64, self.model)
        return Choice(loaded, "latest", 5) if reference == "latest" else None


class Desk:
    """Plain predictions with what they need, and what they told."""

    def __init__(self) -> None:
        self.model, self.batcher, self.decoding = Odd(), Batcher(64), Decoding(10_000)
        self.one = One(self.model)
        self.released, self.noted = 0, list[Any]()
        self.plain = PlainPredictions(
            cast(Resolution, self.one),
            self.decoding,
            self.batcher,
            admit=lambda images: None,
            release=self.release,
            note=lambda plain, answered: self.noted.append(answered),
            usual=cast(Any, None),
        )
        self.batcher.start()

    def release(self, images: int) -> None:
        self.released += images

    async def answers(self, count: int, begin: Any) -> list[PlainAnswer | ServiceError]:
        found: list[PlainAnswer | ServiceError] = []
        begin(found.append)
        self.model.gate.set()
        async with asyncio.timeout(60):
            while len(found) < count:
                await asyncio.sleep(0.001)
        self.batcher.stop()
        self.decoding.stop()
        return found


def test_answers_name_the_classes_that_were_asked_for() -> None:
    async def test() -> None:
        desk = Desk()

        def begin(then: Any) -> None:
            for top_k in (1, 2, 9):
                assert desk.plain.begin("local", "latest", TINY, top_k, then) is not None

        answers = await desk.answers(3, begin)
        assert desk.released == 3
        assert len(desk.noted) == 3
        for answer, classes in zip(answers, (1, 2, 3), strict=True):
            assert isinstance(answer, PlainAnswer)
            assert answer.checkpoint == "ckpt_1"
            whole = json.loads(answer.text + b"1.5}}")
            best = [("ü", 1, 0.5), ('a"b', 0, 0.25), ("c", 2, 0.25)][:classes]  # of equal ones the first
            assert [tuple(row.values()) for row in whole["predictions"]] == best
            assert whole["model"]["alias"] == "latest"

    asyncio.run(test())


@pytest.mark.parametrize("row", [[], [float("nan")] * 3])
def test_what_can_not_be_computed_is_an_error(row: list[float]) -> None:
    async def test() -> None:
        desk = Desk()
        desk.model.row = row
        [answer] = await desk.answers(1, lambda then: desk.plain.begin("local", "latest", TINY, 1, then))
        assert type(answer) is ServiceError
        assert (desk.released, desk.noted) == (1, [None])

    asyncio.run(test())


def test_what_nobody_waits_for_is_neither_computed_nor_answered() -> None:
    async def test() -> None:
        desk = Desk()
        unwanted: list[object] = []
        first = desk.plain.begin("local", "latest", TINY, 1, unwanted.append)
        while desk.batcher.is_idle or desk.batcher.num_waiting:
            await asyncio.sleep(0.001)  # until it is being computed

        def begin(then: Any) -> None:
            second = desk.plain.begin("local", "latest", TINY, 1, then)
            desk.plain.begin("local", "latest", TINY, 1, then)
            for plain in (first, second, second):
                assert plain is not None
                desk.plain.give_up(plain)

        assert len(await desk.answers(1, begin)) == 1
        assert desk.model.batches == [1, 1]
        assert desk.released == 3
        assert unwanted == []

    asyncio.run(test())


def test_an_image_alone_is_computed_without_another_thread_if_that_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "AT_ONCE_S", 1.0)  # so that it is fast on busy cores too

    async def test() -> None:
        desk = Desk()
        desk.model.gate.set()
        found: list[object] = []

        async def ask(count: int) -> list[str]:
            del found[:], desk.model.threads[:]
            for _ in range(count):
                desk.plain.begin("local", "latest", TINY, 1, found.append)
            async with asyncio.timeout(60):
                while len(found) < count or not desk.batcher.is_idle:
                    await asyncio.sleep(0.001)
            assert all(isinstance(answer, PlainAnswer) for answer in found)
            return desk.model.threads

        here = threading.current_thread().name
        assert await ask(1) == ["inference"]  # nobody knows yet how long it takes
        assert await ask(1) == [here]
        assert await ask(1) == [here]
        assert {*await ask(3)} == {"inference"}
        desk.model = desk.one.model = Odd()  # a slow network
        desk.model.gate.set()
        desk.model.delay_s = 1.0
        assert [await ask(1), await ask(1)] == [["inference"], ["inference"]]
        assert desk.released == 8
        desk.batcher.stop()
        desk.decoding.stop()

    asyncio.run(test())


def test_an_image_alone_is_refused_if_the_end_comes_first() -> None:
    async def test() -> None:
        desk = Desk()
        found: list[object] = []
        desk.plain.begin("local", "latest", TINY, 1, found.append)
        desk.batcher.stop()
        await asyncio.sleep(0.01)
        assert [type(answer) for answer in found] == [ServiceError]
        assert desk.released == 1
        desk.decoding.stop()

    asyncio.run(test())


def test_what_is_large_or_waits_for_a_model_takes_the_usual_way() -> None:
    async def test() -> None:
        desk = Desk()
        large = encode(Image.new("RGB", (80, 80)), "PNG")
        assert desk.plain.begin("local", "latest", large, 1, print) is None
        assert desk.plain.begin("local", "production", TINY, 1, print) is None
        with pytest.raises(InvalidImage):
            desk.plain.begin("local", "latest", DAMAGED, 1, print)
        await desk.answers(0, lambda then: None)
        with pytest.raises(ServiceError):
            desk.plain.begin("local", "latest", TINY, 1, print)

    asyncio.run(test())


def test_an_answer_is_written_to_its_last_field() -> None:
    model = ModelInfo("ckpt_1", "job_1", 3, "f" * 64, None, None, None)
    text = write_answer(model, [("ü", 1, 1e-20)], (0.12345, 1.0, 2.0)).text
    assert text.decode() == (
        '{"model":{"checkpoint":"ckpt_1","job":"job_1","epoch":3,"weights_sha256":"' + "f" * 64 + '",'
        '"alias":null,"version":null,"side":null},"predictions":[{"label":"ü","index":1,"probability":1e-20}],'
        '"timing":{"preprocess_ms":0.123,"queue_ms":1.0,"inference_ms":2.0,"total_ms":'
    )
