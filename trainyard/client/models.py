"""What the answers of the API hold. Written by `make client` from its description; not to be edited."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AwareDatetime

from trainyard.client.answers import Answer


class Canary(Answer):
    """The checkpoint that answers a share of the requests."""

    checkpoint: str
    job: str
    epoch: int
    weights_sha256: str
    share: float


class Checkpoint(Answer):
    """A checkpoint of a job."""

    id: str
    object: Literal["checkpoint"]
    job: str
    """
    Id of the job that made it.
    """
    kind: Literal["epoch", "recovery"]
    """
    Why a checkpoint was made.
    """
    epoch: int
    """
    Number of complete epochs.
    """
    step: int
    """
    Number of optimiser steps done.
    """
    metrics: dict[str, Any]
    """
    Metrics of its epoch; empty for a recovery checkpoint.
    """
    is_best: bool
    """
    Whether it is its job's best.
    """
    publication: int | None
    """
    A number that rises with every published checkpoint of the yard; `latest` has the highest. Null: recovery.
    """
    files: dict[str, Any]
    """
    `sha256` and `size` of every file in a download.
    """
    size_bytes: int
    """
    Size of all files together, including the training state.
    """
    weights_sha256: str
    """
    Hash over the tensors' names, types, shapes and values.
    """
    manifest_sha256: str
    """
    Hash of the file `manifest.json`, which lists the checksums of the others.
    """
    created_at: AwareDatetime
    links: dict[str, str]
    """
    Paths to related resources.
    """


class ClassCount(Answer):
    """The number of images of a class."""

    label: str
    """
    Name of the class.
    """
    index: int
    """
    The class's place among the dataset's classes, from 0.
    """
    train: int
    validation: int
    test: int
    total: int


class ClassLabels(Answer):
    """How many labels of a class were checked, and how many are likely wrong."""

    label: str
    """
    The class.
    """
    num_checked: int
    """
    Images with this label that were checked.
    """
    num_found: int
    """
    Those of them whose label is likely wrong.
    """
    num_suggested: int
    """
    Images with other labels that more likely belong to this class.
    """


class ClassResult(Answer):
    """How well the network recognises one class."""

    label: str
    """
    The class.
    """
    count: int
    """
    Test images of this class.
    """
    predicted: int
    """
    Test images that were taken for it.
    """
    precision: float | None
    """
    Share of `predicted` that are of this class. Null: nothing was taken for it.
    """
    recall: float | None
    """
    Share of `count` that were taken for it. Null: there is no test image of it.
    """
    f1: float | None
    """
    Harmonic mean of precision and recall. Null: neither of them is known.
    """


class ConfusedPair(Answer):
    """How often one class was taken for another."""

    true: str
    """
    The class that the images are of.
    """
    predicted: str
    """
    The class that they were taken for.
    """
    count: int
    """
    Images.
    """


class DatasetEvent(Answer):
    """One event in a dataset's log, which never changes."""

    id: str
    """
    Its number in the log, as text, for `after`; also the `id` of the event in a stream.
    """
    object: Literal["event"]
    seq: int
    """
    The same number: 1, 2, 3 … without a gap.
    """
    at: AwareDatetime
    type: Literal["state", "phase", "started", "checkpoint", "warning", "changed", "results"]
    """
    The kind of an event.
    """
    reason: str | None
    """
    A code for programs: why it happened, or what kind it is.
    """
    lease_epoch: int
    """
    Number of claims so far. An event of a later claim never has a smaller number.
    """
    worker: str | None
    """
    Id of the worker that wrote it; null: written by a request, or by the yard itself.
    """
    request_id: str | None
    """
    Id of the request that wrote it.
    """
    data: dict[str, Any]
    """
    Details that depend on the type.
    """
    dataset: str
    state: Literal["registered", "uploading", "validating", "ready", "rejected", "deleted"]
    """
    Whether a dataset is ready.
    """


class DatasetImage(Answer):
    """An image of a dataset."""

    id: str
    """
    Its split and index: `train-17`.
    """
    object: Literal["dataset.image"]
    split: Literal["train", "validation", "test"]
    index: int
    """
    Its place among the images of its split, from 0.
    """
    position: int
    """
    Its place among all images of the dataset, from 0.
    """
    label: str
    """
    Name of its class.
    """
    file: str | None
    """
    The file that it was read from, as the folder or archive named it. Null: it is not known.
    """
    url: str
    """
    Path of the image as PNG.
    """


class Event(Answer):
    """One event in a job's log, which never changes."""

    id: str
    """
    Its number in the log, as text, for `after`; also the `id` of the event in a stream.
    """
    object: Literal["event"]
    seq: int
    """
    The same number: 1, 2, 3 … without a gap.
    """
    at: AwareDatetime
    type: Literal["state", "phase", "started", "checkpoint", "warning", "changed", "results"]
    """
    The kind of an event.
    """
    reason: str | None
    """
    A code for programs: why it happened, or what kind it is.
    """
    lease_epoch: int
    """
    Number of claims so far. An event of a later claim never has a smaller number.
    """
    worker: str | None
    """
    Id of the worker that wrote it; null: written by a request, or by the yard itself.
    """
    request_id: str | None
    """
    Id of the request that wrote it.
    """
    data: dict[str, Any]
    """
    Details that depend on the type.
    """
    job: str
    state: Literal["queued", "running", "pausing", "cancelling", "paused", "succeeded", "failed", "cancelled"]
    """
    The state that clients see: the stored states and two in between.
    """


class Guess(Answer):
    """A class and the probability that the network gives it."""

    label: str
    """
    The class's name.
    """
    index: int
    """
    Its place among the classes.
    """
    probability: float
    """
    0 to 1.
    """


