import io
import socket
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from api.serving.decoding import Decoding
from tests.api.served import FILES, FakeModel, FakeRuntime, Served, error_of, png, wait_until
from trainyard.artifacts.calibrations import keep_of_checkpoint

PNG = {"Content-Type": "image/png"}


@pytest.fixture
def trained(served: Served) -> tuple[Served, str, str]:
    job_id = served.add_job()
    return served, job_id, served.add_checkpoint(job_id, 1).id


def test_one_image_as_a_multipart_file(trained: tuple[Served, str, str]) -> None:
    served, job_id, checkpoint_id = trained
    response = served.http.post("/predict", files={"file": ("a.png", png(255))})
    assert response.status_code == 200
    body = response.json()
    assert sorted(body) == ["model", "predictions", "timing"]
    named = {"checkpoint": checkpoint_id, "job": job_id, "epoch": 1, "alias": "latest"}
    assert body["model"] == named | {"weights_sha256": "a" * 64, "version": 1, "side": None}
    assert response.headers["x-trainyard-checkpoint"] == checkpoint_id
    assert body["predictions"] == [
        {"label": "bright", "index": 0, "probability": 1.0},
        {"label": "dark", "index": 1, "probability": 0.0},
        {"label": "never", "index": 2, "probability": 0.0},
    ]
    assert sorted(body["timing"]) == ["inference_ms", "preprocess_ms", "queue_ms", "total_ms"]


@pytest.mark.parametrize("content_type", ["image/png", "application/octet-stream", "IMAGE/PNG; x=y"])
def test_one_image_as_the_raw_body(trained: tuple[Served, str, str], content_type: str) -> None:
    served, _, _ = trained
    response = served.http.post("/predict?top_k=1", content=png(0), headers={"Content-Type": content_type})
    assert [row["label"] for row in response.json()["predictions"]] == ["dark"]


def test_every_way_to_name_a_model(trained: tuple[Served, str, str]) -> None:
    served, job_id, first = trained
    second = served.add_checkpoint(job_id, 2).id
    for reference, expected in [
        (first, first),
        (job_id, second),
        (f"{job_id}@latest", second),
        (f"{job_id}@epoch-1", first),
    ]:
        body = served.http.post(f"/predict?model={reference}", content=png(), headers=PNG).json()
        assert (body["model"]["checkpoint"], body["model"]["alias"]) == (expected, None)


def test_several_images_keep_their_order_and_their_errors(trained: tuple[Served, str, str]) -> None:
    served, _, _ = trained
    files = [("file", ("a.png", png(255))), ("file", ("b.txt", b"text")), ("file", ("c.png", png(0)))]
    response = served.http.post("/predict?top_k=1", files=files)
    assert response.status_code == 200
    results = response.json()["results"]
    assert [result["filename"] for result in results] == ["a.png", "b.txt", "c.png"]
    assert results[0]["predictions"][0]["label"] == "bright"
    assert results[1]["error"]["code"] in {"image_unreadable", "image_format_unsupported"}
    assert results[2]["predictions"][0]["label"] == "dark"
    response = served.http.post("/predict", files=[("file", ("a", b"text")), ("file", ("b", b""))])
    assert response.status_code in {415, 422}


