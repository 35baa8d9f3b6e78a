"""What is compared in a case: Trainyard's API and the peers, each as a process that answers correctly."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.serving_peers import load, messages, yard
from bench.serving_peers.cases import Case, Material
from bench.serving_peers.messages import Dialect, Message, Named, find_difference
from bench.serving_peers.peers import PEERS, Peer, Place
from bench.serving_peers.processes import NoAnswer, ServerProcess, read_environment
from bench.serving_peers.servers.classifier import ENGINE, FOLDER, PORT
from trainyard.launch.queue_server import free_port

OURS, PLAIN = "trainyard", "fastapi"
START_S = 120
#: bf16 and resizing on bytes change a probability by up to 0.012; a cut that is half a pixel off changes it by more
PROBABILITY_DIFFERENCE = 0.02
#: Threads of PyTorch that wait for work must not take the cores from HTTP: with it every peer was faster, some tenfold
_CALM = {"OMP_WAIT_POLICY": "passive"}
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Contender:
    """A running server."""

    name: str
    title: str
    process: ServerProcess
    path: str
    script: Path  #: for wrk
    message: Message
    answer: list[Named]


def title_of(name: str) -> str:
    """Return how a table names a contender."""
    return "Trainyard" if name == OURS else PEERS[name].title


@contextmanager
def running(
    name: str, case: Case, material: Material, *, python: Path | None, engine: str, folder: Path
) -> Iterator[Contender]:
    """Start a server, yield it once it answers, and end it.

    Args:
        name: `OURS` or that of a peer.
        case: what is asked.
        material: of the case.
        python: of the peer's environment.
        engine: what a peer computes with.
        folder: does not exist yet.

    Raises:
        NoAnswer: it does not start.
    """
    folder.mkdir()
    port = free_port()
    if name == OURS:
        dialect, command, environment = _prepare_ours(material, folder, port)
    else:
        assert python is not None, "a peer has an environment"
        dialect, command, environment = _prepare_peer(PEERS[name], case, material, python, engine, folder, port)
    process = ServerProcess(command, environment, folder, port)
    try:
        message = dialect.build(material.image, case.content_type)
        body = process.wait_until_answering(dialect.path, message, START_S)
        script = load.write_script(message, folder)
        yield Contender(name, title_of(name), process, dialect.path, script, message, dialect.read(body))
    finally:
        process.end()


def check(contender: Contender, expected: list[Named]) -> None:
    """Compare a server's answer with the plain handler's.

    Raises:
        NoAnswer: it is another one.
    """
    difference = find_difference(contender.answer, expected, within=PROBABILITY_DIFFERENCE)
    if difference is not None:
        raise NoAnswer(f"{contender.title} answers another thing than the plain handler: {difference}")


def _prepare_ours(material: Material, folder: Path, port: int) -> tuple[Dialect, list[str], dict[str, str]]:
    data_dir = folder / "data"
    data_dir.mkdir()
    yard.plant(material.checkpoint, data_dir)
    ours = {"TRAINYARD_DATA_DIR": str(data_dir), "TRAINYARD_PORT": str(port), "PYTHONPATH": str(_ROOT)}
    return messages.TRAINYARD, [sys.executable, "-m", "api"], read_environment() | ours


def _prepare_peer(
    peer: Peer, case: Case, material: Material, python: Path, engine: str, folder: Path, port: int
) -> tuple[Dialect, list[str], dict[str, str]]:
    command = peer.command(Place(python, folder, port, case.max_batch))
    environment = read_environment() | peer.variables(folder)
    environment |= _CALM | {FOLDER: str(material.folder), ENGINE: engine, PORT: str(port), "PYTHONPATH": str(_ROOT)}
    environment["PATH"] = f"{python.parent}{os.pathsep}{environment.get('PATH', os.defpath)}"
    return peer.dialect, command, environment


def can_be_frozen(name: str) -> bool:
    """Whether a contender goes on after its processes were stopped."""
    return name == OURS or PEERS[name].can_be_frozen


def find_missing_program(name: str) -> str | None:
    """Return what a peer needs besides its packages and this machine lacks."""
    needs = None if name == OURS else PEERS[name].needs
    return needs if needs and shutil.which(needs) is None else None
