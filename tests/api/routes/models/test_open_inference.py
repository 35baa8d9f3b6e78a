"""The Open Inference Protocol: by plain requests, and by Triton's own client as its users write it."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import SecretStr
from tritonclient import http as triton
from tritonclient.utils import InferenceServerException

from tests.api.aliased import Three, put
from tests.api.served import FakeRuntime, Served, png


def refused(response: Any, status: int, said: str) -> None:
    """A refusal has the protocol's own body."""
    assert response.status_code == status, response.text
    assert set(response.json()) == {"error"}
    assert said in response.json()["error"]


def text_of(value: int) -> str:
    return base64.b64encode(png(value)).decode()


def image_input(*texts: str, shape: list[int] | None = None) -> dict[str, Any]:
    return {"name": "image", "shape": shape or [len(texts)], "datatype": "BYTES", "data": list(texts)}


@pytest.fixture
def client(three: Three) -> Iterator[triton.InferenceServerClient]:
    client = triton.InferenceServerClient(three[0].url.removeprefix("http://"))
    yield client
    client.close()


def file_input(*values: int) -> triton.InferInput:
    given = triton.InferInput("image", [len(values)], "BYTES")
    given.set_data_from_numpy(np.array([png(value) for value in values], dtype=np.object_))
    return given


class TestTritonclient:
    def test_metadata_and_health(self, three: Three, client: triton.InferenceServerClient) -> None:
        _, job_id, (_, _, third) = three
        assert client.is_server_live()
        assert client.is_server_ready()
        metadata = client.get_server_metadata()
        assert (metadata["name"], "binary_tensor_data" in metadata["extensions"]) == ("trainyard", True)
        assert client.is_model_ready("latest")
        assert not client.is_model_ready("nobody")
        model = client.get_model_metadata(job_id)
        assert (model["name"], model["versions"]) == (job_id, ["1", "2", "3"])
        assert model["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
        assert model["outputs"][0] == {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}
        assert model["parameters"]["checkpoint"] == third
        assert model["parameters"]["class_names"] == ["bright", "dark", "never"]

    @pytest.mark.parametrize("binary", [True, False])
    def test_infer_with_files(self, three: Three, client: triton.InferenceServerClient, binary: bool) -> None:
        _, _, (first, _, _) = three
        outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("probabilities", "labels")]
        result = client.infer(first, [file_input(255, 0)], outputs=outputs, request_id="mine")
        assert result.as_numpy("probabilities").tolist() == [[1, 0, 0], [0, 1, 0]]
        labels = [it.decode() if isinstance(it, bytes) else it for it in result.as_numpy("labels").tolist()]
        assert labels == ["bright", "dark"]
        answer = result.get_response()
        assert (answer["model_name"], answer["model_version"], answer["id"]) == (first, "1", "mine")
        assert answer["parameters"]["checkpoint"] == first
        assert answer["parameters"]["weights_sha256"] == "a" * 64

    def test_infer_without_naming_outputs(self, three: Three, client: triton.InferenceServerClient) -> None:
        result = client.infer(three[2][0], [file_input(255)])
        assert result.as_numpy("probabilities").tolist() == [[1, 0, 0]]
        assert result.as_numpy("labels").tolist() == [b"bright"]

    @pytest.mark.parametrize("binary", [True, False])
    @pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
    def test_infer_with_pixels(
        self, three: Three, client: triton.InferenceServerClient, layout: str, binary: bool
    ) -> None:
        pixels = np.stack([np.full((20, 10, 3), value, np.uint8) for value in (0, 51)])
        if layout == "NCHW":
            pixels = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
        given = triton.InferInput("pixels", list(pixels.shape), "UINT8")
        given.set_data_from_numpy(pixels, binary_data=binary)
        found = client.infer(three[2][0], [given]).as_numpy("probabilities")
        assert found == pytest.approx(np.array([[0, 1, 0], [0.2, 0.8, 0]]))

    def test_infer_with_the_networks_input(self, three: Three, client: triton.InferenceServerClient) -> None:
        values = np.stack([np.full((3, 8, 8), value, np.float32) for value in (0.25, 1)])
        given = triton.InferInput("values", [2, 3, 8, 8], "FP32")
        given.set_data_from_numpy(values)
        assert client.infer(three[2][0], [given]).as_numpy("probabilities")[0, 0] == 0.25
        given = triton.InferInput("values", [2, 3, 4, 16], "FP32")
        given.set_data_from_numpy(values.reshape(2, 3, 4, 16))
        with pytest.raises(InferenceServerException, match=r"the network takes \[3, 8, 8\]"):
            client.infer(three[2][0], [given])

    def test_classification(self, three: Three, client: triton.InferenceServerClient) -> None:
        wanted = triton.InferRequestedOutput("probabilities", class_count=2)
        found = client.infer(three[2][0], [file_input(255, 51)], outputs=[wanted]).as_numpy("probabilities")
        assert found.tolist() == [
            [b"1.000000:0:bright", b"0.000000:1:dark"],
            [b"0.800000:1:dark", b"0.200000:0:bright"],
        ]

    def test_versions(self, three: Three, client: triton.InferenceServerClient) -> None:
        served, job_id, (first, second, third) = three
        put(served, {"checkpoint": first}, 201)
        put(served, {"checkpoint": second, "canary": {"checkpoint": third, "share": 0.999}})
        for name, version, checkpoint in [
            (job_id, "2", second), ("latest", "3", third), ("latest", "1", first), (first, "1", first),
            ("production", "1", first), ("production", "2", second),
        ]:  # fmt: skip
            answer = client.infer(name, [file_input(255)], model_version=version).get_response()
            assert (answer["parameters"]["checkpoint"], answer["model_version"]) == (checkpoint, version)
            assert client.is_model_ready(name, version)
            assert client.get_model_metadata(name, version)["parameters"]["checkpoint"] == checkpoint
        for name, version in [(job_id, "9"), ("production", "9"), ("latest", "99"), (first, "2"), (job_id, "x")]:
            with pytest.raises(InferenceServerException, match=r"has no (version|checkpoint)"):
                client.infer(name, [file_input(255)], model_version=version)
        unversioned = {name: client.infer(name, [file_input(255)]).get_response() for name in (job_id, "latest", first)}
        assert {name: it["model_version"] for name, it in unversioned.items()} == {
            job_id: "3",
            "latest": "3",
            first: "1",
        }

    def test_an_alias_with_a_canary(self, three: Three, client: triton.InferenceServerClient) -> None:
        served, _, (first, second, _) = three
        put(served, {"checkpoint": first, "canary": {"checkpoint": second, "share": 0.5}}, 201)
        sides = {
            client.infer("production", [file_input(255)], headers={"X-Trainyard-Sticky": user}).get_response()[
                "parameters"
            ]["side"]
            for user in map(str, range(30))
        }
        assert sides == {"stable", "canary"}

    def test_the_repository(self, three: Three, client: triton.InferenceServerClient) -> None:
        served, job_id, (_, second, third) = three
        put(served, {"checkpoint": third}, 201)
        index = {it["name"]: it for it in client.get_model_repository_index()}
        assert set(index) == {"latest", "production", job_id}
        assert {it["version"] for it in (index["latest"], index[job_id])} == {"3"}
        assert index["production"]["state"] == "READY"
        client.load_model(second)
        client.unload_model(second)
        loader = served.app.state.services.engine._loader
        assert second not in loader._loaded
        with pytest.raises(InferenceServerException, match="stays loaded"):
            client.unload_model("production")
        with pytest.raises(InferenceServerException, match="there is no checkpoint"):
            client.load_model("ckpt_0")

    def test_what_is_wrong_is_said(self, three: Three, client: triton.InferenceServerClient) -> None:
        with pytest.raises(InferenceServerException, match="there is no alias 'nobody'"):
            client.infer("nobody", [file_input(255)])
        bad = triton.InferInput("image", [2], "BYTES")
        bad.set_data_from_numpy(np.array([png(255), b"no image"], dtype=np.object_))
        with pytest.raises(InferenceServerException, match="image 1: "):
            client.infer(three[2][0], [bad])
        with pytest.raises(InferenceServerException, match="there is no output 'scores'"):
            client.infer(three[2][0], [file_input(0)], outputs=[triton.InferRequestedOutput("scores")])