def _hundred_megapixels() -> bytes:
    from struct import pack

    def chunk(kind: bytes, data: bytes) -> bytes:
        return pack(">I", len(data)) + kind + data + pack(">I", zlib.crc32(kind + data))

    header = pack(">IIBBBBB", 10_000, 10_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def _truncated() -> bytes:
    from random import Random

    from PIL import Image

    buffer = io.BytesIO()
    Image.frombytes("RGB", (64, 64), Random(0).randbytes(64 * 64 * 3)).save(buffer, "PNG")
    return buffer.getvalue()[:2000]


@pytest.mark.parametrize(
    ("content", "statuses"),
    [
        (b"this is text", {415, 422}),
        (b"", {415, 422}),
        (_truncated(), {422}),
        (_hundred_megapixels(), {413}),
        (b"%PDF-1.4", {415, 422}),
    ],
)
def test_a_bad_image_is_refused(trained: tuple[Served, str, str], content: bytes, statuses: set[int]) -> None:
    served, _, _ = trained
    for response in (
        served.http.post("/predict", content=content, headers=PNG),
        served.http.post("/predict", files={"file": ("x.png", content)}),
    ):
        assert response.status_code in statuses
        code = response.json()["error"]["code"]
        assert code in {"image_unreadable", "image_format_unsupported", "image_too_large"}
        error_of(response, response.status_code, code)


def test_bad_requests_are_refused(trained: tuple[Served, str, str]) -> None:
    served, job_id, _ = trained
    http = served.http
    error_of(http.post("/predict", json={}), 415, "unsupported_media_type")
    error_of(http.post("/predict"), 415, "unsupported_media_type")
    assert error_of(http.post("/predict", files={"other": b"x"}), 422, "invalid_request")["param"] == "file"
    error_of(http.post("/predict", files={"other": b"x"}, data={"file": "text"}), 422, "invalid_request")
    for query, status, code in [
        ("top_k=0", 422, "invalid_request"),
        ("top_k=1001", 422, "invalid_request"),
        ("model=Nope!", 422, "invalid_request"),
        ("model=nope", 404, "alias_not_found"),
        ("model=%00", 422, "invalid_request"),
        ("model=job_0", 404, "job_not_found"),
        ("model=ckpt_0", 404, "checkpoint_not_found"),
        (f"model={job_id}@epoch-9", 404, "checkpoint_not_found"),
    ]:
        error_of(http.post(f"/predict?{query}", content=png(), headers=PNG), status, code)


def test_without_any_checkpoint(served: Served) -> None:
    response = served.http.post("/predict", content=png(), headers=PNG)
    error_of(response, 503, "no_checkpoint")
    assert response.headers["retry-after"]
    job_id = served.add_job()
    error_of(served.http.post(f"/predict?model={job_id}", content=png(), headers=PNG), 409, "no_checkpoint")


def test_latest_moves_by_itself_and_the_old_one_serves_meanwhile(
    trained: tuple[Served, str, str], runtime: FakeRuntime
) -> None:
    served, job_id, first = trained

    def answering() -> str:
        response = served.http.post("/predict", content=png(), headers=PNG)
        return str(response.json()["model"]["checkpoint"])

    assert answering() == first
    runtime.load_gate = threading.Event()
    second = served.add_checkpoint(job_id, 2).id
    wait_until(lambda: len(runtime.loads) == 2)
    assert answering() == first
    runtime.load_gate.set()
    wait_until(lambda: answering() == second)


def test_a_model_that_loads_too_slowly_is_503(serve: Callable[..., Served], runtime: FakeRuntime) -> None:
    runtime.load_gate = threading.Event()
    served = serve(model_wait_s=0.2)
    served.add_checkpoint(served.add_job(), 1)
    response = served.http.post("/predict", content=png(), headers=PNG)
    error_of(response, 503, "model_loading")
    assert response.headers["retry-after"]
    wait_until(lambda: served.http.get("/readyz").json()["model"] == "loading")
    runtime.load_gate.set()
    wait_until(lambda: served.http.post("/predict", content=png(), headers=PNG).status_code == 200)


def test_a_damaged_checkpoint_is_put_aside_and_the_one_before_serves(trained: tuple[Served, str, str]) -> None:
    served, job_id, first = trained
    broken = served.add_checkpoint(job_id, 2, damaged=True).id
    response = served.http.post(f"/predict?model={broken}", content=png(), headers=PNG)
    error_of(response, 404, "checkpoint_not_found")
    body = served.http.post("/predict", content=png(), headers=PNG).json()
    assert body["model"]["checkpoint"] == first
    assert [row["id"] for row in served.http.get("/checkpoints").json()["data"]] == [first]


def test_a_checkpoint_that_cannot_be_read_just_now_is_kept_and_tried_again(
    trained: tuple[Served, str, str], runtime: FakeRuntime
) -> None:
    served, job_id, _ = trained
    runtime.trouble = OSError(24, "Too many open files")
    newer = served.add_checkpoint(job_id, 2).id
    response = served.http.post(f"/predict?model={newer}", content=png(), headers=PNG)
    error_of(response, 503, "model_loading")
    assert response.headers["retry-after"]
    runtime.trouble = None
    body = served.http.post(f"/predict?model={newer}", content=png(), headers=PNG).json()
    assert body["model"]["checkpoint"] == newer
    wait_until(lambda: served.http.post("/predict", content=png(), headers=PNG).json()["model"]["checkpoint"] == newer)


@pytest.mark.usefixtures("only_the_thread_computes")
def test_what_waits_is_computed_together_and_more_than_fits_is_503(
    serve: Callable[..., Served], runtime: FakeRuntime
) -> None:
    served = serve(max_queued_predictions=5, max_batch=3)
    served.add_checkpoint(served.add_job(), 1)
    served.http.post("/predict", content=png(), headers=PNG)
    runtime.batches.clear()
    runtime.gate = threading.Event()
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(served.http.post, "/predict", content=png(), headers=PNG)
        wait_until(lambda: len(runtime.batches) == 1)
        rest = [pool.submit(served.http.post, "/predict", content=png(), headers=PNG) for _ in range(4)]
        engine = served.app.state.services.engine
        wait_until(lambda: len(engine._batcher._waiting) == 4)
        response = served.http.post("/predict", content=png(), headers=PNG)
        error_of(response, 503, "predict_queue_full")
        assert response.headers["retry-after"] == "1"
        assert served.http.get("/healthz").status_code == 200
        runtime.gate.set()
        assert [answer.result().status_code for answer in [first, *rest]] == [200] * 5
    assert runtime.batches == [1, 3, 1]
    assert engine._admitted == 0
    too_many = [("file", (f"{number}", png())) for number in range(6)]
    error_of(served.http.post("/predict", files=too_many), 400, "body_unreadable")


def test_only_so_many_models_are_kept(serve: Callable[..., Served], runtime: FakeRuntime) -> None:
    served = serve(max_loaded_models=2)
    jobs = [served.add_job() for _ in range(3)]
    ids = [served.add_checkpoint(job_id, 1).id for job_id in jobs]
    wait_until(lambda: served.http.get("/readyz").json()["model"] == "ok")
    for reference in (*ids, ids[0]):
        assert served.http.post(f"/predict?model={reference}", content=png(), headers=PNG).status_code == 200
    loader = served.app.state.services.engine._loader
    assert set(loader._loaded) == {ids[0], ids[2]}
    assert loader.latest.checkpoint_id == ids[2]


def test_models_are_unloaded_when_their_weights_take_too_much_memory(
    serve: Callable[..., Served], runtime: FakeRuntime
) -> None:
    served = serve(max_loaded_models=4, max_loaded_bytes=6000)  # each has 2,700
    ids = [served.add_checkpoint(served.add_job(), 1).id for _ in range(3)]
    wait_until(lambda: served.http.get("/readyz").json()["model"] == "ok")
    for reference in ids:
        assert served.http.post(f"/predict?model={reference}", content=png(), headers=PNG).status_code == 200
    loader = served.app.state.services.engine._loader
    assert set(loader._loaded) == {ids[1], ids[2]}


def multipart(num_images: int) -> bytes:
    """A whole request."""
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + png() + b"\r\n"
    body = num_images * part + b"--b--\r\n"
    head = "POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def test_the_images_of_a_closed_connection_are_neither_decoded_nor_computed(
    trained: tuple[Served, str, str], runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    served, _, _ = trained
    served.http.post("/predict", content=png(), headers=PNG)
    runtime.batches.clear()
    decoded: list[bytes] = []
    begun, go_on = threading.Event(), threading.Event()
    decode = Decoding._try_small

    def hold(self: Decoding, model: Any, data: bytes, **how: bool) -> object:
        begun.set()
        assert go_on.wait(60)
        decoded.append(data)
        return decode(self, model, data, **how)

    monkeypatch.setattr(Decoding, "_try_small", hold)
    engine = served.app.state.services.engine
    with socket.create_connection(("127.0.0.1", served.port)) as connection:
        connection.sendall(multipart(40))
        assert begun.wait(10)
        assert engine._admitted == 40
    wait_until(lambda: engine._admitted == 0)
    go_on.set()
    assert served.http.post("/predict", content=png(), headers=PNG).status_code == 200
    assert len(decoded) <= 1 + len(engine._decoding._small._threads), "what had begun, and the one that came after"
    assert runtime.batches == [1]


@pytest.mark.usefixtures("only_the_thread_computes")
def test_forty_images_of_one_request_do_not_stand_before_another_client(
    serve: Callable[..., Served], runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve(max_batch=1)
    served.add_checkpoint(served.add_job(), 1)
    served.http.post("/predict", content=png(), headers=PNG)
    runtime.gate = threading.Event()
    engine = served.app.state.services.engine
    computed: list[float] = []
    compute = FakeModel.compute

    def note(model: FakeModel, inputs: Any) -> Any:
        computed.extend(inputs)
        return compute(model, inputs)

    monkeypatch.setattr(FakeModel, "compute", note)
    files = [("file", (str(number), png(255))) for number in range(40)]
    with ThreadPoolExecutor(2) as pool:
        many = pool.submit(served.http.post, "/predict", files=files)
        wait_until(lambda: len(engine._batcher._waiting) == 39)
        one = pool.submit(served.http.post, "/predict", content=png(0), headers=PNG)
        wait_until(lambda: len(engine._batcher._waiting) == 40)
        runtime.gate.set()
        assert one.result().status_code == 200
        assert many.result().status_code == 200
    assert computed.index(0.0) <= 2, "behind the one that is computed, and one that waits"
    assert len(computed) == 41
    assert engine._admitted == 0


CALIBRATION = {"temperature": 0.5, "unfamiliarity_threshold": -5.0}


def test_calibrated_probabilities_and_how_unfamiliar_an_image_is(trained: tuple[Served, str, str]) -> None:
    """The fake model's logarithm of summed exponentials is ten times the brightness."""
    served, _, checkpoint_id = trained
    with served.database.writing() as session:
        keep_of_checkpoint(session, checkpoint_id, CALIBRATION)
    plain = served.http.post("/predict", content=png(204), headers=PNG).json()
    assert "unfamiliarity" not in plain
    assert [row["probability"] for row in plain["predictions"]] == pytest.approx([0.8, 0.2, 0])
    bright = served.http.post("/predict?calibrated=true", content=png(204), headers=PNG).json()
    assert [row["probability"] for row in bright["predictions"]] == pytest.approx([16 / 17, 1 / 17, 0])
    assert bright["unfamiliarity"] == {"score": pytest.approx(-8), "threshold": -5.0, "is_unfamiliar": False}
    dark = served.http.post("/predict?calibrated=true", content=png(0), headers=PNG).json()
    assert dark["unfamiliarity"]["is_unfamiliar"] is True


def test_each_of_several_images_has_its_unfamiliarity(trained: tuple[Served, str, str]) -> None:
    served, _, checkpoint_id = trained
    with served.database.writing() as session:
        keep_of_checkpoint(session, checkpoint_id, CALIBRATION)
    files = [("file", ("a.png", png(255))), ("file", ("b.txt", b"no image")), ("file", ("c.png", png(0)))]
    results = served.http.post("/predict?calibrated=true", files=files).json()["results"]
    assert [row.get("unfamiliarity", {}).get("is_unfamiliar") for row in results] == [False, None, True]
    assert (results[0]["error"], results[1]["predictions"]) == (None, None)


def test_a_checkpoint_that_can_not_be_calibrated_says_why(trained: tuple[Served, str, str]) -> None:
    served, _, _ = trained
    error_of(served.http.post("/predict?calibrated=true", content=png(), headers=PNG), 409, "dataset_not_ready")


@pytest.mark.usefixtures("only_the_thread_computes")
def test_an_answer_that_comes_too_late_is_given_up_and_nothing_more_is_computed(
    served: Served, runtime: FakeRuntime
) -> None:
    served.add_checkpoint(served.add_job(), 1)
    assert served.http.post("/predict", content=png(), headers=PNG).status_code == 200
    runtime.gate = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(served.http.post, "/predict", content=png(), headers=PNG)
        wait_until(lambda: len(runtime.batches) == 2)
        late = served.http.post("/predict", content=png(), headers=PNG | {"X-Trainyard-Timeout-Ms": "50"})
        error_of(late, 504, "deadline_exceeded")
        runtime.gate.set()
        assert first.result().status_code == 200
    assert served.http.post("/predict", content=png(), headers=PNG).status_code == 200
    assert runtime.batches == [1, 1, 1]
    for wrong in ("0", "-1", "soon"):
        refused = served.http.post("/predict", content=png(), headers=PNG | {"X-Trainyard-Timeout-Ms": wrong})
        error_of(refused, 422, "invalid_request")


@pytest.mark.parametrize("query", ["", "?top_k=2", "?model=latest&top_k=1", "?top_k=1000"])
def test_a_plain_request_is_answered_like_any_other(served: Served, query: str) -> None:
    served.add_checkpoint(served.add_job(), 1)
    plain = served.http.post(f"/predict{query}", content=png(120), headers=PNG)
    ordinary = served.http.post(f"/predict{query}", files={"file": ("a.png", png(120))})
    assert plain.status_code == ordinary.status_code == 200
    first, second = plain.json(), ordinary.json()
    assert first.pop("timing").keys() == second.pop("timing").keys()
    assert first == second
    assert dict(plain.headers).keys() == dict(ordinary.headers).keys()


@pytest.mark.parametrize("query", ["?top_k=0", "?top_k=1001", "?top_k=x", "?top_k=", f"?model={'m' * 201}"])
def test_an_unusual_request_is_refused_as_ever(served: Served, query: str) -> None:
    error_of(served.http.post(f"/predict{query}", content=png(), headers=PNG), 422, "invalid_request")


def test_a_checkpoint_of_another_version_is_refused_and_not_read_for_every_request(
    trained: tuple[Served, str, str], runtime: FakeRuntime
) -> None:
    served, _, _ = trained
    content = dict.fromkeys(FILES, b"of tomorrow")
    odd = served.add_checkpoint(served.add_job(), 1, files=content).id
    for _ in range(3):
        refused = served.http.post(f"/predict?model={odd}", content=png(), headers=PNG)
        error_of(refused, 409, "checkpoint_incompatible")
    assert runtime.loads.count("epoch-00000001-e1") <= 2, "the one before it, and this one once"
    assert served.http.post("/predict", content=png(), headers=PNG).status_code == 200
