"""Each hostile or odd archive gets the answer in the table, at little cost, and leaves nothing behind.

All of them are packed one after the other by one process of its own, whose peak of memory is set back before each.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hostile_datasets.table import CASES

MAX_MEMORY_KB = 300_000
CHILD = """
import json, resource, shutil, sys, time, warnings
from pathlib import Path
from alexnet_core.data.intake.options import IntakeOptions
from alexnet_core.data.intake.packing import pack_images
from alexnet_core.errors import DatasetInvalid

def cpu_s():
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))

warnings.simplefilter("ignore")
for line in sys.stdin:
    path, target = Path("archive"), Path("packs/pack")
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins again
    before, answer = cpu_s(), {"problem": ""}
    try:
        pack = pack_images(path, target, IntakeOptions(name="mine", threads=2))
        pack.verify()
        answer["report"] = json.loads((target / "report.json").read_text())
        answer["content"] = sum(  # of /etc/passwd, where links and tables lead
            b"root:x:0:0" in file.read_bytes() for file in target.iterdir())
    except DatasetInvalid as exc:
        answer |= {"problem": exc.problem, "message": str(exc)}
    except Exception as exc:
        answer |= {"problem": f"{type(exc).__name__}: {exc}"}
    answer["cpu_s"] = cpu_s() - before
    answer["memory_kb"] = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
    shutil.rmtree(target, ignore_errors=True)
    answer["left"] = sorted(str(file) for file in Path().rglob("*") if file.name not in ("archive", "packs"))
    print(json.dumps(answer), flush=True)
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is set back by /proc")


class Packer:
    """A process that packs the archive in its folder whenever it is told to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def pack(self, content: bytes) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        (self._folder / "archive").write_bytes(content)
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def close(self) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait(timeout=60)


@pytest.fixture(scope="module")
def packer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Packer]:
    running = Packer(tmp_path_factory.mktemp("hostile"))
    yield running
    assert running.close() == 0


def test_there_are_eighty_and_more() -> None:
    assert len(CASES) >= 80


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if case.max_cpu_s > 10 else []) for name, case in CASES.items()],
)
def test_a_hostile_or_odd_archive_gets_the_answer_that_the_table_says(packer: Packer, name: str) -> None:
    case = CASES[name]
    answer = packer.pack(case.build())
    assert answer["problem"] == case.problem, answer.get("message")
    if case.problem:
        assert answer["message"].isprintable()
        assert answer["message"].endswith(".")
    else:
        report = answer["report"]
        assert {item["file"]: item["code"] for item in report["rejected"]} == dict(case.rejected)
        assert all(item["reason"] for item in report["rejected"])
        assert report["num_images"] == case.num_images
        assert case.num_classes in {None, len(report["classes"])}
        assert case.findings <= {finding["code"] for finding in report["findings"]}
        assert answer["content"] == 0, "a file from outside the archive is in the pack"
    assert answer["left"] == []
    assert answer["cpu_s"] < case.max_cpu_s
    assert answer["memory_kb"] < MAX_MEMORY_KB
