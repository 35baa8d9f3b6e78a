"""A shadow is compared and never seen, and delays nobody."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from tests.api.aliased import Three, look, predict, put
from tests.api.served import Served, wait_until


class TestShadow:
    def test_is_compared_and_never_seen(self, three: Three) -> None:
        served, _, (first, second, inverted) = three
        put(served, {"checkpoint": first, "shadow": inverted}, 201)
        for _ in range(5):
            model = predict(served)["model"]
            assert (model["checkpoint"], model["side"]) == (first, None)
            time.sleep(0.03)
        wait_until(lambda: self._seen(served) == 5)
        shadow = look(served)["counts"]["shadow"]
        assert (shadow["agreed"], shadow["agreement"]) == (0, 0 if shadow["answers"] else None)
        assert shadow["answers"] >= 1
        put(served, {"checkpoint": first, "shadow": second})
        predict(served)
        wait_until(lambda: look(served)["counts"]["shadow"]["answers"] == 1)
        assert look(served)["counts"]["shadow"]["agreement"] == 1.0

    def _seen(self, served: Served) -> int:
        shadow = look(served)["counts"]["shadow"]
        return int(shadow["answers"] + shadow["dropped"])

    def test_that_computes_for_long_delays_no_answer(self, three: Three, monkeypatch: pytest.MonkeyPatch) -> None:
        """The answer comes while the shadow has not even begun, and images that come meanwhile are left out."""
        served, _, (first, _, shadow) = three
        put(served, {"checkpoint": first, "shadow": shadow}, 201)
        engine = served.app.state.services.engine
        model = engine._loader.find(shadow).model
        begun, go_on = threading.Event(), threading.Event()
        preprocess = model.preprocess

        def slow(image: Any) -> Any:
            begun.set()
            assert go_on.wait(60)
            return preprocess(image)

        monkeypatch.setattr(model, "preprocess", slow)
        predict(served)
        assert begun.wait(60), "the first one is being compared"
        for _ in range(3):
            predict(served)
        go_on.set()
        wait_until(lambda: self._seen(served) == 4)
        counts = look(served)["counts"]["shadow"]
        assert (counts["answers"], counts["dropped"]) == (1, 3)

    def test_leaves_an_image_out_while_others_wait_to_be_computed(
        self, three: Three, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        served, _, (first, _, shadow) = three
        put(served, {"checkpoint": first, "shadow": shadow}, 201)
        batcher = served.app.state.services.engine._batcher
        monkeypatch.setattr(type(batcher), "num_waiting", property(lambda self: 1))
        predict(served)
        wait_until(lambda: look(served)["counts"]["shadow"]["dropped"] == 1)
        assert look(served)["counts"]["shadow"]["answers"] == 0

    def test_that_fails_is_counted_and_hurts_nobody(self, three: Three, monkeypatch: pytest.MonkeyPatch) -> None:
        served, _, (first, _, shadow) = three
        put(served, {"checkpoint": first, "shadow": shadow}, 201)
        monkeypatch.setattr(served.app.state.services.engine._loader.find(shadow).model, "_manifest", "failing")
        predict(served)
        wait_until(lambda: look(served)["counts"]["shadow"]["errors"] == 1)
