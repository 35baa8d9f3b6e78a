import io
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from trainyard.logs import REPEAT_S, JsonLines, Repeats, request_id

ROOT = Path(__file__).parents[2]


def lines_of(code: str) -> list[dict[str, object]]:
    """What a process with our log writes to stderr; each line must be JSON."""
    begin = "from trainyard import logs\nlogs.configure('INFO')\n"
    done = subprocess.run([sys.executable, "-c", begin + code], cwd=ROOT, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_a_record_is_one_line_of_json_with_its_request() -> None:
    token = request_id.set("req_12345678")
    record = logging.makeLogRecord({"name": "a", "levelname": "INFO", "msg": "two\nlines %s", "args": ("x",), "job": 1})
    line = JsonLines().format(record)
    request_id.reset(token)
    assert "\n" not in line
    read = json.loads(line)
    assert (read["message"], read["level"], read["request_id"], read["job"]) == (
        "two\nlines x",
        "info",
        "req_12345678",
        1,
    )


def test_a_warning_is_a_log_line_and_a_decompression_bomb_is_none() -> None:
    lines = lines_of(
        "import warnings\n"
        "from PIL import Image\n"
        "warnings.warn('mind\\nthe gap', stacklevel=1)\n"
        "warnings.warn('huge', Image.DecompressionBombWarning, stacklevel=1)\n"
    )
    assert [(line["level"], line["logger"], line["message"]) for line in lines] == [
        ("warning", "warnings", "mind\nthe gap")
    ]
    assert lines[0]["category"] == "UserWarning"


@pytest.mark.parametrize("filters", ["", "warnings.resetwarnings()\n"])
def test_what_pillow_says_of_an_image_is_json_too(filters: str) -> None:
    """A TIFF with a tag behind its end; and an image between once and twice Pillow's limit, of which it warns."""
    lines = lines_of(
        "import io, warnings\n"
        "from PIL import Image\n"
        "from alexnet_core.data.images import decode_image\n"
        "from alexnet_core.errors import ImageTooLarge\n"
        "from tests.alexnet_core.data.test_decoder_process import damaged_tags\n"
        f"{filters}"
        "decode_image(damaged_tags())\n"
        "file = io.BytesIO()\n"
        "Image.new('L', (6000, 6000)).save(file, 'PNG')\n"
        "try:\n"
        "    decode_image(file.getvalue())\n"
        "except ImageTooLarge:\n"
        "    pass\n"
    )
    messages = [str(line["message"]) for line in lines if line["category"] != "ResourceWarning"]
    assert messages
    assert not any("bomb" in message for message in messages)


def test_a_log_record_is_one_line_of_json() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    record = logging.makeLogRecord({"msg": "a\nb %s", "args": ("\x1b[\r\n",), "name": "n\nm", "job_id": "x\ny"})
    handler.emit(record)
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["job_id"] == "x\ny"


def warning(message: str, level: int = logging.WARNING, **extra: object) -> logging.LogRecord:
    return logging.makeLogRecord({"name": "worker", "levelno": level, "msg": message} | extra)


def test_a_warning_that_repeats_is_written_once_in_a_while_with_the_number_left_out() -> None:
    moments = iter([0.0, 0.1, REPEAT_S - 0.1, REPEAT_S + 0.1, REPEAT_S + 0.2])
    repeats = Repeats(lambda: next(moments))
    records = [warning("the database does not answer", job_id="job_a") for _ in range(5)]
    assert [repeats.filter(record) for record in records] == [True, False, False, True, False]
    assert json.loads(JsonLines().format(records[3]))["repeats"] == 2
    assert "repeats" not in json.loads(JsonLines().format(records[0]))


def test_other_warnings_other_jobs_and_what_a_request_caused_are_all_written() -> None:
    repeats = Repeats(lambda: 0.0)
    told = [warning("a", job_id="job_a"), warning("b", job_id="job_a"), warning("a", job_id="job_b")]
    assert all(repeats.filter(record) for record in told)
    failed = [warning("a", exc_info=(type(error), error, None)) for error in (ValueError("1"), ValueError("2"))]
    assert all(repeats.filter(record) for record in failed)
    assert all(repeats.filter(warning("a", logging.INFO, job_id="job_a")) for _ in range(3))
    token = request_id.set("req_12345678")
    assert all(repeats.filter(warning("a", job_id="job_a")) for _ in range(3))
    request_id.reset(token)


def test_what_is_remembered_of_warnings_is_bounded() -> None:
    repeats = Repeats(lambda: 0.0)
    assert all(repeats.filter(warning(f"warning {i}")) for i in range(1000))
    assert not repeats.filter(warning("warning 999"))
    assert repeats.filter(warning("warning 0")), "it was forgotten"


def test_a_process_writes_a_repeated_warning_once() -> None:
    lines = lines_of("import logging\nfor _ in range(50): logging.getLogger('a').warning('away')\n")
    assert [line["message"] for line in lines] == ["away"]
