"""Which cookies are sessions, and which only look like one."""

from __future__ import annotations

import base64
import json

import pytest

from api.access.sessions import SESSION_S, Session, SessionCookies, may_hold_session
from trainyard.access.yard_secret import read_yard_secret
from trainyard.database.connection import Database

KEY, SECRET = "0123456789abcdef0123", "5" * 64
NOW = 1_000_000.0
PREFIX = "ty_0123456789ab"


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cookies(clock: Clock) -> SessionCookies:
    return SessionCookies(KEY, SECRET, clock)


def header(cookies: SessionCookies, value: str) -> str:
    return f"theme=dark; {cookies.name}={value}; other=1"


def test_a_session_says_who_signed_in_until_it_expires(cookies: SessionCookies, clock: Clock) -> None:
    sent = header(cookies, cookies.begin(PREFIX))
    assert may_hold_session(sent)
    assert cookies.read(sent) == Session(PREFIX, NOW + SESSION_S)
    clock.now += SESSION_S - 1
    assert cookies.read(sent) is not None
    clock.now += 1
    assert cookies.read(sent) is None


def test_every_process_of_a_yard_reads_it(cookies: SessionCookies, clock: Clock) -> None:
    other = SessionCookies(KEY, SECRET, clock)
    assert other.name == cookies.name
    assert other.read(header(cookies, cookies.begin(PREFIX))) is not None


@pytest.mark.parametrize(("key", "secret"), [(KEY + "x", SECRET), (KEY, "6" * 64)])
def test_the_cookie_of_another_yard_and_of_a_changed_key_is_none(
    cookies: SessionCookies, clock: Clock, key: str, secret: str
) -> None:
    foreign = SessionCookies(key, secret, clock)
    value = foreign.begin("")
    assert foreign.read(header(foreign, value)) is not None
    assert cookies.read(header(cookies, value)) is None
    assert cookies.read(header(foreign, value)) is None or foreign.name == cookies.name


def test_yards_on_one_host_have_names_of_their_own(cookies: SessionCookies) -> None:
    """Browsers share cookies between the ports of a host, so one name would sign out the other yard."""
    assert SessionCookies(KEY, "6" * 64).name != cookies.name


def test_no_changed_byte_is_taken(cookies: SessionCookies) -> None:
    value = cookies.begin(PREFIX)
    assert cookies.read(header(cookies, value)) is not None
    for place, letter in enumerate(value):
        for other in {"A", "B", ".", "=", "\x7f"} - {letter}:
            changed = value[:place] + other + value[place + 1 :]
            if _decoded(changed) != _decoded(value):  # the last letters of base 64 have bits that say nothing
                assert cookies.read(header(cookies, changed)) is None, (place, other)


@pytest.mark.parametrize(
    "payload", [["", 2**40], [PREFIX, 2**40], {"prefix": "", "expires_at": 2**40}, "admin", None, [PREFIX, "x"], 1]
)
def test_nothing_unsigned_or_signed_with_nothing_is_taken(cookies: SessionCookies, payload: object) -> None:
    body = base64.urlsafe_b64encode(json.dumps(payload).encode()).decode().rstrip("=")
    signature = cookies.begin(PREFIX).partition(".")[2]
    for value in (body, f"{body}.", f"{body}.{signature}", f"{body}.{body}", f".{signature}"):
        assert cookies.read(header(cookies, value)) is None


@pytest.mark.parametrize("value", ["", '""', ".", "..", "%00", "é", "a" * 5000, "." * 400, "a.b.c"])
def test_rubbish_is_no_session_and_no_error(cookies: SessionCookies, value: str) -> None:
    for sent in (header(cookies, value), f"{cookies.name}", f"{cookies.name}=;;;=", f"x{cookies.name}={value}"):
        assert cookies.read(sent) is None


def test_one_that_goes_on_is_found_behind_one_that_ended(cookies: SessionCookies, clock: Clock) -> None:
    """A browser sends two of one name if a yard is reached under two paths."""
    old = cookies.begin(PREFIX)
    clock.now += SESSION_S
    new = cookies.begin("")
    found = cookies.read(f"{cookies.name}={old}; {cookies.name}={new}")
    assert found == Session("", NOW + 2 * SESSION_S)


def test_the_secret_is_the_same_for_all_and_no_other_database_s(database: Database) -> None:
    with database.reading() as session:
        secret = read_yard_secret(session)
        assert len(secret) == 64
        assert secret == read_yard_secret(session)


def _decoded(value: str) -> list[bytes | str]:
    try:
        return [base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in value.split(".")]
    except ValueError:
        return [value]
