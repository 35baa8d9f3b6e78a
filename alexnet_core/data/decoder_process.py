"""A child process that decodes large images. Unlike a thread it has limits on memory and time. Torch-free.

`python -m alexnet_core.data.decoder_process MAX_PIXELS MAX_CPU_S PARENT_PID` is the child: it reads a file's length and
the file, and answers with the length of an `Answer` in JSON, that answer, and the pixels. A child that exceeds its
limits is ended by the kernel or by its parent, and the next image gets a new one.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from alexnet_core.child_processes import TimeLimit, die_with_parent, scrubbed_environment
from alexnet_core.data.decode_memory import MOST_BYTES_A_PIXEL
from alexnet_core.data.images import decode_image
from alexnet_core.data.squares import cut_middle
from alexnet_core.errors import ImageError, ImageFormatUnsupported, ImageTooLarge, ImageUnreadable

log = logging.getLogger(__name__)

MAX_CPU_S = 10
_WAITS = 6  #: a process that shares its cores may take so many times its CPU seconds
_NICENESS = 5  # a large picture gives way to predictions on the same cores
_SPARE_BYTES = 200_000_000  # of address space: the file, the interpreter's own
_SIZE_BYTES = 8
_MOST_ANSWER_BYTES = 100_000
_ERRORS: dict[str, type[ImageError]] = {
    kind.code: kind for kind in (ImageError, ImageUnreadable, ImageTooLarge, ImageFormatUnsupported)
}


@dataclass(frozen=True)
class Answer:
    """The child's answer for an image: the shape of the pixels that follow, or why there are none."""

    shape: tuple[int, int, int] | None = None
    code: str = ""
    message: str = ""
    warnings: tuple[str, ...] = ()  #: of the decoder

    @classmethod
    def read(cls, line: bytes) -> Answer:
        """Read an answer that `write` wrote.

        Raises:
            ValueError: it is not.
        """
        values = json.loads(line)
        height, width, channels = values["shape"] or (0, 0, 0)
        shape = (int(height), int(width), int(channels)) if values["shape"] else None
        return cls(shape, str(values["code"]), str(values["message"]), tuple(map(str, values["warnings"])))

    def write(self) -> bytes:
        """Write the answer as one line of JSON."""
        return json.dumps(asdict(self)).encode()