class HardestImage(Answer):
    """A test image whose true class got a low probability."""

    split: Literal["train", "validation", "test"]
    """
    The split that it is in.
    """
    index: int
    """
    Its place in the split, from 0, as in `GET /datasets/{dataset_id}/images/{split}/{index}`.
    """
    position: int
    """
    Its place in the whole dataset, from 0.
    """
    file: str | None
    """
    The file that it was read from. Null: the dataset does not know.
    """
    label: str
    """
    The class that the dataset gives it.
    """
    loss: float | None
    """
    -ln of the true class's probability. Null: it is no number.
    """
    predictions: list[Guess]
    """
    The most probable classes, best first.
    """
    url: str
    """
    Path of the image as PNG.
    """


class Health(Answer):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Histogram(Answer):
    """The number of images of each class, in the order of the classes."""

    object: Literal["dataset.histogram"]
    dataset: str
    """
    Its id.
    """
    classes: list[ClassCount]
    train: int
    """
    Images of the training split, of all classes.
    """
    validation: int
    test: int
    total: int


class IntakeProgress(Answer):
    """How far a validation is, as its worker last reported."""

    phase: str
    """
    `reading`: an archive is unpacked; `checking`: headers are read; `packing`: images are decoded and stored;
    `publishing`: the pack goes to the store.
    """
    done: int
    total: int
    """
    Bytes while an archive is read, else files.
    """


class Key(Answer):
    """A key as it is listed; its text can't be read again."""

    id: str
    object: Literal["key"]
    name: str | None
    """
    What it is for.
    """
    owner: str
    """
    Who it acts for.
    """
    prefix: str
    """
    The beginning of its text, by which its holder recognises it.
    """
    scopes: list[Literal["read", "train", "predict", "admin"]]
    """
    What it may do.
    """
    created_at: AwareDatetime
    last_used_at: AwareDatetime | None
    """
    When it was used last, to about a minute. Null: never.
    """


class Label(Answer):
    """A class and its probability."""

    label: str
    index: int
    """
    The class's place among the dataset's classes, from 0.
    """
    probability: float
    """
    0 to 1.
    """


class Layer(Answer):
    """One layer of the network."""

    name: str
    """
    `conv1` to `conv5`, `pool1`, `pool2`, `pool5`, and `fc6` to `fc8`.
    """
    shape: list[int]
    """
    Of its output for one image: maps, height and width, or the number of units.
    """
    parameters: int
    """
    Number of its trained values.
    """


class Metrics(Answer):
    """Both series of a job, in the order of their steps; each point has `step` and `epoch`."""

    by_step: list[dict[str, Any]]
    """
    Every few steps: `train_loss`, `lr`, `images_per_s`, and `seconds`: of training so far, over all attempts. With
    `band` also `train_loss_min` and `train_loss_max`, of all the points that this one stands for.
    """
    by_epoch: list[dict[str, Any]]
    """
    At the end of each epoch: `train_loss`, `val_loss`, `val_top1`, `val_top5`, and `seconds`: of this epoch alone,
    with its validation.
    """
    last_step: int | None
    """
    The newest step here, for the next `after`. Null: there is nothing new.
    """
    thinned: bool
    """
    Whether there are more points than these.
    """
    object: Literal["metrics"]
    job: str


class Model(Answer):
    """The checkpoint that answered."""

    checkpoint: str
    """
    Its id.
    """
    job: str
    """
    Id of the job that made it.
    """
    epoch: int
    """
    Number of complete epochs.
    """
    weights_sha256: str
    """
    Hash of its weights.
    """
    alias: str | None
    """
    `latest` or the alias that was asked for, else null.
    """
    version: int | None
    """
    Number of the alias's last move, for `latest` the publication number. For one name it never goes back.
    """
    side: Literal["stable", "canary", "shadow"] | None
    """
    For an alias with a canary: `stable` or `canary`, whichever answered.
    """


class AliasMove(Answer):
    """One move of an alias. It is never changed, and stays when the alias or a checkpoint is deleted."""

    version: int
    object: Literal["alias_move"]
    action: Literal["move", "rollback", "delete"]
    """
    What somebody did to an alias.
    """
    checkpoint: str | None
    """
    The checkpoint that answered from then on; null: the alias was deleted.
    """
    canary: str | None
    """
    The checkpoint that answered a share of the requests.
    """
    canary_share: float | None
    """
    That share.
    """
    shadow: str | None
    """
    The checkpoint that was compared.
    """
    restored_version: int | None
    """
    Of a rollback: the move whose checkpoint answers again; null: the stable one stayed, canary and shadow ended.
    """
    moved_by: str
    """
    The owner who did it.
    """
    request_id: str | None
    """
    `X-Request-ID` of the request that did it; the API's log has it too.
    """
    at: AwareDatetime


class NamedCheckpoint(Answer):
    """A checkpoint that an alias names."""

    checkpoint: str
    job: str
    epoch: int
    weights_sha256: str


class NewKey(Answer):
    """A key that has just been made."""

    id: str
    object: Literal["key"]
    name: str | None
    """
    What it is for.
    """
    owner: str
    """
    Who it acts for.
    """
    prefix: str
    """
    The beginning of its text, by which its holder recognises it.
    """
    scopes: list[Literal["read", "train", "predict", "admin"]]
    """
    What it may do.
    """
    created_at: AwareDatetime
    last_used_at: AwareDatetime | None
    """
    When it was used last, to about a minute. Null: never.
    """
    key: str
    """
    The text to send as `Authorization: Bearer <key>`. It is shown only now.
    """


