"""Cleans the names of classes, and finds names that look alike or are similar. Torch-free."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from alexnet_core.errors import DatasetInvalid

MAX_NAME_LENGTH = 100
_MIN_LETTERS = 3  # of a name that another one may be by a letter more
_UNSEEN = frozenset({"Cc", "Cf", "Cs"})  # control, formatting (bidi, zero width), undecodable


def clean_name(name: str) -> str:
    """Return a class name as it is shown: composed (NFC), on one line, without invisible characters.

    Raises:
        DatasetInvalid: nothing is left, or more than 100 characters.
    """
    composed = unicodedata.normalize("NFC", name)
    seen = "".join(c for c in composed if c.isspace() or unicodedata.category(c) not in _UNSEEN)
    cleaned = unicodedata.normalize("NFC", " ".join(seen.split()))
    if not cleaned:
        raise DatasetInvalid(
            f"The class {name!a:.120} has no name that can be shown. Rename it.", problem="class_name_invalid"
        )
    if len(cleaned) > MAX_NAME_LENGTH:
        raise DatasetInvalid(
            f"The class name {cleaned[:40]!r}… has {len(cleaned)} characters. Use at most {MAX_NAME_LENGTH}.",
            problem="class_name_invalid",
        )
    return cleaned


class DistinctNames:
    """Collects the names of classes, and refuses two that look alike."""

    def __init__(self) -> None:
        self._alike: dict[str, str] = {}

    def take(self, name: str, *, among: str = "class folders") -> str:
        """Return the name as it is shown.

        Args:
            name: a name that was taken before is the same class.
            among: what the names belong to, for the message.

        Raises:
            DatasetInvalid: the name can't be shown, or looks like another one.
        """
        cleaned = clean_name(name)
        other = self._alike.setdefault(unicodedata.normalize("NFKC", cleaned.casefold()), cleaned)
        if other != cleaned:
            raise look_alike(among, other, name)
        return cleaned


def look_alike(among: str, one: str, other: str) -> DatasetInvalid:
    """Return the error that refuses two names."""
    return DatasetInvalid(
        f"The {among} {one!a:.120} and {other!a:.120} look alike. Merge them, or rename one.",
        problem="class_names_alike",
    )


def find_similar(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Return groups of names that may mean the same class.

    Such names are the same apart from upper and lower case, spaces, punctuation and one additional letter, as `tulip`
    and `tulips`. Names that differ in digits are not similar. The time is proportional to the letters of all names.
    """
    plain: dict[str, list[str]] = {}
    for name in names:
        key = "".join(c for c in unicodedata.normalize("NFKD", name.casefold()) if c.isalnum())
        plain.setdefault(key, []).append(name)
    groups = {key: list(given) for key, given in plain.items() if key}
    for key in sorted(plain, key=len, reverse=True):
        if key not in groups or len(key) <= _MIN_LETTERS:
            continue
        for shorter in {key[:at] + key[at + 1 :] for at in range(len(key)) if key[at].isalpha()}:
            if shorter in groups:
                groups[shorter] += groups.pop(key)
                break
    return [tuple(sorted(group)) for group in groups.values() if len(group) > 1]
