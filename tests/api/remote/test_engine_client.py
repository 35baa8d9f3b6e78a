"""A call of the engine over the socket: its answer, its errors, and what happens when either process ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from api.remote import engine_client
from api.remote.calls import NAMES, get_call
from api.remote.engine_client import MAX_TRIES, RemoteEngine
from api.remote.engine_server import EngineServer
from api.remote.messages import MessageProtocol
from api.serving.engine import Engine
from api.serving.interface import (
    Agreement,
    Classified,
    ImageForm,
    Inferred,
    ModelDescription,
    ModelInfo,
    ModelState,
    Outcome,
    PlainAnswer,
    ServingEngine,
    Then,
)
from api.serving.refusals import Refusal
from trainyard.errors import ImageTooLarge, JobNotFound, ModelLoading, PredictQueueFull, ServiceError

MODEL = ModelInfo("ckpt_1", "job_1", 3, "a" * 64, "latest", 7, None)
DESCRIPTION = ModelDescription(MODEL, ["dog", "cat"], (3, 32, 32), "bf16", Agreement(0.998, 500))


@dataclass
class ToyEngine:
    """Answers with what it was asked, when it may."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[tuple[str, str, list[bytes], int]] = field(default_factory=list)
    cancelled: int = 0
    error: Exception | None = None
    model_state: ModelState = "ok"

    def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def classify(
        self,
        owner: str,
        reference: str,
        images: list[bytes],
        top_k: int,
        sticky: str | None = None,
        calibrated: bool = False,
    ) -> Classified:
        self.asked.append((owner, reference, images, top_k))
        if self.error is not None:
            raise self.error
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        outcomes = [Outcome([("cat", 1, 0.75)], 1.5, 0.5, float(len(data))) for data in images]
        return Classified(MODEL, [*outcomes, Outcome([], 0, 0, 0, Refusal.of(ImageTooLarge("too big", param="file")))])

    def predict_plainly(self, owner: str, reference: str, image: bytes, top_k: int, then: Then) -> Callable[[], object]:
        async def answer() -> None:
            try:
                classified = await self.classify(owner, reference, [image], top_k)
            except ServiceError as exc:
                then(exc)
            else:
                then(PlainAnswer(classified.model.checkpoint, image + b', "total_ms":'))

        return asyncio.get_running_loop().create_task(answer()).cancel

    async def warm(self, owner: str, checkpoint_ids: dict[str, str]) -> None:
        self.asked.append((owner, "warm", [], len(checkpoint_ids)))

    async def follow_alias(self, owner: str, name: str, version: int | None) -> None:
        self.asked.append((owner, f"{name} {version}", [], 0))

    async def infer(
        self,
        owner: str,
        reference: str,
        images: list[bytes],
        form: ImageForm,
        shape: list[int],
        num_named: int,
        sticky: str | None = None,
    ) -> Inferred:
        self.asked.append((owner, f"{reference} {form.name} {shape} {sticky}", images, num_named))
        return Inferred(MODEL, [[0.25, 0.75]], [["cat"]])

    async def describe(self, owner: str, reference: str) -> ModelDescription:
        return DESCRIPTION

    async def list_loaded(self) -> list[str]:
        return ["ckpt_1"]

    async def unload(self, checkpoint_id: str) -> bool:
        return checkpoint_id != "ckpt_1"

    async def forget(self, job_id: str) -> None:
        self.asked.append(("forget", job_id, [], 0))


@asynccontextmanager
async def served(engine: ServingEngine, path: Path) -> AsyncIterator[None]:
    over = asyncio.Event()
    running = asyncio.create_task(EngineServer(engine, path).run(over))
    yield
    over.set()
    await running


@asynccontextmanager
async def connected(path: Path, wait_s: float = 5) -> AsyncIterator[RemoteEngine]:
    client = RemoteEngine(path, wait_s=wait_s)
    client.start()
    yield client
    await client.stop()


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


def state_of(client: RemoteEngine) -> str:
    return client.model_state


async def until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def test_the_answer_is_the_engines(tmp_path: Path) -> None:
    async def test() -> None:
        engine = ToyEngine()
        engine.gate.set()
        async with served(engine, tmp_path / "s"), connected(tmp_path / "s") as client:
            classified = await client.classify("ann", "latest", [b"\x00png", b"jpeg!"], 2)
            assert engine.asked == [("ann", "latest", [b"\x00png", b"jpeg!"], 2)]
            assert classified.model == MODEL
            assert [outcome.inference_ms for outcome in classified.outcomes] == [4, 5, 0]
            assert classified.outcomes[0].labels == [("cat", 1, 0.75)]
            refusal = classified.outcomes[2].refusal
            assert refusal is not None
            assert isinstance(refusal.to_error(), ImageTooLarge)
            await client.forget("job_7")
            assert engine.asked[-1][1] == "job_7"
            await client.warm("ann", {"checkpoint": "ckpt_1", "canary": "ckpt_2"})
            await client.follow_alias("ann", "production", 4)
            await client.follow_alias("ann", "production", None)
            assert [what for _, what, _, _ in engine.asked[-3:]] == ["warm", "production 4", "production None"]
            inferred = await client.infer("ann", "production", [b"\0\1"], ImageForm.PIXELS, [1, 2, 1], 1, "me")
            assert inferred == Inferred(MODEL, [[0.25, 0.75]], [["cat"]])
            assert engine.asked[-1] == ("ann", "production PIXELS [1, 2, 1] me", [b"\0\1"], 1)
            assert await client.describe("ann", "latest") == DESCRIPTION
            assert await client.list_loaded() == ["ckpt_1"]
            assert [await client.unload(it) for it in ("ckpt_1", "ckpt_2")] == [False, True]

    run(test())