def test_files_in_json(three: Three) -> None:
    served, _, (first, _, _) = three
    body = {"inputs": [image_input(text_of(255), text_of(0), shape=[2, 1])], "extra": "is left alone"}
    answer = served.http.post(f"/v2/models/{first}/infer", json=body).json()
    assert [it["name"] for it in answer["outputs"]] == ["probabilities", "labels"]
    assert answer["outputs"][0]["data"] == [1, 0, 0, 0, 1, 0]
    assert answer["outputs"][1] == {"name": "labels", "datatype": "BYTES", "shape": [2], "data": ["bright", "dark"]}
    assert "id" not in answer


@pytest.mark.parametrize("path", ["/v2/models/latest/infer", "/v2/models/{}/versions/1/infer"])
def test_an_answer_that_comes_too_late_is_given_up(three: Three, runtime: FakeRuntime, path: str) -> None:
    served, _, (_, _, newest) = three
    url, body = path.format(newest), {"inputs": [image_input(text_of(255), shape=[1])]}
    assert served.http.post(url, json=body).status_code == 200
    runtime.gate = threading.Event()
    late = served.http.post(url, json=body, headers={"X-Trainyard-Timeout-Ms": "50"})
    refused(late, 504, "not there within")
    runtime.gate.set()
    assert served.http.post(url, json=body, headers={"X-Trainyard-Timeout-Ms": "60000"}).status_code == 200


