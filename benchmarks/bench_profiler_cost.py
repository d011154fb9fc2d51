"""What looking costs: the throughput lost to `pipelines.profile` and to `InputMonitor`.

    python benchmarks/bench_profiler_cost.py [--quick] [--turns N]

While a pipeline is profiled, a thread reads tf.data's model of it; the pipeline computes on all
cores, so that whatever the reading takes is missing. `InputMonitor` is put into a `fit` of some
seconds, its first trace included, which it takes however short the training is.

Each turn runs without, with, and without; the loss is that of the rate with over the mean of the
two without, and the A/A control is that of one of these two over the other. Rates are per second,
and per second of processor time, which other programs disturb less. Medians over the turns come
with their 95% interval; the goal of 2% is met or missed where the whole interval is, and otherwise
open: take more turns.
"""

import argparse
import os
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from _paired import CLOCKS, Estimate, median

import tfplaybook as pb
from pipelines._stage_times import ModelReader

_GOAL = 0.02
_SIDE = 60
# Two steps compile and fill buffers; the first trace begins after them.
_WARM_STEPS = 2

Rates = dict[str, float]  # elements per second by each clock


def read_rate(seconds: float, *, watched: bool) -> Rates:
    """Return the rates of a pipeline whose model is read, or not."""

    def multiply(x: tf.Tensor) -> tf.Tensor:
        matrix = tf.random.stateless_uniform((_SIDE, _SIDE), (1, tf.cast(x, tf.int32)))
        return tf.reduce_sum(matrix @ matrix)

    dataset = tf.data.Dataset.range(10**9).map(multiply, num_parallel_calls=tf.data.AUTOTUNE)
    iterator = iter(dataset.batch(8))
    warm = time.perf_counter()
    while time.perf_counter() - warm < 0.3 * seconds:
        next(iterator)
    reader = ModelReader(iterator)
    if watched:
        reader.start()
    starts, count = _now(), 0
    while time.perf_counter() - starts["wall"] < seconds:
        next(iterator)
        count += 1
    found = _rates(count, starts)
    if watched:
        reader.stop()
    return found


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


def losses(
    rates: Callable[..., Rates], seconds: float, turns: int
) -> dict[str, tuple[Estimate, Estimate]]:
    """Return for each clock the loss of rate by looking, and the control."""
    found: dict[str, list[float]] = {name: [] for name in CLOCKS}
    controls: dict[str, list[float]] = {name: [] for name in CLOCKS}
    for turn in range(turns):
        # Once before and once after, so that a drift of the machine cancels out.
        first, watched, last = (rates(seconds, watched=look) for look in (False, True, False))
        for name in CLOCKS:
            found[name].append(1.0 - 2.0 * watched[name] / (first[name] + last[name]))
            controls[name].append((1.0 - first[name] / last[name]) * (-1) ** turn)
    return {name: (median(found[name]), median(controls[name])) for name in CLOCKS}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="2 short turns")
    parser.add_argument("--turns", type=int, default=7, help="turns of each measurement")
    parser.add_argument("--only", choices=["profile", "InputMonitor"], help="one of the two")
    options = parser.parse_args()
    turns = 2 if options.quick else options.turns
    for name, rates, seconds in (
        ("profile", read_rate, 1.0 if options.quick else 3.0),
        ("InputMonitor", fit_rate, 2.0 if options.quick else 10.0),
    ):
        if options.only in (None, name):
            for clock, (loss, control) in losses(rates, seconds, turns).items():
                print(
                    f"{name:<14} {clock:<5} loss {loss}, control {control}   "
                    f"(goal: at most {_GOAL:.0%}: {loss.verdict(_GOAL)})",
                    flush=True,
                )


if __name__ == "__main__":
    main()
