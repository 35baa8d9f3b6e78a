"""What another owner has is not there: in every route's path, query and body, and in every list and stream."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from api.access.route_scopes import ROUTES
from api.app import create_app
from tests.api.keyed import WITH_KEYS, as_administrator, client_for
from tests.api.served import Served, png
from tests.api.tus import PATCH, TUS, begin
from trainyard.access.scopes import Scope
from trainyard.database.tables import Checkpoint, Job
from trainyard.settings import Settings

Serve = Callable[..., Served]
CODES = {
    "job_id": "job_not_found", "fine_tuning_job_id": "job_not_found",
    "checkpoint_id": "checkpoint_not_found", "dataset_id": "dataset_not_found",
    "upload_id": "upload_not_found", "prediction_id": "prediction_not_found", "name": "alias_not_found",
    "file_id": "dataset_not_found", "model": "checkpoint_not_found",
}  # fmt: skip
MADE_UP = {
    "job_id": "job_0000000000000000000000000a", "fine_tuning_job_id": "job_0000000000000000000000000a",
    "checkpoint_id": "ckpt_0000000000000000000000000a",
    "dataset_id": "ds_0000000000000000000000000a", "upload_id": "upl_0000000000000000000000000a",
    "prediction_id": "pred_0000000000000000000000000a", "name": "nothing-here", "dataset_name": "nothing-here",
    "file_id": "ds_0000000000000000000000000a", "model": "ckpt_0000000000000000000000000a",
}  # fmt: skip
OF_NOBODY = {"GET /recipes/{name}", "DELETE /keys/{key_id}"}  #: what their paths name has no owner
MAKES_WHAT_IT_NAMES = {"PUT /aliases/{name}"}  #: each owner has names of their own
INFER = {"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": ["aGVsbG8="]}]}
#: A body without which a route would refuse the request before it looks for what the path names.
BODIES: dict[str, Any] = {
    "PATCH /jobs/{job_id}": {"name": "stolen"},
    "POST /jobs/{job_id}/retry": {"from": "start"},
    "POST /aliases/{name}/rollback": {},
    "POST /v2/models/{name}/infer": INFER,
    "POST /v2/models/{name}/versions/{version}/infer": INFER,
}


@dataclass
class Yard:
    """What `local` has, and a client with all scopes but `admin` of another owner, who has something too."""

    served: Served
    eve: httpx.Client
    has: dict[str, str]
    eves: dict[str, str]


def fill(served: Served) -> dict[str, str]:
    """Let the yard's own client own one of everything."""
    http = served.http
    job_id = served.add_job()
    checkpoint_id = served.add_checkpoint(job_id, 1).id
    put = http.put("/aliases/production", json={"checkpoint": checkpoint_id})
    assert put.status_code in {200, 201}, put.text
    upload_id = begin(served, 100).rpartition("/")[2]
    made = http.post("/datasets", json={"name": "secret", "upload": upload_id})
    assert made.status_code == 202, made.text
    other = begin(served, 100).rpartition("/")[2]
    predicted = http.post("/predictions", json={"upload": other, "model": checkpoint_id})
    assert predicted.status_code == 202, predicted.text
    return {
        "job_id": job_id, "fine_tuning_job_id": job_id,
        "checkpoint_id": checkpoint_id, "dataset_id": made.json()["id"], "upload_id": other,
        "prediction_id": predicted.json()["id"], "name": "production", "dataset_name": "secret",
        "file_id": made.json()["id"], "model": checkpoint_id,
    }  # fmt: skip


@pytest.fixture
def yard(serve: Serve) -> Iterator[Yard]:
    served = as_administrator(serve(**WITH_KEYS))
    has = fill(served)
    with client_for(served, "eve") as eve:
        yield Yard(served, eve, has, fill_hers(served, eve))


def fill_hers(served: Served, eve: httpx.Client) -> dict[str, str]:
    """Give the other owner a job that has ended, and an upload."""
    ended_id = eve.post("/jobs", json={"dataset": "digits"}).json()["id"]
    assert eve.post(f"/jobs/{ended_id}/cancel").status_code == 202
    upload = eve.post("/uploads", headers=TUS | {"Upload-Length": "100"})
    return {"ended_id": ended_id, "upload_id": upload.headers["location"].rpartition("/")[2]}


def ask(client: httpx.Client, route: str, named: dict[str, str]) -> httpx.Response:
    method, path = route.split()
    path = path.format(**({"version": "1", "split": "train", "index": "0"} | named))
    if path.startswith("/uploads"):
        return client.request(method, path, headers=PATCH | {"Upload-Offset": "0"}, content=b"x")
    return client.request(method, path, json=BODIES.get(route))


