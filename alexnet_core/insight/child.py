"""The child process in which insight is computed, so that neither predictions nor the API's own process wait for it.

`python -m alexnet_core.insight.child PARENT_PID MEMORY_BYTES MAX_PIXELS THREADS` reads requests and writes answers (see
`protocol`) until its pipe is closed. It gives way to everything else on the machine, its memory is limited, and it has
no network where the system allows that. The checkpoints that were used last stay in its memory.
"""

from __future__ import annotations

import os
import sys
from collections import OrderedDict
from typing import IO, TYPE_CHECKING, Literal

from alexnet_core.child_processes import die_with_parent
from alexnet_core.data.images import decode_image
from alexnet_core.data.inspection.selection import describe
from alexnet_core.data.intake.confinement import confine
from alexnet_core.data.pack import Pack, open_pack
from alexnet_core.errors import CoreError
from alexnet_core.evaluation.filters import CONV1, draw_filters
from alexnet_core.evaluation.scores import Guess
from alexnet_core.insight import protocol
from alexnet_core.insight.activations import draw_activations
from alexnet_core.insight.calibration import NotCalibrated
from alexnet_core.insight.heat_maps import Seen, draw_heat
from alexnet_core.insight.protocol import Activate, Answer, DrawFilters, Explain, FindSimilar, GoOn, Request, Similar
from alexnet_core.insight.similar_images import SimilarityIndex
from alexnet_core.memory import bound_arenas

if TYPE_CHECKING:
    from alexnet_core.evaluation.predictor import Predictor

NICENESS = 10
_KEPT_BYTES = 600_000_000  # of weights; the one in use stays, however large
_GUESSES = 5
_UNLIMITED = 1 << 46  # bytes of a file: packs that are mapped may be very large
_CPU_S = 1 << 31  # it lives long; each request has its own limit, which the parent watches
_MOST_MESSAGE = 500


