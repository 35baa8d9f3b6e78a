"""`trainyard keys …`: what is printed of a key, and whom it lets in."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from tests.api.conftest import Serve
from tests.api.served import Served
from trainyard.launch import cli

ADMIN_KEY = "k" * 16
Keys = Callable[..., Result]


@pytest.fixture
def locked(serve: Serve) -> Served:
    return serve(admin_key=SecretStr(ADMIN_KEY))


@pytest.fixture
def keys(locked: Served, monkeypatch: pytest.MonkeyPatch) -> Keys:
    """Runs `trainyard keys …` as the yard's administrator."""
    monkeypatch.setenv("TRAINYARD_URL", locked.url)
    monkeypatch.setenv("TRAINYARD_KEY", ADMIN_KEY)
    return lambda *args: CliRunner().invoke(cli.app, ["keys", *args])


def listed(keys: Keys, *args: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads(keys("list", "--json", *args).stdout)
    return rows


def test_a_key_is_printed_once_alone_and_acts_for_its_owner(
    locked: Served, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = keys("create", "--owner", "ada", "--name", "course", "--scope", "read", "--scope", "train")
    assert done.exit_code == 0, done.output
    text = done.stdout.removesuffix("\n")
    assert text.startswith("ty_")
    assert text.isprintable(), "standard output is the key and nothing else"
    assert "acts for ada and may: read, train. Its text is shown only now." in done.stderr
    assert "asks for no key" not in done.stderr
    [row] = listed(keys)
    assert text.startswith(f"{row['prefix']}_")
    assert text not in keys("list").output
    assert ("course" in keys("list").stdout, listed(keys, "--owner", "bob")) == (True, [])
    monkeypatch.setenv("TRAINYARD_KEY", text)
    assert CliRunner().invoke(cli.app, ["jobs"]).exit_code == 0
    refused = keys("list")
    assert (refused.exit_code, "scope_missing" in refused.stderr) == (1, True), refused.stderr


def test_a_key_is_revoked_by_its_id_its_beginning_its_text_or_its_name(locked: Served, keys: Keys) -> None:
    made = [json.loads(keys("create", "--owner", owner, "--name", owner, "--json").stdout) for owner in "abcde"]
    done = keys("revoke", made[0]["id"], made[1]["prefix"], made[2]["key"], "d", made[0]["prefix"])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [f"revoked {key['id']} of {key['owner']}" for key in made[:4]], "each once"
    assert [row["id"] for row in listed(keys)] == [made[4]["id"]]
    assert json.loads(keys("revoke", "e", "--json").stdout) == {"revoked": [made[4]["id"]]}
    assert "keys create" in keys("list").stdout


def test_all_keys_of_an_owner_are_revoked_and_the_one_in_use_as_the_last(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [json.loads(keys("create", "--owner", owner, "--scope", "admin", "--json").stdout) for owner in "aaab"]
    monkeypatch.setenv("TRAINYARD_KEY", made[1]["key"])
    done = keys("revoke", "--owner", "a")
    assert done.exit_code == 0, done.output
    revoked = [line.split()[1] for line in done.stdout.splitlines()]
    assert (sorted(revoked), revoked[-1]) == (sorted(key["id"] for key in made[:3]), made[1]["id"])
    monkeypatch.setenv("TRAINYARD_KEY", ADMIN_KEY)
    assert [key["owner"] for key in listed(keys)] == ["b"]
    none = keys("revoke", "--owner", "a")
    assert (none.exit_code, "a has no keys" in none.stderr) == (1, True)


@pytest.mark.parametrize("args", [[], ["course", "--owner", "ada"]], ids=["neither", "both"])
def test_keys_are_named_or_their_owner_is(keys: Keys, args: list[str]) -> None:
    done = keys("revoke", *args)
    assert (done.exit_code, "or their owner with --owner" in done.stderr) == (2, True), done.stderr


def test_nothing_is_revoked_where_one_is_not_there_or_not_alone(keys: Keys) -> None:
    for owner in ("ada", "bob"):
        keys("create", "--owner", owner, "--name", "course")
    one = listed(keys)[0]
    several = keys("revoke", str(one["id"]), "course")
    assert (several.exit_code, "2 keys have the name course" in several.stderr) == (1, True)
    secret = f"ty_000000000000_{'s' * 43}"
    missing = keys("revoke", str(one["id"]), secret)
    assert (missing.exit_code, "there is no key ty_000000000000…" in missing.stderr) == (1, True), missing.stderr
    assert len(listed(keys)) == 2


@pytest.mark.parametrize(
    ("args", "status", "says"),
    [(("--owner", "Ada Lovelace"), 1, "owner"), (("--scope", "everything"), 2, "everything")],
)
def test_what_a_key_can_not_be_is_refused(keys: Keys, args: tuple[str, ...], status: int, says: str) -> None:
    done = keys("create", *args)
    assert (done.exit_code, says in done.stderr) == (status, True), done.stderr
    assert listed(keys) == []


def test_a_yard_that_asks_for_no_key_says_so(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_URL", served.url)
    done = CliRunner().invoke(cli.app, ["keys", "create"])
    assert (done.exit_code, "TRAINYARD_ADMIN_KEY" in done.stderr) == (0, True)
