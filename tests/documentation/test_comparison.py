"""What counts as the same text, and what does not."""

from __future__ import annotations

import pytest

from tests.documentation.comparison import Names, difference

JOB, OTHER = f"job_{'0' * 26}", f"job_{'1' * 26}"
REAL, REAL_OTHER = f"job_{'8' * 26}", f"job_{'9' * 26}"


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("the same words", "the same words"),
        ("state … done", "state queued, running, done"),
        ('{"a":1, …\n  "b":[2], …', '{"a":1,"x":{"y":1},"b":[2],"c":3}'),
        ("train loss 0.52  val 97.18%  0.4 s", "train loss 1.5  val 9.0%  12.75 s"),
        ("epoch   9  loss 0.1", "epoch  9  loss 11.25"),
        ("http://127.0.0.1:37801", "http://127.0.0.1:4000"),
        ("1,722,106 bytes", "98 bytes"),
        ("2026-11-24T07:56:15.369000Z queued", "2027-01-02T03:04:05Z queued"),
        ("stopped at step 54", "stopped at step 7"),
        ("version 0.1.0+3f9c2a71b", "version 0.1.0"),
    ],
)
def test_the_same(shown: str, printed: str) -> None:
    assert difference(shown, printed, Names()) is None


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("the same words", "other words"),
        ("the same words", "the same words, and more"),
        ("state …", "stat"),
        ("4 epochs", "5 epochs"),
        ('"num_images":360', '"num_images":361'),
        ("accuracy 0.97", "accuracy unknown"),
        ("accuracy 0.97", "accuracy 1"),
        ("one two", "onetwo"),
        ("", "something"),
        ("something", ""),
        (f"{JOB} {JOB}", f"{REAL} {REAL_OTHER}"),
        (f"{JOB}", f"ckpt_{'8' * 26}"),
    ],
)
def test_not_the_same(shown: str, printed: str) -> None:
    assert difference(shown, printed, Names()) is not None


def test_an_id_stands_for_a_real_one_from_its_first_appearance_on() -> None:
    names = Names()
    assert difference(f'"id":"{JOB}", …', f'"id":"{REAL}","state":"queued"', names) is None
    assert names.put_into(f"curl localhost:8000/jobs/{JOB}") == f"curl localhost:8000/jobs/{REAL}"
    assert difference(f"{JOB} {OTHER}", f"{REAL} {REAL_OTHER}", names) is None
    assert difference(JOB, REAL_OTHER, names) is not None


def test_what_differs_introduces_no_name() -> None:
    names = Names()
    assert difference(f"{JOB} done", f"{REAL} failed", names) is not None
    assert names == Names()


def test_an_id_that_is_cut_is_the_last_of_its_kind() -> None:
    names = Names()
    names.see(f'{{"id":"{REAL_OTHER}"}} and {REAL}')
    assert names.put_into("trainyard show job_…") == f"trainyard show {REAL}"
    assert difference("job_… is queued", f"{REAL_OTHER} is queued", names) is None


def test_an_id_that_nothing_named_before_is_a_mistake_of_the_page() -> None:
    with pytest.raises(AssertionError, match="nothing before it"):
        Names().put_into(f"trainyard show {JOB}")


def test_a_checkpoints_folder_is_bound_too() -> None:
    names = Names()
    shown, printed = "go on with run-3/recovery-00000054-e0", "go on with run-3/recovery-00000061-e0"
    assert difference(shown, printed, names) is None
    assert names.put_into("--resume run-3/recovery-00000054-e0") == "--resume run-3/recovery-00000061-e0"


def test_the_difference_names_the_place() -> None:
    told = difference("state queued, then running", "state queued, then paused", Names())
    assert told is not None
    assert "--- the page goes on with\nrunning" in told
    assert "--- and this was printed\npaused" in told
