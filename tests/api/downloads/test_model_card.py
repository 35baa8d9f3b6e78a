from __future__ import annotations

from typing import Any

import pytest

from alexnet_core.evaluation.job_evaluation import ClassResult, ConfusedPair, JobEvaluation
from api.downloads.model_card import CardFacts, write_card
from tests.trainyard.rows import CONFIG
from trainyard.database.tables import Checkpoint, Dataset, Job

FILES = {"model.onnx": {"sha256": "f" * 64, "size": 12345}}


def facts_of(
    *, name: str = "flowers", labels: dict[str, Any] | None = None, evaluation: JobEvaluation | None = None, **job: Any
) -> CardFacts:
    known = {
        "name": name, "num_classes": 2, "class_names": ["rose", "<b>tulip|</b>"], "image_px": 12, "channels": 3,
        "flip_safe": True, "num_train": 1000, "num_val": 100, "num_test": 50,
    }  # fmt: skip
    given = {
        "config": CONFIG, "recipe": "quick", "seed": 7, "labels": labels or {}, "state": "succeeded", "desired": "run",
        "dataset_digest": "d" * 64,
    }  # fmt: skip
    return CardFacts(
        checkpoint=Checkpoint(
            id="ckpt_a", epoch=2, step=30, weights_sha256="a" * 64, metrics={"val_top1": 0.5}, created_at=0.0
        ),
        job=Job(id="job_a", **(given | job)),
        dataset=Dataset(id="ds_a", owner="local", name=name, facts=known),
        epochs=[
            {"epoch": 1, "step": 15, "train_loss": 2.0, "val_top1": 0.25},
            {"epoch": 2, "step": 30, "train_loss": 1.0, "val_top1": 0.5},
        ],
        evaluation=evaluation,
    )  # fmt: skip


def evaluation_of(**changes: Any) -> JobEvaluation:
    values: dict[str, Any] = {
        "epoch": 2, "weights_sha256": "a" * 64, "chosen_on": "validation", "validated_on_test": False, "num_images": 50,
        "loss": 0.5, "top1": 0.875, "top5": 1.0,
        "classes": [ClassResult(label="rose", count=25, predicted=24, precision=0.75, recall=None, f1=0.7)],
        "confusion": None, "confused": [ConfusedPair(true="rose", predicted="<b>tulip|</b>", count=6)], "hardest": (),
        "label_errors": None,
    }  # fmt: skip
    return JobEvaluation.model_validate(values | changes)


def card_of(facts: CardFacts, form: str = "onnx") -> str:
    return write_card(facts, form, FILES).decode()


def test_it_has_data_configuration_curves_evaluation_hashes_and_how_to_use_it() -> None:
    card = card_of(facts_of(evaluation=evaluation_of(), labels={"data_licence": "CC BY 4.0"}))
    for text in (
        "library_name: onnx",
        "# AlexNet for flowers",
        "1,000 training, 100 validation, 50 test",
        f"`{'d' * 64}`",
        "| licence | CC BY 4.0 |",
        "| top-1 accuracy | 87.50 % |",
        "| rose | 25 | 75.00 % | unknown | 70.00 % |",
        "train_loss  █▁\nval_top1    ▁█",
        "| 2 | 1.0000 | 0.5000 |",
        "| `batch_size` | 16 |",
        "| seed | 7 |",
        f"| `model.onnx` | 12,345 | `{'f' * 64}` |",
        "session = onnxruntime.InferenceSession",
    ):
        assert text in card, text


def test_what_users_wrote_is_only_text() -> None:
    hostile = "x</td><script>alert(1)</script>|\n# Heading [link](http://evil)"
    card = card_of(facts_of(name=hostile, labels={"data_license": "![a](http://evil)"}, evaluation=evaluation_of()))
    assert "<script>" not in card
    assert "\n# Heading" not in card
    assert "](http" not in card
    assert "\\<b\\>tulip\\|\\</b\\>" in card
    assert card.count("\n# ") == 1


@pytest.mark.parametrize(
    ("evaluation", "says"),
    [
        (None, "no evaluation on test images"),
        (evaluation_of(num_images=0), "has no test images"),
        (evaluation_of(weights_sha256="b" * 64, epoch=1), "**Another checkpoint of the job**, its best one (epoch 1)"),
        (evaluation_of(validated_on_test=True), "other images will do worse"),
        (evaluation_of(), "which were used once, after training"),
    ],
)
def test_it_does_not_claim_more_than_was_measured(evaluation: JobEvaluation | None, says: str) -> None:
    assert says in card_of(facts_of(evaluation=evaluation))


def test_a_licence_that_nobody_gave_is_not_made_up() -> None:
    assert "| licence | not given: ask whoever has the images |" in card_of(facts_of())


def test_a_configuration_of_another_version_is_shown_as_it_is() -> None:
    card = card_of(facts_of(config={"an_option_of_tomorrow": [1, None, True]}))
    assert "| `an_option_of_tomorrow` | 1, none, true |" in card
    assert "parameters, for square" not in card


def test_the_same_facts_make_the_same_card() -> None:
    assert write_card(facts_of(), "keras", FILES) == write_card(facts_of(), "keras", FILES)


def test_it_says_how_far_the_probabilities_can_be_trusted_if_that_is_known() -> None:
    facts = facts_of()
    assert "was not measured (yet)" in card_of(facts)
    own = {"ece": 0.08, "nll": 0.5, "accuracy": 0.9, "confidence": 0.98, "bins": []}
    corrected = own | {"ece": 0.02, "nll": 0.4, "confidence": 0.91}
    facts.checkpoint.calibration = {
        "split": "validation", "num_images": 1234, "temperature": 1.75, "before": own, "after": corrected,
        "unfamiliarity_threshold": -3.0,
    }  # fmt: skip
    card = card_of(facts)
    for text in (
        "by the 1,234 validation images",
        "| the network's own | 0.0800 | 0.5000 | 98.00 % | 90.00 % |",
        "| corrected | 0.0200 | 0.4000 | 91.00 % | 90.00 % |",
        "the temperature 1.7500",
    ):
        assert text in card