class PredictionEvent(Answer):
    """One event in a prediction's log, which never changes."""

    id: str
    """
    Its number in the log, as text, for `after`; also the `id` of the event in a stream.
    """
    object: Literal["event"]
    seq: int
    """
    The same number: 1, 2, 3 … without a gap.
    """
    at: AwareDatetime
    type: Literal["state", "phase", "started", "checkpoint", "warning", "changed", "results"]
    """
    The kind of an event.
    """
    reason: str | None
    """
    A code for programs: why it happened, or what kind it is.
    """
    lease_epoch: int
    """
    Number of claims so far. An event of a later claim never has a smaller number.
    """
    worker: str | None
    """
    Id of the worker that wrote it; null: written by a request, or by the yard itself.
    """
    request_id: str | None
    """
    Id of the request that wrote it.
    """
    data: dict[str, Any]
    """
    Details that depend on the type.
    """
    prediction: str
    state: Literal["queued", "running", "pausing", "cancelling", "paused", "succeeded", "failed", "cancelled"]
    """
    The state that clients see: the stored states and two in between.
    """


class PredictionModel(Answer):
    """The checkpoint that a prediction uses."""

    checkpoint: str
    job: str
    """
    Id of the job that made it.
    """
    epoch: int
    """
    Number of complete epochs.
    """
    weights_sha256: str
    asked: str
    """
    What `model` named it.
    """


class PredictionProgress(Answer):
    """How far a prediction is, as its worker last reported."""

    phase: str
    """
    `preparing_dataset`: a built-in dataset's pack is made; `reading`: an archive is unpacked; `checking`: a pack is
    compared with its digest; `predicting`: rows are computed.
    """
    done: int
    total: int
    """
    Bytes while an archive is read, else images.
    """


class PredictionSummary(Answer):
    """What is counted of a prediction's rows."""

    num_rows: int
    """
    Images that have their row.
    """
    num_errors: int
    """
    Images that could not be read: their rows have an `error`.
    """
    num_labelled: int
    """
    Images that were read, and whose class is known and one of the network's.
    """
    top1: float | None
    """
    Share of these whose class is the most probable one; null: no class is known.
    """
    top5: float | None
    """
    Share of these whose class is among the five most probable ones.
    """


class Progress(Answer):
    """How far a run is, as its worker last reported."""

    epoch: int
    """
    Epochs that are complete.
    """
    epochs: int | None
    step: int
    """
    Optimiser steps that are done.
    """
    steps: int | None
    """
    Number of steps of the whole run; null until it has begun.
    """
    fraction: float
    """
    0 to 1.
    """
    images_per_s: float | None
    """
    Training images a second, as last measured.
    """
    eta_s: float | None
    """
    Seconds to the last step, at the present speed.
    """


class QueuedJob(Answer):
    """A job in the queue."""

    id: str
    """
    Id of the job.
    """
    object: Literal["queued_job"]
    position: int
    """
    From 1; jobs of other owners count, but only yours are listed.
    """
    waiting_for: Literal[
        "no_live_worker",
        "no_worker_of_this_version",
        "retry_backoff",
        "disk_full",
        "owner_limit",
        "dataset",
        "upload",
        "a_free_slot",
    ]
    """
    What a queued job waits for.
    """
    name: str | None
    dataset: str
    recipe: str | None
    """
    Null: none was named, and which one fits is known when the dataset is ready.
    """
    priority: int
    queued_at: AwareDatetime
    """
    When it got its place in the queue.
    """
    due_at: AwareDatetime | None
    """
    It is not tried again before this time; null: it may start at any time.
    """
    links: dict[str, str]
    """
    Paths to related resources.
    """


class Readiness(Answer):
    """What works and what does not. `queue` and `model` never make it not ready."""

    status: Literal["ready", "not_ready"]
    database: Literal["ok", "read_only", "failed"]
    """
    `read_only`: it answers, but accepts no writes now.
    """
    migrations: Literal["ok", "behind", "ahead", "unknown"]
    """
    Whether the database's tables fit this release. `behind`: run `trainyard migrate`; `ahead`: a newer release made
    them, update this one.
    """
    detail: str | None
    """
    What is wrong with the tables, in a sentence; null: nothing, or unknown.
    """
    version: str
    """
    The build that answers.
    """
    storage: Literal["ok", "degraded", "failed"]
    """
    `degraded`: the object store does not answer; requests that don't need it are served. `failed`: the data folder
    can't be written, or the store does not belong to this database.
    """
    storage_detail: str | None
    """
    What is wrong with the store, in a sentence; null: nothing.
    """
    draining: bool
    queue: Literal["ok", "degraded"]
    model: Literal["none", "loading", "ok"]


class Recipe(Answer):
    """A named, complete set of hyper-parameters."""

    name: str
    object: Literal["recipe"]
    title: str
    description: str
    source: str
    """
    Where its numbers come from.
    """
    config: dict[str, Any]
    """
    The complete training options.
    """
    num_parameters: int | None
    """
    Number of trained values; null if such a network can't be built.
    """
    num_classes: int
    """
    What `num_parameters` was counted for.
    """
    channels: int
    """
    What `num_parameters` was counted for.
    """
    config_schema: dict[str, Any] | None
    """
    JSON schema of `config`; only in the answer for a single recipe.
    """
    links: dict[str, str]
    """
    Paths to related resources.
    """


class RejectedFile(Answer):
    """A file that is not used, and why."""

    id: str
    """
    Its place in the list, from 0.
    """
    object: Literal["dataset.rejected_file"]
    file: str
    """
    As the folder or archive named it.
    """
    code: str
    """
    The kind of reason, such as `image_unreadable`.
    """
    reason: str


class ReliabilityBin(Answer):
    """The answers whose probability lies in one fifteenth of 0 to 1."""

    low: float
    """
    Answers with a higher probability than this, and
    """
    high: float
    """
    with at most this one.
    """
    count: int
    """
    Images with such an answer.
    """
    confidence: float | None
    """
    Mean probability of the answers. Null: there are none.
    """
    accuracy: float | None
    """
    Share of them that are right. Null: there are none.
    """


