"""Finds the folder or archive of the yard's machine that a request names, only below folders that a setting names."""

from __future__ import annotations

from pathlib import Path

from trainyard.errors import InvalidRequest

SETTING = "TRAINYARD_DATASET_FOLDERS"


def find_source(setting: str, path: str) -> Path:
    """Return the real path of a folder or file below one of the folders.

    Links are followed before the comparison. What is outside is refused with the same words whether it exists or not,
    and the folders are not named, for whoever may make a dataset need not know them.

    Args:
        setting: the folders, separated by colons.
        path: as it was named.

    Raises:
        InvalidRequest: it is none.
    """
    folders = [Path(folder).resolve() for folder in setting.split(":") if folder]
    if not folders:
        raise InvalidRequest(f"no dataset can be named by its path: {SETTING} names no folder", param="path")
    named = Path(path)
    try:
        real = named.resolve(strict=True)
        is_usable = real.is_dir() or real.is_file()
    except (OSError, ValueError, RuntimeError):  # missing, NUL in it, a loop of links
        real, is_usable = named, False
    if not named.is_absolute() or not is_usable or not any(folder in real.parents for folder in folders):
        raise InvalidRequest(
            f"{path[:200]!r} is no folder and no file below one of those that the operator allows ({SETTING}): "
            "give an absolute path there, or upload the files",
            param="path",
        )
    return real