def parameters_of(route: str) -> set[str]:
    return {name for name in (*CODES, "key_id") if f"{{{name}}}" in route}


def without_ids(answer: httpx.Response, named: dict[str, str]) -> tuple[int, str]:
    """Status and body of a refusal, without what differs from request to request."""
    text = answer.text
    for value in (*named.values(), answer.headers["x-request-id"]):
        text = text.replace(value, "…")
    return answer.status_code, text


def test_what_another_owner_s_path_names_is_not_there(yard: Yard) -> None:
    """And the answer is the one for what nobody has, so that nobody can find out what there is."""
    asked = [route for route in ROUTES if parameters_of(route) and route not in OF_NOBODY | MAKES_WHAT_IT_NAMES]
    assert len(asked) > 40
    for route in asked:
        foreign, made_up = ask(yard.eve, route, yard.has), ask(yard.eve, route, MADE_UP)
        assert foreign.status_code == 404, (route, foreign.text)
        assert without_ids(foreign, yard.has) == without_ids(made_up, MADE_UP), route
        if not route.split()[1].startswith("/v2"):
            error = foreign.json()["error"]
            assert error["code"] in {CODES[name] for name in parameters_of(route)}, route


def test_its_owner_finds_it(yard: Yard) -> None:
    """Otherwise the test above could not fail."""
    for route in ROUTES:
        method, path = route.split()
        if parameters_of(route) and method == "GET" and route not in OF_NOBODY and not path.startswith("/v2"):
            filled = path.format(**({"version": "1", "split": "train", "index": "0"} | yard.has))
            with yard.served.http.stream(method, filled, headers=TUS) as answer:  # some go on until the work has ended
                code = json.loads(answer.read())["error"]["code"] if answer.status_code == 404 else None
            assert code not in set(CODES.values()), route


def test_nothing_of_it_was_changed(yard: Yard) -> None:
    before = snapshot(yard)
    for route in ROUTES:
        if parameters_of(route) and not route.startswith("GET") and route not in OF_NOBODY:
            ask(yard.eve, route, yard.has)
    assert snapshot(yard) == before


def snapshot(yard: Yard) -> list[Any]:
    http, has = yard.served.http, yard.has
    paths = [f"/jobs/{has['job_id']}", f"/checkpoints/{has['checkpoint_id']}", f"/datasets/{has['dataset_id']}",
             f"/uploads/{has['upload_id']}", f"/predictions/{has['prediction_id']}", "/aliases/production"]  # fmt: skip
    return [without_times(http.get(path, headers=TUS).json()) for path in paths]


def without_times(read: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in read.items() if name not in {"progress", "queue_position", "traffic"}}


