"""`python -m tests.api.served_alone FOLDER`: the app with a checkpoint, in a process of its own whose memory is known.

Prints its port, then answers every line on its input with the highest resident memory since the line before, in bytes.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from api.app import create_app
from tests.api.served import FakeRuntime, Served, png
from trainyard.database.connection import Database
from trainyard.database.schema import migrate
from trainyard.scheduling.queue import SilentWaker
from trainyard.settings import Settings


def read_peak_bytes() -> int:
    """The highest resident memory since the call before (Linux only)."""
    [kilobytes] = re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    Path("/proc/self/clear_refs").write_text("5")
    return 1024 * int(kilobytes)


def main() -> None:
    settings = Settings(data_dir=Path(sys.argv[1]))
    database = Database(settings.sqlalchemy_url)
    migrate(database)
    app = create_app(settings, database=database, waker=SilentWaker(), runtime=FakeRuntime())
    served = Served(app, database, settings)
    served.add_checkpoint(served.add_job(), 1)
    assert served.http.post("/predict", content=png(), headers={"Content-Type": "image/png"}).status_code == 200
    print(served.port, flush=True)
    for _ in sys.stdin:
        print(read_peak_bytes(), flush=True)
    served.stop()
    database.close()


if __name__ == "__main__":
    main()
