"""OpenAI's own package, as a client of a served yard."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from openai import DefaultHttpxClient, OpenAI

from tests.api.served import Served


@pytest.fixture
def client(served: Served) -> Iterator[OpenAI]:
    with (
        DefaultHttpxClient(trust_env=False, timeout=20) as http,
        OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0, http_client=http) as client,
    ):
        yield client
