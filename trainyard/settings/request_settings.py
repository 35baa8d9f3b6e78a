"""The settings that say how many requests an API answers, and how large they may be."""

from __future__ import annotations

import os

from pydantic import Field

from trainyard.settings.documented_settings import DocumentedSettings


class RequestSettings(DocumentedSettings):
    """Requests and connections."""

    web_processes: int | None = Field(None, ge=1, le=64)
    """Processes of one API that answer requests on its port; one more, the engine, computes the predictions for all.
    Default: a quarter of the cores, 1 to 4."""

    max_body_bytes: int = Field(1024 * 1024, ge=1024)
    """Largest body of a request that sends neither an image nor a dataset, in bytes."""

    max_upload_bytes_at_once: int = Field(128 * 1024 * 1024, ge=1024)
    """Bytes of bodies over 64 KiB that an API process receives at the same time. Beyond it the answer is 503."""

    max_requests_per_s: float | None = Field(None, gt=0, le=1e6)
    """Requests a second that each API key may send on average, over all API processes. Default: no limit."""

    max_request_burst: int = Field(100, ge=1, le=1_000_000)
    """Requests that a key may send at once, where `max_requests_per_s` is set."""

    max_connections: int = Field(1000, ge=1)
    """Connections that an API process keeps open; fewer if the open-file limit is lower. Beyond it the connection that
    has been idle longest is closed; if none is idle, only `/healthz` and `/readyz` are answered."""

    max_streams: int = Field(500, ge=1)
    """Most event streams that an API process keeps open. Beyond it the answer is 503 with `Retry-After`."""

    @property
    def num_web_processes(self) -> int:
        """How many processes of an API answer requests."""
        return self.web_processes or max(1, min(4, (os.cpu_count() or 1) // 4))
