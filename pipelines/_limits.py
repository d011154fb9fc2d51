"""What limits the rate of a pipeline, from the work of its stages; arithmetic without tf.data.

Stages without a parallelism of their own run one after the other in the thread that asks them for
an element; a parallel stage, and a prefetch, ask for their input from a thread of their own. A
parallel stage begins a call by asking for its input, so that the wait for the stages before it in
that thread takes up one of the calls that may be under way. So the rate, in elements of the whole
pipeline per second, is at most

    workers / (seconds of the stages of a thread)           for every thread,
    parallelism / (seconds of the calls and their input)    for every parallel stage,
    threads of the pool / (seconds of the calls of all)     for the pool that runs functions,
    cores / (seconds of processor time)                     for the machine,

all seconds per element of the whole pipeline. The smallest bound limits the pipeline, and its
bottleneck is the stage without which the smallest bound would be the highest.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Sequence

SERIAL_STAGE = "serial stage"
PARALLELISM = "parallelism limit"
POOL = "thread pool"
PROCESSOR = "CPU saturated"
WAITING = "waiting on I/O"
CONSUMER = "consumer"

# Of two bounds this close, the one that is harder to lift is named, since lifting the other one
# changes nothing.
_TIE = 1.15
_WAITING = 1.5
# Of stages whose absence helps nearly as much, the one with the most work is named.
_ALIKE = 0.95
# The processor time of a call that waits falls with the rate of the calls to this power: a core
# that is seldom woken finds its caches cold. Of 0, 0.2, 0.3, 0.4 and 0.5, the one with the smallest
# error of the predicted gain on the tuning pipelines of `benchmarks/bench_profiler.py`.
_WARMING = 0.3
_HARDNESS = {PROCESSOR: 0, POOL: 1, PARALLELISM: 2, SERIAL_STAGE: 3, CONSUMER: 4}


@dataclasses.dataclass(frozen=True)
class Work:
    """The work of one stage for one element of the whole pipeline.

    Args:
        stage: Number of the stage.
        seconds: Time in the stage itself, summed over its threads.
        thread: Number of the thread that it runs in, if it is not parallel.
        parallelism: Calls at once; None if it runs in `thread`.
        reads: Number of the thread in which a parallel stage asks for its input.
        tuned: Whether tf.data chooses the parallelism.
        in_pool: Whether its function runs in the pool.
        consumer: Whether it is the work of the program that asks for elements.
    """

    stage: int
    seconds: float
    thread: int
    parallelism: float | None = None
    reads: int | None = None
    tuned: bool = False
    in_pool: bool = False
    consumer: bool = False


@dataclasses.dataclass(frozen=True)
class Machine:
    """What the stages share.

    Args:
        cores: Processor cores that this process may use.
        pool: Threads that run the functions of stages.
        workers: Threads with more than one worker, as below a parallel interleave: their numbers
            by that of the thread.
    """

    cores: float
    pool: float
    workers: dict[int, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Limit:
    """One bound on the rate.

    Args:
        kind: One of the names above.
        rate: Elements of the whole pipeline per second.
        stages: Numbers of the stages whose work it bounds, the bottleneck first if this is the
            first limit, and otherwise those with more work first.
    """

    kind: str
    rate: float
    stages: tuple[int, ...]

    @property
    def stage(self) -> int:
        """The first of the stages."""
        return self.stages[0]


def find_limits(
    works: Sequence[Work], machine: Machine, *, processor_seconds: float
) -> list[Limit]:
    """Return all bounds, the one to lift first.

    Args:
        works: The work of all stages.
        machine: What they share.
        processor_seconds: Processor time of the process per element.

    Examples:
        >>> works = [Work(0, 0.010, thread=1), Work(1, 0.004, thread=0)]
        >>> [(limit.kind, round(limit.rate)) for limit in find_limits(
        ...     works, Machine(cores=2, pool=2), processor_seconds=0.001)]
        [('serial stage', 100), ('serial stage', 250), ('CPU saturated', 2000)]
    """
    bounds = sorted(_bounds(works, machine, processor_seconds), key=lambda bound: bound.rate)
    if not bounds:
        return []
    stage = _most_missed(works, machine, processor_seconds)
    # A bound on other stages does not matter, unless nothing is gained without any stage.
    about = [bound for bound in bounds if stage in bound.stages] or bounds
    tied = [bound for bound in about if bound.rate <= _TIE * bounds[0].rate] or bounds[:1]
    # What takes longer than all the processor time cannot be kept busy by it.
    seconds = {work.stage: work.seconds for work in works}
    waiting = [
        bound
        for bound in tied
        if bound.kind != PROCESSOR and seconds[stage] > _WAITING * processor_seconds
    ]
    first = min(waiting or tied, key=lambda bound: _HARDNESS[bound.kind])
    others = [bound for bound in bounds if bound is not first]
    if stage in first.stages:
        rest = tuple(number for number in first.stages if number != stage)
        first = dataclasses.replace(first, stages=(stage, *rest))
    return [first, *others]


def find_rate(works: Sequence[Work], machine: Machine, *, processor_seconds: float) -> float:
    """Return the smallest bound."""
    return min(bound.rate for bound in _bounds(works, machine, processor_seconds))


def find_rate_after(
    works: Sequence[Work], machine: Machine, *, processor_seconds: float, rate: float
) -> float:
    """Return the smallest bound on pipelines that are faster than one at `rate`.

    What a stage computes takes the same processor time at any rate. Calls that wait take less when
    they are more frequent: with c seconds per element of the one and w of the other, at `rate`, the
    cores are busy at the rate r for which r (c + w (rate / r)^0.3) is their number.

    Args:
        works: The work of all stages, after a change.
        machine: What they share.
        processor_seconds: Processor time of the process per element at `rate`.
        rate: Elements of the whole pipeline per second before the change.

    Examples:
        >>> works = [Work(0, 0.010, thread=0, parallelism=50)]
        >>> machine = Machine(cores=2, pool=50)
        >>> round(find_rate_after(works, machine, processor_seconds=0.001, rate=100))
        5000
        >>> round(find_rate(works, machine, processor_seconds=0.001))
        2000
    """
    waits = any(work.seconds > processor_seconds for work in works)
    computed = sum(work.seconds for work in works if work.seconds <= processor_seconds)
    computing = min(computed, processor_seconds) if waits else processor_seconds

    def busy(faster: float) -> float:
        warmer = min(1.0, (rate / faster) ** _WARMING)
        return faster * (computing + (processor_seconds - computing) * warmer)

    low = high = find_rate(works, machine, processor_seconds=0.0)
    if busy(high) > machine.cores:
        low = 0.0
    while high - low > 1e-6 * high:
        middle = (low + high) / 2.0
        low, high = (middle, high) if busy(middle) <= machine.cores else (low, middle)
    return high


def _bounds(works: Sequence[Work], machine: Machine, processor_seconds: float) -> list[Limit]:
    bounds = []
    threads: dict[int, list[Work]] = defaultdict(list)
    for work in works:
        if work.parallelism is None:
            threads[work.thread].append(work)
    for work in works:
        if work.parallelism is not None:
            together = [work, *(threads.get(work.reads, []) if work.reads is not None else [])]
            bounds.append(_bound(_kind(work.parallelism), work.parallelism, together))
    for number, together in threads.items():
        workers = machine.workers.get(number, 1.0)
        bound = _bound(_kind(workers), workers, together)
        if any(work.consumer and work.stage == bound.stage for work in together):
            bound = dataclasses.replace(bound, kind=CONSUMER)
        bounds.append(bound)
    pooled = [work for work in works if work.in_pool]
    if pooled:
        bounds.append(_bound(POOL, machine.pool, pooled))
    computing = _computing(works, processor_seconds)
    if processor_seconds > 0 and computing:
        largest_first = _bound(PROCESSOR, machine.cores, computing)
        bounds.append(dataclasses.replace(largest_first, rate=machine.cores / processor_seconds))
    return bounds


def _kind(workers: float) -> str:
    return SERIAL_STAGE if workers <= 1.0 else PARALLELISM


def _bound(kind: str, workers: float, works: Sequence[Work]) -> Limit:
    seconds = sum(work.seconds for work in works)
    ordered = sorted(works, key=lambda work: -work.seconds)
    return Limit(kind, workers / max(seconds, 1e-12), tuple(work.stage for work in ordered))


def _computing(works: Sequence[Work], processor_seconds: float) -> Sequence[Work]:
    """Return the works that may have used the processor."""
    # A stage that takes longer than all the processor time is one that waits.
    able = [work for work in works if work.seconds <= processor_seconds] or works
    return [work for work in able if not work.consumer] or works


def _most_missed(works: Sequence[Work], machine: Machine, processor_seconds: float) -> int:
    """Return the number of the stage without which the smallest bound would be the highest."""
    computing = _computing(works, processor_seconds)
    computed = sum(work.seconds for work in computing)
    rates = []
    for number, work in enumerate(works):
        without = [*works[:number], dataclasses.replace(work, seconds=0.0), *works[number + 1 :]]
        # The processor time of all is shared out by the time that they take.
        share = work.seconds / computed if work in computing and computed else 0.0
        left = processor_seconds * (1.0 - share)
        rates.append(find_rate(without, machine, processor_seconds=left))
    alike = [work for work, rate in zip(works, rates, strict=True) if rate >= _ALIKE * max(rates)]
    return max(alike, key=lambda work: work.seconds).stage
