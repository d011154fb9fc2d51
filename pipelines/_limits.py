"""What limits the rate of a pipeline, from the work of its stages; arithmetic without tf.data.

Stages without a parallelism of their own run one after the other in the thread that asks them for
an element; a parallel stage, and a prefetch, ask for their input from a thread of their own. So the
rate, in elements of the whole pipeline per second, is at most

    workers / (seconds of the stages of a thread)           for every thread,
    parallelism / (seconds of the calls)                    for every parallel stage,
    threads of the pool / (seconds of the calls of all)     for the pool that runs functions,
    cores / (seconds of processor time)                     for the machine,

all seconds per element of the whole pipeline. The smallest bound is the bottleneck.
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
_HARDNESS = {PROCESSOR: 0, POOL: 1, PARALLELISM: 2, SERIAL_STAGE: 3, CONSUMER: 4}


@dataclasses.dataclass(frozen=True)
class Work:
    """The work of one stage for one element of the whole pipeline.

    Args:
        stage: Number of the stage.
        seconds: Time in the stage itself, summed over its threads.
        thread: Number of the thread that it runs in, if it is not parallel.
        parallelism: Calls at once; None if it runs in `thread`.
        in_pool: Whether its function runs in the pool.
        consumer: Whether it is the work of the program that asks for elements.
    """

    stage: int
    seconds: float
    thread: int
    parallelism: float | None = None
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
        stage: Number of the stage with the most work under this bound.
    """

    kind: str
    rate: float
    stage: int


def find_limits(
    works: Sequence[Work], machine: Machine, *, processor_seconds: float
) -> list[Limit]:
    """Return all bounds, the bottleneck first.

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
    bounds = []
    threads: dict[int, list[Work]] = defaultdict(list)
    for work in works:
        if work.parallelism is None:
            threads[work.thread].append(work)
        else:
            bounds.append(_bound(_kind(work.parallelism), work.parallelism, [work]))
    for number, together in threads.items():
        workers = machine.workers.get(number, 1.0)
        bound = _bound(_kind(workers), workers, together)
        consumer = next((w for w in together if w.consumer), None)
        if consumer is not None and consumer.stage == bound.stage:
            bound = dataclasses.replace(bound, kind=CONSUMER)
        bounds.append(bound)
    pooled = [work for work in works if work.in_pool]
    if pooled:
        bounds.append(_bound(POOL, machine.pool, pooled))
    if processor_seconds > 0 and works:
        # A stage that takes longer than all the processor time is one that waits.
        computing = [work for work in works if work.seconds <= processor_seconds] or works
        own = [work for work in computing if not work.consumer]
        largest = max(own or works, key=lambda work: work.seconds)
        bounds.append(Limit(PROCESSOR, machine.cores / processor_seconds, largest.stage))
    bounds.sort(key=lambda bound: bound.rate)
    if not bounds:
        return []
    tied = [bound for bound in bounds if bound.rate <= _TIE * bounds[0].rate]
    # What takes longer than all the processor time cannot be kept busy by it.
    seconds = {work.stage: work.seconds for work in works}
    waiting = [
        bound
        for bound in tied
        if bound.kind != PROCESSOR and seconds[bound.stage] > _WAITING * processor_seconds
    ]
    first = min(waiting or tied, key=lambda bound: _HARDNESS[bound.kind])
    return [first, *(bound for bound in bounds if bound is not first)]


def _kind(workers: float) -> str:
    return SERIAL_STAGE if workers <= 1.0 else PARALLELISM


def _bound(kind: str, workers: float, works: Sequence[Work]) -> Limit:
    seconds = sum(work.seconds for work in works)
    largest = max(works, key=lambda work: work.seconds)
    return Limit(kind, workers / max(seconds, 1e-12), largest.stage)
