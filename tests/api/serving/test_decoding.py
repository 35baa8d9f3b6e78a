import asyncio
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from alexnet_core.data.decoder_process import DecoderProcess
from alexnet_core.data.squares import Pixels
from alexnet_core.errors import ImageError, ImageUnreadable
from api.serving.batching import Rows
from api.serving.decoding import Decoding
from api.serving.turns import Turn
from tests import heic_images
from tests.hostile_images import encode
from trainyard.errors import PredictQueueFull

SMALL = encode(Image.new("RGB", (32, 32), "red"), "PNG")
LARGE = encode(Image.new("RGB", (2000, 1500), "red"), "PNG")
TIFF = encode(Image.new("RGB", (32, 32), "red"), "TIFF")


class Shapes:
    """A model whose input is the image's shape."""

    precision = "fp32"

    class_names = ("only",)
    input_shape = (1, 1, 1)

    def preprocess(self, image: Pixels) -> tuple[int, ...]:
        return np.asarray(image).shape

    def take_input(self, values_CHW: np.ndarray) -> tuple[int, ...]:
        return values_CHW.shape

    def compute(self, inputs: list[object]) -> Rows:
        return Rows([], [])


@pytest.fixture
def decoders() -> Iterator[Decoding]:
    decoders = Decoding(25_000_000)
    yield decoders
    decoders.stop()


def test_small_images_need_no_process_and_large_ones_get_one(decoders: Decoding) -> None:
    assert asyncio.run(decoders.to_input(Turn(), Shapes(), SMALL)) == (32, 32, 3)
    assert [process.pid for process in decoders._processes] == [None, None]
    assert asyncio.run(decoders.to_input(Turn(), Shapes(), LARGE)) == (1500, 1500, 3)
    assert asyncio.run(decoders.to_input(Turn(), Shapes(), TIFF)) == (32, 32, 3)
    assert sum(process.pid is not None for process in decoders._processes) in {1, 2}


def test_heic_and_avif_are_decoded_in_a_process_however_small(decoders: Decoding) -> None:
    for data, side in ((heic_images.PLAIN, 32), (encode(Image.new("RGB", (32, 32), "red"), "AVIF"), 32)):
        assert asyncio.run(decoders.to_input(Turn(), Shapes(), data)) == (side, side, 3)
    assert any(process.pid is not None for process in decoders._processes)


def test_a_small_image_does_not_wait_for_large_ones(decoders: Decoding, monkeypatch: pytest.MonkeyPatch) -> None:
    leave = threading.Event()

    def hold(self: object, data: bytes) -> np.ndarray:
        assert leave.wait(120)
        return np.zeros((1, 1, 3), np.uint8)

    monkeypatch.setattr(DecoderProcess, "decode", hold)

    async def ask() -> list[object]:
        turns = [Turn() for _ in range(3)]
        large = [asyncio.create_task(decoders.to_input(turn, Shapes(), LARGE)) for turn in turns for _ in range(5)]
        await asyncio.sleep(0.1)
        small = await asyncio.wait_for(decoders.to_input(Turn(), Shapes(), SMALL), 60)
        assert not any(task.done() for task in large)
        leave.set()
        return [small, *await asyncio.gather(*large)]

    assert asyncio.run(ask()) == [(32, 32, 3)] + 15 * [(1, 1, 3)]


def test_a_process_that_can_not_be_started_is_room_that_is_missing(
    decoders: Decoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("subprocess.Popen", refuse)
    with pytest.raises(PredictQueueFull):
        asyncio.run(decoders.to_input(Turn(), Shapes(), LARGE))
    monkeypatch.undo()
    assert asyncio.run(decoders.to_input(Turn(), Shapes(), LARGE)) == (1500, 1500, 3)


def test_a_damaged_file_is_refused_by_both_roads(decoders: Decoding) -> None:
    for data in (b"", SMALL[:50], LARGE[:3000], TIFF[:100]):
        with pytest.raises(ImageError, match="image") as caught:
            asyncio.run(decoders.to_input(Turn(), Shapes(), data))
        assert caught.value.code.startswith("image_")
    with pytest.raises(ImageUnreadable):
        asyncio.run(decoders.to_input(Turn(), Shapes(), b""))
