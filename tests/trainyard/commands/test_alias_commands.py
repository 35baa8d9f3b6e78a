from __future__ import annotations

import json

from tests.api.served import Served
from tests.trainyard.commands.conftest import Run


def test_an_alias_is_made_moved_rolled_back_and_removed(served: Served, run: Run, trained: str) -> None:
    old, new = [row["id"] for row in reversed(served.http.get("/checkpoints").json()["data"])]
    assert "makes one" in run("aliases", "list").stdout
    assert f"live (version 1) is {old}" in run("aliases", "set", "live", old).stdout
    moved = run("aliases", "set", "live", old, "--canary", new, "--share", "0.1").stdout
    assert f"canary: {new} answers 10.0% of the requests" in moved
    assert json.loads(run("aliases", "set", "live", new, "--json").stdout)["checkpoint"] == new
    assert new in run("aliases", "list").stdout
    assert f"is {new}, epoch 2" in run("aliases", "show", "live").stdout
    assert f"is {old}" in run("aliases", "rollback", "live").stdout
    actions = [line.split()[1] for line in run("aliases", "history", "live").stdout.splitlines()]
    assert actions == ["action", "rollback", "move", "move", "move"]
    assert json.loads(run("aliases", "rm", "live", "--json").stdout) == {"removed": ["live"]}
    done = run("aliases", "show", "live")
    assert (done.exit_code, "alias_not_found" in done.stderr) == (1, True)


def test_a_canary_needs_its_share(run: Run) -> None:
    done = run("aliases", "set", "live", "ckpt_1", "--canary", "ckpt_2")
    assert (done.exit_code, "--share" in done.stderr) == (2, True)