def test_errors_come_over_as_what_they_are(tmp_path: Path) -> None:
    async def test() -> None:
        engine = ToyEngine()
        async with served(engine, tmp_path / "s"), connected(tmp_path / "s") as client:
            engine.error = JobNotFound("no such job", param="model")
            with pytest.raises(JobNotFound, match="no such job") as told:
                await client.classify("ann", "job_x", [], 1)
            assert told.value.param == "model"
            engine.error = ModelLoading(retry_after_s=7)
            with pytest.raises(ModelLoading) as waiting:
                await client.classify("ann", "job_x", [], 1)
            assert waiting.value.retry_after_s == 7
            engine.error = ZeroDivisionError("a secret path")
            with pytest.raises(ServiceError) as hidden:
                await client.classify("ann", "job_x", [], 1)
            assert (hidden.value.status, "secret" in str(hidden.value)) == (500, False)

    run(test())


def test_a_call_that_is_given_up_is_given_up_in_the_engine_too(tmp_path: Path) -> None:
    async def test() -> None:
        engine = ToyEngine()
        async with served(engine, tmp_path / "s"), connected(tmp_path / "s") as client:
            calls = [asyncio.create_task(client.classify("ann", "latest", [b"x"], 1)) for _ in range(2)]
            await until(lambda: len(engine.asked) == 2)
            calls[0].cancel()
            await until(lambda: engine.cancelled == 1)
            engine.gate.set()
            assert (await calls[1]).model == MODEL

    run(test())


def test_a_plain_prediction_is_answered_refused_and_given_up_like_any_call(tmp_path: Path) -> None:
    async def test() -> None:
        engine, answers = ToyEngine(), list[PlainAnswer | ServiceError]()
        async with served(engine, tmp_path / "s"), connected(tmp_path / "s") as client:
            for image in (b"kept", b"given up"):
                give_up = client.predict_plainly("änn", "prod", image, 3, answers.append)
            await until(lambda: len(engine.asked) == 2)
            assert engine.asked[0] == ("änn", "prod", [b"kept"], 3)
            give_up()
            await until(lambda: engine.cancelled == 1)
            engine.gate.set()
            await until(lambda: answers)
            assert answers == [PlainAnswer("ckpt_1", b'kept, "total_ms":')]
            engine.error = JobNotFound("no such job", param="model")
            client.predict_plainly("ann", "job_x", b"x", 1, answers.append)
            await until(lambda: len(answers) == 2)
            assert isinstance(answers[1], JobNotFound)
            assert not client._pending, "nothing is kept of what is over"

    run(test())


def test_plain_predictions_are_given_up_when_their_web_process_ends(tmp_path: Path) -> None:
    async def test() -> None:
        engine = ToyEngine()
        async with served(engine, tmp_path / "s"):
            async with connected(tmp_path / "s") as client:
                client.predict_plainly("ann", "latest", b"x", 1, lambda answer: None)
                await until(lambda: engine.asked)
            await until(lambda: engine.cancelled == 1)

    run(test())


def test_an_engine_that_ends_answers_plain_predictions_first(tmp_path: Path) -> None:
    async def test() -> None:
        engine, answers, over = ToyEngine(), list[PlainAnswer | ServiceError](), asyncio.Event()
        running = asyncio.create_task(EngineServer(engine, tmp_path / "s").run(over))
        async with connected(tmp_path / "s") as client:
            client.predict_plainly("ann", "latest", b"x", 1, answers.append)
            await until(lambda: engine.asked)
            over.set()
            await asyncio.sleep(0.05)
            engine.gate.set()
            await running
            await until(lambda: answers)
            assert isinstance(answers[0], PlainAnswer)

    run(test())


def test_a_plain_prediction_is_asked_of_the_next_engine_and_refused_without_one(tmp_path: Path) -> None:
    async def test() -> None:
        second, answers = ToyEngine(), list[PlainAnswer | ServiceError]()
        second.gate.set()
        async with connected(tmp_path / "s", wait_s=0.2) as client:
            client.predict_plainly("ann", "latest", b"early", 1, answers.append)
            async with served(second, tmp_path / "s"):
                await until(lambda: answers)
            client.predict_plainly("ann", "latest", b"late", 1, answers.append)
            await until(lambda: len(answers) == 2)
            assert isinstance(answers[0], PlainAnswer)
            assert isinstance(answers[1], ModelLoading)

    run(test())


