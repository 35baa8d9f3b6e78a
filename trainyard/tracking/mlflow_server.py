"""Speaks the REST interface of an MLflow tracking server, as far as the export of a run needs it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote, unquote, urlsplit

import httpx
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

Json = dict[str, Any]
Item = TypeVar("Item")

#: What one request may carry: https://mlflow.org/docs/latest/rest-api.html, "Log Batch".
MAX_METRICS, MAX_PARAMS, MAX_TAGS = 1000, 100, 100
#: The lengths that servers from 2.0 on take; newer ones take more.
MAX_PARAM_CHARS, MAX_TAG_CHARS, MAX_KEY_CHARS = 500, 5000, 250
_PROXY = "mlflow-artifacts"  #: the scheme of artifacts that clients hand to the tracking server
_TIMEOUT_S = 120.0


class MlflowSettings(BaseSettings):
    """What MLflow's own client reads from the environment as well."""

    model_config = SettingsConfigDict(env_prefix="MLFLOW_", extra="ignore")

    tracking_uri: str | None = None
    tracking_username: str | None = None
    tracking_password: SecretStr | None = None
    tracking_token: SecretStr | None = None
    tracking_insecure_tls: bool = False
    experiment_name: str = Field(default="trainyard", min_length=1)


class MlflowError(Exception):
    """A tracking server can't take the export. The message says why and what to do; `code` is for programs."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


class MlflowServer:
    """One tracking server.

    Args:
        uri: its address, such as http://host:port, with a path where it lies behind one. A user and a password may
            stand in it, encoded as in any URL.
        settings: user and password, or token; None: from the environment.
        transport: takes the requests; None: the network.

    Raises:
        MlflowError: the address is none of a server.
    """

    def __init__(
        self, uri: str, settings: MlflowSettings | None = None, *, transport: httpx.BaseTransport | None = None
    ) -> None:
        given = settings or MlflowSettings()
        parts = urlsplit(uri)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise MlflowError(
                "mlflow_address_invalid",
                f"{uri!r} is no address of a tracking server: write it as http://host:port. Into a folder or a "
                "database nothing is written but by a server: `mlflow server --backend-store-uri …`",
            )
        host = parts.netloc.rpartition("@")[2]
        self.address = f"{parts.scheme}://{host}{parts.path}".rstrip("/")
        auth: tuple[str, str] | None = None
        if parts.username is not None:
            auth = (unquote(parts.username), unquote(parts.password or ""))
        elif given.tracking_username is not None:
            password = given.tracking_password
            auth = (given.tracking_username, password.get_secret_value() if password else "")
        headers = {}
        if auth is None and given.tracking_token is not None:
            headers["Authorization"] = f"Bearer {given.tracking_token.get_secret_value()}"
        self._http = httpx.Client(
            base_url=self.address + "/",
            auth=auth,
            headers=headers,
            timeout=_TIMEOUT_S,
            verify=not given.tracking_insecure_tls,
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def page_of(self, experiment_id: str, run_id: str) -> str:
        """Return the address of a run's page."""
        return f"{self.address}/#/experiments/{experiment_id}/runs/{run_id}"

    def find_or_make_experiment(self, name: str) -> str:
        """Return the id of the experiment with this name, which is made if there is none.

        Raises:
            MlflowError: it is deleted, or the server refuses.
        """
        named = {"experiment_name": name}
        find = partial(self._ask, "GET", "experiments/get-by-name", params=named, field="experiment")
        experiment = find(none_for="RESOURCE_DOES_NOT_EXIST")
        if experiment is None:
            made = self._ask(
                "POST",
                "experiments/create",
                json={"name": name},
                field="experiment_id",
                none_for="RESOURCE_ALREADY_EXISTS",  # by another export since
            )
            if made is not None:
                return str(made)
            experiment = find()
        if experiment.get("lifecycle_stage") == "deleted":
            raise MlflowError(
                "mlflow_experiment_deleted",
                f"the experiment {name!r} is deleted on {self.address}: restore it there (`mlflow experiments restore "
                f"--experiment-id {experiment['experiment_id']}`), or name another one with --experiment",
            )
        return str(experiment["experiment_id"])

    def list_runs(self, experiment_id: str, tag: str, value: str) -> list[Json]:
        """Return the runs of an experiment whose tag has this value, with their data, always in the same order."""
        wanted = {
            "experiment_ids": [experiment_id],
            "filter": f"tags.`{tag}` = '{value}'",
            "run_view_type": "ACTIVE_ONLY",
            "max_results": 100,
        }
        runs: list[Json] = self._ask("POST", "runs/search", json=wanted).get("runs", [])
        return sorted(runs, key=lambda run: str(run["info"]["run_id"]))

    def make_run(self, experiment_id: str, name: str, start_ms: int, tags: dict[str, str]) -> Json:
        """Make a run, and return it."""
        wanted = {
            "experiment_id": experiment_id,
            "run_name": name,
            "start_time": start_ms,
            "tags": _as_list(tags, MAX_TAG_CHARS),
        }
        run: Json = self._ask("POST", "runs/create", json=wanted, field="run")
        return run

    def update_run(self, run_id: str, *, status: str, name: str, end_ms: int | None) -> None:
        """Set a run's status, name and end."""
        wanted = {"run_id": run_id, "status": status, "run_name": name}
        self._ask("POST", "runs/update", json=wanted | ({} if end_ms is None else {"end_time": end_ms}))

    def delete_run(self, run_id: str) -> None:
        """Put a run among the deleted ones."""
        self._ask("POST", "runs/delete", json={"run_id": run_id})

    def log_parameters(self, run_id: str, parameters: dict[str, str]) -> None:
        """Add parameters to a run; MLflow lets none be changed."""
        for batch in in_batches(_as_list(parameters, MAX_PARAM_CHARS), MAX_PARAMS):
            self._ask("POST", "runs/log-batch", json={"run_id": run_id, "params": batch})

    def log_metrics(self, run_id: str, metrics: Iterable[Json]) -> int:
        """Add points to a run, each with `key`, `value`, `timestamp` in ms and `step`; returns how many there were."""
        count = 0
        for batch in in_batches(metrics, MAX_METRICS):
            self._ask("POST", "runs/log-batch", json={"run_id": run_id, "metrics": batch})
            count += len(batch)
        return count

    def set_tags(self, run_id: str, tags: dict[str, str]) -> None:
        """Set tags of a run."""
        for batch in in_batches(_as_list(tags, MAX_TAG_CHARS), MAX_TAGS):
            self._ask("POST", "runs/log-batch", json={"run_id": run_id, "tags": batch})

    def log_dataset(self, run_id: str, name: str, digest: str) -> None:
        """Say what a run was trained on."""
        dataset = {"name": name, "digest": digest[:36], "source_type": "trainyard", "source": "{}"}
        tags = [{"key": "mlflow.data.context", "value": "training"}]
        self._ask("POST", "runs/log-inputs", json={"run_id": run_id, "datasets": [{"dataset": dataset, "tags": tags}]})

    def put_artifact(self, run: Json, path: str, file: Path) -> None:
        """Hand a file to the server, in the place of one of the same path.

        Raises:
            MlflowError: the server has its clients write artifacts elsewhere, or refuses.
        """
        uri = urlsplit(run["info"]["artifact_uri"])
        if uri.scheme != _PROXY or uri.netloc not in {"", urlsplit(self.address).netloc}:
            raise MlflowError(
                "mlflow_artifacts_elsewhere",
                f"{self.address} takes no artifacts itself: those of this experiment are at {uri.scheme}:…, for which "
                "its clients need keys of their own. Start it with --artifacts-destination and name a new "
                "experiment with --experiment, or leave the files out with --no-artifacts",
            )
        with file.open("rb") as content:
            answer = self._send("PUT", f"{_PROXY}/artifacts/{uri.path.strip('/')}/{path}", content=content)
        if not answer.is_success:
            raise self._read_error(answer, _read_json(answer))

    def _ask(self, method: str, path: str, *, field: str | None = None, none_for: str | None = None, **kw: Any) -> Any:
        """Return what the server answers, or one field of it; None if it refuses with this code."""
        answer = self._send(method, f"mlflow/{path}", **kw)
        body = _read_json(answer)
        if answer.is_success and body is not None and (field is None or field in body):
            return body if field is None else body[field]
        if none_for is not None and body is not None and body.get("error_code") == none_for:
            return None
        raise self._read_error(answer, body)

    def _send(self, method: str, path: str, **kw: Any) -> httpx.Response:
        try:
            return self._http.request(method, f"api/2.0/{quote(path)}", **kw)
        except httpx.TransportError as exc:
            raise MlflowError(
                "mlflow_unreachable",
                f"the tracking server at {self.address} does not answer ({str(exc) or type(exc).__name__}): start "
                "it, or name it with --to. What was exported stays, and the same command goes on",
            ) from exc

    def _read_error(self, answer: httpx.Response, body: Json | None) -> MlflowError:
        if answer.status_code in {401, 403}:
            return MlflowError(
                "mlflow_not_allowed",
                f"{self.address} refuses with {answer.status_code}: set MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, of a user who may write to this experiment",
            )
        if body is None or "error_code" not in body:
            return MlflowError(
                "mlflow_not_understood",
                f"{self.address} answers {answer.request.method} {answer.request.url.path} with {answer.status_code} "
                "and nothing of MLflow's: is this a tracking server, and its whole address?",
            )
        return MlflowError(
            "mlflow_refused", f"{self.address} refuses: {body['error_code']}: {body.get('message', 'no message')}"
        )


def in_batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield items in lists of at most a size."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def _as_list(values: dict[str, str], max_chars: int) -> list[dict[str, str]]:
    return [{"key": name[:MAX_KEY_CHARS], "value": _cut(value, max_chars)} for name, value in values.items()]


def _cut(text: str, max_chars: int) -> str:
    return text if len(text) <= max_chars else text[: max_chars - 1] + "…"


def _read_json(answer: httpx.Response) -> Json | None:
    try:
        body = answer.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) else None
