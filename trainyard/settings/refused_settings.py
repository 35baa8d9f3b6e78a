"""Says what is wrong with settings, without their values."""

from __future__ import annotations

from pydantic import ValidationError


def explain(exc: ValidationError) -> str:
    """Describe what is wrong with the settings, in one line and without their values, which may be secrets."""
    problems = []
    for problem in exc.errors(include_input=False, include_url=False):
        name, message = ".".join(map(str, problem["loc"])), problem["msg"].removeprefix("Value error, ")
        problems.append(f"{name}: {message}" if name else message)
    return " ".join("; ".join(problems).split())