class Refused(Exception):
    """A request can't be answered as it is."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.param = code, param


class Responder:
    """Answers requests, one at a time."""

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._loaded: OrderedDict[str, Predictor] = OrderedDict()

    def answer(self, request: Request, blob: bytes) -> tuple[Answer, bytes]:
        """Answer a request. Whatever goes wrong is in the answer."""
        try:
            return self._answer(request, blob)
        except Refused as exc:
            return Answer(code=exc.code, message=str(exc), param=exc.param), b""
        except NotCalibrated as exc:
            return Answer(code=protocol.NOT_CALIBRATED, message=str(exc)), b""
        except CoreError as exc:
            return Answer(code=exc.code, message=exc.message), b""
        except MemoryError:
            return Answer(code=protocol.NO_MEMORY, message="there is not enough memory for this network"), b""
        except Exception as exc:
            return Answer(code=_classify(exc), message=f"{type(exc).__name__}: {exc}"[:_MOST_MESSAGE]), b""

    def _answer(self, request: Request, blob: bytes) -> tuple[Answer, bytes]:
        match request:
            case Explain():
                return self._explain(request, blob)
            case Activate():
                return self._activate(request, blob)
            case DrawFilters():
                return self._draw_filters(request)
            case FindSimilar():
                return self._find_similar(request, blob)
            case GoOn():
                return self._go_on(request)

    def _explain(self, request: Explain, blob: bytes) -> tuple[Answer, bytes]:
        from alexnet_core.insight.explanations import explain

        image_HWC = decode_image(blob, max_pixels=self._max_pixels)
        predictor = self._load(request)
        ranked = predictor.predict([image_HWC], len(predictor.class_names))[0]
        guesses = [Guess(label=one.label, index=one.index, probability=one.probability) for one in ranked]
        target = guesses[0] if request.target is None else _find_target(guesses, request.target)
        found = explain(predictor, image_HWC, request.method, target.index)
        how = predictor.preprocessing
        seen = Seen.of(image_HWC.shape[1], image_HWC.shape[0], image_px=how.image_px, resize_px=how.resize_px)
        picture = draw_heat(found.heat, image_HWC, seen, request.view, request.px)
        return Answer(target=target, predictions=guesses[:_GUESSES]), picture

    def _activate(self, request: Activate, blob: bytes) -> tuple[Answer, bytes]:
        from alexnet_core.insight.named_layers import UnknownLayer, compute_layer

        image_HWC = decode_image(blob, max_pixels=self._max_pixels)
        predictor = self._load(request)
        try:
            values = compute_layer(predictor.model, predictor.preprocess(image_HWC)[None], request.layer)[0]
        except UnknownLayer as exc:
            raise Refused(protocol.BAD_REQUEST, str(exc), "layer") from exc
        return Answer(), draw_activations(values.numpy(), request.scale)

    def _draw_filters(self, request: DrawFilters) -> tuple[Answer, bytes]:
        model = self._load(request).model
        towers: Literal[1, 2] = 2 if model.features.get_submodule("conv2").groups == 2 else 1
        kernels_KCHW = model.state_dict()[CONV1].float().numpy()
        return Answer(), draw_filters(kernels_KCHW, request.scale, towers=towers)

    def _find_similar(self, request: FindSimilar, blob: bytes) -> tuple[Answer, bytes]:
        from alexnet_core.insight.named_layers import last_hidden_layer

        image_HWC = decode_image(blob, max_pixels=self._max_pixels)
        predictor = self._load(request)
        try:
            index = SimilarityIndex(request.index)
        except (OSError, ValueError, EOFError) as exc:  # EOFError: a file is empty
            raise Refused(protocol.NO_INDEX, str(exc)) from exc
        with last_hidden_layer(predictor.model) as units:
            predictor.logits(predictor.preprocess(image_HWC)[None])
        found = index.search(units[0][0].numpy(), request.k)
        places = describe(open_pack(request.pack), [one.position for one in found])
        similar = [Similar(**vars(place), distance=one.distance) for place, one in zip(places, found, strict=True)]
        return Answer(similar=similar, num_indexed=len(index)), b""

    def _go_on(self, request: GoOn) -> tuple[Answer, bytes]:
        from alexnet_core.insight.split_pass import SplitPass

        predictor, pack = self._load(request), open_pack(request.pack)
        _require_classes(predictor, pack)
        one = SplitPass(request.kind, predictor, pack, request.split, request.draft)
        return Answer(done=one.go_on(request.done, request.seconds), total=one.total), b""

    def _load(self, request: Request) -> Predictor:
        """Return the network of a checkpoint, which is verified when it is read."""
        from alexnet_core.evaluation.predictor import Predictor

        if (known := self._loaded.get(request.manifest_sha256)) is not None:
            self._loaded.move_to_end(request.manifest_sha256)
            return known
        predictor = Predictor.load(request.checkpoint)
        self._loaded[request.manifest_sha256] = predictor
        while len(self._loaded) > 1 and sum(map(_count_bytes, self._loaded.values())) > _KEPT_BYTES:
            self._loaded.popitem(last=False)
        return predictor


def _find_target(guesses: list[Guess], name: str) -> Guess:
    for guess in guesses:
        if guess.label == name:
            return guess
    some = ", ".join(repr(guess.label) for guess in guesses[:_GUESSES])
    raise Refused(protocol.BAD_REQUEST, f"there is no class {name[:80]!r}: the most probable ones are {some}", "target")


def _require_classes(predictor: Predictor, pack: Pack) -> None:
    if predictor.class_names != pack.class_names:
        raise Refused(protocol.OTHER_CLASSES, "the dataset has other classes than the network")


def _count_bytes(predictor: Predictor) -> int:
    return sum(tensor.nbytes for tensor in predictor.model.state_dict().values())


def _classify(exc: Exception) -> str:
    is_memory = isinstance(exc, RuntimeError) and "allocate" in str(exc)  # torch has no error of its own for it
    return protocol.NO_MEMORY if is_memory else protocol.BROKEN


def serve(source: IO[bytes], sink: IO[bytes], responder: Responder) -> None:
    """Answer requests until the pipe is closed."""
    while True:
        try:
            request, blob = protocol.read_request(source)
        except EOFError:
            return
        answer, picture = responder.answer(request, blob)
        protocol.write_message(sink, answer, picture)


def main(parent_pid: int, memory_bytes: int, max_pixels: int, threads: int) -> None:
    """Run the child."""
    die_with_parent(parent_pid)
    os.nice(NICENESS)
    bound_arenas({})
    confine(memory_bytes=memory_bytes, cpu_s=_CPU_S, file_bytes=_UNLIMITED)
    import torch

    torch.set_num_threads(threads)
    with open(0, "rb", buffering=0, closefd=False) as source, open(os.dup(1), "wb", buffering=0) as sink:
        os.dup2(2, 1)  # what a library prints must not get between the answers
        serve(source, sink, Responder(max_pixels))


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:5]))