def test_a_large_photo(three: Three) -> None:
    """It is decoded in another process, and larger than what other routes take."""
    served, _, (first, _, _) = three
    noise = np.random.default_rng(1).integers(0, 256, (1200, 1200, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    data = buffer.getvalue()
    assert len(data) > served.settings.max_body_bytes
    client = triton.InferenceServerClient(served.url.removeprefix("http://"))
    given = triton.InferInput("image", [1], "BYTES")
    given.set_data_from_numpy(np.array([data], dtype=np.object_))
    assert client.infer(first, [given]).as_numpy("probabilities")[0, 0] == pytest.approx(0.5, abs=0.01)
    client.close()


def test_wrong_requests_are_refused_in_the_protocols_words(three: Three) -> None:
    served, _, (first, _, _) = three
    path = f"/v2/models/{first}/infer"
    good = image_input(text_of(0))
    pixels = {"name": "p", "shape": [1, 2, 2, 3], "datatype": "UINT8"}
    values = {"name": "v", "shape": [1, 3, 8, 8], "datatype": "FP32"}
    for body, status, said in [
        (b"nonsense", 400, "not JSON"),
        (b"[]", 422, ""),
        ({}, 422, "inputs"),
        ({"inputs": []}, 422, "inputs"),
        ({"inputs": [good, good]}, 422, "2 inputs"),
        ({"inputs": [good | {"shape": [3]}]}, 422, "holds 1 elements"),
        ({"inputs": [good | {"shape": [1, 1, 1]}]}, 422, "[N, 1]"),
        ({"inputs": [good | {"data": ["?"]}]}, 422, "base64"),
        ({"inputs": [good | {"data": [7]}]}, 422, "base64"),
        ({"inputs": [good | {"data": None}]}, 422, "neither"),
        ({"inputs": [good | {"datatype": "FP64"}]}, 422, "FP64"),
        ({"inputs": [good | {"datatype": "INT32"}]}, 422, ""),
        ({"inputs": [good | {"shape": [-1]}]}, 422, "shape"),
        ({"inputs": [good | {"shape": [2**41]}]}, 422, "shape"),
        ({"inputs": [good | {"parameters": {"binary_data_size": 5}}]}, 422, "0 bytes follow"),
        ({"inputs": [pixels | {"data": [0] * 11}]}, 422, "holds 11 elements"),
        ({"inputs": [pixels | {"data": [300] * 12}]}, 422, "0 to 255"),
        ({"inputs": [pixels | {"data": [0.5] * 12}]}, 422, "0 to 255"),
        ({"inputs": [pixels | {"data": ["a"] * 12}]}, 422, "numbers"),
        ({"inputs": [pixels | {"data": [[0, 1], [2]]}]}, 422, "numbers"),
        ({"inputs": [pixels | {"shape": [1, 2, 2, 5], "data": [0] * 20}]}, 422, "1 or 3 channels"),
        ({"inputs": [pixels | {"shape": [1, 0, 2, 3], "data": []}]}, 422, "without pixels"),
        ({"inputs": [pixels | {"shape": [12], "data": [0] * 12}]}, 422, "[N, H, W, C]"),
        ({"inputs": [values | {"data": [1e39] * 192}]}, 422, "infinity"),
        ({"inputs": [values | {"shape": [1, 3, 4, 16], "data": [0] * 192}]}, 422, "takes [3, 8, 8]"),
        ({"inputs": [image_input("bm8gaW1hZ2U=")]}, 415, "format"),
        ({"inputs": [good], "outputs": [{"name": "labels", "parameters": {"classification": 2}}]}, 422, "labels"),
        ({"inputs": [good], "outputs": [{"name": "probabilities", "parameters": {"classification": -1}}]}, 422, "-1"),
    ]:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        response = served.http.post(path, content=content, headers={"Content-Type": "application/json"})
        refused(response, status, said)
    for length, said in [("x", "'x'"), ("999999", "999999"), ("-1", "-1")]:
        sent = {"Inference-Header-Content-Length": length}
        refused(served.http.post(path, content=b"{}", headers=sent), 422, said)
    cut = json.dumps({"inputs": [good | {"data": None, "shape": [1], "parameters": {"binary_data_size": 6}}]}).encode()
    sent = {"Inference-Header-Content-Length": str(len(cut))}
    refused(served.http.post(path, content=cut + b"\x09\0\0\0ab", headers=sent), 422, "end within an element")
    refused(served.http.post(path, content=b"", headers={"Content-Encoding": "gzip"}), 415, "compressed")
    refused(served.http.post(path, content=b" " * (served.settings.max_upload_bytes + 1)), 413, "larger")
    refused(served.http.post(path, content=b" " * (9 * 1024 * 1024)), 413, "binary data")
    refused(served.http.get("/v2/nothing"), 404, "no such path")
    refused(served.http.put(path), 405, "method")
    refused(served.http.get("/v2/models/Nope!"), 422, "model is")


def test_no_images_are_answered_with_none(three: Three) -> None:
    served, _, (first, _, _) = three
    answer = served.http.post(f"/v2/models/{first}/infer", json={"inputs": [image_input(shape=[0])]})
    refused(answer, 422, "no images")


def test_a_yard_with_a_key_asks_for_it_in_the_protocols_words(serve: Callable[..., Served]) -> None:
    served = serve(admin_key=SecretStr("k" * 20))
    refused(served.http.get("/v2/models/latest"), 401, "key")
    client = triton.InferenceServerClient(served.url.removeprefix("http://"))
    assert not client.is_server_live()
    assert client.is_server_live(headers={"Authorization": f"Bearer {'k' * 20}"})
    client.close()


def test_without_any_checkpoint_there_is_no_model(served: Served) -> None:
    refused(served.http.get("/v2/models/latest"), 503, "no checkpoint")
    assert served.http.post("/v2/repository/index").json() == []
    assert served.http.get("/v2/health/ready").json() == {"ready": True}
