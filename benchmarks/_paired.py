"""Measuring side by side on a machine that is busy: turns, paired differences, their interval."""

import dataclasses
import math
import random
import statistics
import threading
import time
from collections.abc import Callable, Sequence

CLOCKS = {"wall": time.perf_counter, "CPU": time.process_time}


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A median, and the interval that holds the true one in about 95 of 100 measurements."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:+.1%} [{self.low:+.1%}, {self.high:+.1%}]"

    def verdict(self, goal: float) -> str:
        """Say whether the value is at most `goal`: met, missed, or open where both may be."""
        if self.high <= goal:
            return "met"
        return "missed" if self.low > goal else "open"


def median(values: Sequence[float]) -> Estimate:
    """Return the median with its interval by order statistics, which assumes no distribution.

    The number of values below the true median is binomial (n, 1/2). With fewer than 6 values the
    interval is all of them, and holds the true median less often.
    """
    ordered = sorted(values)
    rank = max(0, math.floor((len(ordered) - 1.96 * math.sqrt(len(ordered))) / 2.0))
    return Estimate(statistics.median(ordered), ordered[rank], ordered[-1 - rank])


class Turns:
    """Lets `count` threads run one after the other, in a new random order in each round."""

    def __init__(self, count: int):
        self._random = random.Random(0)
        self._all = list(range(count))
        self._waiting: list[int] = []
        self._changed = threading.Condition()
        self._next()

    def _next(self) -> None:
        if not self._waiting:
            self._waiting = self._random.sample(self._all, len(self._all))
        self._now = self._waiting.pop()

    def wait(self, index: int) -> None:
        """Return when it is the turn of thread `index`."""
        with self._changed:
            self._changed.wait_for(lambda: self._now == index)

    def end(self) -> None:
        """Let the next thread run."""
        with self._changed:
            self._next()
            self._changed.notify_all()


def make_clock(order: Turns, index: int, turn_steps: int):
    """Return a callback that takes turns of so many steps and times them, but not the first one."""
    import keras

    class Clock(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self._done = 0
            self._start: list[float] = []
            self.turns: dict[str, list[float]] = {name: [] for name in CLOCKS}

        def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
            if self._done % turn_steps == 0:
                order.wait(index)
                self._start = [clock() for clock in CLOCKS.values()]

        def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
            self._done += self.model.steps_per_execution
            if self._done % turn_steps:
                return
            float(logs["loss"])  # the device may still be at work on the last step
            ends = [clock() for clock in CLOCKS.values()]
            if self._done > turn_steps:
                for name, start, end in zip(CLOCKS, self._start, ends, strict=True):
                    self.turns[name].append(1000.0 * (end - start) / turn_steps)
            order.end()

    return Clock()


def run_together(fits: Sequence[Callable[[], object]]) -> None:
    """Run each in a thread of its own until all have ended."""
    threads = [threading.Thread(target=fit) for fit in fits]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