_CHECKPOINT = "{checkpoint_id}"
_NEW = {"name": "mine", "upload": "<upload_id>"}
_OF_CHECKPOINT = {"split": "validation", "checkpoint": _CHECKPOINT}
#: What names something with an owner, in JSON bodies and queries: the request with `{…}` for what the other owner has
#: and `<…>` for what the caller has, the field, and the code of the refusal.
REFERENCES: list[tuple[str, dict[str, Any], str, str]] = [
    ("POST /jobs", {"dataset": "{dataset_id}"}, "dataset", "dataset_not_found"),
    ("POST /jobs", {"dataset": "{dataset_name}"}, "dataset", "dataset_not_found"),
    ("POST /jobs", {"dataset": "digits", "init_from": "{checkpoint_id}"}, "init_from", "checkpoint_not_found"),
    ("POST /recipes/preview", {"dataset": "{dataset_id}"}, "dataset", "dataset_not_found"),
    (
        "POST /v1/fine_tuning/jobs", {"training_file": "{dataset_id}", "model": "quick"}, "training_file",
        "dataset_not_found",
    ),
    ("PUT /aliases/mine", {"checkpoint": "{checkpoint_id}"}, "checkpoint", "checkpoint_not_found"),
    ("POST /predictions", {"dataset": "{dataset_id}"}, "dataset", "dataset_not_found"),
    ("POST /predictions", {"upload": "{upload_id}"}, "upload", "upload_not_found"),
    ("POST /predictions", {"upload": "<upload_id>", "model": "{checkpoint_id}"}, "model", "checkpoint_not_found"),
    ("POST /predictions", {"upload": "<upload_id>", "model": "{job_id}"}, "model", "job_not_found"),
    ("POST /predictions", {"upload": "<upload_id>", "model": "{job_id}@latest"}, "model", "job_not_found"),
    ("POST /predictions", {"upload": "<upload_id>", "model": "{name}"}, "model", "alias_not_found"),
    ("POST /datasets", {"name": "mine", "upload": "{upload_id}"}, "upload", "upload_not_found"),
    ("POST /datasets", _NEW | {"parent_id": "{dataset_id}"}, "parent_id", "dataset_not_found"),
    ("POST /jobs/<ended_id>/retry", {"from": "{checkpoint_id}"}, "from", "checkpoint_not_found"),
    ("GET /jobs", {"dataset": "{dataset_id}"}, "dataset", "dataset_not_found"),
    ("GET /jobs", {"dataset": "{dataset_name}"}, "dataset", "dataset_not_found"),
    ("GET /jobs/<ended_id>/evaluation", _OF_CHECKPOINT, "checkpoint", "checkpoint_not_found"),
    ("GET /jobs/<ended_id>/evaluation/images", _OF_CHECKPOINT, "checkpoint", "checkpoint_not_found"),
    *(
        (f"POST {path}", {"model": reference} | more, "model", code)
        for path, more in (
            ("/predict", {}), ("/predict", {"calibrated": "true"}), ("/explain", {}), ("/similar", {}),
            ("/activations", {"layer": "conv1"}),
        )
        for reference, code in (
            ("{checkpoint_id}", "checkpoint_not_found"), ("{job_id}", "job_not_found"),
            ("{job_id}@latest", "job_not_found"), ("{job_id}@epoch-1", "job_not_found"), ("{name}", "alias_not_found"),
        )
    ),
]  # fmt: skip
#: A second checkpoint of an alias, beside one that the caller has.
BESIDE: list[tuple[dict[str, Any], str]] = [
    ({"canary": {"checkpoint": "{checkpoint_id}", "share": 0.5}}, "canary"),
    ({"shadow": "{checkpoint_id}"}, "shadow"),
]
IMAGE_ROUTES = frozenset({"/predict", "/explain", "/activations", "/similar"})
#: Texts that name nothing which somebody owns.
PLAIN = {
    "POST /session": {"key"},
    "POST /keys": {"owner", "name"},
    "POST /jobs": {"recipe", "name"},
    "PATCH /jobs/{job_id}": {"name", "note"},
    "POST /recipes/preview": {"recipe"},
    "POST /datasets": {"name", "path"},
    "POST /v1/fine_tuning/jobs": {"model", "suffix", "hyperparameters", "method"},
    "POST /predictions": {"split", "name"},
    "GET /jobs": {"view", "q", "recipe", "state"},
}


def test_what_another_owner_s_request_names_is_not_there(yard: Yard) -> None:
    wrong = []
    for route, request, _, code in REFERENCES:
        foreign, made_up = (name_in(yard, route, request, named) for named in (yard.has, MADE_UP))
        found = foreign.json()["error"]["code"] if foreign.status_code == 404 else None
        if found != code or without_ids(foreign, yard.has) != without_ids(made_up, MADE_UP):
            wrong.append((route, request, foreign.text, made_up.text))
    assert not wrong, "\n".join(map(str, wrong))


def test_its_owner_may_name_it(yard: Yard) -> None:
    """Otherwise the test above could not fail."""
    yard.eve, refused = yard.served.http, []
    for route, request, _, code in REFERENCES:
        if "<" not in route + str(request) and "/explain" not in route and "/similar" not in route:
            answer = name_in(yard, route, request, yard.has)
            if answer.status_code == 404 and answer.json()["error"]["code"] == code:
                refused.append((route, request, answer.text))
    assert not refused


def name_in(yard: Yard, route: str, request: dict[str, Any], named: dict[str, str]) -> httpx.Response:
    method, path = _filled(route, yard.eves, "<>").split()
    given = json.loads(_filled(_filled(json.dumps(request), named, "{}"), yard.eves, "<>"))
    if path in IMAGE_ROUTES:
        return yard.eve.post(path, params=given, content=png(), headers={"Content-Type": "image/png"})
    return yard.eve.request(method, path, **{"params" if method == "GET" else "json": given})


def _filled(text: str, named: dict[str, str], marks: str) -> str:
    for name, value in named.items():
        text = text.replace(f"{marks[0]}{name}{marks[1]}", value)
    return text


def test_every_text_of_a_body_is_known_as_a_reference_or_as_plain() -> None:
    document = create_app(Settings()).openapi()
    schemas = document["components"]["schemas"]
    tested: dict[str, set[str]] = {}
    for route, _, field, _ in REFERENCES:
        tested.setdefault(route.replace("<ended_id>", "{job_id}").replace("mine", "{name}"), set()).add(field)
    tested["PUT /aliases/{name}"] |= {field for _, field in BESIDE}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            route = f"{method.upper()} {path}"
            schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            properties = schemas.get(schema.get("$ref", "").rpartition("/")[2], {}).get("properties", {})
            texts = {name for name, told in properties.items() if _may_be_text(told, schemas)}
            unknown = texts - tested.get(route, set()) - PLAIN.get(route, set())
            assert not unknown, f"{route}: say in this file whether {unknown} may name what another owner has"


