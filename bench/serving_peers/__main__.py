"""`/predict` beside other model servers, all on the same cores with the same weights.

    .venv/bin/python -m bench.serving_peers --prepare     # installs the peers; minutes, once
    .venv/bin/python -m bench.serving_peers [--only trainyard litserve] [--cases photo] [--seconds 4] [--rounds 3]
    .venv/bin/python -m bench.serving_peers --engine openvino

Two cases: a PNG of 32x32 for the network of `notes-cifar10`, and a JPEG of 500x375 for that of `paper-2012` (the middle
square resized to 256, 227 cut out). The weights are drawn, not trained. Each peer serves them the way that its guide
calls fast: dynamic batching, torch in fp32 (or OpenVINO in bf16), one copy of the network. It is installed into an
environment of its own below --cache-dir. A peer that can't be had is named and left out.

All servers of a case are started, must answer as the plain handler does, and are warmed up. Then they take turns:
in every round each is loaded by `wrk` with each number of clients, while the processes of all others are stopped.
(PyTriton ends when it is stopped, so it is ended, and started and warmed up for each round.)
Printed is the median of the rounds, as a Markdown table. A percentile only knows requests that were answered within
--seconds. CPU is the time on the cores of all of a server's processes for each answer, with the most clients; other
programs hardly change it. Memory is that of all of its processes after the last round, as if no other server shared its
files.

Needs `wrk`, and `java` (17) for TorchServe: `apt install wrk openjdk-17-jre-headless`.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from bench.serving_peers import contenders, environments, load, machine, tables
from bench.serving_peers.cases import CASES, Case, make_material
from bench.serving_peers.contenders import OURS, PLAIN, Contender
from bench.serving_peers.load import Measurement
from bench.serving_peers.peers import PEERS
from bench.serving_peers.processes import NoAnswer

CLIENTS = (1, 16, 64)
WARM_UP_S = 1


def main(argv: list[str] | None = None) -> None:
    names = [OURS, *PEERS]
    parser = argparse.ArgumentParser(
        prog="python -m bench.serving_peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--clients", nargs="+", type=int, default=list(CLIENTS), help="connections of wrk")
    parser.add_argument("--seconds", type=int, default=4, help="of one load")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engine", choices=("torch", "openvino"), default="torch", help="that the peers compute with")
    parser.add_argument("--cache-dir", type=Path, default=environments.default_cache(), help="of the environments")
    parser.add_argument("--prepare", action="store_true", help="only install the peers")
    parser.add_argument("--out", type=Path, help="a file for the measurements of all rounds, in JSON")
    options = parser.parse_args(argv)
    if machine.find_wrk() is None:
        sys.exit("wrk is not installed: apt install wrk")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that all servers are ended
    began = time.monotonic()
    pythons = install(options.only, options.cache_dir)
    if options.prepare:
        return
    chosen = [name for name in options.only if name == OURS or name in pythons]
    described = f"{machine.describe()}. Peers on {options.engine}, {options.rounds} rounds of {options.seconds} s."
    report: list[str] = []
    for name in options.cases:
        with tempfile.TemporaryDirectory(prefix="peers-") as folder:
            trial = Trial(CASES[name], Path(folder), pythons, options.engine)
            rows, raw = trial.run(chosen, options.clients, options.seconds, options.rounds)
        report += [*tables.list_lines(CASES[name].title, rows), ""]
        if options.out:
            known = json.loads(options.out.read_text()) if options.out.exists() else {}
            options.out.write_text(json.dumps(known | {f"{name} {options.engine}": raw}, indent=1))
    print("\n".join(["", described, "", *report, f"It took {(time.monotonic() - began) / 60:.1f} minutes."]))


def install(names: Sequence[str], cache: Path) -> dict[str, Path]:
    """Install the peers that can be had, and say which can't. Returns the Python of each."""
    found: dict[str, Path] = {}
    links = environments.link_shared(cache)
    for name in names:
        if name == OURS:
            continue
        if (program := contenders.find_missing_program(name)) is not None:
            print(f"left out: {PEERS[name].title}, for {program} is not installed", flush=True)
            continue
        try:
            found[name] = environments.prepare(name, PEERS[name].requirements, cache, links)
        except environments.NotInstalled as exc:
            print(f"left out: {PEERS[name].title}, which can't be installed: {exc}", flush=True)
        else:
            print(f"installed: {', '.join(PEERS[name].requirements)}", flush=True)
    return found


