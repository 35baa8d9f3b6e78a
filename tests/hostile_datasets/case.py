"""One hostile or odd archive."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.alexnet_core.archive_files import two_classes, zip_of

NUM_GOOD = 40  #: images of a dataset that would be taken without what is odd in it


@dataclass(frozen=True)
class Case:
    """An archive, and what is answered to it: a problem, or the facts of the report of a dataset that is taken."""

    build: Callable[[], bytes]
    problem: str = ""  #: "" if the dataset is taken
    rejected: Mapping[str, str] = field(default_factory=dict)  #: code by file
    findings: frozenset[str] = frozenset()  #: codes that are among those of the report
    num_images: int = NUM_GOOD
    num_classes: int | None = None  #: None: it is not looked at
    max_cpu_s: float = 2


def good_members() -> dict[str, bytes]:
    """Members of a dataset that is taken."""
    return two_classes(NUM_GOOD // 2)


def zip_beside(name: str, content: bytes) -> bytes:
    """A zip of a good dataset with one more file."""
    return zip_of(good_members() | {name: content})


def one_odd(build: Callable[[], bytes], code: str, name: str = "a/odd.jpg") -> Case:
    """A dataset that is taken without one file, whose content is odd."""
    return Case(lambda: zip_beside(name, build()), rejected={name: code})
