"""Checks the names of an archive's members. Torch-free.

Members are never written to disk under their own names, so no name can do harm here. But a name that leads out of the
archive is only found in archives that were made to attack whoever unpacks them. Such an archive is refused as a whole.
"""

from __future__ import annotations

import re

from alexnet_core.data.archives.refusals import refused

MAX_NAME_BYTES = 4096  #: of a whole path, the most that Linux takes
MAX_PART_BYTES = 255  #: of a file's or folder's name
_DRIVE = re.compile(r"[A-Za-z]:")
_RESERVED = re.compile(r"(con|prn|aux|nul|com[1-9¹²³]|lpt[1-9¹²³]) *(\..*)?", re.IGNORECASE | re.DOTALL)  # of Windows


def clean_path(name: str) -> str:
    """Return a member's path, relative and with `/`, without `.` and empty parts. The path of a folder ends in `/`.

    Returns:
        "" for the archive's own top, `./`.

    Raises:
        DatasetInvalid: only an attack has such a name.
    """
    if (reason := _find_reason(name)) is not None:
        raise refused(
            "archive_unsafe",
            f"it has a member named {name[:120]!a}, {reason}. Pack the folder of images again, from inside the folder "
            "that holds it, with relative names",
        )
    parts = [part for part in name.split("/") if part not in ("", ".")]
    is_folder = name.endswith(("/", "/."))
    return "/".join(parts) + ("/" if is_folder and parts else "")


def _find_reason(name: str) -> str | None:
    """Return what is wrong with a name. None: nothing."""
    if "\0" in name:
        return "which holds a NUL"
    if name.startswith("/"):
        return "which is an absolute path"
    if "\\" in name:
        return "which holds a backslash"
    if _DRIVE.match(name):
        return "which begins with a drive's letter"
    parts = name.split("/")
    if ".." in parts:
        return "which leads out of the archive by `..`"
    if any(_RESERVED.fullmatch(part) for part in parts):
        return "which Windows keeps for a device"
    if len(_as_bytes(name)) > MAX_NAME_BYTES or any(len(_as_bytes(part)) > MAX_PART_BYTES for part in parts):
        return f"whose parts have more than {MAX_PART_BYTES} bytes"
    return None


def _as_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
