"""Signing in and out, as a browser does it."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from pydantic import SecretStr

from tests.api.served import Served, error_of, png

Serve = Callable[..., Served]
KEY = "0123456789abcdef0123"


@pytest.fixture
def locked(serve: Serve) -> Served:
    return serve(admin_key=SecretStr(KEY))


def sign_in(served: Served, key: str = KEY, **headers: str) -> httpx.Response:
    return served.http.post("/session", json={"key": key}, headers=headers)


def test_a_browser_signs_in_once_and_its_cookie_opens_everything(locked: Served) -> None:
    error_of(locked.http.get("/session"), 401, "unauthenticated")
    answer = sign_in(locked)
    assert (answer.status_code, answer.content) == (204, b"")
    assert KEY not in str(answer.headers)
    me = locked.http.get("/session").json()
    assert (me["owner"], me["key_prefix"], me["scopes"]) == ("local", None, ["admin", "predict", "read", "train"])
    left = datetime.fromisoformat(me["expires_at"]) - datetime.now(UTC)
    assert timedelta(hours=11, minutes=59) < left <= timedelta(hours=12)
    assert locked.http.get("/jobs").status_code == 200
    made = locked.http.post("/jobs", json={"dataset": "digits"}, headers={"Origin": locked.url})
    assert made.status_code == 202
    stream = {"Accept": "text/event-stream"}
    with locked.http.stream("GET", f"/jobs/{made.json()['id']}/events", headers=stream) as events:
        assert events.status_code == 200


def test_the_cookie_is_kept_from_scripts_and_from_other_sites(locked: Served) -> None:
    cookie = sign_in(locked).headers["set-cookie"].lower()
    assert re.match(r"trainyard_session_[0-9a-f]{8}=[\w.-]+; ", cookie)
    assert {"httponly", "samesite=strict", "max-age=43200"} <= set(cookie.split("; "))
    assert "path=" not in cookie, "the browser takes the folder of the address, with a proxy's prefix"
    assert "domain=" not in cookie
    assert "secure" not in cookie, "or a browser would not send it over plain http"


@pytest.mark.parametrize(
    "headers", [{"X-Forwarded-Proto": "https"}, {"Origin": "https://yard.lan", "Host": "yard.lan"}]
)
def test_it_travels_only_encrypted_where_the_page_did(locked: Served, headers: dict[str, str]) -> None:
    assert "; secure" in sign_in(locked, **headers).headers["set-cookie"].lower()


def test_signing_out_removes_the_cookie(locked: Served) -> None:
    sign_in(locked)
    answer = locked.http.delete("/session")
    assert answer.status_code == 204
    assert "max-age=0" in answer.headers["set-cookie"].lower()
    assert not locked.http.cookies
    error_of(locked.http.get("/jobs"), 401, "unauthenticated")
    assert locked.http.delete("/session").status_code == 204, "also without one"


@pytest.mark.parametrize("key", ["wrong", "", "x" * 100_000, "ty_0123456789ab_" + "x" * 43, "é", KEY + "\n\0"])
def test_a_wrong_key_signs_nobody_in(locked: Served, key: str) -> None:
    answer = locked.http.post("/session", content=f'{{"key": {ascii_json(key)}}}', headers=JSON)
    error_of(answer, 401, "unauthenticated")
    assert "set-cookie" not in answer.headers


JSON = {"Content-Type": "application/json"}
SECRET = "s3cr3t-0123456789abcdef"


@pytest.mark.parametrize(
    "body",
    [f'"{SECRET}"', f'["{SECRET}"]', f'{{"key": ["{SECRET}"]}}', f'{{"key": {{"a": "{SECRET}"}}}}',
     f'{{"key": "{SECRET}', '{"key": "\\ud800"}', '{"key": 31415926535897932384}', f'{{"key": "{SECRET}", "more": 1}}'],
)  # fmt: skip
def test_no_refusal_and_no_log_repeats_a_key(locked: Served, caplog: pytest.LogCaptureFixture, body: str) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.WARNING, logger="httpcore")  # the test's own client
    answer = locked.http.post("/session", content=body, headers=JSON)
    assert answer.status_code in {400, 401, 422}
    locked.http.get("/jobs", headers={"Authorization": f"Bearer {SECRET}"})
    sign_in(locked)
    for text in (answer.text, caplog.text):
        assert SECRET not in text
        assert KEY not in text
        assert "31415926535897932384" not in text
    assert locked.http.cookies
    assert all(value not in caplog.text for value in locked.http.cookies.values())


def test_no_page_of_another_site_signs_anybody_in_or_out(locked: Served) -> None:
    foreign = {"Origin": "https://evil.example"}
    error_of(sign_in(locked, **foreign), 403, "cross_site_refused")
    error_of(locked.http.delete("/session", headers={"Sec-Fetch-Site": "cross-site"}), 403, "cross_site_refused")


def test_a_cookie_writes_nothing_for_a_page_of_another_site(locked: Served) -> None:
    """`SameSite` keeps it back already; a page on another port of this host is the same site."""
    sign_in(locked)
    for headers in ({"Origin": "http://127.0.0.1:1"}, {"Sec-Fetch-Site": "same-site"}):
        answer = locked.http.post("/jobs", json={"dataset": "digits"}, headers=headers)
        error_of(answer, 403, "cross_site_refused")


def test_the_cookie_of_another_yard_opens_nothing(locked: Served, tmp_path_factory: pytest.TempPathFactory) -> None:
    sign_in(locked)
    [(name, value)] = locked.http.cookies.items()
    for changed in (value[:-4] + "AAAA", value[1:], "W10." + value.partition(".")[2]):
        fresh = httpx.get(f"{locked.url}/jobs", headers={"Cookie": f"{name}={changed}"}, trust_env=False)
        error_of(fresh, 401, "unauthenticated")


def test_the_body_of_a_request_with_a_wrong_cookie_is_not_read(locked: Served) -> None:
    headers = {"Cookie": "trainyard_session_00000000=x", "Content-Type": "image/png"}
    answer = httpx.post(f"{locked.url}/predict", content=png(), headers=headers, trust_env=False)
    error_of(answer, 401, "unauthenticated")
    assert answer.headers["connection"] == "close"


def test_a_yard_without_a_key_says_so(served: Served) -> None:
    me = served.http.get("/session").json()
    assert me == {
        "owner": "local",
        "key_prefix": None,
        "scopes": ["admin", "predict", "read", "train"],
        "expires_at": None,
    }
    assert "no key" in error_of(sign_in(served), 409, "conflict")["message"]
    assert served.http.delete("/session").status_code == 204


def ascii_json(text: str) -> str:
    return '"' + "".join(f"\\u{ord(letter):04x}" for letter in text) + '"'
