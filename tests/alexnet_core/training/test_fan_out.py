from alexnet_core.training.fan_out import FanOut


class Recorder:
    """Hooks that write down what they are told."""

    def __init__(self, said: list, name: str, *, stops: bool = False) -> None:
        self._said, self._name, self._stops = said, name, stops

    def should_stop(self) -> bool:
        return self._stops

    def __getattr__(self, method: str):
        return lambda *values: self._said.append((self._name, method, values))


def test_every_hook_is_told_everything_in_order():
    said: list = []
    hooks = FanOut(Recorder(said, "first"), Recorder(said, "second"))
    calls = {
        "on_started": ({"step": 0},), "on_first_step": (), "on_progress": ({"step": 1},), "on_interval": ({"step": 2},),
        "on_epoch": (1, 20, {"val_top1": 0.5}), "on_checkpoint": ("epoch", None, {}, True), "on_warning": ("a", "b"),
    }  # fmt: skip
    for method, values in calls.items():
        getattr(hooks, method)(*values)
    assert said == [(name, method, values) for method, values in calls.items() for name in ("first", "second")]


def test_any_hook_can_stop_the_run():
    assert not FanOut(Recorder([], "first"), Recorder([], "second")).should_stop()
    assert FanOut(Recorder([], "first"), Recorder([], "second", stops=True)).should_stop()
