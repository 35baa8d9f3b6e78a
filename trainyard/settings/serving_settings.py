"""The settings of what is computed with checkpoints, and of what is kept for it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trainyard.settings.documented_settings import DocumentedSettings


class ServingSettings(DocumentedSettings):
    """Predictions, explanations and exports."""

    serving_threads: int | None = Field(None, ge=1, le=1024)
    """CPU threads of the API's inference, and of insight. Default: half of the cores, but two if there are two."""

    serving_precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision in which the API computes predictions on a CPU. `auto` measures both when the first network of a kind
    is loaded, and takes `bf16` only where that is at least 1.1 times as fast as `fp32`."""

    max_upload_bytes: int = Field(20 * 1024 * 1024, ge=1024)
    """Largest body of `POST /predict`, in bytes."""

    max_image_pixels: int = Field(25_000_000, ge=64)
    """Largest image that is decoded, in pixels."""

    max_queued_predictions: int = Field(256, ge=1)
    """Most images that wait for inference. Beyond it the answer is 503 with `Retry-After`."""

    max_batch: int = Field(64, ge=1, le=1024)
    """Most images that are computed together."""

    max_loaded_models: int = Field(4, ge=1, le=64)
    """Checkpoints that the API keeps in memory. The one that has been unused longest is removed first."""

    max_loaded_bytes: int = Field(2 * 1024**3, ge=1)
    """Bytes of weights, as stored, that the API keeps in memory. `latest` and the last one used always stay."""

    model_wait_s: float = Field(10, gt=0)
    """Seconds that a prediction waits for its checkpoint to be loaded. Then the answer is 503.

    As many wait as a quarter of `max_queued_predictions`, not counting those for `latest`; others are told so at once.
    """

    max_open_predictions_per_owner: int = Field(100, ge=1)
    """Predictions of one owner over many images that have not ended."""

    prediction_memory_bytes: int = Field(4 * 2**30, ge=2**30)
    """Memory that the process which predicts many images may allocate."""

    prediction_segment_rows: int = Field(10_000, ge=1, le=1_000_000)
    """Rows of a prediction's results that are stored at once. A worker that dies loses what it computed since."""

    prediction_keep_s: float = Field(30 * 24 * 3600, gt=0)
    """Seconds after its end at which a prediction is removed, with its results."""

    insight_memory_bytes: int = Field(3 * 2**30, ge=2**29)
    """Memory that a web process's child for explanations, similar images and evaluations may allocate."""

    insight_cache_bytes: int = Field(10 * 2**30, ge=0)
    """Bytes in the data folder that indexes of similar images and evaluations on request may take."""

    export_cache_bytes: int = Field(4 * 2**30, ge=2**20)
    """Bytes that checkpoints in other formats may take in the data folder. Those longest unused are removed first."""
