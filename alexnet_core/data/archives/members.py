"""Collects the members of an archive by path, and enforces the limits on archives. Torch-free."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

from alexnet_core.data.archives.member_names import clean_path
from alexnet_core.data.archives.refusals import refused
from alexnet_core.errors import ImageUnreadable

_ARCHIVE_ENDINGS = (
    ".zip", ".tar", ".tgz", ".tar.gz", ".tar.zst", ".tzst", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".7z", ".rar",
)  # fmt: skip


@dataclass(frozen=True)
class ArchiveLimits:
    """The limits on the size of an archive."""

    max_entries: int = 100_000
    """Members, folders included."""
    max_unpacked_bytes: int = 64 << 30
    """Of all members together."""
    max_ratio: int = 50
    """The most bytes of all members together, in multiples of the archive's own size."""
    ratio_from_bytes: int = 64 << 20
    """The ratio is checked only above this number of unpacked bytes."""

    def require_few(self, num_entries: int) -> None:
        """Refuse an archive with too many members.

        Raises:
            DatasetInvalid: it has more than allowed.
        """
        if num_entries > self.max_entries:
            raise refused(
                "archive_too_large",
                f"it has {num_entries:,} members or more, and {self.max_entries:,} are allowed. Pack fewer images, or "
                "allow more",
            )

    def require_small(self, unpacked_bytes: int, archive_bytes: int) -> None:
        """Refuse an archive that unpacks to too many bytes.

        Args:
            unpacked_bytes: of all members, or of the members so far.
            archive_bytes: of the archive.

        Raises:
            DatasetInvalid: there are too many bytes, or so many more than in the archive that it must be a bomb.
        """
        if unpacked_bytes > self.max_unpacked_bytes:
            raise refused(
                "archive_too_large",
                f"it unpacks to more than {self.max_unpacked_bytes:,} bytes. Pack fewer or smaller images",
            )
        if unpacked_bytes > self.ratio_from_bytes and unpacked_bytes > self.max_ratio * archive_bytes:
            raise refused(
                "archive_bomb",
                f"its {archive_bytes:,} bytes unpack to more than {self.max_ratio} times as much. Images don't shrink "
                "like that: pack the image files themselves, as JPEG or PNG",
            )


class Members:
    """The members of an archive, each with its place. A member that can't be read has a reason instead of a place.

    A place is some numbers, which together take much less memory than an object for each member.

    Args:
        limits: on the archive.
        numbers: the type of each number of a place, by the letters of `array`.
    """

    def __init__(self, limits: ArchiveLimits, numbers: str) -> None:
        self._limits = limits
        self._columns = [array(letter) for letter in numbers]
        self._rows: dict[str, int] = {}  #: by path
        self._reasons: dict[str, str] = {}  #: by path
        self._num_entries = 0

    @property
    def paths(self) -> list[str]:
        """Every path; those of folders end in `/`."""
        return list(self._rows)

    def check(self, name: str, *, is_folder: bool = False) -> str:
        """Count a member, and return its path; "" for the top folder of the archive.

        Raises:
            DatasetInvalid: there are too many members, or this one has the archive refused.
        """
        self._num_entries += 1
        self._limits.require_few(self._num_entries)
        path = clean_path(name)
        if not path or path.endswith("/"):
            return path
        if not is_folder and path.casefold().endswith(_ARCHIVE_ENDINGS):
            raise refused(
                "archive_nested",
                f"it holds another archive, {path[-120:]!a}. Unpack that one, and pack the images themselves",
            )
        return f"{path}/" if is_folder else path

    def add(self, path: str, place: tuple[int, ...] | str) -> None:
        """Store the place of a member, or the reason why it can't be read.

        Of two members with the same path neither can be read, because one can't be told from the other.

        Args:
            path: as `check` returned it.
            place: a text is the reason.
        """
        if not path:
            return
        if path in self._rows:
            if not path.endswith("/"):
                self._reasons[path] = "The archive has two files of this name."
            return
        self._rows[path] = len(self._rows)
        if isinstance(place, str):
            self._reasons[path], place = place, (0,) * len(self._columns)
        for column, number in zip(self._columns, place, strict=True):
            column.append(number)

    def find(self, path: str) -> tuple[int, ...]:
        """Return the place of a member.

        Raises:
            ImageUnreadable: it can't be read.
        """
        if path in self._reasons:
            raise ImageUnreadable(self._reasons[path])
        row = self._rows[path]
        return tuple(column[row] for column in self._columns)
