"""The client's methods for jobs and their checkpoints."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
from httpx_sse import aconnect_sse

from trainyard.client.asynchronous.connection import AsyncConnection, without_none
from trainyard.client.asynchronous.waiting import sleep
from trainyard.client.errors import check
from trainyard.client.kinds import FINAL_STATES, Json, OnProgress
from trainyard.client.models import Checkpoint, Event, Job, JobRow
from trainyard.client.progress import show_bytes
from trainyard.client.series import Metrics, Series

_JOBS_OF_A_SERIES = 20  # as many as the yard gives at once
_COME_BACK_S = 0.2  # to a stream that was cut off
_NEXT_LINES_S = 1.0  # between two looks at a log


class AsyncJobMethods(AsyncConnection):
    """A part of `AsyncClient`."""

    async def create_job(self, dataset: str, *, idempotency_key: str | None = None, **fields: Any) -> Job:
        """Queue a job; fields as in `POST /jobs` (`recipe`, `overrides`, `name`, `metadata`, `init_from`…)."""
        return await self._make(Job, "/jobs", {"dataset": dataset} | fields, idempotency_key)

    async def get_job(self, job_id: str) -> Job:
        """Return a job in its present state."""
        return await self._read(Job, "GET", f"/jobs/{job_id}")

    def iter_jobs(
        self,
        *,
        state: str | Sequence[str] | None = None,
        dataset: str | None = None,
        recipe: str | None = None,
        text: str | None = None,
        metadata: dict[str, str] | None = None,
    ) -> AsyncIterator[Job]:
        """Yield your jobs, newest first, page by page.

        Args:
            state: only jobs in this state, or in one of these.
            dataset: only jobs on this dataset, by id or name.
            recipe: only jobs of the recipe with this name.
            text: only jobs whose id, name or dataset's name contains it.
            metadata: only jobs with all these pairs.
        """
        return self._iterate(Job, "/jobs", _filters(state, dataset, recipe, text, metadata))

    def iter_job_rows(
        self,
        *,
        state: str | Sequence[str] | None = None,
        dataset: str | None = None,
        recipe: str | None = None,
        text: str | None = None,
        metadata: dict[str, str] | None = None,
    ) -> AsyncIterator[JobRow]:
        """Yield what a table shows of your jobs, newest first, a thousand at a time.

        A row is a job without `config`, `state_history` and `links`, and has its training loss in up to 24 numbers. The
        arguments are those of `iter_jobs`.
        """
        filters = _filters(state, dataset, recipe, text, metadata)
        return self._iterate(JobRow, "/jobs", filters | {"view": "row"}, at_a_time=1000)

    async def count_jobs(
        self, *, dataset: str | None = None, recipe: str | None = None, text: str | None = None
    ) -> dict[str, int]:
        """Return how many of your jobs are in each state; the arguments are those of `iter_jobs`."""
        filters = without_none(_filters(None, dataset, recipe, text, None)) | {"view": "row", "limit": 1}
        return dict((await self._request("GET", "/jobs", params=filters))["counts"])

    async def update_job(self, job_id: str, **fields: Any) -> Job:
        """Change a job's `name`, `note`, `metadata` or, while it waits, its `priority`; see `PATCH /jobs/{job_id}`."""
        return await self._read(Job, "PATCH", f"/jobs/{job_id}", json=fields, may_repeat=True)

    async def cancel_job(self, job_id: str) -> Job:
        """Ask for a job to be stopped for good."""
        return await self._read(Job, "POST", f"/jobs/{job_id}/cancel", may_repeat=True)

    async def pause_job(self, job_id: str) -> Job:
        """Pause a job: it writes a checkpoint and frees its slot."""
        return await self._read(Job, "POST", f"/jobs/{job_id}/pause", may_repeat=True)

    async def resume_job(self, job_id: str) -> Job:
        """Put a paused job back into the queue."""
        return await self._read(Job, "POST", f"/jobs/{job_id}/resume", may_repeat=True)

    async def retry_job(
        self,
        job_id: str,
        *,
        origin: str = "latest",
        overrides: Json | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Train a job that has ended again, as a new job.

        Args:
            job_id: which job.
            origin: `start`, `latest` or the id of one of its checkpoints.
            overrides: from `start` any, from a checkpoint only more `epochs` or `max_runtime_s`.
            idempotency_key: makes a repetition of this call harmless.
        """
        body = {"from": origin, "overrides": overrides or {}}
        return await self._make(Job, f"/jobs/{job_id}/retry", body, idempotency_key)

    async def delete_job(self, job_id: str) -> None:
        """Remove a job that has ended, with its checkpoints."""
        await self._send("DELETE", f"/jobs/{job_id}")

    async def iter_events(self, job_id: str, *, after: int = 0) -> AsyncIterator[Event]:
        """Yield a job's events after a number as they happen, until the last one of a job that has ended.

        If the stream is cut off, it reconnects by itself, without a gap or a repetition.

        Raises:
            ApiError: there is no such job, or the yard can't answer now.
        """
        while True:
            headers = {"Last-Event-ID": str(after)}
            with suppress(httpx.TransportError):
                async with aconnect_sse(self._http, "GET", f"/jobs/{job_id}/events", headers=headers) as stream:
                    if stream.response.status_code == 204:
                        return
                    if stream.response.status_code >= 400:
                        await stream.response.aread()
                        check(stream.response)
                    async for message in stream.aiter_sse():
                        event = Event.read(message.json())
                        after = event["seq"]
                        yield event
            await sleep(_COME_BACK_S)

    async def get_metrics(self, job_id: str, *, after: int = -1, max_points: int = 500) -> Metrics:
        """Return a job's series `by_step` and `by_epoch`; for newer points pass `after=metrics.last_step`."""
        wanted = {"after": after, "max_points": max_points}
        return await self._read(Metrics, "GET", f"/jobs/{job_id}/metrics", params=wanted)

    async def get_series(self, job_ids: Sequence[str], *, max_points: int = 500) -> dict[str, Series]:
        """Return the series of several jobs, to be compared, by their ids: twenty jobs with one request."""
        found: dict[str, Series] = {}
        for begin in range(0, len(job_ids), _JOBS_OF_A_SERIES):
            wanted = {"job": list(job_ids[begin : begin + _JOBS_OF_A_SERIES]), "max_points": max_points}
            answer = await self._request("GET", "/series", params=wanted)
            found |= {job_id: Series.read(series) for job_id, series in answer["data"].items()}
        return found

    async def get_logs(self, job_id: str, *, tail: int = 200) -> str:
        """Return the last lines that the job's trainers wrote."""
        return (await self._send("GET", f"/jobs/{job_id}/logs", params={"tail": tail})).text

    async def iter_log(self, job_id: str, *, from_byte: int = 0, follow: bool = False) -> AsyncIterator[str]:
        """Yield what the job's trainers wrote, in pieces that end where a line ends.

        Args:
            job_id: which job.
            from_byte: where to begin.
            follow: go on until the job has ended; else until what is there now.

        Raises:
            ApiError: there is no such job, or `from_byte` is beyond the end of its log.
        """
        rest = ""
        while True:
            is_last = not follow or (await self.get_job(job_id))["state"] in FINAL_STATES
            answer = await self._send("GET", f"/jobs/{job_id}/logs", params={"from_byte": from_byte})
            lines, newline, rest = (rest + answer.text).rpartition("\n")
            if newline:
                yield lines + newline
            has_more = int(answer.headers["X-Next-Byte"]) > from_byte
            from_byte = int(answer.headers["X-Next-Byte"])
            if not has_more and is_last:
                if rest:
                    yield rest
                return
            if not has_more:
                await sleep(_NEXT_LINES_S)

    async def list_checkpoints(self, job_id: str) -> list[Checkpoint]:
        """Return the newest checkpoints of a job."""
        return await self._first_page(Checkpoint, f"/jobs/{job_id}/checkpoints")

    def iter_checkpoints(self, job_id: str | None = None) -> AsyncIterator[Checkpoint]:
        """Yield the checkpoints of a job, or of all your jobs, newest first, page by page."""
        return self._iterate(Checkpoint, "/checkpoints" if job_id is None else f"/jobs/{job_id}/checkpoints")

    async def get_checkpoint(self, checkpoint_id: str) -> Checkpoint:
        """Return a checkpoint: its metrics, files and checksums."""
        return await self._read(Checkpoint, "GET", f"/checkpoints/{checkpoint_id}")

    async def download_checkpoint(self, checkpoint_id: str) -> bytes:
        """Download a checkpoint as a tar with weights, config, classes and preprocessing."""
        return (await self._send("GET", f"/checkpoints/{checkpoint_id}/download")).content

    async def download_to(
        self,
        checkpoint_id: str,
        target: str | Path,
        *,
        file_format: str = "safetensors",
        what: str = "checkpoint",
        progress: bool = False,
        on_received: OnProgress | None = None,
    ) -> None:
        """Download a checkpoint as a tar into a file, complete or not at all. After a cut it goes on where it stopped.

        Args:
            checkpoint_id: which one.
            target: the file to write.
            file_format: of the weights: `safetensors`, `onnx`, `keras` or `torch_export`.
            what: `checkpoint`, or `tensorboard`: instead, the event files of its job.
            progress: show a bar.
            on_received: called with the bytes that have arrived and those of all; 0 for all if that is not known.
        """
        wanted = {"format": file_format, "what": what}
        with show_bytes(f"downloading {checkpoint_id}", progress, on_received) as tell:
            await self._download(f"/checkpoints/{checkpoint_id}/download", Path(target), wanted, tell)

    async def wait(
        self,
        job_id: str,
        *,
        timeout_s: float | None = None,
        poll_s: float = 0.25,
        on_change: Callable[[Job], None] | None = None,
    ) -> Job:
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
        tag = ""
        job: Job | None = None
        while True:
            job, tag = await self._get_job_if_changed(job_id, job, tag)
            look = (job["state"], job["progress"], job["metrics"])
            if on_change is not None and look != seen:
                seen = look
                on_change(job)
            if job["state"] in FINAL_STATES:
                return job
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"job {job_id} is still {job['state']} after {timeout_s} s")
            await sleep(poll_s)

    async def _get_job_if_changed(self, job_id: str, known: Job | None, tag: str) -> tuple[Job, str]:
        """Return a job and its tag; the known one if the yard says that it has not changed."""
        answer = await self._send("GET", f"/jobs/{job_id}", headers={"If-None-Match": tag} if tag else {})
        if answer.status_code == 304 and known is not None:
            return known, tag
        return Job.read(answer.json()), answer.headers.get("ETag", "")


def _filters(
    state: str | Sequence[str] | None,
    dataset: str | None,
    recipe: str | None,
    text: str | None,
    metadata: dict[str, str] | None,
) -> Json:
    states = None if state is None else [state] if isinstance(state, str) else list(state)
    pairs = {f"metadata[{key}]": value for key, value in (metadata or {}).items()}
    return {"state": states, "dataset": dataset, "recipe": recipe, "q": text} | pairs
