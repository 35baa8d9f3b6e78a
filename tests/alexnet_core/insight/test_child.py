"""Answers of the child, within this process: what goes wrong is in the answer, and networks are kept within bounds."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from alexnet_core.data.pack import Pack
from alexnet_core.insight import child, protocol
from alexnet_core.insight.child import Responder, serve
from alexnet_core.insight.methods import Method, PassKind, View
from alexnet_core.insight.protocol import Activate, Answer, DrawFilters, Explain, FindSimilar, GoOn
from alexnet_core.insight.similar_images import FEATURES, NORMS, POSITIONS
from alexnet_core.network.checkpoint import Checkpoint, save_checkpoint
from tests.alexnet_core.networks import make_checkpoint
from tests.alexnet_core.toy import write_toy_pack

pytestmark = pytest.mark.usefixtures("one_thread")


def png(size: int = 30) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (size, size, 3)).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    made = make_checkpoint("quick", groups=2)
    path = tmp_path_factory.mktemp("checkpoints") / "epoch-00000001-e1"
    saved = Checkpoint(**{**vars(made), "path": path, "state": {}, "state_tensors": {}})
    save_checkpoint(saved)
    return saved


@pytest.fixture
def responder() -> Responder:
    return Responder(max_pixels=10_000)


def explain(checkpoint: Checkpoint, **changes: Any) -> Explain:
    values = {"method": Method.GRAD_CAM, "target": None, "view": View.HEAT, "px": None} | changes
    return Explain(checkpoint=checkpoint.path, manifest_sha256="a", **values)


def test_it_explains_the_most_probable_class_or_the_one_that_is_named(
    responder: Responder, checkpoint: Checkpoint
) -> None:
    answer, picture = responder.answer(explain(checkpoint), png())
    assert (answer.code, answer.target) == ("", answer.predictions[0])
    assert len(answer.predictions) == 5
    assert Image.open(io.BytesIO(picture)).size == (30, 30)
    other, _ = responder.answer(explain(checkpoint, target="j"), png())
    assert other.target is not None
    assert other.target.label == "j"


@pytest.mark.parametrize(
    ("data", "code"),
    [(png()[:50], "image_unreadable"), (b"no image", "image_format_unsupported"), (png(200), "image_too_large")],
)
def test_an_image_that_can_not_be_read_is_in_the_answer(
    responder: Responder, checkpoint: Checkpoint, data: bytes, code: str
) -> None:
    assert responder.answer(explain(checkpoint), data)[0].code == code


def test_what_is_asked_wrongly_names_the_parameter(responder: Responder, checkpoint: Checkpoint) -> None:
    answer, _ = responder.answer(explain(checkpoint, target="cow"), png())
    assert (answer.code, answer.param) == (protocol.BAD_REQUEST, "target")
    layer = Activate(checkpoint=checkpoint.path, manifest_sha256="a", layer="conv9", scale="own")
    answer, _ = responder.answer(layer, png())
    assert (answer.code, answer.param) == (protocol.BAD_REQUEST, "layer")


def test_a_damaged_checkpoint_is_told(responder: Responder, tmp_path: Path) -> None:
    request = DrawFilters(checkpoint=tmp_path, manifest_sha256="b", scale="own")
    assert responder.answer(request, b"")[0].code == "checkpoint_corrupt"


def test_towers_are_drawn_apart(responder: Responder, checkpoint: Checkpoint) -> None:
    request = DrawFilters(checkpoint=checkpoint.path, manifest_sha256="a", scale="common")
    answer, picture = responder.answer(request, b"")
    assert answer.code == ""
    assert Image.open(io.BytesIO(picture)).height > 120, "a line of text above each half"


def test_a_dataset_with_other_classes_and_an_index_that_is_gone_are_told(
    responder: Responder, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    pack: Pack = write_toy_pack(tmp_path / "pack")
    go_on = GoOn(
        checkpoint=checkpoint.path, manifest_sha256="a", kind=PassKind.INDEX, split="train", pack=pack.path,
        draft=tmp_path, done=0, seconds=1,
    )  # fmt: skip
    assert responder.answer(go_on, b"")[0].code == protocol.OTHER_CLASSES
    find = FindSimilar(checkpoint=checkpoint.path, manifest_sha256="a", index=tmp_path / "gone", pack=pack.path, k=3)
    assert responder.answer(find, png())[0].code == protocol.NO_INDEX
    for name in (FEATURES, NORMS, POSITIONS):
        (tmp_path / name).touch()  # as a power cut may leave them
    empty = find.model_copy(update={"index": tmp_path})
    assert responder.answer(empty, png())[0].code == protocol.NO_INDEX


@pytest.mark.parametrize(
    ("trouble", "code"),
    [
        (MemoryError(), protocol.NO_MEMORY),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), protocol.NO_MEMORY),
        (RuntimeError("a bug"), protocol.BROKEN),
    ],
)
def test_any_other_trouble_is_told_and_the_child_goes_on(
    responder: Responder, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, trouble: Exception, code: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise trouble

    monkeypatch.setattr(child, "draw_heat", fail)
    assert responder.answer(explain(checkpoint), png())[0].code == code
    monkeypatch.undo()
    assert responder.answer(explain(checkpoint), png())[0].code == ""


def test_networks_are_kept_within_bounds(
    responder: Responder, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[Path] = []
    load = child.Responder._load

    def count(self: Responder, request: Any) -> Any:
        before = set(self._loaded)
        predictor = load(self, request)
        loads.extend([request.checkpoint] if request.manifest_sha256 not in before else [])
        return predictor

    monkeypatch.setattr(child.Responder, "_load", count)
    for name in ("a", "b", "a"):
        responder.answer(explain(checkpoint).model_copy(update={"manifest_sha256": name}), png())
    assert len(loads) == 2
    monkeypatch.setattr(child, "_KEPT_BYTES", 10)
    for name in ("c", "a"):
        responder.answer(explain(checkpoint).model_copy(update={"manifest_sha256": name}), png())
    assert len(loads) == 4


def test_it_serves_until_the_pipe_is_closed(responder: Responder, checkpoint: Checkpoint) -> None:
    requests, answers = io.BytesIO(), io.BytesIO()
    protocol.write_message(requests, explain(checkpoint), png())
    protocol.write_message(requests, explain(checkpoint, target="cow"), png())
    requests.seek(0)
    serve(requests, answers, responder)
    answers.seek(0)
    found: list[Answer] = [protocol.read_answer(answers)[0] for _ in range(2)]
    assert [one.code for one in found] == ["", protocol.BAD_REQUEST]
