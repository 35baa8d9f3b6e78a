"""The process that asks the library of Weights & Biases to write an offline run; prints the run's folder.

python -m trainyard.tracking.wandb_writer PLAN.json
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any


def write_run(plan: dict[str, Any]) -> Path:
    """Write the run that a plan describes, and return its folder."""
    import wandb

    settings = wandb.Settings(
        console="off",
        disable_code=True,
        disable_git=True,
        silent=True,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
        x_start_time=plan["started_at"],
    )
    run = wandb.init(
        project=plan["project"],
        id=plan["id"],
        name=plan["name"],
        notes=plan["notes"],
        config=plan["config"],
        dir=plan["target"],
        mode="offline",
        settings=settings,
    )
    for point in plan["points"]:
        run.log(point["values"], step=point["step"])
    for name, value in plan["summary"].items():
        if value is not None:
            run.summary[name] = value
    # Copies in the run's own folder, so that the folder may be moved: artifacts would stay behind in the user's home.
    shutil.copytree(plan["folder"], run.dir, dirs_exist_ok=True)
    for path in sorted(Path(plan["folder"]).rglob("*")):
        if path.is_file():
            run.save(str(Path(run.dir) / path.relative_to(plan["folder"])), base_path=run.dir, policy="now")
    folder = Path(run.dir).parent
    run.finish(exit_code=plan["exit_code"])
    for path in (folder / "logs").iterdir():
        if path.is_symlink():  # to a log of the library that ends with this process
            path.unlink()
    return folder


if __name__ == "__main__":
    sys.stdout.write(f"{write_run(json.loads(Path(sys.argv[1]).read_text(encoding='utf-8')))}\n")
