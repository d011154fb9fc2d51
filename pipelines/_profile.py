"""Where the time of an input pipeline goes, what limits it, and what a change would bring."""

import dataclasses
import os
import statistics
import time
from collections.abc import Callable, Iterable
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import tensorflow as tf

from pipelines._limits import CONSUMER, SERIAL_STAGE, WAITING, Limit, Machine, Work, find_limits
from pipelines._map import STATEFUL_OPS
from pipelines._pipeline_profile import Bottleneck, PipelineProfile, StageProfile
from pipelines._remedies import Candidate, advise, find_remedies
from pipelines._stage_chain import CallSites, Link, links
from pipelines._stage_times import ModelReader, StageTimes
from pipelines._step_cost import compare_steps

PYTHON_OPS = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc"})

# tf.data's optimizer makes one iterator of two stages.
_FUSED = {"MapAndBatch": ("Batch", "Map"), "ShuffleAndRepeat": ("Repeat", "Shuffle")}
_POOLED = frozenset({"Map", "Filter", "MapAndBatch"})
_WARM_SECONDS = 1.0
_WARM_ELEMENTS = 3
_CALIBRATION_SECONDS = 0.05
# Model and observation may differ by this factor; beyond, nothing is known.
_AGREEMENT = 1.5


def profile(
    pipeline: tf.data.Dataset | Callable[[], tf.data.Dataset],
    *,
    seconds: float = 3.0,
    step_fn: Callable[[Any], Any] | None = None,
    variables: Iterable[Any] | None = None,
) -> PipelineProfile:
    """Measure a `tf.data` pipeline as it runs, and say what limits it (I9).

    The pipeline is run with its own options, with nothing left out or changed, as fast as it goes,
    and repeated where it ends. tf.data's model of the running iterator says how long each stage
    itself has worked; the smallest of the bounds

        1 / (time of the stages of a thread),   parallelism / (time of a parallel stage),
        pool size / (time of all functions),    cores / (processor time),

    with times per element of the pipeline, is the rate that the model predicts, and its stage is
    the bottleneck. Where the prediction and the observed rate differ by more than a factor of 1.5
    the profile says that it does not know. What a change would bring is the ratio of the smallest
    bound after it to the smallest now.

    Args:
        pipeline: Any `tf.data.Dataset`, or better a function without arguments that makes one.
            With a function every stage is shown with its line of code, and the order of a shuffle
            that you train with is not advanced.
        seconds: Time to measure, above 0; one more second goes by before, while tf.data tunes
            itself.
        step_fn: One training step, a function of one element such as
            `lambda batch: model.train_on_batch(*batch)`. Asks as well whether *training* waits for
            its input: real steps are compared with the same steps on one batch that is kept.
            Everything that the steps change is put back.
        variables: The variables that `step_fn` changes. By default those of the models, optimizers
            and variables that it refers to.

    Returns:
        A `PipelineProfile`; `str()` of it is a table.

    Raises:
        TypeError: If `pipeline` is no dataset and no function that returns one.
        ValueError: If it has no elements, if its autotuning is off, if `seconds` is not above 0,
            or if `step_fn` changes variables that cannot be put back.

    Examples:
        >>> import pipelines, tensorflow as tf
        >>> def squares():
        ...     return tf.data.Dataset.range(1000).map(lambda x: x * x).batch(10)
        >>> found = pipelines.profile(squares, seconds=0.2)
        >>> found.rate > 0, [stage.name for stage in found.stages][:2]
        (True, ['range', 'map <lambda>'])

    Source: playbook I9, A3.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
        raise ValueError(f"`seconds` must be a number above 0. Received: {seconds!r}.")
    dataset, sites = make_dataset(pipeline)
    found = profile_dataset(dataset, sites, seconds=seconds)
    if step_fn is None:
        return found
    training = compare_steps(dataset, step_fn, seconds=seconds, variables=variables)
    return dataclasses.replace(found, training=training)


def profile_dataset(
    dataset: tf.data.Dataset, sites: CallSites, *, seconds: float
) -> PipelineProfile:
    """Return the profile of a dataset whose lines of code are known."""
    return _judge(_measure(dataset, seconds), links(dataset, sites), _pool_size(dataset))


def make_dataset(
    pipeline: tf.data.Dataset | Callable[[], tf.data.Dataset],
) -> tuple[tf.data.Dataset, CallSites]:
    """Return the dataset, and the lines of code that made it where a function was given."""
    sites = CallSites()
    made = pipeline
    if callable(pipeline) and not isinstance(pipeline, tf.data.Dataset):
        with sites:
            made = pipeline()
    if not isinstance(made, tf.data.Dataset):
        what = "a function that returned" if made is not pipeline else "an object of type"
        raise TypeError(
            "`pipeline` must be a `tf.data.Dataset` or a function without arguments that returns "
            f"one. Received {what} {type(made).__name__}."
        )
    return made, sites


class _Measured:
    """What was observed while the pipeline ran.

    Args:
        stages: What every stage did.
        elements: Elements taken.
        seconds: Time that passed.
        processor_seconds: Processor time of this process.
        others_cores: Cores that other programs kept busy.
        consumer_seconds: Time of taking one element that is ready.
        reading_seconds: Time of reading the model.
    """

    def __init__(
        self,
        stages: list[StageTimes],
        elements: int,
        seconds: float,
        processor_seconds: float,
        others_cores: float,
        consumer_seconds: float,
        reading_seconds: float,
    ) -> None:
        self.stages = stages
        self.elements = elements
        self.seconds = seconds
        self.processor_seconds = processor_seconds
        self.others_cores = others_cores
        self.consumer_seconds = consumer_seconds
        self.reading_seconds = reading_seconds


def _measure(dataset: tf.data.Dataset, seconds: float) -> _Measured:
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
    busy, processor, start = _busy_cores_seconds(), time.process_time(), time.perf_counter()
    count = 0
    while not count or time.perf_counter() - start < seconds:
        next(iterator)
        count += 1
    wall = time.perf_counter() - start
    processor = time.process_time() - processor
    others = 0.0 if busy is None else max((_busy_cores_seconds() or 0.0) - busy - processor, 0.0)
    stages = [stage for stage in reader.stop() if stage.name != "Root"]
    return _Measured(
        stages, count, wall, processor, others / wall, consumer_seconds, reader.reading_seconds
    )


def _consumer_seconds(element: Any) -> float:
    """Return the time in which a Python program takes an element that is ready."""
    ready = iter(tf.data.Dataset.from_tensors(element).repeat())
    next(ready)
    times = []
    start = now = time.perf_counter()
    while now - start < _CALIBRATION_SECONDS or not times:
        next(ready)
        before, now = now, time.perf_counter()
        times.append(now - before)
    return statistics.median(times)


def _busy_cores_seconds() -> float | None:
    """Return the processor time of all programs since the start of the machine, on Linux."""
    try:
        words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return None
    user, nice, system, _, _, interrupt, soft_interrupt = map(int, words[:7])
    return (user + nice + system + interrupt + soft_interrupt) / os.sysconf("SC_CLK_TCK")


def _pool_size(dataset: tf.data.Dataset) -> float:
    private = dataset.options().threading.private_threadpool_size
    return float(private or tf.config.threading.get_inter_op_parallelism_threads() or _cores())


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _judge(measured: _Measured, written: list[Link], pool: float) -> PipelineProfile:
    count = len(measured.stages)
    matched = match(measured.stages, written)
    rate = measured.elements / measured.seconds
    processor = measured.processor_seconds / measured.elements
    cores = _cores()
    # Other programs would give way to some extent.
    free = max(cores - measured.others_cores, cores / 2)
    explanations = []
    for opens_in_turn in (False, True):
        works, workers = make_works(measured, opens_in_turn=opens_in_turn)
        machine = Machine(cores=free, pool=pool, workers=workers)
        limits = find_limits(works, machine, processor_seconds=processor)
        explanations.append((_ratio(limits, rate), opens_in_turn, works, machine, limits))
    ratio, _, works, machine, limits = min(explanations, key=lambda found: found[:2])
    stages = [
        _stage_profile(stage, matched[number], work, measured)
        for number, (stage, work) in enumerate(zip(measured.stages, works[:count], strict=True))
    ][::-1]
    candidates = [
        _candidate(count - 1 - place, stage, matched, works, measured, processor)
        for place, stage in enumerate(stages)
    ]
    remedies = find_remedies(candidates, works, machine, processor_seconds=processor)
    model_rate = min(limit.rate for limit in limits)
    unseen = any(stage.unseen for stage in measured.stages)
    reason = ""
    if ratio > _AGREEMENT:
        reason = (
            f"the model predicts {model_rate:.3g} elements/s and {rate:.3g} were observed, more "
            f"than a factor of {_AGREEMENT} apart"
        )
        if unseen:
            reason += "; a stage makes iterators that end too soon to be measured"
    bottleneck = None if reason else _bottleneck(limits[0], stages, works, processor, remedies)
    second = min((limit.rate for limit in limits[1:]), default=float("inf"))
    sure = ratio < 1.2 and not unseen and (second > 1.1 * limits[0].rate or bool(remedies))
    return PipelineProfile(
        rate=rate,
        elements=measured.elements,
        seconds=measured.seconds,
        model_rate=model_rate,
        stages=tuple(stages),
        bottleneck=bottleneck,
        remedies=() if reason else tuple(remedies),
        confidence="none" if reason else "high" if sure else "low",
        reason=reason,
        processor_use=measured.processor_seconds / measured.seconds / cores,
        others_use=measured.others_cores / cores,
        pool_size=int(pool),
        reading_fraction=measured.reading_seconds / measured.seconds,
    )


def _ratio(limits: list[Limit], rate: float) -> float:
    predicted = min(limit.rate for limit in limits)
    return max(predicted / rate, rate / predicted)


def match(stages: list[StageTimes], written: list[Link]) -> list[Link | None]:
    """Return for every measured stage the one that was written; tf.data adds and fuses some."""
    tokens, owners = [], []
    for number, stage in enumerate(stages):
        for kind in () if stage.nested else _FUSED.get(stage.name, (stage.kind,)):
            tokens.append(kind)
            owners.append(number)
    found: list[Link | None] = [None] * len(stages)
    kinds = [link.kind for link in written]
    for block in SequenceMatcher(None, tokens, kinds, autojunk=False).get_matching_blocks():
        for offset in range(block.size):
            # Of two fused stages the later in this order, the earlier in the pipeline: the map.
            found[owners[block.a + offset]] = written[block.b + offset]
    above: Link | None = None
    for number, stage in enumerate(stages):
        if not stage.nested and stage.kind in ("Interleave", "FlatMap"):
            above = found[number]
        elif stage.nested:
            found[number] = above
    return found


def make_works(measured: _Measured, *, opens_in_turn: bool) -> tuple[list[Work], dict[int, float]]:
    """Return the work of each stage for one element, and the threads with several workers.

    Args:
        measured: What was observed.
        opens_in_turn: Whether a parallel interleave spends its own time in one thread, as it does
            when its function is slow, and not in waiting for the pool in its workers.
    """
    stages = measured.stages
    threads: dict[tuple[str, ...], int] = {(): 0}
    workers: dict[int, float] = {}
    parallel = {stage.path: stage for stage in stages if stage.name.startswith("Parallel")}
    works = []
    for number, stage in enumerate(stages):
        is_interleave = stage.kind == "Interleave" and stage.path in parallel
        reads = _thread_of(stage.path)
        if is_interleave:
            reads = stage.path if opens_in_turn else (*stage.path, "each")
        thread = threads.setdefault(reads, len(threads))
        if reads[-1:] == ("each",) and reads[:-1] in parallel:
            workers[thread] = parallel[reads[:-1]].parallelism or 1.0
        # Its time is part of what `_consumer_seconds` measures.
        handed_over = not reads and stage.name == "Prefetch"
        works.append(
            Work(
                stage=len(stages) - 1 - number,
                seconds=0.0 if handed_over else stage.seconds / measured.elements,
                thread=thread,
                parallelism=None if is_interleave else _parallelism(stage, measured.seconds),
                in_pool=stage.kind in _POOLED
                or (stage.kind == "Batch" and stage.parallelism is not None),
            )
        )
    works.append(Work(-1, measured.consumer_seconds, thread=0, consumer=True))
    return works, workers


def _parallelism(stage: StageTimes, seconds: float) -> float | None:
    """Return how many calls run at once; as many as have run on average, if those are more."""
    ran = stage.seconds / seconds
    if stage.parallelism is None or ran <= 1.1 * stage.parallelism:
        return stage.parallelism
    return ran


def _thread_of(path: tuple[str, ...]) -> tuple[str, ...]:
    """Return the path of the stage whose thread runs the stage at `path`; () for the caller's."""
    thread: tuple[str, ...] = ()
    for length in range(1, len(path)):
        name = path[length - 1]
        if name.startswith("Parallel") or name in ("MapAndBatch", "Prefetch"):
            thread = (*path[:length], "each") if path[length] == "each" else path[:length]
    return thread


