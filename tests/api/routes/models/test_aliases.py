"""Aliases over HTTP: a move is answered at once, or not made."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.api.aliased import PNG, Three, look, predict, put
from tests.api.served import FakeRuntime, Served, error_of, png, wait_until
from trainyard.client import Client
from trainyard.client.errors import ApiError


class TestMoves:
    def test_an_alias_is_made_moved_and_answered_at_once(self, three: Three) -> None:
        served, job_id, (first, second, _) = three
        made = put(served, {"checkpoint": first}, 201)
        assert (made["object"], made["name"], made["version"]) == ("alias", "production", 1)
        assert (made["checkpoint"], made["job"], made["epoch"], made["weights_sha256"]) == (first, job_id, 1, "a" * 64)
        assert (made["canary"], made["shadow"], made["previous"], made["moved_by"]) == (None, None, None, "local")
        assert predict(served)["model"] == {
            "checkpoint": first, "job": job_id, "epoch": 1, "weights_sha256": "a" * 64, "alias": "production",
            "version": 1, "side": None,
        }  # fmt: skip
        moved = put(served, {"checkpoint": second})
        assert (moved["version"], moved["checkpoint"], moved["previous"]) == (2, second, first)
        model = predict(served)["model"]
        assert (model["checkpoint"], model["version"]) == (second, 2)
        assert put(served, {"checkpoint": second})["version"] == 2, "repeating a move changes nothing"

    def test_a_checkpoint_may_be_named_as_predict_does(self, three: Three) -> None:
        served, job_id, (first, _, third) = three
        assert put(served, {"checkpoint": f"{job_id}@latest"}, 201)["checkpoint"] == third
        assert put(served, {"checkpoint": "latest"})["version"] == 1, "the same checkpoint by another reference"
        put(served, {"checkpoint": first}, 201, "other")
        assert put(served, {"checkpoint": "other"})["checkpoint"] == first

    def test_lists_are_by_name_in_pages(self, three: Three) -> None:
        served, _, (first, *_) = three
        for name in ("b", "a", "c"):
            put(served, {"checkpoint": first}, 201, name)
        page = served.http.get("/aliases?limit=2").json()
        assert ([it["name"] for it in page["data"]], page["has_more"], page["last_id"]) == (["a", "b"], True, "b")
        page = served.http.get("/aliases?limit=2&after=b").json()
        assert ([it["name"] for it in page["data"]], page["has_more"]) == (["c"], False)

    def test_history_names_who_when_and_by_which_request(self, three: Three) -> None:
        served, _, (first, second, third) = three
        put(served, {"checkpoint": first}, 201)
        served.http.put(
            "/aliases/production",
            json={"checkpoint": second, "canary": {"checkpoint": third, "share": 0.5}},
            headers={"X-Request-ID": "deploy-12345678"},
        )
        assert served.http.delete("/aliases/production").status_code == 204
        page = served.http.get("/aliases/production/history").json()
        assert [(it["version"], it["action"], it["checkpoint"]) for it in page["data"]] == [
            (3, "delete", None), (2, "move", second), (1, "move", first)
        ]  # fmt: skip
        move = page["data"][1]
        assert (move["canary"], move["canary_share"], move["moved_by"]) == (third, 0.5, "local")
        assert move["request_id"] == "deploy-12345678"
        assert move["at"].endswith("Z")
        older = served.http.get("/aliases/production/history?limit=1&after=3").json()
        assert ([it["version"] for it in older["data"]], older["has_more"]) == ([2], True)

    def test_a_deleted_alias_is_not_answered_and_its_version_goes_on(self, three: Three) -> None:
        served, _, (first, second, _) = three
        put(served, {"checkpoint": first}, 201)
        predict(served)
        assert served.http.delete("/aliases/production").status_code == 204
        error_of(served.http.post("/predict?model=production", content=png(), headers=PNG), 404, "alias_not_found")
        error_of(served.http.delete("/aliases/production"), 404, "alias_not_found")
        assert put(served, {"checkpoint": second}, 201)["version"] == 3

    def test_rollback_goes_back_and_ends_a_canary_first(self, three: Three) -> None:
        served, _, (first, second, third) = three
        put(served, {"checkpoint": first}, 201)
        put(served, {"checkpoint": second})
        put(served, {"checkpoint": second, "canary": {"checkpoint": third, "share": 0.5}})
        back = served.http.post("/aliases/production/rollback").json()
        assert (back["checkpoint"], back["canary"], back["version"]) == (second, None, 4)
        assert served.http.post("/aliases/production/rollback", json={}).json()["checkpoint"] == first
        assert predict(served)["model"]["checkpoint"] == first
        error_of(served.http.post("/aliases/production/rollback"), 409, "nothing_to_roll_back_to")
        again = served.http.post("/aliases/production/rollback", json={"version": 2}).json()
        assert (again["checkpoint"], again["version"]) == (second, 6)
        [newest, *_] = served.http.get("/aliases/production/history").json()["data"]
        assert (newest["action"], newest["restored_version"]) == ("rollback", 2)

    def test_a_wrong_request_is_refused(self, three: Three) -> None:
        served, _, (first, second, _) = three
        right = {"checkpoint": first}
        for name, body, status, code, param in [
            ("latest", right, 422, "invalid_request", "name"),
            ("job_0", right, 422, "invalid_request", "name"),
            ("Production", right, 422, "invalid_request", "name"),
            ("p", {}, 422, "invalid_request", "checkpoint"),
            ("p", right | {"colour": 1}, 422, "invalid_request", "colour"),
            ("p", {"checkpoint": "ckpt_0"}, 404, "checkpoint_not_found", "checkpoint"),
            ("p", {"checkpoint": "job_0"}, 404, "job_not_found", "checkpoint"),
            ("p", {"checkpoint": "other"}, 404, "alias_not_found", "checkpoint"),
            ("p", right | {"shadow": "ckpt_0"}, 404, "checkpoint_not_found", "shadow"),
            ("p", right | {"shadow": first}, 422, "invalid_request", "shadow"),
            ("p", right | {"canary": {"checkpoint": second}}, 422, "invalid_request", "canary.share"),
            *(
                (
                    "p",
                    right | {"canary": {"checkpoint": second, "share": share}},
                    422,
                    "invalid_request",
                    "canary.share",
                )
                for share in (0, 1, -0.5, 1.5, "half", None)
            ),
        ]:
            refused = error_of(served.http.put(f"/aliases/{name}", json=body), status, code)
            assert refused["param"] == param, body
            error_of(served.http.get(f"/aliases/{name}"), 404, "alias_not_found")


class TestNothingIsMoved:
    """If a checkpoint can't answer."""

    @pytest.fixture
    def served_first(self, three: Three) -> tuple[Served, str, str]:
        served, job_id, (first, *_) = three
        put(served, {"checkpoint": first}, 201)
        return served, job_id, first

    def refused(self, served: Served, first: str, body: dict[str, Any], status: int, code: str) -> dict[str, Any]:
        error = error_of(served.http.put("/aliases/production", json=body), status, code)
        assert (look(served)["version"], look(served)["checkpoint"]) == (1, first)
        assert predict(served)["model"]["checkpoint"] == first
        return error

    @pytest.mark.parametrize("part", ["checkpoint", "canary", "shadow"])
    def test_one_is_damaged(self, served_first: tuple[Served, str, str], part: str) -> None:
        served, job_id, first = served_first
        broken = served.add_checkpoint(job_id, 4, damaged=True, keep_latest=9).id
        body: dict[str, Any] = {"checkpoint": first} | {
            part: {"checkpoint": broken, "share": 0.5} if part == "canary" else broken
        }
        error = self.refused(served, first, body, 409, "checkpoint_unusable")
        assert error["param"] == ("canary.checkpoint" if part == "canary" else part)
        assert broken in error["message"]
        assert "damaged" in error["message"]

    @pytest.mark.parametrize(("nature", "reason"), [("numberless", "no numbers"), ("failing", "it can't compute")])
    def test_one_computes_nothing_of_use(self, served_first: tuple[Served, str, str], nature: str, reason: str) -> None:
        served, job_id, first = served_first
        useless = served.add_checkpoint(job_id, 4, nature=nature, keep_latest=9).id
        error = self.refused(served, first, {"checkpoint": useless}, 409, "checkpoint_unusable")
        assert reason in error["message"]

    def test_one_can_not_be_read_just_now(self, served_first: tuple[Served, str, str], runtime: FakeRuntime) -> None:
        served, job_id, first = served_first
        runtime.trouble = OSError(24, "Too many open files")
        newer = served.add_checkpoint(job_id, 4, keep_latest=9).id
        self.refused(served, first, {"checkpoint": newer}, 503, "model_loading")
        runtime.trouble = None
        assert put(served, {"checkpoint": newer})["checkpoint"] == newer

    def test_one_loads_for_too_long_and_the_old_one_answers_meanwhile(
        self, serve: Callable[..., Served], runtime: FakeRuntime
    ) -> None:
        served = serve(model_wait_s=0.3)
        job_id = served.add_job()
        first = served.add_checkpoint(job_id, 1, keep_latest=9).id
        wait_until(lambda: served.http.get("/readyz").json()["model"] == "ok")
        put(served, {"checkpoint": first}, 201)
        runtime.load_gate = threading.Event()
        second = served.add_checkpoint(job_id, 2, keep_latest=9).id
        response = served.http.put("/aliases/production", json={"checkpoint": second})
        assert error_of(response, 503, "model_loading")["param"] == "checkpoint"
        assert response.headers["retry-after"]
        assert predict(served)["model"]["checkpoint"] == first
        runtime.load_gate.set()

        def moves() -> bool:
            return served.http.put("/aliases/production", json={"checkpoint": second}).status_code == 200

        wait_until(moves)
        assert predict(served)["model"]["checkpoint"] == second