def _may_be_text(told: dict[str, Any], schemas: dict[str, Any]) -> bool:
    if "$ref" in told:
        told = schemas[told["$ref"].rpartition("/")[2]]
    options = told.get("anyOf", []) + told.get("oneOf", []) + told.get("allOf", [])
    inner = list(told.get("properties", {}).values())
    return told.get("type") == "string" or any(_may_be_text(one, schemas) for one in options + inner)


def test_no_list_shows_it_and_no_cursor_names_it(yard: Yard) -> None:
    hidden = set(yard.has.values())
    for path, key in (
        ("/jobs", "job_id"), ("/checkpoints", "checkpoint_id"), ("/datasets", "dataset_id"),
        ("/uploads", "upload_id"), ("/predictions", "prediction_id"), ("/aliases", "name"), ("/queue", "job_id"),
        ("/workers", "job_id"),
    ):  # fmt: skip
        answer = yard.eve.get(path, headers=TUS)
        assert answer.status_code == 200, answer.text
        assert not [one for one in hidden if one in answer.text], path
        if path not in {"/workers", "/aliases"}:
            after = yard.eve.get(
                path, params=[*httpx.URL(path).params.multi_items(), ("after", yard.has[key])], headers=TUS
            )
            assert not [one for one in hidden if one in after.text.replace(yard.has[key], "", 1)], path
    index = yard.eve.post("/v2/repository/index", json={})
    assert not [one for one in hidden if one in index.text]


def test_the_stream_of_the_yard_tells_each_owner_of_their_own_alone(yard: Yard) -> None:
    headers, seen = {"Accept": "text/event-stream", "Last-Event-ID": "0"}, []
    with yard.eve.stream("GET", "/events", headers=headers) as events:
        assert yard.served.http.post("/jobs", json={"dataset": "digits", "name": "not hers"}).status_code == 202
        last_id = yard.eve.post("/jobs", json={"dataset": "digits"}).json()["id"]
        for line in events.iter_lines():
            seen.append(line)
            if last_id in line:
                break
    assert not [one for one in (*yard.has.values(), "not hers") if one in "\n".join(seen)]


def test_latest_is_each_owner_s_own(yard: Yard) -> None:
    image: dict[str, Any] = {"content": png(), "headers": {"Content-Type": "image/png"}}
    assert yard.served.http.post("/predict", **image).status_code == 200
    refused = yard.eve.post("/predict", **image)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "no_checkpoint")
    assert yard.eve.post("/predict?model=latest&top_k=2", **image).status_code == 503


def test_the_same_idempotency_key_of_two_owners_makes_two_jobs(yard: Yard) -> None:
    same: dict[str, Any] = {"json": {"dataset": "digits"}, "headers": {"Idempotency-Key": "the-same"}}
    mine, hers = yard.served.http.post("/jobs", **same), yard.eve.post("/jobs", **same)
    assert (mine.status_code, hers.status_code) == (202, 202)
    assert mine.json()["id"] != hers.json()["id"]


def test_two_keys_of_one_owner_see_the_same(yard: Yard) -> None:
    with client_for(yard.served, "eve", Scope.READ) as other:
        assert [job["id"] for job in other.get("/jobs").json()["data"]] == [yard.eves["ended_id"]]
        assert other.get(f"/jobs/{yard.eves['ended_id']}").json()["owner"] == "eve"


def test_an_administrator_of_another_owner_sees_no_more_than_that_owner(yard: Yard) -> None:
    with client_for(yard.served, "mallory", Scope.ADMIN) as admin:
        assert admin.get(f"/jobs/{yard.has['job_id']}").status_code == 404
        assert admin.get("/jobs").json()["data"] == []


def test_no_canary_and_no_shadow_is_another_owner_s(yard: Yard) -> None:
    """Beside a checkpoint that the caller has, so that only the second one can be refused."""
    job_id, own = yard.has["job_id"], yard.has["checkpoint_id"]
    with yard.served.database.writing() as session:
        for table in (Job, Checkpoint):
            session.execute(update(table).values(owner="eve"))
    other = yard.served.add_checkpoint(job_id, 2).id
    with yard.served.database.writing() as session:
        session.execute(update(Checkpoint).where(Checkpoint.id == other).values(owner="local"))
    for request, _ in BESIDE:
        given = json.loads(json.dumps(request).replace("{checkpoint_id}", other))
        refused = yard.eve.put("/aliases/mine", json={"checkpoint": own} | given)
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "checkpoint_not_found"), refused.text
    assert yard.eve.put("/aliases/mine", json={"checkpoint": own}).status_code in {200, 201}
