"""Where a callback of ours writes its numbers, and how often."""

import os
from typing import Literal

from tfplaybook import _keras
from tfplaybook._arguments import check_count
from tfplaybook.runs import EventWriter

UpdateFrequency = Literal["epoch", "batch"] | int


class CurveLog:
    """The curves of a callback: in the run of a `RunRecorder`, or in a directory of its own.

    Args:
        log_dir: TensorBoard directory. By default the run of the `RunRecorder` in the same `fit`,
            when there is one.
        update_freq: `"epoch"`, `"batch"` for every update, or an integer: every so many updates.

    Attributes:
        every: Updates between two points of a curve; None for one at the end of each epoch.

    Raises:
        ValueError: `update_freq` is something else.
    """

    def __init__(self, log_dir: str | os.PathLike[str] | None, update_freq: UpdateFrequency):
        self.every = _write_every(update_freq)
        self._events = None if log_dir is None else EventWriter(log_dir)

    def begin_attempt(self, step: int) -> None:
        """Note in the directory of its own that training starts (again) at `step` updates."""
        if self._events is not None:
            self._events.begin_attempt(step)

    def writers(self, callback: _keras.Callback) -> list[_keras.RunWriter]:
        """Return what the numbers of the callback's `fit` go to: one writer or none."""
        if self._events is not None:
            return [self._events]
        recorder = _keras.find_recorder(callback)
        return [] if recorder is None else [recorder]


def _write_every(update_freq: UpdateFrequency) -> int | None:
    if update_freq == "epoch":
        return None
    if update_freq == "batch":
        return 1
    try:
        return check_count("update_freq", update_freq, minimum=1)
    except ValueError as error:
        raise ValueError(
            "`update_freq` must be 'epoch', 'batch' or an integer of at least 1. "
            f"Received: {update_freq!r}."
        ) from error