class Report(Answer):
    """What was found when a dataset was validated."""

    object: Literal["dataset.report"]
    dataset: str
    """
    Its id.
    """
    num_rejected: int
    """
    Files that are not used. `links.rejected` lists them, of more than ten thousand the first ones.
    """
    report: dict[str, Any]
    """
    The report, without the list of rejected files. Its fields: see `python -m alexnet_core prepare`.
    """
    links: dict[str, str]
    """
    Paths to related resources.
    """


class Seconds(Answer):
    """How long the run will take from the moment that a worker claims it: a range, and where it comes from."""

    low: float
    high: float
    basis: Literal["measured", "scaled", "machine"]
    """
    What an estimate is based on, the best first.
    """
    explanation: str
    """
    The same in a sentence, with the number of jobs and the devices.
    """


class Series(Answer):
    """Both series of a job, in the order of their steps; each point has `step` and `epoch`."""

    by_step: list[dict[str, Any]]
    """
    Every few steps: `train_loss`, `lr`, `images_per_s`, and `seconds`: of training so far, over all attempts. With
    `band` also `train_loss_min` and `train_loss_max`, of all the points that this one stands for.
    """
    by_epoch: list[dict[str, Any]]
    """
    At the end of each epoch: `train_loss`, `val_loss`, `val_top1`, `val_top5`, and `seconds`: of this epoch alone,
    with its validation.
    """
    last_step: int | None
    """
    The newest step here, for the next `after`. Null: there is nothing new.
    """
    thinned: bool
    """
    Whether there are more points than these.
    """


class Session(Answer):
    """Who a request acts for."""

    owner: str
    """
    Whose jobs, datasets and checkpoints are seen.
    """
    key_prefix: str | None
    """
    The beginning of the key, as `GET /keys` shows it. Null: the key of the settings, or none is needed.
    """
    scopes: list[Literal["read", "train", "predict", "admin"]]
    """
    What may be done: `read`, `train`, `predict`, `admin`.
    """
    expires_at: AwareDatetime | None
    """
    When the session ends. Null: the key itself was sent, or none is needed.
    """


class ShadowCounts(Answer):
    """What a shadow computed; its answers went to nobody."""

    answers: int
    """
    Images that it answered.
    """
    errors: int
    """
    Images that it should have answered and could not; the other side may have.
    """
    p50_ms: float | None
    """
    Half of the answers took no longer, from the image's bytes to its classes; at most 10 % too high.
    """
    p99_ms: float | None
    """
    99 of 100 answers took no longer.
    """
    agreed: int
    """
    Answers whose most probable class is that of the answer which was given.
    """
    agreement: float | None
    """
    `agreed` of `answers`.
    """
    dropped: int
    """
    Images that it left out, so that nobody waits for it.
    """


class SideCounts(Answer):
    """What one side of an alias did since the alias's last move; up to a second old."""

    answers: int
    """
    Images that it answered.
    """
    errors: int
    """
    Images that it should have answered and could not; the other side may have.
    """
    p50_ms: float | None
    """
    Half of the answers took no longer, from the image's bytes to its classes; at most 10 % too high.
    """
    p99_ms: float | None
    """
    99 of 100 answers took no longer.
    """


class Sides(Answer):
    """What each side of an alias did since its last move."""

    stable: SideCounts
    canary: SideCounts | None
    shadow: ShadowCounts | None


class SimilarImage(Answer):
    """A training image that is like the image that was sent."""

    split: Literal["train", "validation", "test"]
    index: int
    """
    Its place in the split, from 0.
    """
    position: int
    """
    Its place in the whole dataset, from 0.
    """
    label: str
    """
    Name of its class.
    """
    file: str | None
    """
    The file that it was read from. Null: the dataset does not know.
    """
    distance: float
    """
    Euclidean distance in the last hidden layer. 0: the same to the network.
    """
    url: str
    """
    Path of the image as PNG.
    """


class Slot(Answer):
    """A slot, in which a worker trains one job at a time."""

    device: str
    """
    `cpu`, `cuda:0`, …
    """
    busy: bool
    """
    Whether a job, anybody's, is in the slot.
    """
    job: str | None
    """
    Id of that job, if it is yours.
    """
    device_name: str | None
    """
    The device as its maker calls it, such as `NVIDIA H100 80GB HBM3`. This and the following are null where nothing
    tells: of a CPU, and where the driver does not.
    """
    memory_bytes: int | None
    """
    The device's memory.
    """
    memory_used_bytes: int | None
    """
    How much of it is used, by any program. Null, too, if the worker is not there any more.
    """
    utilisation: float | None
    """
    How busy the device is, from 0 to 1: the part of the last second or less in which it computed. Null, too, if the
    worker is not there any more.
    """


class StateChange(Answer):
    """One change of a job's state."""

    state: Literal["queued", "running", "pausing", "cancelling", "paused", "succeeded", "failed", "cancelled"]
    """
    The state that clients see: the stored states and two in between.
    """
    at: AwareDatetime
    reason: str | None
    """
    A code for programs: `submitted`, `claimed`, `finished`, or the code of a failure.
    """


class Subject(Answer):
    """The checkpoint that an answer is about."""

    checkpoint: str
    """
    Its id.
    """
    job: str
    """
    Id of the job that made it.
    """
    epoch: int
    """
    Number of complete epochs.
    """
    weights_sha256: str
    """
    Hash of its weights.
    """


class Timing(Answer):
    """The time that each part took, in milliseconds; for several images that of the slowest."""

    preprocess_ms: float
    """
    Time for decoding, resizing and standardising.
    """
    queue_ms: float
    """
    Time waiting for the inference thread.
    """
    inference_ms: float
    """
    Time of the whole batch that the image was in.
    """
    total_ms: float
    """
    Time from the request's headers to the answer.
    """


