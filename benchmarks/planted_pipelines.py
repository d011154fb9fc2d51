"""Random input pipelines whose work can be taken out stage by stage, for `bench_profiler.py`.

A pipeline reads numbers, may shuffle them, may read nested datasets through `interleave`, may
filter, maps one to three functions that wait or compute, serially or in parallel, and makes
batches; some end and are repeated.
"""

import dataclasses
import random
import time
from collections.abc import Callable

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Stage:
    """Work at one place of a pipeline.

    Args:
        place: "map", "nested map" (in the datasets of an interleave) or "open" (in making them).
        waits: Whether the work waits rather than computes.
        size: Seconds of waiting, or the side of the matrices that are multiplied.
        calls: Parallel calls; None for a serial stage.
    """

    place: str
    waits: bool
    size: float
    calls: int | None

    def work(self, x: tf.Tensor) -> tf.Tensor:
        """Do the work and return `x`."""
        if self.waits:
            (x,) = tf.py_function(lambda x: time.sleep(self.size) or [x], [x], [tf.int64])
            return tf.ensure_shape(x, [])
        side = int(self.size)
        matrix = tf.random.stateless_uniform((side, side), (1, tf.cast(x, tf.int32)))
        return x + tf.cast(0.0 * tf.reduce_sum(matrix @ matrix), tf.int64)


@dataclasses.dataclass(frozen=True)
class Spec:
    """A random pipeline.

    Args:
        stages: Its work; those of an interleave first.
        calls: Parallel calls of the interleave; None for a serial one.
        shuffles: Whether it shuffles.
        filters: Whether half of the numbers are dropped.
        batch_size: Numbers per batch.
        epoch: Numbers until it ends, or None.
    """

    stages: tuple[Stage, ...]
    calls: int | None
    shuffles: bool
    filters: bool
    batch_size: int
    epoch: int | None

    def build(self, without: int | None = None) -> tf.data.Dataset:
        """Return the pipeline, with the work of one stage taken out.

        A stage without work adds nothing, literally: tf.data would drop one that returns its input,
        and with it the thread that the stage has.
        """
        works = [
            _named(number, (lambda x: x + 0) if number == without else stage.work)
            for number, stage in enumerate(self.stages)
        ]
        dataset = tf.data.Dataset.range(10**9 if self.epoch is None else self.epoch)
        if self.shuffles:
            dataset = dataset.shuffle(64, seed=0)
        for stage, work in zip(self.stages, works, strict=True):
            if stage.place == "map":
                dataset = dataset.map(work, num_parallel_calls=stage.calls)
            elif stage.place == "nested map":
                read = _named_reader(lambda _, work=work: tf.data.Dataset.range(8).map(work), work)
                dataset = dataset.interleave(read, cycle_length=4, num_parallel_calls=self.calls)
            else:
                read = _named_reader(
                    lambda x, work=work: tf.data.Dataset.range(work(x), 10**9).take(8), work
                )
                dataset = dataset.interleave(read, cycle_length=4, num_parallel_calls=self.calls)
        if self.filters:
            dataset = dataset.filter(lambda x: x % 2 == 0)
        return dataset.batch(self.batch_size)


def _named(number: int, function: Callable) -> Callable:
    def work(x):
        return function(x)

    work.__name__ = f"work_{number}"
    return work


def _named_reader(reader: Callable, work: Callable) -> Callable:
    reader.__name__ = work.__name__
    return reader


def draw(seed: int) -> Spec:
    """Return the pipeline of a seed."""
    rng = random.Random(seed)

    def stage(place: str) -> Stage:
        waits = rng.random() < 0.6
        size = 10 ** rng.uniform(-3.3, -2.0) if waits else 10 ** rng.uniform(1.7, 2.7)
        return Stage(place, waits, size, rng.choice([None, None, 2, 4]))

    places = rng.choice([[], [], ["nested map"], ["open"]]) + ["map"] * rng.randint(1, 3)
    return Spec(
        stages=tuple(map(stage, places)),
        calls=rng.choice([None, 2, 4]),
        shuffles=rng.random() < 0.5,
        filters=rng.random() < 0.3,
        batch_size=rng.choice([1, 2, 8]),
        epoch=rng.choice([None, 200]),
    )
