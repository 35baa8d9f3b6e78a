from __future__ import annotations

from pathlib import Path

from sqlalchemy import update

from tests.trainyard.rows import claim, commit, submit
from trainyard.database.connection import Database
from trainyard.database.tables import Checkpoint
from trainyard.states import CheckpointStatus
from trainyard.upkeep.exports import Exports


def test_only_what_belongs_to_a_usable_checkpoint_stays(database: Database, tmp_path: Path) -> None:
    exports = Exports(database, tmp_path, max_bytes=10_000)
    exports.tick()  # nothing has been converted yet
    submit(database)
    lease = claim(database)
    kept, pruned = commit(database, lease, 10), commit(database, lease, 20)
    with database.writing() as session:
        session.execute(update(Checkpoint).where(Checkpoint.id == pruned).values(status=CheckpointStatus.PRUNED))
    for name in (f"{kept}.onnx.1", f"{pruned}.onnx.1", "ckpt_nobody.keras.1", ".tmp-half-written"):
        (tmp_path / "exports" / name).mkdir(parents=True)
        (tmp_path / "exports" / name / "model.onnx").write_bytes(bytes(100))
    (tmp_path / "exports" / "converting.lock").touch()
    exports.tick()
    assert {path.name for path in (tmp_path / "exports").iterdir()} == {f"{kept}.onnx.1", "converting.lock"}


def test_what_exceeds_the_limit_goes(database: Database, tmp_path: Path) -> None:
    submit(database)
    kept = commit(database, claim(database), 10)
    for form in ("onnx", "keras"):
        (tmp_path / "exports" / f"{kept}.{form}.1").mkdir(parents=True)
        (tmp_path / "exports" / f"{kept}.{form}.1" / "model").write_bytes(bytes(600))
    Exports(database, tmp_path, max_bytes=1000).tick()
    assert len(list((tmp_path / "exports").iterdir())) == 1
