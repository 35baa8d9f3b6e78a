"""The client's part for predictions over many images."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from trainyard.client.connection import Connection, Json
from trainyard.client.errors import ApiError, check
from trainyard.client.folder_archive import open_source
from trainyard.client.uploading import OnSent, upload
from trainyard.states import JobState

_COME_BACK_S = 0.5  # to results that were cut off
_QUIET_S = 3600.0  # in which no row may come: a large archive is unpacked first
_FINAL_STATES = frozenset(state for state in JobState if state.is_final)


class BulkPredictions(Connection):
    """Many images: a dataset, an archive, or a folder that is sent as one."""

    def create_prediction(
        self,
        *,
        dataset: str | None = None,
        upload: str | None = None,
        split: str | None = None,
        model: str = "latest",
        top_k: int = 5,
        calibrated: bool = False,
        name: str | None = None,
        idempotency_key: str | None = None,
    ) -> Json:
        """Queue the prediction of all images of a dataset, or of an upload; see `POST /predictions`."""
        fields: Json = {"dataset": dataset, "upload": upload, "split": split, "model": model, "top_k": top_k}
        fields |= {"calibrated": calibrated or None, "name": name}
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        body = {key: it for key, it in fields.items() if it is not None}
        return self._request("POST", "/predictions", json=body, headers=headers)

    def predict_source(self, source: str | Path, *, on_sent: OnSent | None = None, **fields: Any) -> Json:
        """Upload a folder or archive of images, and queue their prediction. An upload that was cut goes on.

        Args:
            source: the folder or archive; it needs no class folders.
            on_sent: called with the bytes that have arrived and those of all.
            fields: `model`, `top_k`, `calibrated` and `name` of `create_prediction`.

        Raises:
            ApiError: the yard refuses it.
            FileNotFoundError: there is no such folder or archive.
        """
        return self.create_prediction(upload=upload(self._http, open_source(Path(source)), on_sent=on_sent), **fields)

    def get_prediction(self, prediction_id: str) -> Json:
        """Return a prediction in its present state."""
        return self._request("GET", f"/predictions/{prediction_id}")

    def list_predictions(self) -> list[Json]:
        """Return your newest hundred predictions over many images."""
        return list(self._request("GET", "/predictions", params={"limit": 100})["data"])

    def cancel_prediction(self, prediction_id: str) -> Json:
        """Ask for a prediction to be stopped for good. Its rows stay."""
        return self._request("POST", f"/predictions/{prediction_id}/cancel")

    def delete_prediction(self, prediction_id: str) -> None:
        """Remove a prediction that has ended, with its results."""
        check(self._http.delete(f"/predictions/{prediction_id}"))

    def wait_for_prediction(
        self,
        prediction_id: str,
        *,
        timeout_s: float | None = None,
        poll_s: float = 0.5,
        on_change: Callable[[Json], None] | None = None,
    ) -> Json:
        """Wait until a prediction is in a final state, and return it; as `wait` does for a job.

        Raises:
            TimeoutError: it is not final yet.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        seen: Json | None = None
        while True:
            found = self.get_prediction(prediction_id)
            if on_change is not None and found != seen:
                seen = found
                on_change(found)
            if found["state"] in _FINAL_STATES:
                return found
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"prediction {prediction_id} is still {found['state']} after {timeout_s} s")
            time.sleep(poll_s)

    def iter_results(self, prediction_id: str, *, after: int = -1) -> Iterator[Json]:
        """Yield the rows of a prediction as they are stored, until it has ended.

        If the stream is cut off, it goes on behind the last row, without a gap or a repetition.

        Args:
            prediction_id: which one.
            after: number of the last row that you have; -1: none.

        Raises:
            ApiError: there is no such prediction, or the yard refuses.
        """
        while True:
            with suppress(httpx.TransportError):
                for row in self._read_results(prediction_id, after):
                    after = row["row"]
                    yield row
                return
            time.sleep(_COME_BACK_S)

    def _read_results(self, prediction_id: str, after: int) -> Iterator[Json]:
        """Yield the rows of one answer. None where the yard is busy: it is asked again."""
        timeout = httpx.Timeout(self._http.timeout.connect, read=_QUIET_S)
        path = f"/predictions/{prediction_id}/results"
        with self._http.stream("GET", path, params={"after": after}, timeout=timeout) as answer:
            if answer.status_code >= 400:
                answer.read()
                try:
                    check(answer)
                except ApiError as exc:
                    if exc.is_worth_another_try:
                        raise httpx.ReadError(str(exc)) from exc
                    raise
            for line in _split_lines(answer.iter_bytes()):
                row: Json = json.loads(line)
                yield row

    def download_results(self, prediction_id: str, target: Path, *, kind: str = "csv") -> None:
        """Download the results of a prediction that has ended as a table, complete or not at all.

        Args:
            prediction_id: which one.
            target: the file to write.
            kind: `csv`, `parquet` or `ndjson`.
        """
        draft = target.with_name(f".{target.name}.part")
        timeout = httpx.Timeout(self._http.timeout.connect, read=_QUIET_S)
        path = f"/predictions/{prediction_id}/results"
        try:
            with self._http.stream("GET", path, params={"format": kind}, timeout=timeout) as answer:
                if answer.status_code >= 400:
                    answer.read()
                    check(answer)
                with draft.open("wb") as file:
                    for piece in answer.iter_bytes():
                        file.write(piece)
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)


def _split_lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield lines that end with a newline and nothing else; a name may hold other ends of a line."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
    if rest:  # the answer is whole, else its reading would have failed
        yield rest
