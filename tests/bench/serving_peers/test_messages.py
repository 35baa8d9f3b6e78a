"""Requests and answers of the servers."""

import base64
import json

import pytest

from bench.serving_peers.messages import (
    BENTOML,
    MLSERVER,
    OCTETS,
    RAY,
    TORCHSERVE,
    TRAINYARD,
    TRITON,
    Dialect,
    Named,
    find_difference,
)

IMAGE = b"\x89PNG\r\n\x00\xff"
ROWS = [
    {"label": "class 6", "index": 6, "probability": 0.5},
    {"label": "class 0", "index": 0, "probability": 0.2},
]
NAMED = [Named("class 6", 6, 0.5), Named("class 0", 0, 0.2)]
ANSWER = {"predictions": ROWS}
TENSORS = [
    {"name": "label", "data": ["class 6", "class 0"]},
    {"name": "index", "data": [6, 0]},
    {"name": "probability", "data": [0.5, 0.2]},
]


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        (TRAINYARD, ANSWER | {"model": {}}),
        (OCTETS, ANSWER),
        (RAY, ANSWER),
        (TORCHSERVE, ANSWER),
        (BENTOML, [ANSWER]),
        (MLSERVER, {"outputs": [{"name": "answer", "data": [json.dumps(ANSWER)]}]}),
        (TRITON, {"outputs": TENSORS}),
    ],
)
def test_the_answer_of_each_server_names_the_classes(dialect: Dialect, body: object) -> None:
    assert dialect.read(json.dumps(body).encode()) == NAMED


def test_an_image_goes_as_it_is_or_in_base64() -> None:
    assert TRAINYARD.build(IMAGE, "image/png").headers == {"Content-Type": "image/png"}
    for dialect in (TRAINYARD, OCTETS, RAY, TORCHSERVE):
        assert dialect.build(IMAGE, "image/png").body == IMAGE
    [image] = json.loads(BENTOML.build(IMAGE, "image/png").body)["images"]
    assert base64.b64decode(image) == IMAGE
    [tensor] = json.loads(MLSERVER.build(IMAGE, "image/png").body)["inputs"]
    assert base64.b64decode(tensor["data"][0]) == IMAGE


def test_a_binary_tensor_follows_the_json_that_tells_its_size() -> None:
    message = TRITON.build(IMAGE, "image/png")
    head = int(message.headers["Inference-Header-Content-Length"])
    [tensor] = json.loads(message.body[:head])["inputs"]
    data = message.body[head:]
    assert tensor["parameters"]["binary_data_size"] == len(data)
    assert data == len(IMAGE).to_bytes(4, "little") + IMAGE


EXPECTED = [Named("a", 0, 0.5), Named("b", 1, 0.2), Named("c", 2, 0.1)]


def test_about_the_same_probabilities_are_no_difference_in_any_order_of_the_near_ones() -> None:
    found = [Named("a", 0, 0.51), Named("c", 2, 0.11), Named("d", 3, 0.1)]
    assert find_difference(found, EXPECTED, within=0.02) is None


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ([Named("b", 1, 0.5), *EXPECTED[1:]], "first class"),
        ([Named("other name", 0, 0.5), *EXPECTED[1:]], "first class"),
        ([Named("a", 0, 0.6), *EXPECTED[1:]], "gives a 0.6000, not 0.5000"),
        ([*EXPECTED[:2], Named("d", 3, 0.2)], "gives d 0.2000, not 0.1000"),
        (EXPECTED[:2], "names 2 classes"),
        ([], "names 0 classes"),
    ],
)
def test_another_answer_is_a_difference(found: list[Named], words: str) -> None:
    assert words in str(find_difference(found, EXPECTED, within=0.02))
