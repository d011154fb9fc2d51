"""How often `pipelines.profile` is right, on random pipelines whose truth is found by ablation.

    python benchmarks/bench_profiler.py              # 100 held-out pipelines, an hour
    python benchmarks/bench_profiler.py --quick      # 6 pipelines, some minutes
    python benchmarks/bench_profiler.py --tuning     # other seeds, on which changes may be judged

A pipeline reads numbers, may shuffle them, may read nested datasets through `interleave`, may
filter, maps one to three functions that wait or compute, serially or in parallel, and makes
batches; some end and are repeated. The truth: each work is taken out in turn, and the stage whose
absence makes the pipeline fastest is the bottleneck. Stages within 10% of the best absence count as
right too. A pipeline that no absence makes faster by 10% has no single bottleneck and is counted
apart.

The error of the rate is that of the model's prediction, of the gain that of the best remedy's
prediction over what it brings when it is applied. Overhead is the rate with the model being read
over the rate without; its control is the rate without over the rate without.
"""

import argparse
import dataclasses
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from pipelines import _optimize
from pipelines._measurement import make_dataset
from pipelines._profile import profile_dataset
from pipelines._stage_times import ModelReader

_HELD_OUT, _TUNING = 1_000_000, 0
_ALIKE = 0.9
_FASTER = 1.1


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
        """Return the pipeline, with the work of one stage taken out."""
        works = [
            _named(number, (lambda x: x) if number == without else stage.work)
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


@dataclasses.dataclass(frozen=True)
class Result:
    """What was found about one pipeline; None where it does not apply."""

    knows: bool
    single: bool
    right: bool
    named: str
    truth: tuple[str, ...]
    rate_error: float
    gain_error: float | None


def judge(seed: int, seconds: float) -> Result:
    """Compare the profile of a random pipeline with its truth."""
    spec = draw(seed)
    dataset, sites = make_dataset(spec.build)
    found = profile_dataset(dataset, sites, seconds=seconds)
    rate = _optimize.measure_rate(spec.build(), seconds)
    without = [
        _optimize.measure_rate(spec.build(number), seconds) for number in range(len(spec.stages))
    ]
    truth = {f"work_{n}" for n, each in enumerate(without) if each >= _ALIKE * max(without)}
    single = max(without) > _FASTER * rate
    named = found.bottleneck and found.bottleneck.stage
    # A stage of nested datasets is named by the interleave that reads them.
    label = "" if not named else named.name if named.link is None else named.link.label
    gain_error = None
    if found.remedies:
        gain_error = _gain_error(dataset, found, sites, seconds)
    return Result(
        knows=found.bottleneck is not None,
        single=single,
        right=any(name in label for name in truth),
        named=label if found.bottleneck is None else f"{label}: {found.bottleneck.kind}",
        truth=tuple(sorted(truth)),
        rate_error=abs(found.model_rate - found.rate) / found.rate,
        gain_error=gain_error,
    )


def _gain_error(dataset, found, sites, seconds: float) -> float | None:
    try:
        changed = _optimize.apply(dataset, found, found.remedies[0], sites)
    except ValueError:
        return None
    ratios = []
    for _ in range(2):
        before = _optimize.measure_rate(dataset, seconds)
        ratios.append(_optimize.measure_rate(changed, seconds) / before)
    gain = statistics.median(ratios)
    return abs(found.remedies[0].predicted_gain - gain) / gain


def overhead(seconds: float, turns: int) -> tuple[float, float]:
    """Return the medians of the loss of rate by reading the model, and of the control."""
    dataset = tf.data.Dataset.range(10**9).map(Stage("map", False, 60, None).work).batch(8)

    def rate(*, read: bool) -> float:
        iterator = iter(dataset)
        next(iterator)
        reader = ModelReader(iterator)
        if read:
            reader.start()
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            next(iterator)
            count += 1
        found = count / (time.perf_counter() - start)
        if read:
            reader.stop()
        return found

    losses, controls = [], []
    for turn in range(turns):
        # The plain rate once before and once after, so that a drift of the machine cancels out.
        first, reading, last = rate(read=False), rate(read=True), rate(read=False)
        losses.append(1.0 - 2.0 * reading / (first + last))
        controls.append((1.0 - first / last) * (-1) ** turn)
    return statistics.median(losses), statistics.median(controls)


def _shares(values: Sequence[float]) -> str:
    ordered = sorted(values)
    if not ordered:
        return "none measured"
    p90 = ordered[min(len(ordered) - 1, round(0.9 * (len(ordered) - 1)))]
    return f"median {statistics.median(ordered):.0%}, p90 {p90:.0%} (of {len(ordered)})"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description="How often the profiler is right.")
    parser.add_argument("--quick", action="store_true", help="few pipelines, short measurements")
    parser.add_argument("--tuning", action="store_true", help="seeds that changes are judged on")
    parser.add_argument("--pipelines", type=int, help="how many; default 100, quick 6")
    options = parser.parse_args()
    count = options.pipelines or (6 if options.quick else 100)
    seconds = 0.7 if options.quick else 3.0
    first = _TUNING if options.tuning else _HELD_OUT
    results = []
    for seed in range(first, first + count):
        results.append(judge(seed, seconds))
        print(f"seed {seed}: {results[-1]}", flush=True)
    known = [result for result in results if result.knows]
    single = [result for result in known if result.single]
    right = sum(result.right for result in single)
    print(f"\npipelines                {count} {'tuning' if options.tuning else 'held-out'} seeds")
    print(f"does not know            {1 - len(known) / count:.0%}   (goal: at most 10%)")
    print(f"bottleneck right         {right} of {len(single)}   (goal: at least 95%)")
    print(f"no single bottleneck     {len(known) - len(single)} of {len(known)}")
    print(f"error of the rate        {_shares([r.rate_error for r in known])}   (goal: 10%, 20%)")
    gains = [r.gain_error for r in known if r.gain_error is not None]
    print(f"error of the gain        {_shares(gains)}   (goal: 15%)")
    loss, control = overhead(seconds, 3 if options.quick else 9)
    print(f"overhead                 {loss:.1%}, control {control:.1%}   (goal: at most 2%)")


if __name__ == "__main__":
    main()
