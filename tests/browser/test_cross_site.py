"""Pages of other sites can change nothing, and a yard without a key answers only under its own names."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from playwright.sync_api import Page

from tests.browser.watching import Watch
from tests.integration.running import RunningYard

FOREIGN = b"<!doctype html><title>elsewhere</title>"


@pytest.fixture
def elsewhere(watch: Watch) -> Iterator[str]:
    """The address of another site."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(FOREIGN)))
            self.end_headers()
            self.wfile.write(FOREIGN)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    watch.expect("elsewhere:", "CORS|ERR_FAILED|status of 4")  # what the test itself provokes
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_another_sites_page_can_neither_write_nor_read(
    page: Page, elsewhere: str, yard: RunningYard, http: httpx.Client
) -> None:
    job_id = http.post("/jobs", json={"dataset": "digits", "overrides": {"epochs": 1}}).json()["id"]
    http.post(f"/jobs/{job_id}/pause")
    before = http.get(f"/jobs/{job_id}").json()["state"]
    page.goto(elsewhere)
    statuses: list[int] = []
    page.on("response", lambda response: statuses.append(response.status) if yard.url in response.url else None)
    write = f"fetch('{yard.url}/jobs/{job_id}/cancel', {{ method: 'POST', mode: 'no-cors' }}).then(r => r.type)"
    assert page.evaluate(write) == "opaque"
    assert statuses == [403]
    read = f"fetch('{yard.url}/jobs').then(() => 'read', () => 'refused')"
    assert page.evaluate(read) == "refused"
    assert http.get(f"/jobs/{job_id}").json()["state"] in {before, "paused"}


def test_a_name_that_was_made_to_mean_this_machine_is_refused(yard: RunningYard) -> None:
    refused = httpx.get(f"{yard.url}/", headers={"Host": "attacker.example"}, trust_env=False, timeout=30)
    assert (refused.status_code, refused.json()["error"]["code"]) == (421, "host_refused")
