"""Which model answers: a canary gets its share, and the same client the same side."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from api.serving.alias_table import Entry
from api.serving.resolution import choose_side
from tests.api.aliased import PNG, Three, look, predict, put
from tests.api.served import FakeRuntime, Served, error_of, png, wait_until
from trainyard.states import Side


class TestCanary:
    def test_gets_its_share_and_each_side_is_counted(self, three: Three) -> None:
        served, _, (first, second, _) = three
        body = {"checkpoint": first, "canary": {"checkpoint": second, "share": 0.3}}
        made = put(served, body, 201)
        assert (made["canary"]["checkpoint"], made["canary"]["epoch"], made["canary"]["share"]) == (second, 2, 0.3)
        answers = [predict(served)["model"] for _ in range(200)]
        by_side = {side: [it for it in answers if it["side"] == side] for side in ("stable", "canary")}
        assert {it["checkpoint"] for it in by_side["canary"]} == {second}
        assert {it["checkpoint"] for it in by_side["stable"]} == {first}
        assert 25 <= len(by_side["canary"]) <= 100, "60 expected; outside this once in ten million runs"
        wait_until(lambda: look(served)["counts"]["canary"]["answers"] == len(by_side["canary"]))
        counts = look(served)["counts"]
        assert counts["stable"]["answers"] == len(by_side["stable"])
        assert counts["stable"]["errors"] == counts["canary"]["errors"] == 0
        assert 0 < counts["canary"]["p50_ms"] <= counts["canary"]["p99_ms"]
        assert counts["shadow"] is None
        put(served, {"checkpoint": first})
        assert look(served)["counts"]["stable"]["answers"] == 0, "a move begins a new count"

    def test_the_same_text_gets_the_same_side_also_when_the_share_rises(self, three: Three) -> None:
        served, _, (first, second, _) = three

        put(served, {"checkpoint": first}, 201)
        few = self._sides(served, first, second, 0.2)
        assert self._sides(served, first, second, 0.2) == few
        assert set(few.values()) == {"stable", "canary"}
        more = self._sides(served, first, second, 0.6)
        assert {user for user, side in few.items() if side == "canary"} < {
            user for user, side in more.items() if side == "canary"
        }
        for refused in ("", "x" * 201):
            sent = PNG | {"X-Trainyard-Sticky": refused}
            response = served.http.post("/predict?model=production", content=png(), headers=sent)
            error_of(response, 422, "invalid_request")

    def _sides(self, served: Served, first: str, second: str, share: float) -> dict[str, str]:
        put(served, {"checkpoint": first, "canary": {"checkpoint": second, "share": share}})
        return {
            user: predict(served, X_Trainyard_Sticky=user)["model"]["side"] for user in map("user-{}".format, range(60))
        }

    def test_that_begins_to_fail_is_counted_and_a_bad_image_is_not(
        self, three: Three, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        served, _, (first, second, _) = three
        put(served, {"checkpoint": first, "canary": {"checkpoint": second, "share": 0.5}}, 201)
        canary = served.app.state.services.engine._loader.find(second)
        monkeypatch.setattr(canary.model, "_manifest", "failing")
        statuses: dict[str, int] = {}
        for number in range(40):
            sent = PNG | {"X-Trainyard-Sticky": f"user-{number}"}
            response = served.http.post("/predict?model=production", content=png(), headers=sent)
            statuses[f"user-{number}"] = response.status_code
        failed = list(statuses.values()).count(500)
        assert 0 < failed < 40
        error_of(served.http.post("/predict?model=production", content=b"text", headers=PNG), 415, "image_format_unsupported")  # fmt: skip  # noqa: E501
        wait_until(lambda: look(served)["counts"]["canary"]["errors"] == failed)
        counts = look(served)["counts"]
        assert (counts["canary"]["answers"], counts["stable"]["errors"]) == (0, 0)
        assert counts["stable"]["answers"] == 40 - failed

    def test_that_is_not_loaded_lets_the_stable_one_answer(self, three: Three, runtime: FakeRuntime) -> None:
        served, _, (first, second, _) = three
        put(served, {"checkpoint": first, "canary": {"checkpoint": second, "share": 0.999}}, 201)
        loader = served.app.state.services.engine._loader
        runtime.load_gate = threading.Event()
        del loader._loaded[second]
        answers = [predict(served)["model"] for _ in range(10)]
        assert {(it["checkpoint"], it["side"]) for it in answers} == {(first, "stable")}
        runtime.load_gate.set()
        wait_until(lambda: predict(served)["model"]["side"] == "canary")
        wait_until(lambda: look(served)["counts"]["canary"]["errors"] >= 9)


def entry(share: float, *, canary: str = "ckpt_b", name: str = "production") -> Entry:
    return Entry("local", name, 1, "ckpt_a", canary, share, None)


def test_by_chance_and_by_text_a_canary_gets_its_share() -> None:
    for texts in ([None] * 20_000, [f"user-{number}" for number in range(20_000)]):
        canary = [choose_side(entry(0.1), text) for text in texts].count(Side.CANARY)
        assert 1_800 <= canary <= 2_200, "2,000 expected, with a standard deviation of 42"


def test_the_users_of_one_canary_are_not_those_of_the_next() -> None:
    users = [f"user-{number}" for number in range(2_000)]

    def guests(it: Entry) -> set[str]:
        return {user for user in users if choose_side(it, user) is Side.CANARY}

    first = guests(entry(0.5))
    assert guests(entry(0.25)) < first < guests(entry(0.75))
    for other in (guests(entry(0.5, canary="ckpt_c")), guests(entry(0.5, name="staging"))):
        assert 300 <= len(first & other) <= 700, "half of them, by chance"
    assert choose_side(Entry("local", "production", 1, "ckpt_a", None, 0.0, None), "user-1") is Side.STABLE


def test_requests_for_models_that_are_not_loaded_leave_places_for_the_others(
    serve: Callable[..., Served], runtime: FakeRuntime
) -> None:
    served = serve(max_queued_predictions=8, model_wait_s=60)  # two of the eight may wait for a model
    job_id = served.add_job()
    older, newest = (served.add_checkpoint(job_id, epoch).id for epoch in (1, 2))
    assert predict(served, "latest")["model"]["checkpoint"] == newest
    runtime.load_gate = threading.Event()
    with ThreadPoolExecutor(10) as clients:
        asked = [clients.submit(ask_for, served, older) for _ in range(10)]
        wait_until(lambda: sum(one.done() for one in asked) == 8)
        for refused in [one.result() for one in asked if one.done()]:
            error_of(refused, 503, "model_loading")
            assert refused.headers["retry-after"] == "2"
        assert predict(served, "latest")["model"]["checkpoint"] == newest
        runtime.load_gate.set()
        assert [one.result().status_code for one in asked].count(200) == 2
    assert predict(served, older)["model"]["checkpoint"] == older


def ask_for(served: Served, model: str) -> httpx.Response:
    return served.http.post(f"/predict?model={model}", content=png(), headers=PNG)


def test_all_wait_for_latest(serve: Callable[..., Served], runtime: FakeRuntime) -> None:
    runtime.load_gate = threading.Event()
    served = serve(max_queued_predictions=8, model_wait_s=60)
    newest = served.add_checkpoint(served.add_job(), 1).id
    with ThreadPoolExecutor(8) as clients:
        asked = [clients.submit(predict, served, "latest") for _ in range(8)]
        wait_until(lambda: not served.door.admission.has_place)
        runtime.load_gate.set()
        assert {one.result()["model"]["checkpoint"] for one in asked} == {newest}
