from __future__ import annotations

from pathlib import Path

from tests.trainyard import yardbook as yb
from trainyard.database import Database
from trainyard.garbage import Garbage
from trainyard.storage import LocalStorage
from trainyard.tables import Checkpoint


def test_garbage_removes_pruned_folders_after_the_grace(books: Database, tmp_path: Path) -> None:
    yb.submit(books)
    lease = yb.claim(books)
    first, *_rest = (yb.commit(books, lease, step) for step in (10, 20, 30))
    with books.reading() as session:
        key = session.get_one(Checkpoint, first).key
    folder = tmp_path / key
    folder.mkdir(parents=True)
    Garbage(books, LocalStorage(tmp_path), grace_s=100).tick()
    assert folder.exists()
    Garbage(books, LocalStorage(tmp_path), grace_s=0).tick()
    assert not folder.exists()
    assert yb.statuses(books)[first] == "deleted"
