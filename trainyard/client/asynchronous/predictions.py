"""The client's methods for predictions: of one image, of several, and of all images of a folder or dataset."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import overload

import httpx

from trainyard.client.asynchronous.connection import AsyncConnection, without_none
from trainyard.client.asynchronous.uploading import upload as send_upload
from trainyard.client.asynchronous.waiting import run_blocking, sleep
from trainyard.client.errors import ApiError, check
from trainyard.client.folder_archive import open_source
from trainyard.client.images import ImageLike, read_image
from trainyard.client.kinds import FINAL_STATES, Json, OnProgress
from trainyard.client.models import Classification, Prediction
from trainyard.client.progress import show_bytes

_COME_BACK_S = 0.5  # to results that were cut off
_QUIET_S = 3600.0  # in which no row may come: a large archive is unpacked first


class AsyncPredictionMethods(AsyncConnection):
    """A part of `AsyncClient`."""

    @overload
    async def predict(
        self, image: ImageLike, *, model: str = ..., top_k: int = ..., sticky: str | None = ..., calibrated: bool = ...
    ) -> Classification: ...

    @overload
    async def predict(
        self,
        image: list[ImageLike],
        *,
        model: str = ...,
        top_k: int = ...,
        sticky: str | None = ...,
        calibrated: bool = ...,
    ) -> list[Classification]: ...

    async def predict(
        self,
        image: ImageLike | list[ImageLike],
        *,
        model: str = "latest",
        top_k: int = 5,
        sticky: str | None = None,
        calibrated: bool = False,
    ) -> Classification | list[Classification]:
        """Classify an image, or each of a list. For thousands of images use `predict_source`.

        Args:
            image: the bytes of a file, its path, an image of Pillow, an array of uint8, or a list of them.
            model: `latest`, an alias, or the id of a job or checkpoint.
            top_k: how many classes to name.
            sticky: for an alias with a canary, a text (such as a user's id) whose requests one side answers.
            calibrated: correct the probabilities by the checkpoint's calibration, and add `unfamiliarity`.
        """
        headers = {} if sticky is None else {"X-Trainyard-Sticky": sticky}
        wanted: Json = {"model": model, "top_k": top_k} | ({"calibrated": True} if calibrated else {})
        answers = []
        for each in image if isinstance(image, list) else [image]:
            files = {"file": ("image", await run_blocking(read_image, each), "application/octet-stream")}
            answers.append(
                await self._read(
                    Classification, "POST", "/predict", params=wanted, files=files, headers=headers, may_repeat=True
                )
            )
        return answers if isinstance(image, list) else answers[0]

    async def create_prediction(
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
    ) -> Prediction:
        """Queue the prediction of all images of a dataset, or of an upload; see `POST /predictions`."""
        fields: Json = {"dataset": dataset, "upload": upload, "split": split, "model": model, "top_k": top_k}
        fields |= {"calibrated": calibrated or None, "name": name}
        return await self._make(Prediction, "/predictions", without_none(fields), idempotency_key)

    async def predict_source(
        self,
        source: str | Path,
        *,
        model: str = "latest",
        top_k: int = 5,
        calibrated: bool = False,
        name: str | None = None,
        progress: bool = False,
        on_sent: OnProgress | None = None,
    ) -> Prediction:
        """Upload a folder or archive of images, and queue their prediction. An upload that was cut goes on.

        Args:
            source: the folder or archive; it needs no class folders.
            model: as for `predict`.
            top_k: how many classes to name.
            calibrated: as for `predict`.
            name: of the prediction.
            progress: show a bar.
            on_sent: called with the bytes that have arrived and those of all.

        Raises:
            ApiError: the yard refuses it.
            FileNotFoundError: there is no such folder or archive.
        """
        path = Path(source)
        with show_bytes(f"uploading {path.name}", progress, on_sent) as tell:
            upload_id = await send_upload(self._http, await run_blocking(open_source, path), on_sent=tell)
        return await self.create_prediction(
            upload=upload_id, model=model, top_k=top_k, calibrated=calibrated, name=name
        )

    async def get_prediction(self, prediction_id: str) -> Prediction:
        """Return a prediction in its present state."""
        return await self._read(Prediction, "GET", f"/predictions/{prediction_id}")

    async def list_predictions(self) -> list[Prediction]:
        """Return your newest hundred predictions over many images."""
        return await self._first_page(Prediction, "/predictions")

    async def cancel_prediction(self, prediction_id: str) -> Prediction:
        """Ask for a prediction to be stopped for good. Its rows stay."""
        return await self._read(Prediction, "POST", f"/predictions/{prediction_id}/cancel", may_repeat=True)

    async def delete_prediction(self, prediction_id: str) -> None:
        """Remove a prediction that has ended, with its results."""
        await self._send("DELETE", f"/predictions/{prediction_id}")

    async def wait_for_prediction(
        self,
        prediction_id: str,
        *,
        timeout_s: float | None = None,
        poll_s: float = 0.5,
        on_change: Callable[[Prediction], None] | None = None,
    ) -> Prediction:
        """Wait until a prediction is in a final state, and return it; as `wait` does for a job.

        Raises:
            TimeoutError: it is not final yet.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        seen: Prediction | None = None
        while True:
            found = await self.get_prediction(prediction_id)
            if on_change is not None and found != seen:
                seen = found
                on_change(found)
            if found["state"] in FINAL_STATES:
                return found
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"prediction {prediction_id} is still {found['state']} after {timeout_s} s")
            await sleep(poll_s)

    async def iter_results(self, prediction_id: str, *, after: int = -1) -> AsyncIterator[Json]:
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
                async for row in self._read_results(prediction_id, after):
                    after = row["row"]
                    yield row
                return
            await sleep(_COME_BACK_S)

    async def _read_results(self, prediction_id: str, after: int) -> AsyncIterator[Json]:
        """Yield the rows of one answer. None where the yard is busy: it is asked again."""
        timeout = httpx.Timeout(self._http.timeout.connect, read=_QUIET_S)
        path = f"/predictions/{prediction_id}/results"
        async with self._http.stream("GET", path, params={"after": after}, timeout=timeout) as answer:
            if answer.status_code >= 400:
                await answer.aread()
                try:
                    check(answer)
                except ApiError as exc:
                    if exc.is_worth_another_try:
                        raise httpx.ReadError(str(exc)) from exc
                    raise
            async for line in _split_lines(answer.aiter_bytes()):
                if line.strip():  # a yard without a new row sends spaces
                    row: Json = json.loads(line)
                    yield row

    async def download_results(
        self,
        prediction_id: str,
        target: str | Path,
        *,
        kind: str = "csv",
        progress: bool = False,
        on_received: OnProgress | None = None,
    ) -> None:
        """Download the results of a prediction that has ended as a table, complete or not at all.

        Args:
            prediction_id: which one.
            target: the file to write.
            kind: `csv`, `parquet` or `ndjson`.
            progress: show a bar.
            on_received: called with the bytes that have arrived and those of all; 0 for all if that is not known.
        """
        with show_bytes(f"downloading {Path(target).name}", progress, on_received) as tell:
            await self._download(f"/predictions/{prediction_id}/results", Path(target), {"format": kind}, tell)


async def _split_lines(pieces: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Yield lines that end with a newline and nothing else; a name may hold other ends of a line."""
    rest = b""
    async for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line
    if rest:  # the answer is whole, else its reading would have failed
        yield rest