def test_under_moves_every_request_is_answered_and_no_version_goes_back(
    serve: Callable[..., Served], runtime: FakeRuntime
) -> None:
    served = serve(max_loaded_models=2)
    job_id = served.add_job()
    checkpoints = {served.add_checkpoint(job_id, epoch, keep_latest=9).id: epoch for epoch in (1, 2, 3)}
    ids = list(checkpoints)
    put(served, {"checkpoint": ids[0]}, 201)
    done = threading.Event()
    bad: list[str] = []
    asked = [0]

    def ask() -> None:
        newest = 0
        with httpx.Client(base_url=served.url, timeout=20, trust_env=False) as http:
            while not done.is_set():
                response = http.post("/predict?model=production", content=png(), headers=PNG)
                asked[0] += 1
                model = response.json().get("model") if response.status_code == 200 else None
                if model is None or model["version"] < newest or checkpoints[model["checkpoint"]] != model["epoch"]:
                    bad.append(response.text)
                    return
                newest = model["version"]

    with ThreadPoolExecutor(3) as pool:
        askers = [pool.submit(ask) for _ in range(3)]
        for number in range(1, 15):
            moved = put(served, {"checkpoint": ids[number % 3]})
            model = predict(served)["model"]
            assert (model["version"], model["checkpoint"]) == (moved["version"], ids[number % 3])
        done.set()
        for asker in askers:
            asker.result()
    assert not bad, bad[0]
    assert asked[0] > 15


def test_the_client_moves_looks_and_rolls_back(three: Three) -> None:
    served, _, (first, second, third) = three
    with Client(served.url) as client:
        assert client.put_alias("production", first)["version"] == 1
        moved = client.put_alias("production", first, canary=second, share=0.5, shadow=third)
        assert (moved["canary"]["share"], moved["shadow"]["checkpoint"]) == (0.5, third)
        sides = {client.predict(png(), model="production", sticky="me")["model"]["side"] for _ in range(8)}
        assert len(sides) == 1
        assert [it["name"] for it in client.list_aliases()] == ["production"]
        assert client.roll_back_alias("production")["canary"] is None
        assert client.roll_back_alias("production", version=2)["version"] == 3, "that is what it names already"
        assert [it["version"] for it in client.list_alias_moves("production")] == [3, 2, 1]
        assert client.get_alias("production")["checkpoint"] == first
        client.delete_alias("production")
        with pytest.raises(ApiError, match="alias_not_found"):
            client.get_alias("production")
