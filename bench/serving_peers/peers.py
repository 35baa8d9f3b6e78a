"""The peers: what is installed for each, and how it is started, in its guide's way of serving fast."""

from __future__ import annotations

import json
import shutil
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.serving_peers import messages
from bench.serving_peers.messages import Dialect
from bench.serving_peers.servers.classifier import BATCH_WAIT_S
from trainyard.launch.queue_server import free_port

_SERVERS = "bench.serving_peers.servers"


@dataclass(frozen=True)
class Place:
    """Where a peer is started."""

    python: Path  #: of its environment
    folder: Path  #: an empty working folder
    port: int
    max_batch: int

    @property
    def bin(self) -> Path:
        """The folder of its commands."""
        return self.python.parent


@dataclass(frozen=True)
class Peer:
    """A model server to compare with."""

    title: str
    requirements: tuple[str, ...]
    dialect: Dialect
    command: Callable[[Place], list[str]]  #: may write files into the working folder
    environment: dict[str, str] = field(default_factory=dict)  #: `{folder}`, `{libraries}`: see `variables`
    needs: str | None = None  #: a program that pip does not install
    can_be_frozen: bool = True  #: False: it ends when its processes were stopped for some seconds

    def variables(self, folder: Path) -> dict[str, str]:
        """Return the environment variables that it needs.

        Args:
            folder: its working folder.
        """
        libraries = sysconfig.get_config_var("LIBDIR")  # of this Python: Triton would take another one's library
        return {name: value.format(folder=folder, libraries=libraries) for name, value in self.environment.items()}


def _run_module(name: str) -> Callable[[Place], list[str]]:
    return lambda place: [str(place.python), "-m", f"{_SERVERS}.{name}"]


def _serve_bentoml(place: Place) -> list[str]:
    where = ["--host", "127.0.0.1", "--port", str(place.port)]
    return [str(place.bin / "bentoml"), "serve", f"{_SERVERS}.bentoml_server:Peer", *where]


def _serve_mlserver(place: Place) -> list[str]:
    settings = {
        "host": "127.0.0.1",
        "http_port": place.port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "debug": False,
    }
    model = {
        "name": "peer",
        "implementation": f"{_SERVERS}.mlserver_runtime.Peer",
        "max_batch_size": place.max_batch,
        "max_batch_time": BATCH_WAIT_S,
    }
    (place.folder / "settings.json").write_text(json.dumps(settings))
    (place.folder / "model-settings.json").write_text(json.dumps(model))
    return [str(place.bin / "mlserver"), "start", str(place.folder)]


def _serve_torchserve(place: Place) -> list[str]:
    """Write a model's archive, unpacked as TorchServe also takes it, and a configuration."""
    archive = place.folder / "store" / "peer"
    (archive / "MAR-INF").mkdir(parents=True)
    shutil.copy(Path(__file__).parent / "servers" / "torchserve_handler.py", archive)
    model = {"modelName": "peer", "modelVersion": "1.0", "handler": "torchserve_handler.py"}
    manifest = {"runtime": "python", "model": model | {"configFile": "model-config.yaml"}, "archiverVersion": "0.12.0"}
    (archive / "MAR-INF" / "MANIFEST.json").write_text(json.dumps(manifest))
    batching = f"batchSize: {place.max_batch}\nmaxBatchDelay: {round(1000 * BATCH_WAIT_S)}\n"
    (archive / "model-config.yaml").write_text(f"minWorkers: 1\nmaxWorkers: 1\n{batching}")
    addresses = {
        "inference_address": place.port,
        "management_address": free_port(),
        "metrics_address": free_port(),
    }
    lines = [f"{name}=http://127.0.0.1:{port}" for name, port in addresses.items()]
    lines += [f"grpc_{name}_port={free_port()}" for name in ("inference", "management")]
    lines += ["disable_system_metrics=true", "async_logging=true", "job_queue_size=1000"]
    (place.folder / "config.properties").write_text("\n".join(lines) + "\n")
    quiet = place.folder / "log4j2.xml"
    console = '<Appenders><Console name="log"><PatternLayout pattern="%m%n"/></Console></Appenders>'
    root = '<Loggers><Root level="warn"><AppenderRef ref="log"/></Root></Loggers>'
    quiet.write_text(f'<Configuration status="error">{console}{root}</Configuration>')
    where = ["--model-store", "store", "--models", "peer=peer", "--ts-config", "config.properties"]
    how = ["--foreground", "--disable-token-auth", "--no-config-snapshots", "--log-config", str(quiet)]
    return [str(place.bin / "torchserve"), "--start", *where, *how]


#: By the name that the command line takes.
PEERS = {
    "litserve": Peer("LitServe", ("litserve==0.2.19",), messages.OCTETS, _run_module("litserve_server")),
    "bentoml": Peer(
        "BentoML",
        ("bentoml==1.4.40",),
        messages.BENTOML,
        _serve_bentoml,
        {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": "{folder}"},
    ),
    "ray": Peer(
        "Ray Serve",
        ("ray[serve]==2.60.0",),
        messages.RAY,
        _run_module("ray_server"),
        # the first keeps Ray's own servers on loopback addresses
        {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_LOG_TO_STDERR": "0"},
    ),
    "torchserve": Peer(
        "TorchServe",
        ("torchserve==0.12.0", "torch-model-archiver==0.12.0", "pyyaml"),
        messages.TORCHSERVE,
        _serve_torchserve,
        {"TEMP": "{folder}"},
        needs="java",
    ),
    "mlserver": Peer("MLServer", ("mlserver==1.7.1", "uvloop<0.22"), messages.MLSERVER, _serve_mlserver),
    "pytriton": Peer(
        "PyTriton",
        ("nvidia-pytriton==0.7.0",),
        messages.TRITON,
        _run_module("pytriton_server"),
        {"PYTRITON_HOME": "{folder}", "LD_LIBRARY_PATH": "{libraries}"},
        can_be_frozen=False,
    ),
    "fastapi": Peer(
        "plain FastAPI handler",
        ("fastapi==0.165.0", "uvicorn[standard]==0.54.0"),
        messages.OCTETS,
        _run_module("plain_fastapi"),
    ),
}
