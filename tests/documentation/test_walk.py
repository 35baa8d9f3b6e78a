"""A page that tells the truth passes, and one that does not fails at the place where it is wrong."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.documentation import blocks, walk
from tests.documentation.comparison import Names
from tests.documentation.terminal import Terminal
from tests.processes import is_alive

TRUE = """\
`hello.py`:

```python
import os
print("hello", os.environ["WHO"], 0.125)
```

```
$ export WHO=world
$ python hello.py
hello world 0.5
$ python hello.py >&2; ls /no-such-folder
hello world 0.25
ls: …
```

```bash
test -n "$WHO"
```

```python
greeting = "hello"
print(greeting)
```

```
hello
```

```python
import asyncio
await asyncio.sleep(0)
```

```python
>>> greeting.upper()
'HELLO'
>>> len(greeting)
5
```

```
$ sh -c 'trap "echo stopped; exit 0" INT; echo begun; while :; do sleep 0.05; done'
begun
^Cstopped
```
"""


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Walks a page of this text."""
    monkeypatch.setattr(blocks, "ROOT", tmp_path)
    monkeypatch.setattr(walk, "ROOT", tmp_path)
    monkeypatch.setattr(walk, "UNCHANGED_S", 0.5)

    def walk_page(text: str, port: int = 8000) -> None:
        (tmp_path / "page.md").write_text(text)
        with Terminal(tmp_path / "reader", {}) as terminal:
            walk.walk("page.md", terminal, {8000: port}, Names())

    return walk_page


def test_a_true_page_passes(read: Callable[..., None]) -> None:
    read(TRUE)


def test_a_reader_is_not_within_the_make_that_runs_the_tests(
    read: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MAKELEVEL", "MAKEFLAGS", "MFLAGS"):
        monkeypatch.setenv(name, "w")
    read('```\n$ echo "<$MAKELEVEL$MAKEFLAGS$MFLAGS>"\n<>\n```\n')


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("```\n$ echo one\ntwo\n```\n", "page.md:2: echo one\n--- the page goes on with\ntwo"),
        ("```\n$ echo one\n```\n", "the page goes on with\n.the end.\n--- and this was printed\none"),
        ("```\n$ false\n```\n", "ended with 1"),
        ("```bash\nfalse\n```\n", "ended with 1"),
        ("```bash\nA=1\n```\n```\n$ echo $A\n2\n```\n", "and this was printed\n1"),
        ("```python\nunknown\n```\n", "NameError"),
        ("```python\n>>> 1 + 1\n3\n```\n", "and this was printed\n2"),
        ("`never.py`:\n\n```python\n```\n", "no command of the page uses never.py"),
        ("```\nan output\n```\n", "the output of no command"),
        ("```js\nlet x\n```\n", "no test can run js"),
        ("```\n$ true\n^Cstopped\n```\n", "the page goes on with\nstopped"),
    ],
)
def test_a_page_that_is_wrong_fails(read: Callable[..., None], text: str, wrong: str) -> None:
    with pytest.raises(AssertionError, match=wrong):
        read(text)


def test_what_only_asks_is_asked_again_until_it_is_so(read: Callable[..., None], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        child = os.fork()
        if child == 0:
            for state in ("queued", "running", "succeeded", "succeeded"):
                connection, _ = server.accept()
                connection.recv(4096)
                connection.sendall(f"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{state}".encode())
                connection.close()
            os._exit(0)
        try:
            read("```\n$ curl localhost:8000/job\nrunning\n```\nLater:\n\n```\nsucceeded\n```\n", port)
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def test_what_a_page_leaves_running_ends_with_it(tmp_path: Path) -> None:
    with Terminal(tmp_path / "reader", {}) as terminal:
        server = terminal.leave_running("echo $$ $BASHPID; exec sleep 1000")
        assert server.wait(lambda: "\n" in server.printed) is None
        pid = int(server.printed.split()[1])
        assert is_alive(pid)
    deadline = time.monotonic() + 5
    while is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)
