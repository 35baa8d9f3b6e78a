from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from trainyard.settings import Settings


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("storage_url", "/mnt/store", "s3://bucket/prefix"),
        ("storage_url", "s3://key:secret@bucket", "without a key"),
        ("storage_access_key", "one-without-the-other", "set both"),
    ],
)
def test_half_an_object_store_is_refused(name: str, value: str, says: str) -> None:
    given: dict[str, Any] = {name: value}
    with pytest.raises(ValidationError, match=says):
        Settings(**given)


def test_an_object_stores_keys_are_in_no_text_of_the_settings() -> None:
    settings = Settings(storage_url="s3://bucket/yard", storage_access_key="access", storage_secret_key="hidden-one")
    assert "hidden-one" not in f"{settings!r} {settings}"
    assert settings.as_environment()["TRAINYARD_STORAGE_SECRET_KEY"] == "hidden-one"