class DecoderProcess:
    """Decodes one image at a time in a child process. Not to be shared between threads.

    The child is started when it is needed.
    """

    def __init__(self, *, max_pixels: int, max_cpu_s: int = MAX_CPU_S) -> None:
        self._max_pixels, self._max_cpu_s = max_pixels, max_cpu_s
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The child's process id. None: there is no child at present."""
        return None if self._process is None else self._process.pid

    def decode(self, data: bytes) -> NDArray[np.uint8]:
        """Return the square in the middle of an image, which is all that a prediction uses; see `decode_image`.

        Raises:
            ImageError: as `decode_image`; ImageTooLarge also where it takes too much time or memory.
            OSError: no process can be started.
        """
        process = self._process = self._process or self._start()
        limit = TimeLimit(process, _WAITS * self._max_cpu_s)
        try:
            answer, pixels_HWC = self._exchange(process, data)
        except (OSError, EOFError, ValueError, KeyError, TypeError):
            raise self._explain_end(process, limit.is_over) from None
        finally:
            limit.cancel()
        for text in answer.warnings:
            log.warning("a warning from the decoder of an image: %s", text)
        if pixels_HWC is None:
            raise _ERRORS.get(answer.code, ImageUnreadable)(answer.message)
        return pixels_HWC

    def close(self) -> None:
        """End the child."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", __name__, str(self._max_pixels), str(self._max_cpu_s), str(os.getpid())]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env=scrubbed_environment() | {"OPENBLAS_NUM_THREADS": "1"},
            bufsize=0,
            start_new_session=True,  # a Ctrl-C is for the parent, which answers first what it has begun to read
        )

    def _exchange(self, process: subprocess.Popen[bytes], data: bytes) -> tuple[Answer, NDArray[np.uint8] | None]:
        assert process.stdin is not None
        assert process.stdout is not None
        _write(process.stdin, len(data).to_bytes(_SIZE_BYTES, "big"))
        _write(process.stdin, data)
        size = int.from_bytes(_read(process.stdout, _SIZE_BYTES), "big")
        answer = Answer.read(_read(process.stdout, min(size, _MOST_ANSWER_BYTES)))
        if answer.shape is None:
            return answer, None
        if min(answer.shape) < 1 or answer.shape[0] * answer.shape[1] > self._max_pixels or answer.shape[2] > 3:
            raise EOFError("the child's answer is not for this request")
        pixels_HWC = np.empty(answer.shape, np.uint8)
        _read_into(process.stdout, pixels_HWC.data.cast("B"))
        return answer, pixels_HWC

    def _explain_end(self, process: subprocess.Popen[bytes], out_of_time: bool) -> ImageError:
        """Return the error for an image whose decoding ended the child."""
        process.kill()
        status = process.wait()
        said = process.stderr.read(2000).decode(errors="replace") if process.stderr is not None else ""
        self.close()
        if out_of_time or status == -signal.SIGXCPU:
            return ImageTooLarge(
                f"The image takes more than {self._max_cpu_s} seconds to decode. "
                "Scale it down, or save it as a plain JPEG."
            )
        log.warning("the process that decodes large images ended", extra={"status": status, "said": said})
        return ImageUnreadable("The image is damaged (its decoder broke down). Save it again with an image program.")


def _write(pipe: IO[bytes], data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[pipe.write(view) :]


def _read(pipe: IO[bytes], size: int) -> bytes:
    data = bytearray(size)
    _read_into(pipe, memoryview(data))
    return bytes(data)


def _read_into(pipe: IO[bytes], view: memoryview) -> None:
    while view:
        count = pipe.readinto(view)  # type: ignore[attr-defined]  # a pipe's reader has it, `IO` does not
        if not count:
            raise EOFError
        view = view[count:]


def main(max_pixels: int, max_cpu_s: int, parent_pid: int) -> None:
    """Run the child: decode one image after another until the pipe is closed."""
    die_with_parent(parent_pid)
    os.nice(_NICENESS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit_memory(MOST_BYTES_A_PIXEL * max_pixels + _SPARE_BYTES)
    warned: list[str] = []
    warnings.showwarning = lambda message, *_: warned.append(str(message))
    with open(0, "rb", buffering=0) as source, open(1, "wb", buffering=0) as sink:
        _serve(source, sink, max_pixels, max_cpu_s, warned)


def _serve(source: IO[bytes], sink: IO[bytes], max_pixels: int, max_cpu_s: int, warned: list[str]) -> None:
    while True:
        try:
            size = int.from_bytes(_read(source, _SIZE_BYTES), "big")
            data = _read(source, size)
        except EOFError:
            return
        _limit_time(max_cpu_s)
        warned.clear()
        pixels_HWC, answer = _decode(data, max_pixels)
        said = replace(answer, warnings=tuple(text[:500] for text in warned[:10])).write()
        _write(sink, len(said).to_bytes(_SIZE_BYTES, "big") + said)
        if pixels_HWC is not None:
            _write(sink, pixels_HWC.data.cast("B"))
        del data, pixels_HWC


def _decode(data: bytes, max_pixels: int) -> tuple[NDArray[np.uint8] | None, Answer]:
    try:
        pixels_HWC = np.ascontiguousarray(cut_middle(decode_image(data, max_pixels=max_pixels)))
    except ImageError as exc:
        return None, Answer(code=exc.code, message=exc.message)
    except MemoryError:
        message = (
            "The image takes more memory to decode than there is for one. Scale it down, or save it as a plain JPEG."
        )
        return None, Answer(code=ImageTooLarge.code, message=message)
    height, width, channels = pixels_HWC.shape
    return pixels_HWC, Answer(shape=(height, width, channels))


def _limit_memory(more_bytes: int) -> None:
    """Limit the address space to its present size and some more (Linux)."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        now = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + more_bytes, now + more_bytes))


def _limit_time(more_s: int) -> None:
    """Let the kernel end this process after it has used so many more seconds of CPU time."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (round(time.process_time() + 0.5) + more_s, hard))


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:4]))
