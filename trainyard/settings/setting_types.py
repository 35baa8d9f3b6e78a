"""The types of settings that several groups use, and what they refuse."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, ValidationInfo


def _refuse_a_url(value: object) -> object:
    if "://" in str(value):
        raise ValueError(
            f"{value} is a URL, but a folder on this machine is needed: an object store goes into TRAINYARD_STORAGE_URL"
        )
    return value


def _refuse_what_is_no_endpoint(url: str, info: ValidationInfo) -> str:
    if not re.fullmatch(r"https?://[^/@\s]+/?", url):
        raise ValueError(f"{info.field_name} is not a URL: write it as https://host:port, without a key in it")
    return url


Folder = Annotated[Path, BeforeValidator(_refuse_a_url)]  #: a folder of this machine
Endpoint = Annotated[str, AfterValidator(_refuse_what_is_no_endpoint)]  #: a server's address, with nothing behind it