class Unfamiliarity(Answer):
    """Whether an image is likely of a kind that the network was not trained on."""

    score: float
    """
    The higher, the less the image is like those that the network was trained on.
    """
    threshold: float
    """
    95 of 100 images of the dataset that it was not trained on have at most this score.
    """
    is_unfamiliar: bool
    """
    Whether the score is above the threshold.
    """


class Upload(Answer):
    """A file that a client sends, in one request or in several, to make a dataset of it."""

    id: str
    object: Literal["upload"]
    name: str | None
    """
    What the client calls the file.
    """
    state: Literal["open", "whole"]
    """
    Whether all bytes of an upload have arrived. One that was cancelled, has expired or was used has no row.
    """
    size_bytes: int | None
    """
    Of the whole file; null if that was not announced yet.
    """
    offset_bytes: int
    """
    So many bytes have arrived and are on disk.
    """
    sha256: str | None
    """
    Of the whole file; null until it is whole.
    """
    created_at: AwareDatetime
    expires_at: AwareDatetime | None
    """
    Then it is removed; each new byte postpones that. Null: a dataset is being made of it.
    """
    links: dict[str, str]
    """
    Paths to related resources.
    """


class PreviewWarning(Answer):
    """Something to know before the run begins; it does not hinder it."""

    param: str
    """
    The field of the request that it is about.
    """
    message: str


class Worker(Answer):
    """A worker process."""

    id: str
    object: Literal["worker"]
    host: str
    pid: int
    """
    Id of its process on that host.
    """
    state: Literal["live", "draining", "lost", "stopped"]
    """
    The state of a worker. It is not stored but follows from its row and the clock.
    """
    version: str
    slots: list[Slot]
    started_at: AwareDatetime
    last_seen_at: AwareDatetime
    stopped_at: AwareDatetime | None


class Workers(Answer):
    """One page of workers, the last started first."""

    object: Literal["list"] = "list"
    data: list[Worker]
    first_id: str | None
    last_id: str | None
    has_more: bool
    counts: dict[Literal["live", "draining", "lost", "stopped"], int]


class WrongLabel(Answer):
    """An image whose label is likely wrong."""

    split: Literal["train", "validation", "test"]
    """
    The split that it is in.
    """
    index: int
    """
    Its place in the split, from 0, as in `GET /datasets/{dataset_id}/images/{split}/{index}`.
    """
    position: int
    """
    Its place in the whole dataset, from 0.
    """
    file: str | None
    """
    The file that it was read from. Null: the dataset does not know.
    """
    label: str
    """
    The class that the dataset gives it.
    """
    suggested: str
    """
    The class that it more likely belongs to.
    """
    confidence: float
    """
    Probability of the suggested class minus that of the label, 0 to 1.
    """
    url: str
    """
    Path of the image as PNG.
    """


class YardLimits(Answer):
    """What a client may send; the settings of the same names."""

    max_upload_bytes: int
    """
    Largest body of `POST /predict`.
    """
    max_body_bytes: int
    """
    Largest body of any other request that is not a file for a dataset.
    """
    max_dataset_upload_bytes: int
    """
    Largest file of which a dataset can be made.
    """
    max_dataset_files: int
    """
    Most members of such a file.
    """
    max_image_pixels: int
    """
    Largest image that is decoded.
    """
    max_queued_predictions: int
    """
    Most images of one request to predict, and most that may wait.
    """


class Yard(Answer):
    """A yard, as anybody sees it."""

    version: str
    """
    The build that answers.
    """
    needs_key: bool
    """
    Whether requests need a key or a session.
    """
    features: list[
        Literal[
            "session",
            "keys",
            "events",
            "rows",
            "job_edit",
            "zoom",
            "series",
            "preview",
            "log_bytes",
            "dataset_images",
            "uploads",
            "evaluation",
            "explanations",
            "similar",
            "aliases",
            "many_predictions",
        ]
    ]
    """
    Parts of the API that this build has; one that a client does not know can be ignored.
    """
    limits: YardLimits


class Alias(Answer):
    """A name for a checkpoint, which can be moved."""

    name: str
    object: Literal["alias"]
    version: int
    """
    Number of its last move. It only rises, also when the alias is deleted and made anew.
    """
    checkpoint: str
    """
    Id of the checkpoint that answers.
    """
    job: str
    """
    Id of the job that made it.
    """
    epoch: int
    """
    Number of complete epochs.
    """
    weights_sha256: str
    """
    Hash of its weights.
    """
    canary: Canary | None
    """
    A second checkpoint that answers a share of the requests.
    """
    shadow: NamedCheckpoint | None
    """
    A checkpoint that computes the same images and is only compared.
    """
    previous: str | None
    """
    The checkpoint that a rollback goes back to, unless there is a canary or a shadow, which it ends first.
    """
    counts: Sides
    """
    What each side did since the last move.
    """
    moved_by: str
    """
    The owner who moved it last.
    """
    moved_at: AwareDatetime
    links: dict[str, str]
    """
    Paths to related resources.
    """


