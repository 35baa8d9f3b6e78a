"""What a page of another site can and can't do, and that programs notice nothing."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
from pydantic import SecretStr

from api.http.sites import is_loopback, place_of
from tests.api.served import Served, error_of
from trainyard.client import Client

Serve = Callable[..., Served]
KEY = "0123456789abcdef0123"
BODY = {"dataset": "digits"}


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("path", ["/jobs", "/jobs/job_0/cancel", "/predict"])
def test_a_write_of_another_site_s_page_is_refused(served: Served, site: str, path: str) -> None:
    response = served.http.post(path, headers={"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"})
    error_of(response, 403, "cross_site_refused")
    assert response.headers["connection"] == "close"


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://127.0.0.1:1", "http://localhost", "http://127.0.0.1.evil.example", "http://["],
)  # fmt: skip
def test_a_write_with_a_foreign_origin_is_refused(served: Served, origin: str) -> None:
    error = error_of(served.http.post("/jobs", json=BODY, headers={"Origin": origin}), 403, "cross_site_refused")
    assert error["param"] == "Origin"
    assert served.http.get("/jobs").json()["data"] == []


def test_a_delete_is_a_write_and_a_look_is_none(served: Served) -> None:
    foreign = {"Origin": "https://evil.example"}
    error_of(served.http.delete("/jobs/job_0", headers=foreign), 403, "cross_site_refused")
    answer = served.http.get("/jobs", headers=foreign | {"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 200  # the browser shows it to nobody: no header allows that
    assert "access-control-allow-origin" not in answer.headers


def test_the_yard_s_own_page_may_write(served: Served) -> None:
    own = f"http://127.0.0.1:{served.port}"
    for headers in (
        {"Origin": own},
        {"Origin": own, "Sec-Fetch-Site": "same-origin"},
        {"Origin": own, "Sec-Fetch-Site": "none"},
    ):
        assert served.http.post("/jobs", json=BODY, headers=headers).status_code == 202


def test_behind_a_proxy_with_tls_the_page_s_own_writes_pass(serve: Serve) -> None:
    http = serve(admin_key=SecretStr(KEY)).http
    headers = {"Host": "yard.example", "Origin": "https://yard.example", "Authorization": f"Bearer {KEY}"}
    assert http.post("/jobs", json=BODY, headers=headers).status_code == 202
    error_of(
        http.post("/jobs", json=BODY, headers=headers | {"Origin": "https://yard.example:8443"}),
        403,
        "cross_site_refused",
    )


def test_a_key_does_not_make_another_site_s_write_pass(serve: Serve) -> None:
    headers = {"Authorization": f"Bearer {KEY}", "Sec-Fetch-Site": "cross-site"}
    error_of(serve(admin_key=SecretStr(KEY)).http.post("/jobs", json=BODY, headers=headers), 403, "cross_site_refused")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "10.0.0.9", "["])
def test_a_yard_without_a_key_has_only_its_own_names(served: Served, host: str) -> None:
    for method, path in (("GET", "/jobs"), ("POST", "/jobs"), ("GET", "/"), ("GET", "/docs")):
        response = served.http.request(method, path, headers={"Host": host})
        assert error_of(response, 421, "host_refused")["param"] == "Host"
    assert served.http.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.1.2.3", "[::1]:8000", "a.localhost"])
def test_loopback_has_many_names(served: Served, host: str) -> None:
    assert served.http.get("/jobs", headers={"Host": host}).status_code == 200


def test_more_names_are_a_setting(serve: Serve) -> None:
    http = serve(trusted_hosts="yard.lan, 10.0.0.7,[fd00::7]").http
    for host in ("yard.lan", "Yard.lan:8000", "10.0.0.7", "[fd00::7]:8000"):
        assert http.get("/jobs", headers={"Host": host}).status_code == 200, host
    error_of(http.get("/jobs", headers={"Host": "lan"}), 421, "host_refused")


def test_a_yard_with_a_key_is_reached_by_any_name(serve: Serve) -> None:
    http = serve(admin_key=SecretStr(KEY)).http
    headers = {"Host": "anything.example", "Authorization": f"Bearer {KEY}"}
    assert http.get("/jobs", headers=headers).status_code == 200


def test_programs_notice_nothing(served: Served) -> None:
    with Client(served.url) as client:
        job = client.create_job("digits")
    assert job["state"] == "queued"
    with httpx.Client(base_url=served.url, trust_env=False) as plain:
        assert plain.post(f"/jobs/{job['id']}/cancel").status_code == 202


def test_places_are_compared_by_name_and_port() -> None:
    assert place_of("https://A.example:443") == place_of("https://a.example") == ("a.example", None)
    assert place_of("null") == ("", None)
    assert place_of("http://a:99999") == ("", 0)
    assert not is_loopback("")
