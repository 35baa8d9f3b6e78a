"""The API spares its requests long collections of garbage."""

from __future__ import annotations

import gc
import io
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from PIL import Image

import api
from api.insight.insight import LIMIT_S
from tests.api.served import Served, png

STARTS = """
import gc
from api.serving.runtime import TorchRuntime
TorchRuntime(1).start()
frozen, left = gc.get_freeze_count(), len(gc.get_objects())
assert frozen > 100_000, frozen
assert left < frozen / 10, (left, frozen)
"""


def test_no_collection_goes_through_torch_s_modules_again() -> None:
    subprocess.run([sys.executable, "-c", STARTS], check=True)


def test_collections_are_rare() -> None:
    code = "import gc; from api.garbage import *; collect_rarely(); assert gc.get_threshold()[0] == EVERY"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_nothing_is_collected_while_modules_are_imported() -> None:
    code = (
        "import gc; from api.garbage import *; collect_nothing(); assert not gc.isenabled(); keep_what_is_there(); "
        "assert gc.isenabled() and gc.get_freeze_count() > 1000"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _photograph() -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((500, 375), 50).convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


JPEG = {"Content-Type": "image/jpeg"}


@pytest.mark.parametrize(
    "ask",
    [
        lambda http: http.post("/predict", content=_half(_photograph()), headers=JPEG),
        lambda http: http.post("/predict", content=_half(png()), headers={"Content-Type": "image/png"}),
        lambda http: http.post("/predict", files={"file": ("a.jpg", _half(_photograph()))}),
        lambda http: http.post("/explain", content=_half(_photograph()), headers=JPEG, timeout=LIMIT_S),
        lambda http: http.post("/jobs", json={"dataset": "none"}),
        lambda http: http.post("/jobs", content=b"{"),
        lambda http: http.get("/jobs/job_0"),
    ],
    ids=["photograph", "small image", "form", "explanation", "no dataset", "no JSON", "no job"],
)
def test_what_is_refused_is_freed_at_once(served: Served, ask: Callable[[httpx.Client], httpx.Response]) -> None:
    """A traceback that is part of a reference cycle keeps all that its frames hold, such as the pixels of an image."""
    served.add_checkpoint(served.add_job(), 1)
    for _ in range(2):
        assert ask(served.http).is_client_error
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        ask(served.http)
        gc.collect()
        kept = [it.f_code for it in gc.garbage if isinstance(it, types.FrameType)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    ours = Path(api.__file__).parents[1]
    assert [it.co_qualname for it in kept if Path(it.co_filename).is_relative_to(ours)] == []
