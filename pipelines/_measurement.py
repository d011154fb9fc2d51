"""Running a pipeline for a while and noting what it does."""

import dataclasses
import inspect
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

from pipelines._stage_chain import CallSites
from pipelines._stage_times import ModelReader, StageTimes

_WARM_SECONDS = 1.0
_WARM_ELEMENTS = 3
_CALIBRATION_SECONDS = 0.05


class NoPipelineError(TypeError):
    """What was given is no pipeline; an error inside of the function that makes one is another."""


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What was observed while a pipeline ran.

    Args:
        stages: What every stage did, the last one first.
        elements: Elements taken.
        seconds: Time that passed.
        processor_seconds: Processor time of this process, without that of reading the model.
        others_cores: Cores that other programs kept busy.
        consumer_seconds: Time of taking one element that is ready.
        reading_seconds: Processor time of reading the model.
    """

    stages: list[StageTimes]
    elements: int
    seconds: float
    processor_seconds: float
    others_cores: float
    consumer_seconds: float
    reading_seconds: float

    @property
    def rate(self) -> float:
        """Elements per second."""
        return self.elements / self.seconds


def make_dataset(
    pipeline: tf.data.Dataset | Callable[[], tf.data.Dataset],
) -> tuple[tf.data.Dataset, CallSites]:
    """Return the dataset, and the lines of code that made it where a function was given."""
    sites = CallSites()
    made = pipeline
    if callable(pipeline) and not isinstance(pipeline, tf.data.Dataset):
        _check_needs_nothing(pipeline)
        with sites:
            made = pipeline()
    if not isinstance(made, tf.data.Dataset):
        what = "a function that returned" if made is not pipeline else "an object of type"
        raise NoPipelineError(
            "`pipeline` must be a `tf.data.Dataset` or a function without arguments that returns "
            f"one. Received {what} {type(made).__name__}."
        )
    return made, sites


def _check_needs_nothing(pipeline: Callable[..., Any]) -> None:
    try:
        parameters = inspect.signature(pipeline).parameters.values()
    except ValueError:
        return  # Some functions in C do not say what they need; the call will.
    needed = [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if needed:
        raise NoPipelineError(
            "`pipeline` must be a `tf.data.Dataset` or a function without arguments that returns "
            f"one. Received a function that needs {', '.join(map(repr, needed))}. Give it those: "
            "`lambda: make(...)`."
        )


def measure(dataset: tf.data.Dataset, *, seconds: float) -> Measurement:
    """Run `dataset` as fast as it goes and return what was observed.

    Raises:
        ValueError: If it is empty, or if its autotuning is off.
    """
    endless = dataset.cardinality() == tf.data.INFINITE_CARDINALITY
    iterator = iter(dataset if endless else dataset.repeat())
    warm_from, element, count = time.perf_counter(), None, 0
    try:
        while count < _WARM_ELEMENTS or time.perf_counter() - warm_from < _WARM_SECONDS:
            element = next(iterator)
            count += 1
    except StopIteration:
        raise ValueError("`pipeline` must have elements. Received an empty dataset.") from None
    consumer_seconds = _consumer_seconds(element)
    reader = ModelReader(iterator)
    reader.start()
    busy, processor, start = busy_seconds(), time.process_time(), time.perf_counter()
    count = 0
    while not count or time.perf_counter() - start < seconds:
        next(iterator)
        count += 1
    wall = time.perf_counter() - start
    processor = time.process_time() - processor
    others = 0.0 if busy is None else max((busy_seconds() or 0.0) - busy - processor, 0.0)
    stages = [stage for stage in reader.stop() if stage.name != "Root"]
    return Measurement(
        stages=stages,
        elements=count,
        seconds=wall,
        processor_seconds=processor - reader.reading_seconds,
        others_cores=others / wall,
        consumer_seconds=consumer_seconds,
        reading_seconds=reader.reading_seconds,
    )


def _consumer_seconds(element: Any) -> float:
    """Return the time in which a Python program takes an element that is ready."""
    ready = iter(tf.data.Dataset.from_tensors(element).repeat())
    next(ready)
    times: list[float] = []
    start = now = time.perf_counter()
    while now - start < _CALIBRATION_SECONDS or not times:
        next(ready)
        before, now = now, time.perf_counter()
        times.append(now - before)
    return statistics.median(times)


def busy_seconds() -> float | None:
    """Return the processor time of all programs since the start of the machine, on Linux."""
    try:
        words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return None
    user, nice, system, _, _, interrupt, soft_interrupt = map(int, words[:7])
    return (user + nice + system + interrupt + soft_interrupt) / os.sysconf("SC_CLK_TCK")


def pool_size(dataset: tf.data.Dataset) -> float:
    """Return the number of threads that run the functions of its stages."""
    private = dataset.options().threading.private_threadpool_size
    return float(private or tf.config.threading.get_inter_op_parallelism_threads() or count_cores())


def count_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
