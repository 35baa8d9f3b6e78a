"""The configuration of a process: settings read from `TRAINYARD_*` once, only at the entry points."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})
MIN_KEY_LENGTH = 16


class Settings(BaseSettings):
    """All settings of a yard. Each field is the environment variable `TRAINYARD_<NAME>`."""

    model_config = SettingsConfigDict(
        env_prefix="TRAINYARD_", extra="ignore", use_attribute_docstrings=True, hide_input_in_errors=True
    )

    data_dir: Path = Path("trainyard-data")
    """Folder for the database, dataset packs, checkpoints and logs. Made if it does not exist."""

    database_url: SecretStr | None = None
    """`postgresql+psycopg://user:password@host/name`. Default: SQLite in the data folder."""

    redis_url: SecretStr | None = None
    """`redis://[:password@]host:port/0`. Default: `trainyard up` starts a queue server of its own."""

    remote_control: Literal["auto", "on", "off"] = "auto"
    """Whether workers answer Celery's inspections and send events. `auto`: if `redis_url` is on loopback."""

    host: str = "127.0.0.1"
    """Address that the API listens on. Any other than loopback needs `admin_key`."""

    port: int = Field(8000, ge=0, le=65535)
    """Port that the API listens on. 0: any free one; the line that says "ready" names it."""

    url: str | None = None
    """Address of the yard for commands such as `trainyard train` and for the Python client. Default: `http://` with
    `host` and `port`, for the client `http://127.0.0.1:8000`."""

    key: SecretStr | None = None
    """Key that commands and the Python client send. Default: `admin_key`, or what `trainyard login` kept."""

    admin_key: SecretStr | None = None
    """Key that every request must send as `Authorization: Bearer <key>`; at least 16 characters. Default: no key."""

    metrics_key: SecretStr | None = None
    """Key for Prometheus, which opens only `GET /metrics`; at least 16 characters. `admin_key` opens that too."""

    open_metrics: bool = False
    """Answer `GET /metrics` without a key, even where there is one."""

    allow_open_network: bool = False
    """Allow an address other than loopback without a key. Use it only behind a proxy that authenticates."""

    trusted_hosts: str = ""
    """Host names, separated by commas, for a yard without a key, besides loopback and `host`: `yard.lan,10.0.0.7`."""

    slots: int | None = Field(None, ge=1, le=64)
    """Jobs that a worker trains at the same time. Default: one for each GPU, or one on a machine without GPUs."""

    devices: str = "auto"
    """The slots' devices, by comma: `cpu`, `cuda:0,cuda:1`. `auto`: every GPU that `nvidia-smi` lists, else the CPU."""

    trainer_threads: int | None = Field(None, ge=1, le=1024)
    """CPU threads of one trainer. Default: the cores of the machine divided by the slots."""

    serving_threads: int | None = Field(None, ge=1, le=1024)
    """CPU threads of the API's inference. Default: half of the cores, at least one."""

    web_processes: int | None = Field(None, ge=1, le=64)
    """Processes of one API that answer requests on its port; one more, the engine, computes the predictions for all.
    Default: a quarter of the cores, 1 to 4."""

    serving_precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision in which the API computes predictions on a CPU. `auto` measures both when the first network of a kind
    is loaded, and takes `bf16` only where that is at least 1.1 times as fast as `fp32`."""

    datasets_dir: Path | None = None
    """Folder with the published files of built-in datasets, each in a sub-folder with its name, such as `cifar10`.

    For a dataset without such a folder: Debian's `dataset-fashion-mnist`, else one download.
    """

    dataset_folders: str = ""
    """Folders of this machine, separated by `:`, below which `POST /datasets` may name a folder or archive by its path.
    Default: none."""

    max_dataset_files: int = Field(1_000_000, ge=1)
    """Most members of an archive that is taken in as a dataset."""

    max_unpacked_bytes: int = Field(256 * 2**30, ge=2**20)
    """Most bytes that all members of such an archive may have together, unpacked."""

    max_pack_bytes: int = Field(256 * 2**30, ge=2**20)
    """Largest file that is written while a dataset is taken in: its stored images, or an unpacked tar."""

    validation_memory_bytes: int = Field(4 * 2**30, ge=2**28)
    """Memory that the process which takes in a dataset may allocate."""

    validation_cpu_s: int = Field(6 * 3600, ge=1)
    """Seconds of CPU time that it may take."""

    prediction_memory_bytes: int = Field(4 * 2**30, ge=2**30)
    """Memory that the process which predicts many images may allocate."""

    prediction_segment_rows: int = Field(10_000, ge=1, le=1_000_000)
    """Rows of a prediction's results that are stored at once. A worker that dies loses what it computed since."""

    prediction_keep_s: float = Field(30 * 24 * 3600, gt=0)
    """Seconds after its end at which a prediction is removed, with its results."""

    recovery_every_s: float = Field(60, gt=0)
    """Seconds between two recovery checkpoints of a running job."""

    keep_latest: int = Field(2, ge=1, le=1000)
    """Newest epoch checkpoints that are kept for each job, besides its best one and every one with an alias."""

    max_failures: int = Field(3, ge=1, le=100)
    """Crashes, hangs or lost leases, without a new checkpoint in between, after which a job fails with `crash_loop`."""

    max_running_per_owner: int | None = Field(None, ge=1)
    """Most jobs of one owner that may run at once. Default: no limit. Set the same value for API and workers."""

    idle_poll_s: float = Field(5, gt=0)
    """Seconds after which a worker with a free slot looks for jobs again, even without a wake-up message."""

    locks_dir: Path | None = None
    """Folder of the GPUs' lock files, the same for all workers of a machine. Default: in its temporary folder.

    Workers in containers need a folder that they share.
    """

    lease_ttl_s: float = Field(60, gt=0)
    """Seconds after its last heartbeat at which a worker's right to write for a job ends."""

    tick_s: float = Field(1, gt=0)
    """Seconds between a supervisor's heartbeats. A cancel or pause is noticed within this time."""

    reaper_s: float = Field(10, gt=0)
    """Seconds between two searches for expired leases."""

    relay_s: float = Field(0.5, gt=0)
    """Seconds between two looks into the outbox. A commit in the same process wakes the relay at once."""

    wake_again_s: float = Field(15, gt=0)
    """Seconds after which another wake-up message is sent for a job that nobody claimed."""

    garbage_grace_s: float = Field(60, ge=0)
    """Seconds between a checkpoint's pruning in the database and the removal of its files."""

    leftover_s: float = Field(3600, gt=0)
    """Seconds without a change after which a half-written dataset pack counts as left by a killed process."""

    hang_s: float = Field(600, gt=0)
    """Seconds without progress after which a trainer counts as hung and is killed. While it still loads torch it has at
    least two minutes."""

    stop_grace_s: float = Field(30, gt=0)
    """Seconds from telling a trainer to stop until SIGTERM, and again from SIGTERM until SIGKILL."""

    self_fence_s: float = Field(600, gt=0)
    """Seconds without the database after which a worker stops its own trainer."""

    storage_url: str | None = None
    """`s3://bucket/prefix`: the object store of packs, checkpoints, logs and event files, the same for API and workers.
    Needs the extra `s3`. Default: the data folder, which they must then share."""

    storage_endpoint: str | None = None
    """`http(s)://host:port` of an object store that is not AWS's own."""

    storage_region: str | None = None
    """Region of the object store. Default: what AWS's own settings say."""

    storage_access_key: SecretStr | None = None
    """Access key of the object store. Default: what AWS's own settings say, or the machine's role."""

    storage_secret_key: SecretStr | None = None
    """Secret key of the object store; goes with `storage_access_key`."""

    storage_cache_bytes: int = Field(20 * 2**30, ge=2**20)
    """Bytes that local copies of the object store's files may take in the data folder. Copies in use stay."""

    storage_timeout_s: float = Field(10, gt=0)
    """Seconds without a byte after which a request to the object store counts as failed."""

    storage_patience_s: float = Field(900, gt=0)
    """Seconds that an attempt which has finished training waits for the store to accept its last checkpoints. Then the
    job goes back into the queue."""

    backoff_s: float = Field(2, ge=0)
    """Wait before a job's second try after a failure; doubled with each further one, at most five minutes."""

    max_upload_bytes: int = Field(20 * 1024 * 1024, ge=1024)
    """Largest body of `POST /predict`, in bytes."""

    max_body_bytes: int = Field(1024 * 1024, ge=1024)
    """Largest body of any other request, in bytes."""

    max_dataset_upload_bytes: int = Field(20 * 2**30, ge=1024)
    """Largest file of which a dataset can be made: of `POST /datasets` and of an upload, in bytes."""

    max_uploads_at_once: int = Field(16, ge=1)
    """Files for datasets that an API process receives at once; one owner may send 3/4 of them. Beyond it: 503."""

    max_open_uploads_per_owner: int = Field(100, ge=1)
    """Uploads of one owner that no dataset has been made of yet."""

    max_open_predictions_per_owner: int = Field(100, ge=1)
    """Predictions of one owner over many images that have not ended."""

    max_dataset_bytes_per_owner: int | None = Field(None, ge=1)
    """Most bytes of one owner's datasets, uploads and results of predictions together. Default: no limit."""

    max_datasets_per_owner: int | None = Field(None, ge=1)
    """Most datasets of one owner; rejected ones do not count. Default: no limit."""

    max_dataset_images_per_owner: int | None = Field(None, ge=1)
    """Most images of one owner's datasets together. An owner who has them can't send more. Default: no limit."""

    min_free_disk_bytes: int = Field(2**30, ge=0)
    """Bytes that uploads leave free on the disk of the data folder. Beyond it the answer is 507."""

    upload_expires_s: float = Field(24 * 3600, gt=0)
    """Seconds without a new byte after which an upload is removed, unless a dataset is being made of it."""

    max_upload_bytes_at_once: int = Field(128 * 1024 * 1024, ge=1024)
    """Bytes of bodies over 64 KiB that an API process receives at the same time. Beyond it the answer is 503."""

    max_requests_per_s: float | None = Field(None, gt=0, le=1e6)
    """Requests a second that each API key may send on average, over all API processes. Default: no limit."""

    max_request_burst: int = Field(100, ge=1, le=1_000_000)
    """Requests that a key may send at once, where `max_requests_per_s` is set."""

    max_connections: int = Field(1000, ge=1)
    """Connections that an API process keeps open; fewer if the open-file limit is lower. Beyond it the connection that
    has been idle longest is closed; if none is idle, only `/healthz` and `/readyz` are answered."""

    max_image_pixels: int = Field(25_000_000, ge=64)
    """Largest image that is decoded, in pixels."""

    max_queued_predictions: int = Field(256, ge=1)
    """Most images that wait for inference. Beyond it the answer is 503 with `Retry-After`."""

    max_batch: int = Field(64, ge=1, le=1024)
    """Most images that are computed together."""

    max_loaded_models: int = Field(4, ge=1, le=64)
    """Checkpoints that the API keeps in memory. The one that has been unused longest is removed first."""

    max_loaded_bytes: int = Field(2 * 1024**3, ge=1)
    """Bytes of weights, as stored, that the API keeps in memory. `latest` and the last one used always stay."""

    model_wait_s: float = Field(10, gt=0)
    """Seconds that a prediction waits for its checkpoint to be loaded. Then the answer is 503."""

    insight_memory_bytes: int = Field(3 * 2**30, ge=2**29)
    """Memory that a web process's child for explanations, similar images and evaluations may allocate."""

    insight_cache_bytes: int = Field(10 * 2**30, ge=0)
    """Bytes in the data folder that indexes of similar images and evaluations on request may take."""

    export_cache_bytes: int = Field(4 * 2**30, ge=2**20)
    """Bytes that checkpoints in other formats may take in the data folder. Those longest unused are removed first."""

    max_streams: int = Field(500, ge=1)
    """Most event streams that an API process keeps open. Beyond it the answer is 503 with `Retry-After`."""

    log_level: str = "INFO"
    """Least severe level that is logged: DEBUG, INFO, WARNING or ERROR."""

    otlp_endpoint: str | None = None
    """`http(s)://host:port` of a collector of traces by OTLP over HTTP. Needs the extra `otel`. Default: no traces."""

    otlp_sample_share: float = Field(1, ge=0, le=1)
    """Share of the requests and jobs that are traced, unless the caller's `traceparent` decides."""

    testing: bool = False
    """Allows `failpoints`. Never set it on a yard with real work."""

    failpoints: str = ""
    """For tests: `name=value,…`, passed to the trainer. Refused unless `testing` is set."""

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, level: str) -> str:
        if level.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
            raise ValueError(f"log_level is {level!r}: use DEBUG, INFO, WARNING or ERROR")
        return level.upper()

    @field_validator("data_dir", "datasets_dir", "locks_dir", mode="before")
    @classmethod
    def _is_a_path(cls, value: object) -> object:
        if "://" in str(value):
            raise ValueError(
                f"{value} is a URL, but a folder on this machine is needed: an object store goes into "
                "TRAINYARD_STORAGE_URL"
            )
        return value

    @field_validator("storage_url")
    @classmethod
    def _names_a_bucket(cls, url: str | None) -> str | None:
        if url is not None and not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._/-]*)?", url):
            raise ValueError(f"storage_url is {url!r}: write it as s3://bucket/prefix, without a key in it")
        return url

    @field_validator("storage_endpoint", "otlp_endpoint")
    @classmethod
    def _is_an_endpoint(cls, url: str | None, info: ValidationInfo) -> str | None:
        if url is not None and not re.fullmatch(r"https?://[^/@\s]+/?", url):
            raise ValueError(f"{info.field_name} is not a URL: write it as https://host:port, without a key in it")
        return url

    @model_validator(mode="after")
    def _both_keys_or_none(self) -> Self:
        if (self.storage_access_key is None) != (self.storage_secret_key is None):
            raise ValueError("storage_access_key and storage_secret_key belong together: set both, or neither")
        return self

    @field_validator("admin_key", "metrics_key")
    @classmethod
    def _long_enough(cls, key: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if key is not None and len(key.get_secret_value()) < MIN_KEY_LENGTH:
            raise ValueError(
                f"{info.field_name} is shorter than {MIN_KEY_LENGTH} characters: "
                "use a random one, for example from `openssl rand -hex 24`"
            )
        return key

    @model_validator(mode="after")
    def _failpoints_only_in_tests(self) -> Self:
        if self.failpoints and not self.testing:
            raise ValueError("failpoints break jobs on purpose: they need TRAINYARD_TESTING=1")
        return self

    @property
    def num_web_processes(self) -> int:
        """How many processes of an API answer requests."""
        return self.web_processes or max(1, min(4, (os.cpu_count() or 1) // 4))

    @property
    def sqlalchemy_url(self) -> str:
        """The database's URL for SQLAlchemy. It contains the password, so never log it."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.data_dir.absolute() / 'trainyard.db'}"

    @property
    def is_inspectable(self) -> bool:
        """Whether a worker answers Celery's inspections and sends events."""
        if self.remote_control != "auto":
            return self.remote_control == "on"
        if self.redis_url is None:
            return False
        addresses = self.redis_url.get_secret_value().split(";")  # kombu takes several
        return all(urlsplit(address).hostname in LOOPBACK_HOSTS for address in addresses)

    @property
    def failpoint_values(self) -> dict[str, str]:
        """The setting `failpoints` as a dictionary."""
        pairs = (item.partition("=") for item in self.failpoints.split(",") if item)
        return {name.strip(): value.strip() for name, _, value in pairs}

    def check_exposure(self) -> None:
        """Refuse to listen on an address that strangers can reach, if the API asks for no key.

        Raises:
            ValueError: the host is not loopback, no key is set, and nobody said that this is meant.
        """
        if self.host in LOOPBACK_HOSTS or self.admin_key is not None or self.allow_open_network:
            return
        raise ValueError(
            f"refusing to listen on {self.host} without a key: anyone who reaches this address could train and delete. "
            "Set TRAINYARD_ADMIN_KEY (16 characters or more), listen on 127.0.0.1, "
            "or set TRAINYARD_ALLOW_OPEN_NETWORK=1 if a proxy in front asks for credentials"
        )

    def as_environment(self) -> dict[str, str]:
        """Return these settings as environment variables for a child process, without the defaults."""
        env: dict[str, str] = {}
        for name in self.model_fields_set - {"key"}:  # a client's; no service needs it
            if (value := getattr(self, name)) is not None:
                text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
                env[f"TRAINYARD_{name.upper()}"] = text
        return env


def child_environment(settings: Settings) -> dict[str, str]:
    """Return the environment of a service child: this process's own with the present settings."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("TRAINYARD_")}
    return inherited | settings.as_environment()
