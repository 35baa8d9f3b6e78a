"""What a client calls its file is kept as text. It is never a path here."""

from __future__ import annotations

import re
import unicodedata

MAX_CHARACTERS = 255
_ARCHIVE = re.compile(r"\.(zip|tar|tgz|tzst|tar\.gz|tar\.zst)$", re.I)


def clean_file_name(given: str) -> str | None:
    """Return the last part of a file's name without what can't be shown. None: nothing is left."""
    last = re.split(r"[/\\]", given)[-1]
    shown = "".join(letter for letter in unicodedata.normalize("NFC", last) if letter.isprintable())
    return shown.strip()[:MAX_CHARACTERS] or None


def strip_archive_endings(name: str) -> str:
    """Return what a file is called without the ending of an archive: `flowers` of `flowers.tar.gz`."""
    return _ARCHIVE.sub("", name)
