"""`python -m alexnet_core trainer`: what a worker starts. Torch is imported after the process is tied to its parent."""

from __future__ import annotations

from typing import Annotated

import typer

from alexnet_core.commands import arguments


def trainer(
    report_fd: Annotated[int, typer.Option(help="File descriptor that reports are written to.")],
    parent_pid: arguments.ParentPid = None,
) -> int:
    """Train the jobs of a worker; not meant to be run by hand."""
    from alexnet_core.trainer import child

    return child.serve(report_fd, parent_pid)