class Dataset(Answer):
    """Labelled images that jobs can train on."""

    id: str
    object: Literal["dataset"]
    name: str
    state: Literal["registered", "uploading", "validating", "ready", "rejected", "deleted"]
    """
    Whether a dataset is ready.
    """
    progress: IntakeProgress | None
    """
    How far its validation is; null: it has not begun, or is over.
    """
    waiting_for: (
        Literal[
            "no_live_worker",
            "no_worker_of_this_version",
            "retry_backoff",
            "disk_full",
            "owner_limit",
            "dataset",
            "upload",
            "a_free_slot",
        ]
        | None
    )
    """
    What its validation waits for right now.
    """
    builtin: bool
    """
    Whether it comes with Trainyard.
    """
    digest: str | None
    """
    sha256 of its content; null until its pack is made.
    """
    num_classes: int | None
    """
    This and what follows is null until the dataset is ready.
    """
    class_names: list[str] | None
    image_px: int | None
    """
    Side of the stored images.
    """
    channels: int | None
    """
    1: grey, 3: colour.
    """
    flip_safe: bool | None
    """
    Whether a mirrored image still shows its class.
    """
    num_train: int | None
    num_val: int | None
    num_test: int | None
    size_bytes: int | None
    report: dict[str, Any] | None
    """
    What was found when it was validated; of each list the first ten entries, `links.report` has all. Only in the
    answer for a single dataset.
    """
    error: dict[str, Any] | None
    """
    For a rejected dataset: `type`, `code`, `message`, `retryable`.
    """
    upload: str | None
    """
    The upload that it is made of; some time after the dataset is ready or rejected, the upload is removed. Null: the
    dataset is built in, or made of files on the yard's machine.
    """
    options: dict[str, Any] | None
    """
    How its images were to be taken in: the options that were given. Null: it is built in.
    """
    parent_id: str | None
    """
    The dataset that this one is a new version of.
    """
    same_as: str | None
    """
    An older dataset of yours with the same content: the same `digest`.
    """
    created_at: AwareDatetime
    ready_at: AwareDatetime | None
    links: dict[str, str]
    """
    Paths to related resources; those of images once the dataset is ready.
    """


class EvaluatedImage(Answer):
    """An image of the evaluated split, and how it was answered."""

    split: Literal["train", "validation", "test"]
    """
    The split that it is in.
    """
    index: int
    """
    Its place in the split, from 0, as in `GET /datasets/{dataset_id}/images/{split}/{index}`.
    """
    position: int
    """
    Its place in the whole dataset, from 0.
    """
    file: str | None
    """
    The file that it was read from. Null: the dataset does not know.
    """
    label: str
    """
    The class that the dataset gives it.
    """
    loss: float | None
    """
    -ln of the true class's probability. Null: it is no number.
    """
    predictions: list[Guess]
    """
    The most probable classes, best first.
    """
    id: str
    """
    Its split and index: `test-17`.
    """
    object: Literal["evaluation.image"] = "evaluation.image"
    url: str
    """
    Path of the image as PNG.
    """


class Explanation(Answer):
    """What in an image speaks for a class."""

    object: Literal["explanation"]
    model: Subject
    method: Literal["grad_cam", "integrated_gradients", "occlusion"]
    """
    How an answer is explained.
    """
    target: Label
    """
    The class that is explained.
    """
    predictions: list[Label]
    """
    The five most probable classes.
    """
    picture: str
    """
    The PNG as a `data:` URL.
    """


class FileResult(Answer):
    """The result for one of several images: predictions, or an error."""

    filename: str
    predictions: list[Label] | None = None
    error: dict[str, Any] | None = None
    unfamiliarity: Unfamiliarity | None = None
    """
    Only with `calibrated`.
    """


class Job(Answer):
    """One training run."""

    id: str
    object: Literal["job"]
    name: str | None
    note: str | None
    """
    What its owner wrote about it.
    """
    state: Literal["queued", "running", "pausing", "cancelling", "paused", "succeeded", "failed", "cancelled"]
    """
    The state that clients see: the stored states and two in between.
    """
    state_reason: str | None
    """
    Why it is in this state.
    """
    dataset: str
    """
    Id of the dataset.
    """
    recipe: str | None
    """
    Null: none was named, and which one fits is known when the dataset is ready.
    """
    metadata: dict[str, str]
    priority: int
    """
    The highest is claimed first.
    """
    owner: str
    parent_id: str | None
    """
    The job that this one retries; null if there is none, or if it was deleted.
    """
    init_from: str | None
    """
    The checkpoint whose weights it began with.
    """
    resume_from: str | None
    """
    For a retry: the checkpoint that it continues from.
    """
    max_runtime_s: float | None
    """
    Seconds of training after which the job ends.
    """
    seed: int
    """
    Seed of everything random in the run.
    """
    attempt: int
    """
    How often a worker has taken the job; for information only.
    """
    failures: int
    """
    Crashes, hangs and lost leases since the last new checkpoint.
    """
    max_failures: int
    """
    With this number of `failures` the job ends as `failed` with `crash_loop`.
    """
    waiting_for: (
        Literal[
            "no_live_worker",
            "no_worker_of_this_version",
            "retry_backoff",
            "disk_full",
            "owner_limit",
            "dataset",
            "upload",
            "a_free_slot",
        ]
        | None
    )
    """
    What a queued job waits for right now; `GET /queue` says the same.
    """
    queue_position: int | None
    """
    For a queued job: its place from 1, over all owners' jobs; null if it is not among the first thousand.
    """
    created_at: AwareDatetime
    queued_at: AwareDatetime
    """
    When it got its place in the queue: at its submission or its last resume.
    """
    started_at: AwareDatetime | None
    """
    When a worker first took it.
    """
    finished_at: AwareDatetime | None
    worker: str | None
    """
    Id of the worker that has it.
    """
    progress: Progress
    metrics: dict[str, Any] | None
    """
    Of the last epoch: `train_loss`, `val_loss`, `val_top1`, `val_top5`, `seconds`; without validation no `val_…`.
    """
    best: dict[str, Any] | None
    """
    The epoch with the highest `val_top1`, without validation the last one: its number, checkpoint and metrics.
    """
    latest_checkpoint: str | None
    """
    Id of the newest checkpoint.
    """
    test: dict[str, Any] | None
    """
    Results of the best checkpoint on the test split, once at the end: `loss`, `top1`, `top5`, `num_images`, and
    `chosen_on`: the split that chose the epoch (`validation`, `test` or `none`).
    """
    weights_sha256: str | None
    """
    Hash of the newest checkpoint's weights; at the end, of the last weights.
    """
    error: dict[str, Any] | None
    """
    For a failed job: `type`, `code`, `message`, `retryable`.
    """
    state_history: list[StateChange]
    """
    Every change of `state`, oldest first.
    """
    config: dict[str, Any]
    """
    The complete training options: the recipe's, with the overrides. Until the dataset is ready: the overrides.
    """
    links: dict[str, str]
    """
    Paths to related resources.
    """


