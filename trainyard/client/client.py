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
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from httpx_sse import connect_sse

from trainyard.client.bulk_predictions import BulkPredictions
from trainyard.client.connection import Json as Json
from trainyard.client.errors import check
from trainyard.client.folder_archive import open_source
from trainyard.client.insight import InsightMethods
from trainyard.client.uploading import OnSent, upload
from trainyard.states import DatasetState, JobState

FINAL_STATES = frozenset(state for state in JobState if state.is_final)
SETTLED = frozenset({DatasetState.REGISTERED, DatasetState.READY, DatasetState.REJECTED})


_COME_BACK_S = 0.2  # to a stream that was cut off


class Client(InsightMethods, BulkPredictions):
    """One connection to a yard. Not safe to share between threads."""

    def create_job(self, dataset: str, *, idempotency_key: str | None = None, **fields: Any) -> Json:
        """Queue a job; fields as in `POST /jobs` (`recipe`, `overrides`, `name`, `metadata`, `init_from`…)."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return self._request("POST", "/jobs", json={"dataset": dataset} | fields, headers=headers)

    def get_job(self, job_id: str) -> Json:
        """Return a job in its present state."""
        return self._request("GET", f"/jobs/{job_id}")

    def iter_jobs(self, **filters: Any) -> Iterator[Json]:
        """Yield your jobs, newest first, page by page; filters as in `GET /jobs` (`state`, `dataset`)."""
        return self._iterate("/jobs", filters)

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
        check(self._http.delete(f"/jobs/{job_id}"))

    def list_datasets(self) -> list[Json]:
        """Return the newest hundred datasets that jobs can train on, including the built-in ones."""
        page = self._request("GET", "/datasets", params={"limit": 100})
        return list(page["data"])

    def create_dataset(
        self,
        source: str | Path,
        *,
        name: str | None = None,
        image_px: int | None = None,
        flip_safe: bool | None = None,
        validation_fraction: float | None = None,
        test_fraction: float | None = None,
        split_seed: int | None = None,
        parent_id: str | None = None,
        on_sent: OnSent | None = None,
    ) -> Json:
        """Upload a folder or archive of images and have a dataset made of it; see `POST /datasets` for the options.

        An upload of the same files that was cut, by whatever, goes on where it stopped. Repeating the call is harmless:
        the same files with the same name and options give the dataset that is there.

        Args:
            source: the folder, with a folder for each class, or an archive of one.
            name: of the dataset; default: that of the folder or archive.
            image_px: side of the stored squares; default: by the images' sizes.
            flip_safe: whether a mirrored image still shows its class; default: true.
            validation_fraction: the share of each class to validate on, if the images come without such a split.
            test_fraction: the share of the rest to test on, likewise.
            split_seed: another seed holds other images back.
            parent_id: the dataset that this one is a new version of.
            on_sent: called with the bytes that have arrived and those of all.

        Returns:
            The dataset, which is validated from now on: `wait_for_dataset`.

        Raises:
            ApiError: the yard refuses it.
            FileNotFoundError: there is no such folder or archive.
        """
        path = Path(source)
        body = {
            "name": name or _name_of(path),
            "upload": upload(self._http, open_source(path), on_sent=on_sent),
            "image_px": image_px,
            "flip_safe": flip_safe,
            "validation_fraction": validation_fraction,
            "test_fraction": test_fraction,
            "split_seed": split_seed,
            "parent_id": parent_id,
        }
        return self._request("POST", "/datasets", json={key: it for key, it in body.items() if it is not None})

    def get_dataset(self, dataset: str) -> Json:
        """Return a dataset by id or name."""
        return self._request("GET", f"/datasets/{quote(dataset, safe='')}")

    def delete_dataset(self, dataset: str) -> None:
        """Remove a dataset that no unfinished job needs."""
        check(self._http.delete(f"/datasets/{quote(dataset, safe='')}"))

    def wait_for_dataset(
        self,
        dataset: str,
        *,
        timeout_s: float | None = None,
        poll_s: float = 0.5,
        on_change: Callable[[Json], None] | None = None,
    ) -> Json:
        """Wait until a dataset is ready or rejected, and return it; as `wait` does for a job.

        Raises:
            TimeoutError: it is neither yet.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        seen: Any = None
        while True:
            found = self.get_dataset(dataset)
            if on_change is not None and (found["state"], found["progress"], found["waiting_for"]) != seen:
                seen = (found["state"], found["progress"], found["waiting_for"])
                on_change(found)
            if found["state"] in SETTLED:
                return found
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"dataset {dataset} is still {found['state']} after {timeout_s} s")
            time.sleep(poll_s)

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
                    check(stream.response)
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
        check(answer)
        return answer.text

    def iter_checkpoints(self, job_id: str | None = None) -> Iterator[Json]:
        """Yield the checkpoints of a job, or of all your jobs, newest first, page by page."""
        return self._iterate("/checkpoints" if job_id is None else f"/jobs/{job_id}/checkpoints", {})

    def list_recipes(self) -> list[Json]:
        """Return all recipes."""
        return list(self._request("GET", "/recipes")["data"])

    def get_recipe(self, name: str) -> Json:
        """Return a recipe with the schema of its training options."""
        return self._request("GET", f"/recipes/{quote(name, safe='')}")

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
        check(answer)
        job: Json = answer.json()
        return job, answer.headers.get("ETag", "")

    def predict(
        self,
        image: bytes,
        *,
        model: str = "latest",
        top_k: int = 5,
        sticky: str | None = None,
        calibrated: bool = False,
    ) -> Json:
        """Classify one image file.

        Args:
            image: its bytes.
            model: `latest`, an alias, or the id of a job or checkpoint.
            top_k: how many classes to name.
            sticky: for an alias with a canary, a text (such as a user's id) whose requests one side answers.
            calibrated: correct the probabilities by the checkpoint's calibration, and add `unfamiliarity`.
        """
        files = {"file": ("image", image, "application/octet-stream")}
        headers = {} if sticky is None else {"X-Trainyard-Sticky": sticky}
        wanted: Json = {"model": model, "top_k": top_k} | ({"calibrated": True} if calibrated else {})
        return self._request("POST", "/predict", params=wanted, files=files, headers=headers)

    def put_alias(
        self,
        name: str,
        checkpoint: str,
        *,
        canary: str | None = None,
        share: float | None = None,
        shadow: str | None = None,
    ) -> Json:
        """Make or move an alias, and return it once it is answered so.

        Args:
            name: such as `production`.
            checkpoint: the one that answers: its id, or whatever else `predict` takes as its model.
            canary: a second one, which answers a share of the requests.
            share: that share, over 0 and under 1.
            shadow: one that is only compared.

        Raises:
            ApiError: it can't be moved there; nothing was changed.
        """
        body: Json = {"checkpoint": checkpoint, "shadow": shadow}
        if canary is not None:
            body["canary"] = {"checkpoint": canary, "share": share}
        return self._request("PUT", f"/aliases/{name}", json=body)

    def get_alias(self, name: str) -> Json:
        """Return what an alias names, and what each of its sides did since its last move."""
        return self._request("GET", f"/aliases/{name}")

    def list_aliases(self) -> list[Json]:
        """Return your first hundred aliases, which are all."""
        return list(self._request("GET", "/aliases", params={"limit": 100})["data"])

    def list_alias_moves(self, name: str) -> list[Json]:
        """Return the newest hundred moves of an alias."""
        return list(self._request("GET", f"/aliases/{name}/history", params={"limit": 100})["data"])

    def roll_back_alias(self, name: str, *, version: int | None = None) -> Json:
        """Undo the last change of an alias, or go back to the checkpoint of one of its moves, and return it."""
        return self._request("POST", f"/aliases/{name}/rollback", json={"version": version})

    def delete_alias(self, name: str) -> None:
        """Remove an alias."""
        check(self._http.delete(f"/aliases/{name}"))

    def download_to(
        self,
        checkpoint_id: str,
        target: Path,
        *,
        file_format: str = "safetensors",
        what: str = "checkpoint",
        on_received: OnSent | None = None,
    ) -> None:
        """Download a checkpoint as a tar into a file, complete or not at all.

        Args:
            checkpoint_id: which one.
            target: the file to write.
            file_format: of the weights: `safetensors`, `onnx`, `keras` or `torch_export`.
            what: `checkpoint`, or `tensorboard`: instead, the event files of its job.
            on_received: called with the bytes that have arrived and those of all; 0 for all if that is not known.
        """
        wanted = {"format": file_format, "what": what}
        self._download(f"/checkpoints/{checkpoint_id}/download", target, params=wanted, on_received=on_received)

    def download_checkpoint(self, checkpoint_id: str) -> bytes:
        """Download a checkpoint as a tar with weights, config, classes and preprocessing."""
        answer = self._http.get(f"/checkpoints/{checkpoint_id}/download")
        check(answer)
        return answer.content


def _name_of(path: Path) -> str:
    """Return the name of a folder, or of an archive without its endings."""
    name = path.resolve().name
    if path.is_dir():
        return name
    for ending in (".zip", ".tar", ".tgz", ".tar.gz", ".tar.zst", ".tzst"):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name
