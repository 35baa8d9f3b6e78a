"""`python -m alexnet_core intake`: what a worker starts to take in a dataset of a user's. Without torch."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from alexnet_core.child_processes import die_with_parent
from alexnet_core.commands import arguments
from alexnet_core.commands.child_reports import PhaseReports, say
from alexnet_core.data.intake.child_messages import (
    DATASET_TOO_COSTLY,
    IntakeDone,
    IntakeFailed,
    IntakePhase,
    IntakeProgress,
    IntakeSpec,
    parse_intake_spec,
)
from alexnet_core.data.intake.confinement import confine
from alexnet_core.durable import is_disk_full
from alexnet_core.errors import CoreError, DatasetChanged, DatasetInvalid, DiskFull
from alexnet_core.failpoints import Failpoints
from alexnet_core.layout import PACK_FACTS, PACK_REPORT
from alexnet_core.memory import bound_arenas

if TYPE_CHECKING:
    from alexnet_core.data.pack import Pack


def intake(parent_pid: arguments.ParentPid = None) -> int:
    """Make the pack of a worker's dataset; not meant to be run by hand.

    The specification comes on standard input, reports go to standard output.
    """
    if parent_pid is not None:
        die_with_parent(parent_pid)
    bound_arenas(os.environ)  # before threads decode images
    spec = parse_intake_spec(sys.stdin.buffer.readline())
    confine(memory_bytes=spec.memory_bytes, cpu_s=spec.cpu_s, file_bytes=spec.file_bytes)
    answer = _take_in(spec)
    say(answer)
    return 0 if isinstance(answer, IntakeDone) else 1


def _take_in(spec: IntakeSpec) -> IntakeDone | IntakeFailed:
    try:
        pack = _make_pack(spec)
        return IntakeDone(pack=_read(pack.path / PACK_FACTS), report=_read(pack.path / PACK_REPORT))
    except DatasetInvalid as exc:
        return IntakeFailed(code=exc.code, message=str(exc), problem=exc.problem, report=exc.report)
    except DatasetChanged as exc:
        text = "The files changed between two tries to read them: submit the dataset again."
        return IntakeFailed(code=exc.code, message=text)
    except CoreError as exc:
        return IntakeFailed(code=exc.code, message=str(exc))
    except MemoryError:
        text = f"To read the dataset takes more than the {spec.memory_bytes:,} bytes of memory that are allowed."
        return IntakeFailed(code=DATASET_TOO_COSTLY, message=text)
    except OSError as exc:
        if exc.errno == errno.EFBIG:
            text = f"The dataset's pack would be larger than the {spec.file_bytes:,} bytes that are allowed."
            return IntakeFailed(code=DATASET_TOO_COSTLY, message=text)
        code = DiskFull.code if is_disk_full(exc) else "internal_error"
        return IntakeFailed(code=code, message=f"The pack can't be made: {exc.strerror}.")


def _make_pack(spec: IntakeSpec) -> Pack:
    from alexnet_core.data.archives.members import ArchiveLimits
    from alexnet_core.data.intake.options import IntakeOptions
    from alexnet_core.data.intake.packing import pack_images

    failpoints = Failpoints(spec.failpoints)
    limits = ArchiveLimits(max_entries=spec.max_entries, max_unpacked_bytes=spec.max_unpacked_bytes)
    options = IntakeOptions(
        name=spec.name,
        max_pixels=spec.max_pixels,
        parent_pack=spec.parent_pack,
        archive_limits=limits,
        **spec.options,
    )
    progress = _Progress(failpoints)
    return pack_images(spec.source, spec.target, options, on_progress=progress.count, on_read=progress.read)


class _Progress:
    """Turns what is read, checked and packed into reports of a phase each."""

    def __init__(self, failpoints: Failpoints) -> None:
        self._failpoints = failpoints
        self._reports = PhaseReports[IntakePhase](
            lambda phase, done, total: IntakeProgress(phase=phase, done=done, total=total)
        )

    def read(self, done: int, total: int) -> None:
        """Report bytes of an archive."""
        self._report(IntakePhase.READING, done, total)

    def count(self, done: int, total: int) -> None:
        """Report files. Each counts twice: its header is read, then it is decoded."""
        files = total // 2
        if done <= files:
            self._report(IntakePhase.CHECKING, done, files)
        else:
            self._report(IntakePhase.PACKING, done - files, files)

    def _report(self, phase: IntakePhase, done: int, total: int) -> None:
        self._failpoints.hit(f"intake_{phase}_{done}")
        self._reports.report(phase, done, total)


def _read(file: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads(file.read_text(encoding="utf-8"))
    return content
