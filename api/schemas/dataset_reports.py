"""The bodies that say what was found in a dataset: its report, whole or shortened, and its rejected files."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from api.schemas.base import DESCRIBED

SHORT = 10  #: entries of each list in a shortened report


def shorten_report(report: dict[str, Any]) -> dict[str, Any]:
    """Return a report in which every list has its first ten entries, with the number of rejected files.

    A report names thousands of files; a client that asks for a dataset's state should not have to read them each time.
    """
    short: dict[str, Any] = _shorten(report)
    return short | {"num_rejected": count_rejected(report)}


def count_rejected(report: dict[str, Any]) -> int:
    """Return the number of rejected files, of which a report lists the first ten thousand."""
    return int(report.get("num_rejected", len(report.get("rejected", []))))


def _shorten(value: Any) -> Any:
    if isinstance(value, list):
        return [_shorten(entry) for entry in value[:SHORT]]
    if isinstance(value, dict):
        return {name: _shorten(entry) for name, entry in value.items()}
    return value


class ReportRead(BaseModel):
    """What was found when a dataset was validated."""

    model_config = DESCRIBED

    object: Literal["dataset.report"] = "dataset.report"
    dataset: str
    """Its id."""
    num_rejected: int
    """Files that are not used. `links.rejected` lists them, of more than ten thousand the first ones."""
    report: dict[str, Any]
    """The report, without the list of rejected files. Its fields: see `python -m alexnet_core prepare`."""
    links: dict[str, str]
    """Paths to related resources."""


class RejectedFileRead(BaseModel):
    """A file that is not used, and why."""

    model_config = DESCRIBED

    id: str
    """Its place in the list, from 0."""
    object: Literal["dataset.rejected_file"] = "dataset.rejected_file"
    file: str
    """As the folder or archive named it."""
    code: str
    """The kind of reason, such as `image_unreadable`."""
    reason: str