class JobRow(Answer):
    """One training run as a row of a list: without its options, history and links, and with its loss as a curve."""

    id: str
    object: Literal["job"]
    name: str | None
    note: str | None
    """
    What its owner wrote about it.
    """
    state: Literal["queued", "running", "pausing", "cancelling", "paused", "succeeded", "failed", "cancelled"]
    """
    The state that clients see: the stored states and two in between.
    """
    state_reason: str | None
    """
    Why it is in this state.
    """
    dataset: str
    """
    Id of the dataset.
    """
    recipe: str | None
    """
    Null: none was named, and which one fits is known when the dataset is ready.
    """
    metadata: dict[str, str]
    priority: int
    """
    The highest is claimed first.
    """
    owner: str
    parent_id: str | None
    """
    The job that this one retries; null if there is none, or if it was deleted.
    """
    init_from: str | None
    """
    The checkpoint whose weights it began with.
    """
    resume_from: str | None
    """
    For a retry: the checkpoint that it continues from.
    """
    max_runtime_s: float | None
    """
    Seconds of training after which the job ends.
    """
    seed: int
    """
    Seed of everything random in the run.
    """
    attempt: int
    """
    How often a worker has taken the job; for information only.
    """
    failures: int
    """
    Crashes, hangs and lost leases since the last new checkpoint.
    """
    max_failures: int
    """
    With this number of `failures` the job ends as `failed` with `crash_loop`.
    """
    waiting_for: (
        Literal[
            "no_live_worker",
            "no_worker_of_this_version",
            "retry_backoff",
            "disk_full",
            "owner_limit",
            "dataset",
            "upload",
            "a_free_slot",
        ]
        | None
    )
    """
    What a queued job waits for right now; `GET /queue` says the same.
    """
    queue_position: int | None
    """
    For a queued job: its place from 1, over all owners' jobs; null if it is not among the first thousand.
    """
    created_at: AwareDatetime
    queued_at: AwareDatetime
    """
    When it got its place in the queue: at its submission or its last resume.
    """
    started_at: AwareDatetime | None
    """
    When a worker first took it.
    """
    finished_at: AwareDatetime | None
    worker: str | None
    """
    Id of the worker that has it.
    """
    progress: Progress
    metrics: dict[str, Any] | None
    """
    Of the last epoch: `train_loss`, `val_loss`, `val_top1`, `val_top5`, `seconds`; without validation no `val_…`.
    """
    best: dict[str, Any] | None
    """
    The epoch with the highest `val_top1`, without validation the last one: its number, checkpoint and metrics.
    """
    latest_checkpoint: str | None
    """
    Id of the newest checkpoint.
    """
    test: dict[str, Any] | None
    """
    Results of the best checkpoint on the test split, once at the end: `loss`, `top1`, `top5`, `num_images`, and
    `chosen_on`: the split that chose the epoch (`validation`, `test` or `none`).
    """
    weights_sha256: str | None
    """
    Hash of the newest checkpoint's weights; at the end, of the last weights.
    """
    error: dict[str, Any] | None
    """
    For a failed job: `type`, `code`, `message`, `retryable`.
    """
    spark: list[float]
    """
    Up to 24 training losses at evenly spaced steps, oldest first: a small curve. Empty: none was reported yet.
    """


class JobRows(Answer):
    """One page of rows, newest first."""

    object: Literal["list"] = "list"
    data: list[JobRow]
    first_id: str | None
    last_id: str | None
    has_more: bool
    counts: dict[
        Literal["queued", "running", "pausing", "cancelling", "paused", "succeeded", "failed", "cancelled"], int
    ]


class LabelErrors(Answer):
    """Training images whose label is likely wrong."""

    method: str
    """
    How they were found.
    """
    num_images: int
    """
    Training images.
    """
    num_checked: int
    """
    Those of them that were checked.
    """
    left_out: str | None
    """
    Why others were not checked. Null: all were.
    """
    num_found: int
    """
    Images whose label is likely wrong.
    """
    seconds: float
    """
    Time that it took.
    """
    classes: list[ClassLabels]
    """
    One a class, in the order of the dataset.
    """
    images: list[WrongLabel]
    """
    The first thousand, the most certain first.
    """


class Classifications(Answer):
    """The answer for several images, in their order."""

    model: Model
    results: list[FileResult]
    timing: Timing


class Classification(Answer):
    """The answer for one image."""

    model: Model
    predictions: list[Label]
    timing: Timing
    unfamiliarity: Unfamiliarity | None = None
    """
    Only with `calibrated`.
    """


