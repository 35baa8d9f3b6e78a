"""The client's methods that tell why a network answers as it does, and how far it can be trusted."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx

from trainyard.client.errors import check

Json = dict[str, Any]

_IN_PROGRESS = "insight_in_progress"
_LONGEST_WAIT_S = 10.0  # between two questions


class InsightMethods:
    """A part of `Client`."""

    _http: httpx.Client

    def explain(
        self,
        image: bytes,
        *,
        model: str = "latest",
        method: str = "grad_cam",
        target: str | None = None,
        view: str = "heat",
        px: int | None = None,
    ) -> bytes:
        """Return a PNG that shows what in an image speaks for a class.

        Args:
            image: the bytes of its file.
            model: `latest`, an alias, or the id of a job or checkpoint.
            method: `grad_cam`, `integrated_gradients` or `occlusion`.
            target: name of the class. None: the most probable one.
            view: `heat`, to be laid over the image, or `overlay`, with the image below.
            px: longer side of the picture. None: that of the image, up to 1024.
        """
        wanted = {"model": model, "method": method, "target": target, "view": view, "px": px}
        return self._send_image("/explain", image, wanted).content

    def draw_activations(self, image: bytes, layer: str, *, model: str = "latest", scale: str = "common") -> bytes:
        """Return a PNG of what a layer computes for an image.

        Args:
            image: the bytes of its file.
            layer: such as `conv1`, `relu5` or `fc7`.
            model: as for `explain`.
            scale: `common`, or `own`: black and white are the extremes of each map.
        """
        return self._send_image("/activations", image, {"model": model, "layer": layer, "scale": scale}).content

    def find_similar(self, image: bytes, *, model: str = "latest", k: int = 10, timeout_s: float = 600) -> list[Json]:
        """Return the training images that the network takes for the most alike to an image, the nearest first.

        Args:
            image: the bytes of its file.
            model: as for `explain`.
            k: how many.
            timeout_s: seconds to wait for the checkpoint's index, which is made once.

        Raises:
            ApiError: `insight_in_progress`: it takes longer.
        """
        send = {"model": model, "k": k}
        answer = self._until_done(lambda: self._post_image("/similar", image, send), timeout_s)
        return list(answer.json()["images"])

    def draw_filters(self, checkpoint_id: str, *, scale: str = "common") -> bytes:
        """Return a PNG of the kernels of a checkpoint's first convolution."""
        answer = self._http.get(f"/checkpoints/{checkpoint_id}/filters.png", params={"scale": scale})
        check(answer)
        return answer.content

    def get_calibration(self, checkpoint_id: str, *, timeout_s: float = 600) -> Json:
        """Return how far a checkpoint's probabilities can be trusted.

        Args:
            checkpoint_id: which one.
            timeout_s: seconds to wait for it, where it has not been computed yet.

        Raises:
            ApiError: `insight_in_progress`: it takes longer.
        """
        answer = self._until_done(lambda: self._http.get(f"/checkpoints/{checkpoint_id}/calibration"), timeout_s)
        found: Json = answer.json()
        return found

    def get_evaluation(
        self, job_id: str, *, split: str | None = None, checkpoint: str | None = None, timeout_s: float = 600
    ) -> Json:
        """Return how a job's best checkpoint does, and in `label_errors` the images whose label is likely wrong.

        Args:
            job_id: which job.
            split: evaluate on these images; None: on the test images.
            checkpoint: evaluate this checkpoint of the job; None: the best one.
            timeout_s: seconds to wait for an evaluation that has not been computed yet.

        Raises:
            ApiError: `insight_in_progress`: it takes longer.
        """
        wanted = _without_none({"split": split, "checkpoint": checkpoint})
        answer = self._until_done(lambda: self._http.get(f"/jobs/{job_id}/evaluation", params=wanted), timeout_s)
        found: Json = answer.json()
        return found

    def list_evaluated_images(
        self,
        job_id: str,
        *,
        true: str | None = None,
        predicted: str | None = None,
        order: str = "loss",
        split: str | None = None,
        checkpoint: str | None = None,
        limit: int = 100,
        timeout_s: float = 600,
    ) -> list[Json]:
        """Return the first images behind an evaluation, such as those of a cell of its confusion matrix.

        Args:
            job_id: which job.
            true: only images of this class.
            predicted: only images that were taken for this class.
            order: `loss`: the hardest first; `-loss`: the easiest first; `index`: as in the split.
            split: as for `get_evaluation`.
            checkpoint: as for `get_evaluation`.
            limit: 1 to 100.
            timeout_s: as for `get_evaluation`.

        Raises:
            ApiError: `insight_in_progress`: it takes longer.
        """
        wanted = _without_none(
            {"true": true, "predicted": predicted, "order": order, "split": split, "checkpoint": checkpoint}
        )
        answer = self._until_done(
            lambda: self._http.get(f"/jobs/{job_id}/evaluation/images", params=wanted | {"limit": limit}), timeout_s
        )
        return list(answer.json()["data"])

    def _post_image(self, path: str, image: bytes, wanted: Json) -> httpx.Response:
        files = {"file": ("image", image, "application/octet-stream")}
        return self._http.post(path, params=_without_none(wanted), files=files)

    def _send_image(self, path: str, image: bytes, wanted: Json) -> httpx.Response:
        answer = self._post_image(path, image, wanted)
        check(answer)
        return answer

    @staticmethod
    def _until_done(ask: Callable[[], httpx.Response], timeout_s: float) -> httpx.Response:
        """Ask again while the answer is being computed."""
        deadline = time.monotonic() + timeout_s
        while True:
            answer = ask()
            if answer.status_code != 503 or _IN_PROGRESS not in answer.text:
                break
            wait_s = min(_LONGEST_WAIT_S, float(answer.headers.get("Retry-After", 1)))
            if time.monotonic() + wait_s > deadline:
                break
            time.sleep(wait_s)
        check(answer)
        return answer


def _without_none(values: Json) -> Json:
    return {name: value for name, value in values.items() if value is not None}
