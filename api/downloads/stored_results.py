"""The results of a prediction as they are stored: rows of NDJSON, read segment by segment."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing

from alexnet_core.layout import SEGMENT_ROWS
from alexnet_core.predictions.table_process import TableProcess
from alexnet_core.regular_files import open_regular
from api.downloads.slots import DownloadSlot
from trainyard.artifacts import predictions
from trainyard.database.connection import Database
from trainyard.database.prediction_tables import PredictionSegment
from trainyard.errors import StorageUnavailable
from trainyard.storage.interface import Storage, StoredFilesDamaged

_PIECE_BYTES = 256 * 1024
SEGMENTS_AT_ONCE = 50  # that one look into the database asks for


def read_rows(storage: Storage, segment: PredictionSegment, from_row: int) -> Generator[bytes, None, None]:
    """Yield the lines of a segment, in pieces, from a row on.

    Raises:
        FileNotFoundError: it was deleted.
        StorageUnavailable, StoredFilesDamaged, OSError: it can't be read now.
    """
    with storage.materialise(segment.key) as folder, open_regular(folder, SEGMENT_ROWS) as file:
        for _ in range(from_row - segment.first_row):
            file.readline()
        while piece := file.read(_PIECE_BYTES):
            yield piece


def read_all_rows(database: Database, storage: Storage, prediction_id: str, from_row: int = 0) -> Iterator[bytes]:
    """Yield all lines that are stored, in pieces, from a row on.

    Raises:
        DatabaseUnavailable: see there.
        FileNotFoundError, StorageUnavailable, StoredFilesDamaged, OSError: see `read_rows`.
    """
    while segments := list_segments(database, prediction_id, from_row):
        for segment in segments:
            yield from read_rows(storage, segment, from_row)
            from_row = segment.first_row + segment.num_rows


def list_segments(database: Database, prediction_id: str, from_row: int) -> Sequence[PredictionSegment]:
    """Return the next segments that hold rows from one on."""
    with database.reading() as session:
        return predictions.list_segments(session, prediction_id, from_row, limit=SEGMENTS_AT_ONCE)


def require_readable(database: Database, storage: Storage, prediction_id: str, from_row: int = 0) -> None:
    """Read the first lines from a row on, if any are stored: what can't be read now is refused before an answer begins.

    Raises:
        DatabaseUnavailable: see there.
        StorageUnavailable: they can't be read now.
    """
    for segment in list_segments(database, prediction_id, from_row)[:1]:
        try:
            with closing(read_rows(storage, segment, from_row)) as pieces:
                next(pieces, None)
        except (OSError, StoredFilesDamaged) as exc:
            raise StorageUnavailable(
                f"the results of prediction {prediction_id} can't be read now: try again in a moment"
            ) from exc


class ResultTable:
    """The results of a prediction that has ended as CSV or Parquet, made while they are sent."""

    size_bytes: int | None = None
    etag: str | None = None
    sha256: bytes | None = None

    def __init__(self, kind: str, top_k: int, rows: Callable[[], Iterator[bytes]], slot: DownloadSlot) -> None:
        self._slot = slot
        try:
            self._process = TableProcess(kind, top_k, rows())
        except BaseException:
            slot.close()
            raise

    def pieces(self) -> Iterator[bytes]:
        """See `Sendable`."""
        return self._process.pieces()

    def close(self) -> None:
        """See `Sendable`."""
        self._process.close()
        self._slot.close()
