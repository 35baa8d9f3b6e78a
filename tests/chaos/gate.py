"""Makes a trainer stop at a step until it is told to stop, or killed.

Every Python process of a run imports it as `sitecustomize`.

The number of the step is in the file `stop-at` beside this one. The trainer that reaches it removes the file and writes
its pid to `held`. This needs `interval_steps=1`, because a step is recognised by its report.
"""

import json
import os
import sys
import threading
from typing import Any

if "trainer" in sys.orig_argv:
    _folder, _write, _read = os.path.dirname(__file__), os.write, os.read
    _wanted, _held = os.path.join(_folder, "stop-at"), os.path.join(_folder, "held")
    _told = threading.Event()
    _is_telling = False

    def _read_command(fileno: int, count: int) -> bytes:
        """Read the next command. The one before has been obeyed by then."""
        global _is_telling
        if fileno != 0:
            return _read(fileno, count)
        if _is_telling:
            _told.set()
        data = _read(fileno, count)
        if b'"spec"' in data:  # one that was stopped may serve another attempt
            _told.clear()
        _is_telling = b'"stop"' in data
        return data

    def _write_report(fileno: int, data: Any) -> int:
        line = bytes(data)
        written = _write(fileno, data)
        if line.startswith(b'{"type":"interval"') and _is_here(json.loads(line)["step"]):
            os.unlink(_wanted)
            _told.clear()  # a trainer that was stopped may serve another attempt
            with open(f"{_held}.new", "w") as file:
                file.write(str(os.getpid()))
            os.rename(f"{_held}.new", _held)
            _told.wait()
        return written

    def _is_here(step: int) -> bool:
        try:
            with open(_wanted) as file:
                return step >= int(file.read())
        except FileNotFoundError:
            return False

    os.read, os.write = _read_command, _write_report
