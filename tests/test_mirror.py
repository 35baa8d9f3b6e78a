"""Every module has a test file of its name in the mirrored place, or stands here with the file that tests it."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("alexnet_core", "trainyard", "worker", "api")
NOT_MIRRORED = {"__init__", "__main__", "env"}  #: assembled from the others, or run by Alembic

#: What is tested by what uses it, and where: a test of its own would repeat that.
TESTED_BY: dict[str, str] = {
    "api/bootstrap.py": "api/test_supervisor.py",
    "api/engine_process.py": "api/test_supervisor.py",
    "api/web_process.py": "api/test_supervisor.py",
    "api/remote/calls.py": "api/remote/test_engine_client.py",
    "api/remote/engine_server.py": "api/remote/test_engine_client.py",
    "api/serving/interface.py": "api/remote/test_engine_client.py",
    "api/serving/refusals.py": "api/remote/test_engine_client.py",
    "trainyard/image_refusals.py": "api/routes/test_predictions.py",
    "trainyard/launch/children.py": "trainyard/launch/test_yard.py",
    "alexnet_core/inference/averages.py": "alexnet_core/export/test_onnx.py",
    "alexnet_core/inference/layers.py": "alexnet_core/inference/test_graph.py",
    "alexnet_core/network/checkpoint_files.py": "alexnet_core/network/test_bit_rot.py",
    "alexnet_core/network/input_transform.py": "alexnet_core/inference/test_pixels.py",
    "alexnet_core/network/response_forms.py": "alexnet_core/network/test_normalisation.py",
    "alexnet_core/commands/arguments.py": "alexnet_core/commands/test_command_line.py",
    "alexnet_core/commands/datasets.py": "alexnet_core/data/intake/test_packing.py",
    "alexnet_core/commands/evaluate.py": "alexnet_core/commands/test_command_line.py",
    "alexnet_core/commands/predict.py": "alexnet_core/commands/test_command_line.py",
    "alexnet_core/commands/prepare.py": "alexnet_core/data/intake/test_packing.py",
    "alexnet_core/commands/train.py": "alexnet_core/commands/test_command_line.py",
    "alexnet_core/commands/trainer.py": "alexnet_core/commands/test_command_line.py",
    "alexnet_core/config.py": "alexnet_core/training/test_run_options.py",
    "alexnet_core/data/archives/file_slice.py": "alexnet_core/data/archives/test_tar_source.py",
    "alexnet_core/data/archives/members.py": "alexnet_core/data/archives/test_opening.py",
    "alexnet_core/data/archives/refusals.py": "alexnet_core/data/archives/test_opening.py",
    "alexnet_core/data/archives/unpacked_stream.py": "alexnet_core/data/archives/test_tar_source.py",
    "alexnet_core/data/archives/zip_directory.py": "alexnet_core/data/archives/test_zip_source.py",
    "alexnet_core/data/headers.py": "alexnet_core/data/test_pixels.py",
    "alexnet_core/data/images.py": "alexnet_core/data/test_pixels.py",
    "alexnet_core/data/image_readers.py": "alexnet_core/data/intake/test_packing.py",
    "alexnet_core/data/intake/dataset_report.py": "alexnet_core/data/intake/test_report.py",
    "alexnet_core/data/intake/findings.py": "alexnet_core/data/intake/test_report.py",
    "alexnet_core/data/intake/options.py": "alexnet_core/data/intake/test_packing.py",
    "alexnet_core/data/intake/ordered_map.py": "alexnet_core/data/intake/test_packing.py",
    "alexnet_core/data/layouts/class_names.py": "alexnet_core/data/layouts/test_folders.py",
    "alexnet_core/data/layouts/labelled_files.py": "alexnet_core/data/layouts/test_folders.py",
    "alexnet_core/data/layouts/manifest_tables.py": "alexnet_core/data/layouts/test_manifests.py",
    "alexnet_core/data/layouts/split_words.py": "alexnet_core/data/layouts/test_folders.py",
    "alexnet_core/data/moments.py": "alexnet_core/data/test_pack_writers.py",
    "alexnet_core/data/pack.py": "alexnet_core/data/test_pack_writers.py",
    "alexnet_core/data/pack_digest.py": "alexnet_core/data/test_pack_writers.py",
    "alexnet_core/data/pack_draft.py": "alexnet_core/data/test_pack_writers.py",
    "alexnet_core/data/published/fetching.py": "alexnet_core/data/published/test_builtin.py",
    "alexnet_core/data/published/idx.py": "alexnet_core/data/published/test_builtin.py",
    "alexnet_core/data/published/labelled.py": "alexnet_core/data/published/test_builtin.py",
    "alexnet_core/data/published/pickles.py": "alexnet_core/data/published/test_cifar.py",
    "alexnet_core/data/splits.py": "alexnet_core/data/intake/test_packing.py",
    "alexnet_core/durable.py": "alexnet_core/network/test_killed_saves.py",
    "alexnet_core/errors.py": "test_documentation.py",
    "alexnet_core/evaluation/predictor.py": "alexnet_core/training/test_loop.py",
    "alexnet_core/export/keras_reader.py": "alexnet_core/export/test_keras.py",
    "alexnet_core/export/layers.py": "alexnet_core/export/test_onnx.py",
    "alexnet_core/failpoints.py": "integration/test_failpoints.py",
    "alexnet_core/reliability.py": "alexnet_core/insight/test_calibration.py",
    "api/insight/calibrations.py": "api/routes/insight/test_checkpoint_insight.py",
    "api/insight/training_data.py": "api/routes/insight/test_similar_images.py",
    "alexnet_core/insight/methods.py": "alexnet_core/insight/test_child.py",
    "api/routes/insight/subjects.py": "api/routes/insight/test_explanations.py",
    "api/schemas/insight.py": "api/routes/insight/test_explanations.py",
    "trainyard/insight_errors.py": "api/insight/test_refusals.py",
    "alexnet_core/network/checkpoint.py": "alexnet_core/training/test_loop.py",
    "alexnet_core/network/geometry.py": "alexnet_core/network/test_model.py",
    "alexnet_core/network/initialisation.py": "alexnet_core/network/test_model.py",
    "alexnet_core/option_refusals.py": "alexnet_core/network/test_model.py",
    "alexnet_core/option_types.py": "alexnet_core/network/test_model.py",
    "alexnet_core/recipes/caffe.py": "alexnet_core/recipes/test_recipes.py",
    "alexnet_core/recipes/notes_cifar10.py": "alexnet_core/recipes/test_recipes.py",
    "alexnet_core/recipes/quick.py": "alexnet_core/recipes/test_recipes.py",
    "alexnet_core/recipes/recipe.py": "alexnet_core/recipes/test_recipes.py",
    "alexnet_core/recipes/small_images.py": "alexnet_core/recipes/test_recipes.py",
    "alexnet_core/recipes/torchvision.py": "alexnet_core/recipes/test_recipes.py",
    "alexnet_core/trainer/slot_lock.py": "alexnet_core/trainer/test_child.py",
    "alexnet_core/training/batches.py": "alexnet_core/training/test_loop.py",
    "api/app.py": "api/test_schema_fuzzing.py",
    "api/downloads/archive.py": "api/routes/test_checkpoints.py",
    "api/downloads/loading_code.py": "api/downloads/test_packing.py",
    "api/downloads/dataset_archives.py": "api/routes/test_dataset_exports.py",
    "api/downloads/slots.py": "api/routes/test_dataset_exports.py",
    "api/http/documentation.py": "test_documentation.py",
    "api/http/resumable.py": "api/routes/test_uploads.py",
    "api/http/server.py": "api/http/test_connections.py",
    "api/http/streamed_bodies.py": "api/routes/test_uploads.py",
    "alexnet_core/commands/intake.py": "worker/datasets/test_validation.py",
    "alexnet_core/data/intake/child_messages.py": "worker/datasets/test_validation.py",
    "api/dataset_reader.py": "api/routes/test_datasets.py",
    "worker/claims.py": "worker/test_station.py",
    "worker/datasets/intake_child.py": "worker/datasets/test_validation.py",
    "api/job_reader.py": "api/http/test_validators.py",
    "api/routes/dataset_bodies.py": "api/uploads/test_bodies.py",
    "api/routes/job_actions.py": "api/routes/test_jobs.py",
    "api/routes/queries.py": "api/routes/test_jobs.py",
    "api/schemas/aliases.py": "api/routes/models/test_aliases.py",
    "api/schemas/dataset_images.py": "api/routes/test_dataset_images.py",
    "api/schemas/dataset_reports.py": "api/routes/test_dataset_exports.py",
    "api/schemas/datasets.py": "api/routes/test_datasets.py",
    "api/schemas/evaluations.py": "api/routes/test_job_evaluation.py",
    "api/schemas/events.py": "api/routes/test_events.py",
    "api/schemas/predictions.py": "api/routes/test_predictions.py",
    "api/schemas/recipes.py": "api/routes/test_recipes.py",
    "api/schemas/uploads.py": "api/routes/test_uploads.py",
    "api/schemas/workers.py": "api/routes/test_workers.py",
    "api/services.py": "api/routes/test_predictions.py",
    "api/serving/engine.py": "api/routes/test_predictions.py",
    "api/observability/exposition.py": "api/observability/test_process_files.py",
    "api/observability/serving_observer.py": "api/observability/test_metrics.py",
    "api/serving/loading.py": "api/routes/test_predictions.py",
    "api/streams/event_stream.py": "api/routes/test_events.py",
    "api/uploads/file_names.py": "api/uploads/test_forms.py",
    "api/uploads/reception.py": "api/uploads/test_bodies.py",
    "api/uploads/turns.py": "api/routes/test_uploads.py",
    "api/uploads/tus.py": "api/routes/test_uploads.py",
    "api/uploads/writing.py": "api/routes/test_uploads.py",
    "trainyard/artifacts/quotas.py": "trainyard/artifacts/test_uploads.py",
    "trainyard/export_errors.py": "api/downloads/test_exports.py",
    "trainyard/client/errors.py": "trainyard/client/test_uploading.py",
    "trainyard/launch/connecting.py": "trainyard/launch/test_train_commands.py",
    "trainyard/launch/dataset_commands.py": "trainyard/launch/test_train_commands.py",
    "trainyard/launch/terminal.py": "trainyard/launch/test_train_commands.py",
    "trainyard/client/client.py": "api/routes/test_events.py",
    "trainyard/database/alias_tables.py": "trainyard/artifacts/test_alias_moves.py",
    "trainyard/database/base.py": "trainyard/database/test_tables.py",
    "trainyard/serving_errors.py": "trainyard/test_errors.py",
    "trainyard/database/connection.py": "trainyard/database/test_outages.py",
    "trainyard/database/ids.py": "trainyard/database/test_flat_reads.py",
    "trainyard/database/numbers.py": "trainyard/database/test_write_turns.py",
    "trainyard/database/pages.py": "api/routes/test_workers.py",
    "trainyard/failpoints.py": "integration/test_failpoints.py",
    "trainyard/jobs/event_log.py": "api/routes/test_events.py",
    "trainyard/jobs/events.py": "trainyard/jobs/test_jobs.py",
    "trainyard/jobs/idempotency.py": "api/test_submission.py",
    "trainyard/jobs/metadata_index.py": "trainyard/database/test_flat_reads.py",
    "trainyard/json_values.py": "worker/test_supervisor.py",
    "trainyard/launch/cli.py": "test_documentation.py",
    "trainyard/launch/queue_server.py": "integration/test_graceful_stop.py",
    "trainyard/scheduling/queue.py": "integration/test_workers.py",
    "trainyard/scheduling/workers.py": "api/routes/test_workers.py",
    "trainyard/states.py": "trainyard/jobs/test_jobs.py",
    "trainyard/storage/interface.py": "trainyard/storage/test_objects.py",
    "trainyard/storage/streams.py": "trainyard/storage/test_objects.py",
    "trainyard/upkeep/abandoned_uploads.py": "api/routes/test_uploads.py",
    "trainyard/upload_errors.py": "trainyard/test_errors.py",
    "worker/attempt.py": "worker/test_supervisor.py",
    "worker/report_writer.py": "worker/test_supervisor.py",
    "worker/trainer.py": "worker/test_trainer_process.py",
    "worker/trainer_spec.py": "worker/test_supervisor.py",
}
MODULES = [
    path.relative_to(ROOT).as_posix()
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
    if path.stem not in NOT_MIRRORED and "versions" not in path.parts
]


def mirror_of(module: str) -> str:
    path = Path(module)
    return f"tests/{path.parent.as_posix()}/test_{path.stem}.py"


@pytest.mark.parametrize("module", MODULES)
def test_a_module_has_a_test_file_of_its_name_or_says_where_it_is_tested(module: str) -> None:
    has_mirror = (ROOT / mirror_of(module)).is_file()
    assert has_mirror != (module in TESTED_BY), f"write {mirror_of(module)}, or drop {module} from the list"


def test_the_list_names_what_is_there() -> None:
    assert set(TESTED_BY) <= set(MODULES)
    for module, file in TESTED_BY.items():
        assert (ROOT / "tests" / file).is_file(), f"{module}: there is no {file}"
