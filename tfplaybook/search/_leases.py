"""`Leases`: which workers of a search are alive, told from when they were last heard."""

import time
from collections.abc import Callable


class Leases:
    """Remember when each worker was heard; one that is silent for too long has lost its trial.

    >>> now = iter([0.0, 5.0, 12.0])
    >>> leases = Leases(10.0, clock=lambda: next(now))
    >>> leases.hear("worker0")
    >>> leases.hear("worker1")
    >>> leases.silent()
    ['worker0']

    Args:
        seconds: How long a worker may be silent, above 0.
        clock: Returns the time in seconds; it never goes back.
    """

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic):
        self.seconds = seconds
        self._clock = clock
        self._heard: dict[str, float] = {}

    def hear(self, tuner_id: str) -> None:
        """Note that a worker is alive."""
        self._heard[tuner_id] = self._clock()

    def forget(self, tuner_id: str) -> None:
        """Expect nothing of a worker any more."""
        self._heard.pop(tuner_id, None)

    def silent(self) -> list[str]:
        """Return the workers that have been silent for longer than a lease."""
        now = self._clock()
        return [tuner for tuner, heard in self._heard.items() if now - heard > self.seconds]