class Prediction(Answer):
    """A prediction over many images."""

    id: str
    object: Literal["prediction"]
    name: str | None
    state: Literal["queued", "running", "pausing", "cancelling", "paused", "succeeded", "failed", "cancelled"]
    """
    The state that clients see: the stored states and two in between.
    """
    waiting_for: (
        Literal[
            "no_live_worker",
            "no_worker_of_this_version",
            "retry_backoff",
            "disk_full",
            "owner_limit",
            "dataset",
            "upload",
            "a_free_slot",
        ]
        | None
    )
    """
    What it waits for right now; null: it is not queued.
    """
    dataset: str | None
    """
    Id of the dataset whose images are predicted; null: it is an upload.
    """
    upload: str | None
    """
    Id of the upload that was named.
    """
    split: str | None
    top_k: int
    temperature: float | None
    """
    By which logits are divided, so that the probabilities are calibrated; null: they are the network's own.
    """
    model: PredictionModel
    progress: PredictionProgress | None
    """
    Null: it has not begun.
    """
    summary: PredictionSummary
    """
    Of the rows that are stored so far; they can be read while others are computed.
    """
    attempt: int
    """
    Number of times that a worker has claimed it; each goes on behind the last stored row.
    """
    error: dict[str, Any] | None
    """
    For a failed one: `type`, `code`, `message`, `retryable`.
    """
    created_at: AwareDatetime
    started_at: AwareDatetime | None
    finished_at: AwareDatetime | None
    expires_at: AwareDatetime | None
    """
    When it is removed, with its results; null: it has not ended.
    """
    links: dict[str, str]
    """
    Paths to related resources.
    """


class Preview(Answer):
    """What a training run will do and cost."""

    object: Literal["preview"]
    recipe: str
    """
    The recipe, also where none was named.
    """
    config: dict[str, Any]
    """
    The complete training options, as the job would have them.
    """
    steps: int | None
    """
    Number of steps of the whole run; null if the number of the dataset's images is not known yet.
    """
    steps_per_epoch: int | None
    num_parameters: int
    """
    Number of trained values.
    """
    layers: list[Layer]
    lr: list[tuple[int, float]]
    """
    Up to 200 pairs of a step, counted as in the job's metrics, and its learning rate; empty without `steps`.
    """
    memory_bytes: int
    """
    Memory of weights, gradients, the optimiser's buffers and one batch, computed layer by layer. Not in it are
    Python and PyTorch themselves and the dataset.
    """
    seconds: Seconds | None
    """
    Null: there is nothing to base an estimate on.
    """
    warnings: list[PreviewWarning]


class Reliability(Answer):
    """How well the probabilities of the most probable classes agree with how often these are right."""

    ece: float
    """
    Expected calibration error: the mean distance between a bin's confidence and its accuracy, by images. 0 is
    best.
    """
    nll: float
    """
    Mean cross-entropy.
    """
    accuracy: float
    """
    Share of the images whose most probable class is the true one.
    """
    confidence: float
    """
    Mean probability of the most probable class.
    """
    bins: list[ReliabilityBin]
    """
    The reliability curve, by rising probability.
    """


class SeriesOfJobs(Answer):
    """The series of several jobs."""

    object: Literal["series"]
    data: dict[str, Series]
    """
    By the id of the job, in the order that was asked for.
    """


class SimilarImages(Answer):
    """The training images that are most like an image, to the network."""

    object: Literal["similar_images"]
    model: Subject
    dataset: str
    """
    Id of the dataset that the images are in.
    """
    num_indexed: int
    """
    Training images that were compared: all, or 100,000 that were chosen at random.
    """
    images: list[SimilarImage]
    """
    The most alike first.
    """


class Calibration(Answer):
    """How far a checkpoint's probabilities can be trusted, and what corrects them."""

    split: Literal["validation", "test"]
    """
    The images that it was fitted and measured on.
    """
    num_images: int
    """
    How many there are of them.
    """
    temperature: float
    """
    Logits are divided by it: above 1 the network was too sure of itself, below 1 not sure enough.
    """
    before: Reliability
    """
    Of the network's own probabilities.
    """
    after: Reliability
    """
    Of the corrected ones, on the images that the temperature was fitted on.
    """
    unfamiliarity_threshold: float
    """
    Images with a higher score than this are likely of a kind that the network was not trained on. 95 % of the
    images of the split are below it.
    """
    object: Literal["checkpoint.calibration"] = "checkpoint.calibration"
    checkpoint: str
    """
    Its id.
    """
    job: str
    """
    Id of the job that made it.
    """


class Evaluation(Answer):
    """How a job's best checkpoint does on the test images, and which training images' labels are likely wrong."""

    epoch: int | None
    """
    The epoch whose checkpoint was evaluated.
    """
    weights_sha256: str
    """
    Of the weights that were evaluated.
    """
    chosen_on: Literal["validation", "test", "none"]
    """
    The split that chose the epoch; `none`: the last epoch counts.
    """
    validated_on_test: bool
    """
    Whether the test images chose the epoch, so that other images will do worse.
    """
    num_images: int
    """
    Test images. 0: the dataset has none, and the fields down to `hardest` are null or empty.
    """
    loss: float | None
    """
    Mean cross-entropy on them. Null: there are none, or it is no number.
    """
    top1: float | None
    """
    Share of them whose most probable class is the true one.
    """
    top5: float | None
    """
    Share of them whose true class is among the five most probable.
    """
    classes: list[ClassResult]
    """
    One a class. Empty: no test images, or more than 1,000 classes.
    """
    confusion: list[list[int]] | None
    """
    Test images by true class (row) and predicted class (column). Null: more than 100 classes, or no test images.
    """
    confused: list[ConfusedPair]
    """
    The pairs of classes that were confused most often, the most frequent first; at most 100.
    """
    hardest: list[HardestImage]
    """
    The test images with the highest loss, highest first.
    """
    label_errors: LabelErrors | None
    """
    Training images whose label is likely wrong. Null: they were not looked for; `label_errors_missing` says why.
    """
    label_errors_missing: str | None = None
    """
    Why `label_errors` is null.
    """
    object: Literal["job.evaluation"] = "job.evaluation"
    job: str
    """
    Its id.
    """
    dataset: str
    """
    Id of the dataset that the images are in.
    """
    checkpoint: str | None
    """
    Id of the checkpoint that was evaluated. Null: it is not kept any more.
    """
    split: Literal["train", "validation", "test"]
    """
    The images that it was evaluated on, to which `num_images` to `hardest` refer.
    """
