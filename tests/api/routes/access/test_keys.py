"""Keys by HTTP: made, shown once, listed, revoked; and what a revoked one still can do: nothing."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from tests.api.keyed import ADMIN_KEY, ALL_BUT_ADMIN, WITH_KEYS, add_key, as_administrator, client_for, client_of
from tests.api.served import Served, error_of, wait_until
from tests.api.tus import PATCH, TUS
from trainyard.access.scopes import Scope
from trainyard.client import Client, NotAllowed
from trainyard.database.tables import JobEvent

Serve = Callable[..., Served]
STREAM = {"Accept": "text/event-stream"}


@pytest.fixture
def locked(serve: Serve) -> Served:
    return as_administrator(serve(**WITH_KEYS))


def make(served: Served, **body: Any) -> dict[str, Any]:
    answer = served.http.post("/keys", json=body)
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    made: dict[str, Any] = answer.json()
    return made


def revoke(served: Served, key_id: str) -> None:
    assert served.http.delete(f"/keys/{key_id}").status_code == 204


def test_a_key_is_shown_once_and_acts_for_its_owner(locked: Served) -> None:
    made = make(locked, owner="ada", name="laptop", scopes=["train", "read"])
    assert (made["object"], made["owner"], made["name"], made["scopes"]) == ("key", "ada", "laptop", ["read", "train"])
    assert made["key"].startswith(made["prefix"] + "_")
    with client_of(locked, made["key"]) as ada:
        me = ada.get("/session").json()
        assert me == {"owner": "ada", "key_prefix": made["prefix"], "scopes": ["read", "train"], "expires_at": None}
        assert ada.post("/jobs", json={"dataset": "digits"}).json()["owner"] == "ada"
    listed = locked.http.get("/keys")
    assert made["key"] not in listed.text
    [found] = listed.json()["data"]
    assert found == {name: value for name, value in made.items() if name != "key"} | {
        "last_used_at": found["last_used_at"]
    }


def test_the_defaults_are_the_caller_s_owner_and_everything_but_administration(locked: Served) -> None:
    made = make(locked)
    assert (made["owner"], made["scopes"], made["name"], made["last_used_at"]) == (
        "local", ["predict", "read", "train"], None, None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("body", "param"),
    [({"owner": ""}, "owner"), ({"owner": "Ada"}, "owner"), ({"owner": "a b"}, "owner"), ({"owner": "a\n"}, "owner"),
     ({"owner": "../x"}, "owner"), ({"owner": "x" * 65}, "owner"), ({"owner": 1}, "owner"), ({"scopes": []}, "scopes"),
     ({"scopes": ["root"]}, "scopes.0"), ({"scopes": "read"}, "scopes"), ({"scopes": ["read"] * 5}, "scopes"),
     ({"name": "a\u0000"}, "name"), ({"name": ""}, "name"), ({"key": "mine"}, "key"), ({"id": "key_1"}, "id")],
)  # fmt: skip
def test_what_is_wrong_is_named(locked: Served, body: dict[str, Any], param: str) -> None:
    assert error_of(locked.http.post("/keys", json=body), 422, "invalid_request")["param"] == param
    assert locked.http.get("/keys").json()["data"] == []


def test_an_administrator_s_key_makes_and_revokes_keys_and_others_do_not(locked: Served) -> None:
    with client_for(locked, "ada", Scope.ADMIN) as admin:
        made = admin.post("/keys", json={"owner": "bob"}).json()
        assert admin.get("/keys").json()["data"][0]["id"] == made["id"]
        assert admin.delete(f"/keys/{made['id']}").status_code == 204
        error_of(admin.delete(f"/keys/{made['id']}"), 404, "key_not_found")
    with client_for(locked, "ada", *ALL_BUT_ADMIN) as other:
        for answer in (
            other.get("/keys"),
            other.post("/keys", json={"scopes": ["admin"]}),
            other.delete("/keys/key_0"),
        ):
            error_of(answer, 403, "scope_missing")


def test_an_unknown_key_s_id_is_named(locked: Served) -> None:
    for key_id in ("key_0", "%00", "x" * 300, ADMIN_KEY):
        error = error_of(locked.http.delete(f"/keys/{key_id}"), 404, "key_not_found")
        assert error["param"] == "key_id"
        assert ADMIN_KEY not in str(error)


def test_the_list_has_pages(locked: Served) -> None:
    made = [make(locked, owner=f"o{number}")["id"] for number in range(3)]
    page = locked.http.get("/keys?limit=2").json()
    assert ([key["id"] for key in page["data"]], page["has_more"]) == (made[:0:-1], True)
    rest = locked.http.get("/keys", params={"after": page["last_id"]}).json()
    assert [key["id"] for key in rest["data"]] == made[:1]


def test_the_last_use_is_shown(locked: Served) -> None:
    made = make(locked)
    with client_of(locked, made["key"]) as client:
        client.get("/jobs")
    wait_until(lambda: locked.http.get("/keys").json()["data"][0]["last_used_at"] is not None)


class TestRevocation:
    def test_this_process_refuses_it_at_once(self, locked: Served) -> None:
        key_id, text = add_key(locked, "ada")
        with client_of(locked, text) as ada:
            assert ada.get("/jobs").status_code == 200
            revoke(locked, key_id)
            error_of(ada.get("/jobs"), 401, "unauthenticated")

    def test_every_other_process_refuses_it_within_a_second(self, serve: Serve) -> None:
        """Two servers on one database, and a client that never pauses."""
        first, second = as_administrator(serve(**WITH_KEYS)), serve(**WITH_KEYS)
        key_id, text = add_key(first, "ada")
        with client_of(second, text) as ada:
            assert ada.get("/jobs").status_code == 200
            revoke(first, key_id)
            began = time.monotonic()
            while ada.get("/session").status_code == 200:
                assert time.monotonic() < began + 1
            assert ada.get("/jobs").status_code == 401

    def test_who_revokes_the_key_in_use_is_told_that_it_is_done(self, locked: Served) -> None:
        made = make(locked, scopes=["admin"])
        with client_of(locked, made["key"]) as own:
            assert own.delete(f"/keys/{made['id']}").status_code == 204
            error_of(own.get("/keys"), 401, "unauthenticated")

    def test_its_sessions_end_too(self, locked: Served) -> None:
        key_id, text = add_key(locked, "ada")
        with client_of(locked, None) as browser:
            assert browser.post("/session", json={"key": text}).status_code == 204
            assert browser.get("/session").json()["owner"] == "ada"
            revoke(locked, key_id)
            error_of(browser.get("/session"), 401, "unauthenticated")

    def test_a_stream_of_events_ends_before_its_next_event(self, locked: Served) -> None:
        key_id, text = add_key(locked, "ada")
        with client_of(locked, text) as ada:
            job_id = ada.post("/jobs", json={"dataset": "digits"}).json()["id"]
            with ada.stream("GET", f"/jobs/{job_id}/events", headers=STREAM) as events:
                lines = events.iter_lines()
                assert next(lines)
                revoke(locked, key_id)
                with client_for(locked, "ada") as other:
                    assert other.post(f"/jobs/{job_id}/cancel").status_code == 202
                assert "cancelled" not in "".join(lines)  # and it ends without an error

    def test_an_upload_that_is_being_sent_ends(self, locked: Served) -> None:
        key_id, text = add_key(locked, "ada")
        with client_of(locked, text) as ada:
            size = 4 * 2**20
            path = ada.post("/uploads", headers=TUS | {"Upload-Length": str(size)}).headers["location"]
            half = threading.Event()

            def body() -> Iterator[bytes]:
                yield b"x" * (size // 2)
                half.wait(10)
                yield b"x" * (size // 2)

            def revoke_at_half() -> None:
                time.sleep(0.3)
                revoke(locked, key_id)
                half.set()

            thread = threading.Thread(target=revoke_at_half)
            thread.start()
            try:
                answer = ada.patch(path, content=body(), headers=PATCH | {"Upload-Offset": "0"})
                assert answer.status_code == 401, answer.text
            except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
                pass  # the server has closed the connection while the client was still sending
            finally:
                thread.join()
        with client_for(locked, "ada") as other:
            offset = int(other.head(path, headers=TUS).headers["upload-offset"])
            assert offset < size, "what came before may stay"

    def test_its_owner_s_work_stays(self, locked: Served) -> None:
        key_id, text = add_key(locked, "ada")
        with client_of(locked, text) as ada:
            job_id = ada.post("/jobs", json={"dataset": "digits"}).json()["id"]
        revoke(locked, key_id)
        with client_for(locked, "ada") as other:
            assert other.get(f"/jobs/{job_id}").status_code == 200


def test_no_key_stands_in_a_log_an_event_or_an_answer(locked: Served, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.WARNING, logger="httpcore")  # the tests' own client
    made = make(locked, owner="ada")
    secret = made["key"][len(made["prefix"]) + 1 :]
    answers = []
    with client_of(locked, made["key"]) as ada:
        job_id = ada.post("/jobs", json={"dataset": "digits"}).json()["id"]
        for path in (
            f"/jobs/{job_id}",
            f"/jobs/{job_id}/events",
            "/session",
            "/jobs/nothing",
            "/keys",
            "/nothing",
            "/v2",
        ):
            answer = ada.get(path)
            answers.append(answer.text + str(answer.headers))
        answers.append(ada.post("/jobs", content="{", headers={"Content-Type": "application/json"}).text)
        answers.append(ada.post("/session", json={"key": made["key"], "more": made["key"]}).text)
        cookie = str(ada.post("/session", json={"key": made["key"]}).headers["set-cookie"])
        answers.append(cookie)
    answers.append(locked.http.get("/metrics").text)
    with locked.database.reading() as session:
        answers.append(str([vars(event) for event in session.scalars(select(JobEvent))]))
    for text in (*answers, caplog.text):
        assert secret not in text
        assert ADMIN_KEY not in text
    assert cookie.partition("=")[2].partition(";")[0] not in caplog.text


def test_a_key_in_the_address_is_no_key(locked: Served) -> None:
    """An address stands in logs, in histories and in `Referer`."""
    _, text = add_key(locked, "ada")
    with client_of(locked, None) as client:
        for query in (f"?key={text}", f"?access_token={text}", f"?token={ADMIN_KEY}"):
            error_of(client.get(f"/jobs{query}"), 401, "unauthenticated")


def test_a_yard_without_a_key_can_prepare_some(served: Served) -> None:
    made = make(served, owner="ada")
    with client_of(served, made["key"]) as client:
        assert client.get("/session").json()["owner"] == "local", "nobody is asked for a key here"


def test_the_client_makes_lists_and_revokes_keys(locked: Served) -> None:
    with Client(locked.url, key=ADMIN_KEY) as client:
        made = client.create_key(owner="ada", name="camera", scopes=("predict",))
        assert (made.owner, made.scopes, client.create_key().scopes) == (
            "ada",
            ["predict"],
            ["predict", "read", "train"],
        )
        assert {key.id for key in client.iter_keys()} >= {made.id}
        assert all("key" not in key for key in client.iter_keys())
        with Client(locked.url, key=made.key) as camera, pytest.raises(NotAllowed, match="scope_missing"):
            camera.create_key()
        client.revoke_key(made.id)
        assert made.id not in {key.id for key in client.iter_keys()}
