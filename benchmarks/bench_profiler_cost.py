"""What looking costs: the throughput lost to `pipelines.profile` and to `InputMonitor`.

    python benchmarks/bench_profiler_cost.py [--quick] [--turns N]

While a pipeline is profiled, a thread reads tf.data's model of it; the pipeline computes on all
cores, so that whatever the reading takes is missing. `InputMonitor` is put into a `fit` of some
seconds, its first trace included, which it takes however short the training is.

Each turn of the pipeline is four windows of half a second of one iterator, two with and two
without; each turn of the training is three, without, with, and without. The loss is that of the
mean rate with over the mean rate without, and the A/A control is that between two that are alike.
Rates are per second, and per second of processor time, which other programs disturb less. Medians
over the turns come with their 95% interval; the goal of 2% is met or missed where the whole
interval is, and otherwise open: take more turns.
"""

import argparse
import os
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from _paired import CLOCKS, median

import tfplaybook as pb
from pipelines._stage_times import ModelReader

_GOAL = 0.02
_SIDE = 60
# Two steps compile and fill buffers; the first trace begins after them.
_WARM_STEPS = 2

_WINDOW_SECONDS = 0.5

Rates = dict[str, float]  # elements per second by each clock
Found = dict[str, tuple[list[float], list[float]]]  # losses and controls by each clock


def reading_losses(turns: int) -> Found:
    """Return the losses of a running pipeline whose model is read now and then, and the controls.

    Reading is switched on and off while one iterator runs, off-on-on-off and on-off-off-on in
    turn, in windows so short that a drift of the machine is the same for neighbours.
    """

    def multiply(x: tf.Tensor) -> tf.Tensor:
        matrix = tf.random.stateless_uniform((_SIDE, _SIDE), (1, tf.cast(x, tf.int32)))
        return tf.reduce_sum(matrix @ matrix)

    dataset = tf.data.Dataset.range(10**9).map(multiply, num_parallel_calls=tf.data.AUTOTUNE)
    iterator = iter(dataset.batch(8))

    def rate(*, watched: bool) -> Rates:
        reader = ModelReader(iterator)  # reads once, in windows of both kinds
        if watched:
            reader.start()
        starts, count = _now(), 0
        while time.perf_counter() - starts["wall"] < _WINDOW_SECONDS:
            next(iterator)
            count += 1
        found = _rates(count, starts)
        if watched:
            reader.stop()
        return found

    for _ in range(8):
        rate(watched=False)  # tf.data tunes itself
    losses: Found = {name: ([], []) for name in CLOCKS}
    for turn in range(turns):
        order = (False, True, True, False) if turn % 2 == 0 else (True, False, False, True)
        rates = [rate(watched=watched) for watched in order]
        for name, (found, controls) in losses.items():
            first, second, third, last = (each[name] for each in rates)
            outer, inner = (first + last) / 2.0, (second + third) / 2.0
            with_reading, without = (outer, inner) if order[0] else (inner, outer)
            found.append(1.0 - with_reading / without)
            # Of the two neighbours that are alike, in an order that alternates as well.
            controls.append((1.0 - second / third) * (-1) ** (turn // 2))
    return losses


def _now() -> Rates:
    return {name: clock() for name, clock in CLOCKS.items()}


def _rates(count: int, starts: Rates) -> Rates:
    return {name: count / (end - starts[name]) for name, end in _now().items()}


class _Clock(keras.callbacks.Callback):
    """Counts steps for so many seconds and ends the training."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        if batch == _WARM_STEPS:
            self._starts = _now()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if batch <= _WARM_STEPS:
            return
        if time.perf_counter() - self._starts["wall"] > self._seconds:
            self.rates = _rates(batch + 1 - _WARM_STEPS, self._starts)
            self.model.stop_training = True


def fit_rate(seconds: float, *, watched: bool) -> Rates:
    """Return the rates in steps of a training with `InputMonitor`, or without."""
    keras.utils.set_random_seed(0)
    images = np.random.default_rng(0).random((256, 16, 16, 1), "float32")
    dataset = tf.data.Dataset.from_tensor_slices((images, np.arange(256) % 10)).repeat().batch(32)
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((16, 16, 1)), layers.Conv2D(8, 3), layers.Flatten(), layers.Dense(10)]
    )
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    clock = _Clock(seconds)
    monitors = [pb.callbacks.InputMonitor()] if watched else []
    # The clock comes first, so that a trace begins and ends while it runs.
    callbacks = [clock, *monitors]
    model.fit(dataset, steps_per_epoch=10**9, verbose=0, shuffle=False, callbacks=callbacks)
    return clock.rates


def monitor_losses(seconds: float, turns: int) -> Found:
    """Return the losses of trainings with `InputMonitor`, and the controls."""
    losses: Found = {name: ([], []) for name in CLOCKS}
    for turn in range(turns):
        # Once before and once after, so that a drift of the machine cancels out.
        first, watched, last = (fit_rate(seconds, watched=look) for look in (False, True, False))
        for name, (found, controls) in losses.items():
            found.append(1.0 - 2.0 * watched[name] / (first[name] + last[name]))
            controls.append((1.0 - first[name] / last[name]) * (-1) ** turn)
    return losses


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="2 short turns")
    parser.add_argument("--turns", type=int, help="turns: of `profile` 60, of `InputMonitor` 7")
    parser.add_argument("--only", choices=["profile", "InputMonitor"], help="one of the two")
    options = parser.parse_args()
    seconds = 2.0 if options.quick else 10.0
    measurements: dict[str, tuple[Callable[[int], Found], int]] = {
        "profile": (reading_losses, 60),
        "InputMonitor": (lambda turns: monitor_losses(seconds, turns), 7),
    }
    for name, (measure, turns) in measurements.items():
        if options.only not in (None, name):
            continue
        found = measure(options.turns or (2 if options.quick else turns))
        for clock, (losses, controls) in found.items():
            loss = median(losses)
            print(
                f"{name:<14} {clock:<5} loss {loss}, control {median(controls)}   "
                f"(goal: at most {_GOAL:.0%}: {loss.verdict(_GOAL)})",
                flush=True,
            )


if __name__ == "__main__":
    main()
