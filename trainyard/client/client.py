"""The Python client: jobs, checkpoints and predictions over HTTP.

client = Client("http://127.0.0.1:8000")
job = client.create_job(dataset="digits")
job = client.wait(job["id"])
client.predict(Path("seven.png").read_bytes())
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import httpx
from httpx_sse import connect_sse

from trainyard.states import JobState

FINAL_STATES = frozenset(state for state in JobState if state.is_final)

Json = dict[str, Any]

_COME_BACK_S = 0.2  # to a stream that was cut off


class ApiError(Exception):
    """The API refused a request. `code` is for programs; the message says what to do."""

    def __init__(self, status: int, body: Json) -> None:
        error = body.get("error", {})
        self.status = status
        self.code: str = error.get("code", "unknown")
        self.param: str | None = error.get("param")
        self.request_id: str | None = error.get("request_id")
        super().__init__(f"{status} {self.code}: {error.get('message', 'no message')}")


class Client:
    """One connection to a yard. Not safe to share between threads."""

    def __init__(self, url: str, *, key: str | None = None, timeout_s: float = 60) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout_s, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def create_job(self, dataset: str, *, idempotency_key: str | None = None, **fields: Any) -> Json:
        """Queue a job; fields as in `POST /jobs` (`recipe`, `overrides`, `name`, `metadata`, `init_from`…)."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return self._request("POST", "/jobs", json={"dataset": dataset} | fields, headers=headers)

    def get_job(self, job_id: str) -> Json:
        """Return a job in its present state."""
        return self._request("GET", f"/jobs/{job_id}")

    def cancel_job(self, job_id: str) -> Json:
        """Ask for a job to be stopped for good."""
        return self._request("POST", f"/jobs/{job_id}/cancel")

    def pause_job(self, job_id: str) -> Json:
        """Pause a job: it writes a checkpoint and frees its slot."""
        return self._request("POST", f"/jobs/{job_id}/pause")

    def resume_job(self, job_id: str) -> Json:
        """Put a paused job back into the queue."""
        return self._request("POST", f"/jobs/{job_id}/resume")

    def list_workers(self, *, state: str | None = None) -> list[Json]:
        """Return the newest hundred workers. Without a state, only those not gone for over an hour."""
        page = self._request("GET", "/workers", params={"limit": 100} | ({"state": state} if state else {}))
        return list(page["data"])

    def list_queue(self) -> list[Json]:
        """Return your first hundred queued jobs, the next to start first, each with what it waits for."""
        page = self._request("GET", "/queue", params={"limit": 100})
        return list(page["data"])

    def retry_job(
        self,
        job_id: str,
        *,
        origin: str = "latest",
        overrides: Json | None = None,
        idempotency_key: str | None = None,
    ) -> Json:
        """Train a job that has ended again, as a new job.

        Args:
            job_id: which job.
            origin: `start`, `latest` or the id of one of its checkpoints.
            overrides: from `start` any, from a checkpoint only more `epochs` or `max_runtime_s`.
            idempotency_key: makes a repetition of this call harmless.
        """
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        body = {"from": origin, "overrides": overrides or {}}
        return self._request("POST", f"/jobs/{job_id}/retry", json=body, headers=headers)

    def delete_job(self, job_id: str) -> None:
        """Remove a job that has ended, with its checkpoints."""
        self._check(self._http.delete(f"/jobs/{job_id}"))

    def list_datasets(self) -> list[Json]:
        """Return the newest hundred datasets that jobs can train on, including the built-in ones."""
        page = self._request("GET", "/datasets", params={"limit": 100})
        return list(page["data"])

    def iter_events(self, job_id: str, *, after: int = 0) -> Iterator[Json]:
        """Yield a job's events after a number as they happen, until the last one of a job that has ended.

        If the stream is cut off, it reconnects by itself, without a gap or a repetition.

        Raises:
            ApiError: there is no such job, or the yard can't answer now.
        """
        while True:
            headers = {"Last-Event-ID": str(after)}
            with (
                suppress(httpx.TransportError),
                connect_sse(self._http, "GET", f"/jobs/{job_id}/events", headers=headers) as stream,
            ):
                if stream.response.status_code == 204:
                    return
                if stream.response.status_code >= 400:
                    stream.response.read()
                    self._check(stream.response)
                for message in stream.iter_sse():
                    event: Json = message.json()
                    after = event["seq"]
                    yield event
            time.sleep(_COME_BACK_S)

    def get_metrics(self, job_id: str, *, after: int = -1, max_points: int = 500) -> Json:
        """Return a job's series `by_step` and `by_epoch`; for newer points pass `after=answer["last_step"]`."""
        return self._request("GET", f"/jobs/{job_id}/metrics", params={"after": after, "max_points": max_points})

    def get_logs(self, job_id: str, *, tail: int = 200) -> str:
        """Return the last lines that the job's trainers wrote."""
        answer = self._http.get(f"/jobs/{job_id}/logs", params={"tail": tail})
        self._check(answer)
        return answer.text

    def list_checkpoints(self, job_id: str) -> list[Json]:
        """Return the newest checkpoints of a job."""
        page = self._request("GET", f"/jobs/{job_id}/checkpoints", params={"limit": 100})
        return list(page["data"])

    def wait(
        self,
        job_id: str,
        *,
        timeout_s: float | None = None,
        poll_s: float = 0.25,
        on_change: Callable[[Json], None] | None = None,
    ) -> Json:
        """Wait until a job is in a final state, and return it.

        Args:
            job_id: which job.
            timeout_s: seconds to wait at most; None: as long as it takes.
            poll_s: seconds between two looks.
            on_change: called with the job whenever its state or progress is another.

        Raises:
            TimeoutError: it is not final yet.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        seen: Any = None
        job, tag = dict[str, Any](), ""
        while True:
            job, tag = self._get_job_if_changed(job_id, job, tag)
            if on_change is not None and (job["state"], job["progress"], job["metrics"]) != seen:
                seen = (job["state"], job["progress"], job["metrics"])
                on_change(job)
            if job["state"] in FINAL_STATES:
                return job
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"job {job_id} is still {job['state']} after {timeout_s} s")
            time.sleep(poll_s)

    def _get_job_if_changed(self, job_id: str, known: Json, tag: str) -> tuple[Json, str]:
        """Return a job and its tag; the known one if the yard says that it has not changed."""
        answer = self._http.get(f"/jobs/{job_id}", headers={"If-None-Match": tag} if tag else {})
        if answer.status_code == 304:
            return known, tag
        self._check(answer)
        job: Json = answer.json()
        return job, answer.headers.get("ETag", "")

    def predict(self, image: bytes, *, model: str = "latest", top_k: int = 5) -> Json:
        """Classify one image file."""
        files = {"file": ("image", image, "application/octet-stream")}
        return self._request("POST", "/predict", params={"model": model, "top_k": top_k}, files=files)

    def download_checkpoint(self, checkpoint_id: str) -> bytes:
        """Download a checkpoint as a tar with weights, config, classes and preprocessing."""
        answer = self._http.get(f"/checkpoints/{checkpoint_id}/download")
        self._check(answer)
        return answer.content

    def _request(self, method: str, path: str, **kw: Any) -> Json:
        answer = self._http.request(method, path, **kw)
        self._check(answer)
        body: Json = answer.json()
        return body

    @staticmethod
    def _check(answer: httpx.Response) -> None:
        if answer.status_code >= 400:
            try:
                body = answer.json()
            except ValueError:
                body = {}
            raise ApiError(answer.status_code, body)
