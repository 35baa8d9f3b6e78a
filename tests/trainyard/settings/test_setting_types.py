from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from trainyard.settings import Settings


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("data_dir", "s3://bucket/yard", "TRAINYARD_STORAGE_URL"),
        ("datasets_dir", "s3://bucket/sets", "TRAINYARD_STORAGE_URL"),
        ("locks_dir", "s3://bucket/locks", "TRAINYARD_STORAGE_URL"),
        ("storage_endpoint", "https://key:secret@host", "storage_endpoint is not a URL.*without a key"),
        ("otlp_endpoint", "host:4318", "otlp_endpoint is not a URL"),
    ],
)
def test_an_address_in_place_of_a_folder_and_what_is_no_endpoint_are_refused(name: str, value: str, says: str) -> None:
    given: dict[str, Any] = {name: value}
    with pytest.raises(ValidationError, match=says):
        Settings(**given)
