from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from trainyard.launch import cli


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_the_shell_is_printed(shell: str) -> None:
    done = CliRunner().invoke(cli.app, ["completion", shell])
    assert done.exit_code == 0, done.output
    assert "_TRAINYARD_COMPLETE" in done.stdout
    assert CliRunner().invoke(cli.app, ["completion", "csh"]).exit_code == 2


def test_bash_completes_commands_and_options(tmp_path: Path) -> None:
    program = tmp_path / "trainyard"
    program.write_text(f"#!{sys.executable}\nfrom trainyard.launch.cli import main\n\nmain()\n")
    program.chmod(0o755)
    script = CliRunner().invoke(cli.app, ["completion", "bash"]).stdout
    typed = f"{script}\nCOMP_WORDS=(trainyard comp); COMP_CWORD=1; _trainyard_completion trainyard"
    typed += '; echo "${COMPREPLY[@]}"'
    env = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", typed], capture_output=True, text=True, check=True, env=env, timeout=60)
    assert sorted(done.stdout.split()) == ["compare", "completion"], done.stderr