def test_what_a_web_process_asked_for_is_given_up_when_it_ends(tmp_path: Path) -> None:
    async def test() -> None:
        engine = ToyEngine()
        async with served(engine, tmp_path / "s"):
            async with connected(tmp_path / "s") as client:
                call = asyncio.create_task(client.classify("ann", "latest", [b"x"], 1))
                await until(lambda: engine.asked)
            await until(lambda: engine.cancelled == 1)
            call.cancel()

    run(test())


def test_the_engines_state_is_known_and_followed(tmp_path: Path) -> None:
    async def test() -> None:
        engine = ToyEngine(model_state="none")
        async with connected(tmp_path / "s") as client:
            assert state_of(client) == "loading"
            async with served(engine, tmp_path / "s"):
                await until(lambda: state_of(client) == "none")
                engine.model_state = "ok"
                await until(lambda: state_of(client) == "ok")
            await until(lambda: state_of(client) == "loading")

    run(test())


def test_what_an_engine_has_not_answered_when_it_ends_is_asked_of_the_next(tmp_path: Path) -> None:
    async def test() -> None:
        first, second = ToyEngine(), ToyEngine()
        second.gate.set()
        async with connected(tmp_path / "s") as client:
            early = asyncio.create_task(client.classify("ann", "latest", [b"before it is there"], 1))
            await asyncio.sleep(0.1)
            server = EngineServer(first, tmp_path / "s")
            ending = asyncio.create_task(server.run(asyncio.Event()))
            await until(lambda: len(first.asked) == 1)
            late = asyncio.create_task(client.classify("ann", "latest", [b"while it works"], 1))
            await until(lambda: len(first.asked) == 2)
            ending.cancel()
            server.drop_clients()  # as its process's end does
            async with served(second, tmp_path / "s"):
                assert (await early).model == (await late).model == MODEL
                assert sorted(images[0] for _, _, images, _ in second.asked) == [
                    b"before it is there",
                    b"while it works",
                ]

    run(test())


def test_a_call_that_ends_the_engine_each_time_is_given_up(tmp_path: Path) -> None:
    async def test() -> None:
        async with connected(tmp_path / "s") as client:
            call = asyncio.create_task(client.classify("ann", "latest", [b"poison"], 1))
            for _ in range(MAX_TRIES):
                engine = ToyEngine()
                server = EngineServer(engine, tmp_path / "s")
                ending = asyncio.create_task(server.run(asyncio.Event()))
                await until(lambda: engine.asked)  # noqa: B023 - awaited within the round
                ending.cancel()
                server.drop_clients()
            async with served(ToyEngine(), tmp_path / "s"):
                with pytest.raises(ModelLoading, match="ended each time"):
                    await call

    run(test())


def test_without_an_engine_a_call_is_refused_in_time(tmp_path: Path) -> None:
    async def test() -> None:
        async with connected(tmp_path / "s", wait_s=0.2) as client:
            with pytest.raises(ModelLoading) as told:
                await client.classify("ann", "latest", [b"x"], 1)
            assert told.value.retry_after_s

    run(test())


def test_every_method_that_may_be_called_is_one_of_the_engines() -> None:
    assert {"classify", "forget"} <= NAMES
    for name in NAMES:
        assert get_call(name).name == name
        assert callable(getattr(Engine, name))
        assert callable(getattr(RemoteEngine, name))
    for name in ("stop", "start", "__init__", "_answer"):
        with pytest.raises(KeyError):
            get_call(name)


def test_calls_that_were_sent_are_refused_when_no_engine_comes_back(tmp_path: Path) -> None:
    async def test() -> None:
        engine = ToyEngine()
        async with connected(tmp_path / "s", wait_s=0.3) as client:
            server = EngineServer(engine, tmp_path / "s")
            ending = asyncio.create_task(server.run(asyncio.Event()))
            call = asyncio.create_task(client.classify("ann", "latest", [b"x"], 1))
            await until(lambda: engine.asked)
            ending.cancel()
            server.drop_clients()
            with pytest.raises(ModelLoading) as told:
                await asyncio.wait_for(call, 5)
            assert told.value.retry_after_s

    run(test())


def test_what_an_engine_does_not_take_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        engine = ToyEngine()
        async with served(engine, tmp_path / "s"), connected(tmp_path / "s") as client:
            await until(lambda: state_of(client) == "ok")
            monkeypatch.setattr(MessageProtocol, "unsent_bytes", engine_client.MAX_UNSENT_BYTES + 1)
            with pytest.raises(PredictQueueFull):
                await client.classify("ann", "latest", [b"x"], 1)
            assert not engine.asked

    run(test())
