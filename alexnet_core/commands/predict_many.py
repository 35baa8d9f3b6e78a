"""`python -m alexnet_core predict-many`: what a worker starts to predict all images of a pack or an archive."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from alexnet_core.child_processes import die_with_parent
from alexnet_core.commands import arguments
from alexnet_core.commands.child_reports import PhaseReports, say
from alexnet_core.data.intake.child_messages import DATASET_TOO_COSTLY
from alexnet_core.data.intake.confinement import confine
from alexnet_core.durable import is_disk_full
from alexnet_core.errors import CoreError, DiskFull
from alexnet_core.failpoints import Failpoints
from alexnet_core.memory import bound_arenas
from alexnet_core.predictions.prediction_messages import (
    PredictDone,
    PredictFailed,
    PredictPhase,
    PredictProgress,
    PredictSpec,
    SegmentWritten,
    parse_predict_spec,
)

if TYPE_CHECKING:
    from alexnet_core.predictions.image_lists import ImageList
    from alexnet_core.predictions.networks import Network

_NO_MEMORY = ("can't allocate memory", "bad_alloc", "out of memory")


def predict_many(parent_pid: arguments.ParentPid = None) -> int:
    """Predict the images of a worker's prediction; not meant to be run by hand.

    The specification comes on standard input, then a line for each segment that is stored. Reports go to standard
    output.
    """
    if parent_pid is not None:
        die_with_parent(parent_pid)
    bound_arenas(os.environ)  # before threads decode images
    spec = parse_predict_spec(sys.stdin.buffer.readline())
    confine(memory_bytes=spec.memory_bytes, cpu_s=None, file_bytes=spec.file_bytes)
    answer = _predict(spec)
    say(answer)
    return 0 if isinstance(answer, PredictDone) else 1


def _predict(spec: PredictSpec) -> PredictDone | PredictFailed:
    too_costly = f"To predict the images takes more than the {spec.memory_bytes:,} bytes of memory that are allowed."
    try:
        return PredictDone(num_rows=_predict_all(spec))
    except CoreError as exc:
        return PredictFailed(code=exc.code, message=str(exc))
    except MemoryError:
        return PredictFailed(code=DATASET_TOO_COSTLY, message=too_costly)
    except RuntimeError as exc:  # of OpenVINO and of torch
        if not any(words in str(exc).lower() for words in _NO_MEMORY):
            raise
        return PredictFailed(code=DATASET_TOO_COSTLY, message=too_costly)
    except OSError as exc:
        if exc.errno == errno.EFBIG:
            text = f"The unpacked archive, or a segment of the results, has more than {spec.file_bytes:,} bytes."
            return PredictFailed(code=DATASET_TOO_COSTLY, message=text)
        code = DiskFull.code if is_disk_full(exc) else "internal_error"
        return PredictFailed(code=code, message=f"The images can't be predicted: {exc.strerror}.")


def _predict_all(spec: PredictSpec) -> int:
    """Write the segments that are missing, and return the number of images."""
    from alexnet_core.predictions.bulk import predict_rows
    from alexnet_core.predictions.networks import load_network
    from alexnet_core.predictions.segments import SegmentLimits, SegmentWriter

    failpoints = Failpoints(spec.failpoints)
    progress = PhaseReports[PredictPhase](
        lambda phase, done, total: PredictProgress(phase=phase, done=done, total=total)
    )
    network = load_network(spec.checkpoint, spec.threads)
    limits = SegmentLimits(rows=spec.segment_rows, seconds=spec.segment_s)
    with ExitStack() as held:
        images = _open_images(spec, network, progress, held)
        writer = SegmentWriter(
            *(spec.target, spec.first_row, spec.lease_epoch, limits, _Teller().tell),
            before_rename=lambda row: failpoints.hit(f"predict_segment_{row}"),
        )
        held.callback(writer.close)
        progress.report(PredictPhase.PREDICTING, spec.first_row, len(images))
        rows = predict_rows(
            network,
            images,
            first_row=spec.first_row,
            top_k=spec.top_k,
            temperature=spec.temperature,
            threads=spec.threads,
            on_progress=lambda done: progress.report(PredictPhase.PREDICTING, done, len(images)),
        )
        for number, row in enumerate(rows, spec.first_row):
            if failpoints:
                failpoints.hit(f"predict_row_{number}")
            writer.write(row.line, row.counts)
        writer.flush()
        return len(images)


def _open_images(
    spec: PredictSpec, network: Network, progress: PhaseReports[PredictPhase], held: ExitStack
) -> ImageList:
    from alexnet_core.data.archives.members import ArchiveLimits
    from alexnet_core.data.archives.opening import open_archive
    from alexnet_core.data.image_readers import FileImages
    from alexnet_core.data.pack import open_whole
    from alexnet_core.errors import DatasetChanged
    from alexnet_core.predictions.image_lists import ArchiveImages, PackImages

    if spec.pack is not None:
        progress.report(PredictPhase.CHECKING, 0, 1)
        pack = open_whole(spec.pack, lambda: progress.report(PredictPhase.CHECKING, 0, 1))
        if spec.pack_digest not in (None, pack.digest):
            raise DatasetChanged(f"The dataset's content is {pack.digest}, and was {spec.pack_digest}.")
        return PackImages(pack, spec.split)
    assert spec.archive is not None
    spec.target.mkdir(parents=True, exist_ok=True)
    archive_limits = ArchiveLimits(max_entries=spec.max_entries, max_unpacked_bytes=spec.max_unpacked_bytes)
    source = held.enter_context(
        open_archive(
            spec.archive,
            limits=archive_limits,
            spool_dir=spec.target,
            on_read=lambda done, total: progress.report(PredictPhase.READING, done, total),
        )
    )
    files = held.enter_context(FileImages(source.open, max_pixels=spec.max_pixels))
    return ArchiveImages(source, files, network.class_names)


class _Teller:
    """Reports segments, each once the one before is in the store: so only few wait on the disk."""

    def __init__(self) -> None:
        self._awaits_word = False

    def tell(self, segment: SegmentWritten) -> None:
        """Report a segment.

        Raises:
            SystemExit: the worker is gone.
        """
        if self._awaits_word and not sys.stdin.buffer.readline():
            sys.exit(1)
        self._awaits_word = True
        say(segment)