def _stage_profile(
    stage: StageTimes, link: Link | None, work: Work, measured: _Measured
) -> StageProfile:
    name = stage.kind.lower() if link is None or stage.nested else link.label
    if stage.name == "MapAndBatch":
        name += ", batch"
    if stage.nested:
        name = f"each: {name}"
    return StageProfile(
        name=name,
        kind=stage.name,
        source=None if link is None else link.source,
        elements=round(stage.elements),
        seconds_per_element=stage.seconds / max(stage.elements, 1.0),
        seconds_per_output=work.seconds,
        bytes_per_element=stage.num_bytes / max(stage.elements, 1.0),
        parallelism=stage.parallelism or 1.0,
        tuned=stage.tuned,
        added=link is None,
        link=link,
    )


def _candidate(
    number: int,
    stage: StageProfile,
    matched: list[Link | None],
    works: list[Work],
    measured: _Measured,
    processor: float,
) -> Candidate:
    times, link = measured.stages[number], matched[number]
    waits = _waiting_fraction(works[number].seconds, processor) > 0.5
    if link is None or times.nested:
        return Candidate("", stage.name, (), waits=waits)
    nested = tuple(
        other
        for other, below in enumerate(measured.stages)
        if below.path[: len(times.path) + 1] == (*times.path, "each")
    )
    total = works[number].seconds + sum(works[other].seconds for other in nested)
    ops = link.ops()
    return Candidate(
        kind="Map" if times.name == "MapAndBatch" else times.kind,
        label=stage.label,
        work=(number,),
        nested=nested,
        cycle_length=_cycle_length(link),
        waits=waits or _waiting_fraction(total, processor) > 0.5,
        stateful=bool(ops & (STATEFUL_OPS | PYTHON_OPS)),
    )