class Trial:
    """A case with all its servers."""

    def __init__(self, case: Case, folder: Path, pythons: Mapping[str, Path], engine: str) -> None:
        self._case, self._folder, self._pythons, self._engine = case, folder, pythons, engine
        self._started = 0

    def run(
        self, names: Sequence[str], clients: Sequence[int], seconds: int, rounds: int
    ) -> tuple[list[tables.Row], dict[str, dict[int, list[dict[str, float]]]]]:
        """Return a row for each server that starts and answers correctly, and all measurements."""
        measured: dict[str, dict[int, list[Measurement]]] = defaultdict(lambda: defaultdict(list))
        memory: dict[str, int] = {}
        with ExitStack() as stack:
            running = list(self._start(names, stack))
            for number in range(rounds):
                for contender in [*running]:
                    try:
                        with self._awake(contender) as awake:
                            for connections, one in _measure(awake, clients, seconds):
                                measured[awake.name][connections].append(one)
                            memory[awake.name] = awake.process.memory_bytes()
                    except NoAnswer as exc:
                        print(f"left out, for it stopped answering: {contender.title}: {exc}", flush=True)
                        running.remove(contender)
                print(f"{self._case.title}: round {number + 1} of {rounds} is done", flush=True)
        rows = [
            tables.Row(
                contender.title,
                contender.name == OURS,
                {c: tables.take_median(measured[contender.name][c]) for c in clients},
                memory[contender.name],
            )
            for contender in running
        ]
        raw = {
            name: {c: [asdict(one) for one in ones] for c, ones in by_clients.items()}
            for name, by_clients in measured.items()
        }
        return rows, raw

    def _start(self, names: Sequence[str], stack: ExitStack) -> Iterator[Contender]:
        """Start the servers, the plain handler first, for it says what is correct. Each is frozen once it is warm."""
        (self._folder / "material").mkdir()
        self._material = make_material(self._case, self._folder / "material")
        expected = None
        for name in sorted(names, key=lambda name: name != PLAIN):
            with ExitStack() as held:
                try:
                    contender = held.enter_context(self._running(name))
                    expected = expected or contender.answer
                    contenders.check(contender, expected)
                except NoAnswer as exc:
                    print(f"left out: {contenders.title_of(name)}: {exc}", flush=True)
                    continue
                if contenders.can_be_frozen(name):
                    _warm_up(contender)
                    contender.process.freeze()
                    stack.push(held.pop_all())
            yield contender

    @contextmanager
    def _awake(self, contender: Contender) -> Iterator[Contender]:
        """Let a server run that was frozen; one that can't be is started again."""
        if not contenders.can_be_frozen(contender.name):
            with self._running(contender.name) as started:
                _warm_up(started)
                yield started
            return
        contender.process.thaw()
        try:
            yield contender
        finally:
            contender.process.freeze()

    def _running(self, name: str) -> AbstractContextManager[Contender]:
        self._started += 1
        return contenders.running(
            name,
            self._case,
            self._material,
            python=self._pythons.get(name),
            engine=self._engine,
            folder=self._folder / f"{name}-{self._started}",
        )


def _warm_up(contender: Contender) -> None:
    load.measure(contender.process.port, contender.path, contender.script, clients=64, seconds=WARM_UP_S)


def _measure(contender: Contender, clients: Sequence[int], seconds: int) -> Iterator[tuple[int, Measurement]]:
    for _ in range(5):
        contender.process.ask(contender.path, contender.message)
    port, path, script = contender.process.port, contender.path, contender.script
    for connections in clients:
        before_s = contender.process.cpu_s()
        measured = load.measure(port, path, script, clients=connections, seconds=seconds)
        spent_s = contender.process.cpu_s() - before_s
        answers = measured.requests_per_s * seconds
        yield connections, replace(measured, cpu_ms=1000 * spent_s / answers if answers else 0.0)


if __name__ == "__main__":
    main()
