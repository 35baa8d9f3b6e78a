"""`trainyard login` and `logout`: a key is kept for one yard, privately, and is sent to no other."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from tests.api.conftest import Serve
from trainyard.commands.connecting import find_yard
from trainyard.commands.login_file import LoginFileUnreadable, Logins, login_path, read_logins, write_logins
from trainyard.launch import cli

KEY = 'a "key" of\\16 marks\x7f'


def run(*args: str, typed: str = "") -> tuple[int, str, str]:
    done = CliRunner().invoke(cli.app, list(args), input=typed)
    return done.exit_code, done.stdout, done.stderr


def test_a_key_is_kept_and_sent_until_the_logout(serve: Serve) -> None:
    yard = serve(admin_key=SecretStr("k" * 16))
    status, _, said = run("jobs", "--url", yard.url)
    assert (status, "trainyard login" in said) == (1, True)
    assert run("login", yard.url, typed="wrong\n")[0] == 1
    assert not login_path().exists()
    assert run("login", yard.url + "/", typed="k" * 16 + "\n") == (
        0, f"the commands talk to {yard.url} from now on; kept in {login_path()}\n", "",
    )  # fmt: skip
    assert stat.S_IMODE(login_path().stat().st_mode) == 0o600
    assert run("jobs")[0] == 0, "address and key are those of the login"
    assert find_yard(yard.url) == (yard.url, "k" * 16)
    assert find_yard("http://other:8000") == ("http://other:8000", None), "a key is sent to its own yard only"
    assert run("logout")[1] == f"forgot {yard.url}\n"
    assert read_logins(login_path()) == Logins()
    assert run("logout")[0] == 1


def test_what_is_set_goes_before_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    write_logins(login_path(), Logins("http://kept:1", {"http://kept:1": "kept"}))
    assert find_yard(None) == ("http://kept:1", "kept")
    monkeypatch.setenv("TRAINYARD_URL", "http://set:2")
    assert find_yard(None) == ("http://set:2", None)
    monkeypatch.setenv("TRAINYARD_ADMIN_KEY", "s" * 16)
    assert find_yard("http://kept:1") == ("http://kept:1", "s" * 16)
    monkeypatch.setenv("TRAINYARD_KEY", "")
    assert find_yard("http://kept:1") == ("http://kept:1", "s" * 16)
    monkeypatch.setenv("TRAINYARD_KEY", "mine")
    assert find_yard("http://kept:1") == ("http://kept:1", "mine")


def test_a_login_without_a_key_sends_none_of_the_environment(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    yard = serve(admin_key=SecretStr("k" * 16))
    monkeypatch.setenv("TRAINYARD_KEY", "k" * 16)
    assert run("jobs", "--url", yard.url)[0] == 0
    status, _, said = run("login", yard.url, "--no-key")
    assert (status, "unauthenticated" in said) == (1, True)


def test_a_yard_that_does_not_answer_is_not_kept() -> None:
    status, _, said = run("login", "http://127.0.0.1:1", "--no-key")
    assert (status, "does not answer" in said) == (1, True)
    assert run("login", "nonsense", "--no-key")[0] == 2
    assert not login_path().exists()


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    logins = Logins("http://ä:1", {"http://ä:1": KEY, "http://b:2": ""})
    write_logins(tmp_path / "new" / "config.toml", logins)
    assert read_logins(tmp_path / "new" / "config.toml") == logins
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["config.toml"]


@pytest.mark.parametrize("text", ["url = ", "url = 7", "keys = 7", "\xff"])
def test_a_file_that_is_something_else_is_refused_with_its_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text, "latin-1")
    with pytest.raises(LoginFileUnreadable, match=r"config\.toml"):
        read_logins(path)
    login_path().parent.mkdir(parents=True)
    login_path().write_text(text, "latin-1")
    assert run("jobs", "--url", "http://127.0.0.1:1")[0] == 2