def _cycle_length(link: Link) -> int:
    cycle_length = getattr(link.dataset, "_cycle_length", None)
    chosen = 1 if cycle_length is None else int(cycle_length)
    return _cores() if chosen < 1 else chosen


def _waiting_fraction(seconds: float, processor_seconds: float) -> float:
    """Return the share of `seconds` that certainly passes without a processor."""
    return max(0.0, 1.0 - processor_seconds / seconds) if seconds > 0 else 0.0


def _bottleneck(
    limit: Limit,
    stages: list[StageProfile],
    works: list[Work],
    processor: float,
    remedies: list[Any],
) -> Bottleneck:
    if limit.stage < 0:
        return Bottleneck(None, CONSUMER, 0.0, advise(CONSUMER, stage=""))
    stage = stages[limit.stage]
    work = next(work for work in works if work.stage == limit.stage)
    waiting = _waiting_fraction(work.seconds, processor)
    is_source = limit.stage == 0 or stage.name.startswith("each: ")
    if limit.kind == SERIAL_STAGE and is_source and waiting > 0.5:
        limit = Limit(WAITING, limit.rate, limit.stage)
    remedy = remedies[0].text if remedies else advise(limit.kind, stage=stage.label)
    return Bottleneck(stage, limit.kind, waiting, remedy)
