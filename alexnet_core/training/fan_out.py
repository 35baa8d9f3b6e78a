"""Several hooks as one, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alexnet_core.network.checkpoint import SavedCheckpoint
    from alexnet_core.training.run_spec import Hooks


class FanOut:
    """Tells each of its hooks everything, in their order; the run stops when any of them says so."""

    def __init__(self, *hooks: Hooks) -> None:
        self._hooks = hooks

    def on_started(self, report: dict[str, Any]) -> None:
        """See `runs.Hooks`."""
        for hooks in self._hooks:
            hooks.on_started(report)

    def on_first_step(self) -> None:
        """See `runs.Hooks`."""
        for hooks in self._hooks:
            hooks.on_first_step()

    def on_progress(self, report: dict[str, Any]) -> None:
        """See `runs.Hooks`."""
        for hooks in self._hooks:
            hooks.on_progress(report)

    def on_interval(self, report: dict[str, Any]) -> None:
        """See `runs.Hooks`."""
        for hooks in self._hooks:
            hooks.on_interval(report)

    def on_epoch(self, epoch: int, step: int, metrics: dict[str, float]) -> None:
        """See `runs.Hooks`."""
        for hooks in self._hooks:
            hooks.on_epoch(epoch, step, metrics)

    def on_checkpoint(self, kind: str, saved: SavedCheckpoint, metadata: dict[str, Any], is_best: bool) -> None:
        """See `runs.Hooks`."""
        for hooks in self._hooks:
            hooks.on_checkpoint(kind, saved, metadata, is_best)

    def on_warning(self, code: str, message: str) -> None:
        """See `runs.Hooks`."""
        for hooks in self._hooks:
            hooks.on_warning(code, message)

    def should_stop(self) -> bool:
        """See `runs.Hooks`."""
        return any(hooks.should_stop() for hooks in self._hooks)


class Muted(FanOut):
    """Tells nobody anything; still asks its hooks whether to stop."""

    def __init__(self, hooks: Hooks) -> None:
        super().__init__()
        self._asked = hooks

    def should_stop(self) -> bool:
        """See `runs.Hooks`."""
        return self._asked.should_stop()
