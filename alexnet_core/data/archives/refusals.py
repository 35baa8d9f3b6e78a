"""Makes the errors that refuse an archive as a whole. Torch-free.

The problems:

archive_unsafe       has members that would be written outside its folder, or devices
archive_bomb         unpacks to far more bytes than it has
archive_too_large    more members or bytes than are allowed
archive_encrypted    protected by a password
archive_nested       contains other archives
archive_damaged      damaged, truncated, or contradicts itself
archive_unsupported  not of a format that is read
"""

from __future__ import annotations

from alexnet_core.errors import DatasetInvalid


def refused(problem: str, reason: str) -> DatasetInvalid:
    """Return the error that refuses an archive.

    Args:
        problem: for programs.
        reason: what is wrong and what to do; the end of a sentence that begins with `The archive can't be read:`.
    """
    return DatasetInvalid(f"The archive can't be read: {reason}.", problem=problem)


def device_among(path: str) -> DatasetInvalid:
    """Return the error that refuses an archive with a device or pipe."""
    return refused("archive_unsafe", f"its member {path[-120:]!a} is a device or pipe. Pack nothing but image files")


def damaged(what: object) -> DatasetInvalid:
    """Return the error that refuses a damaged archive."""
    return refused("archive_damaged", f"it is damaged ({what!s:.200}). Pack it again, and send the whole file")


def cut_off() -> DatasetInvalid:
    """Return the error that refuses a truncated archive."""
    return refused("archive_damaged", "it is truncated. Send the whole file")
