"""What a `fit` has taken, and when it is given back: at its end, or once it is found to be over.

Keras tells callbacks nothing when a `fit` is interrupted or fails, and the callback may be gone
while its last checkpoint is still being written.
"""

import functools
import warnings
from collections.abc import Callable
from typing import Any

from tfplaybook import _keras
from tfplaybook.callbacks._data_position import DataPosition
from tfplaybook.callbacks._preemption import PreemptionNotice
from tfplaybook.callbacks._resumable_run import ResumableRun

_held: "set[FitHold]" = set()


class FitHold:
    """The run directory, the signal and the beginning of the data, held by the present `fit`.

    Made in a hook of a callback. Given back by `release`, or when the `fit` is over.
    """

    def __init__(self, run: ResumableRun, notice: PreemptionNotice, position: DataPosition):
        self._run = run
        self._notice = notice
        self._position = position
        self._fit = _keras.PresentFit()
        _held.add(self)
        self._fit.when_over(self.abandon)

    @property
    def is_in_use(self) -> bool:
        """Whether the `fit` still runs, in this thread or in another."""
        return self._fit.is_running()

    def release(self) -> None:
        """Give all of it back, once.

        Raises:
            OSError: The last checkpoint could not be written.
        """
        if self in _held:
            _held.discard(self)
            self._notice.close()
            self._position.give_back()
            self._run.close()

    def abandon(self) -> None:
        """Give all of it back where another error is on its way, or nobody waits for one."""
        try:
            self.release()
        except OSError as error:
            warnings.warn(f"A `fit` that was interrupted: {error}", stacklevel=2)


def release_unused() -> None:
    """Give back what a `fit` that is over still holds."""
    for hold in list(_held):
        if not hold.is_in_use:
            hold.abandon()


def gives_back_on_error(hook: Callable[..., None]) -> Callable[..., None]:
    """Decorate a hook of a callback whose `hold` is given back before an error leaves it."""

    @functools.wraps(hook)
    def guarded(callback: Any, *args: Any, **kwargs: Any) -> None:
        try:
            hook(callback, *args, **kwargs)
        except BaseException:
            if callback.hold is not None:
                callback.hold.abandon()
            raise

    return guarded
