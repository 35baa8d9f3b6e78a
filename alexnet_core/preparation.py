"""`python -m alexnet_core prepare`: make the pack of a built-in dataset. Loads torch only to fetch one."""

from __future__ import annotations

import argparse
import errno
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from alexnet_core.builtin import BUILTINS, prepare
from alexnet_core.errors import CoreError, DiskFull
from alexnet_core.parent import die_with_parent


def main(argv: Sequence[str] | None = None) -> int:
    """Print pack.json as one line of JSON and return 0, or {"error": {"code", "message"}} and return 1."""
    parser = argparse.ArgumentParser(prog="alexnet_core prepare", description=main.__doc__)
    parser.add_argument("--dataset", required=True, help=f"one of {', '.join(BUILTINS)}")
    parser.add_argument("--target", required=True, type=Path, help="the pack's folder")
    parser.add_argument(
        "--source", type=Path, default=None, help="folder of the source files, where they are not usual"
    )
    parser.add_argument("--parent-pid", type=int, default=None, help="end when this process, our parent, ends")
    args = parser.parse_args(argv)
    if args.parent_pid is not None:
        die_with_parent(args.parent_pid)
    try:
        pack = prepare(args.dataset, source_dir=args.source, target_dir=args.target)
        answer = json.loads((pack.path / "pack.json").read_text(encoding="utf-8"))
    except CoreError as exc:
        answer = {"error": {"code": exc.code, "message": str(exc)}}
    except OSError as exc:
        code = DiskFull.code if exc.errno == errno.ENOSPC else "internal_error"
        answer = {"error": {"code": code, "message": f"the pack {args.target} can't be written: {exc}"}}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 1 if "error" in answer else 0
