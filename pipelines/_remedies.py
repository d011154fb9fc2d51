"""Changes of a pipeline that would lift its bottleneck, and what each would bring."""

import dataclasses
from collections.abc import Callable, Sequence

from pipelines._limits import (
    CONSUMER,
    PARALLELISM,
    POOL,
    PROCESSOR,
    Limit,
    Machine,
    Work,
    find_limits,
)

PARALLEL = "parallel"
POOL_SIZE = "thread pool"
PREFETCH = "prefetch"

# Threads for functions that wait: far more than cores, and still few for a machine.
WAITING_CALLS = 16
_LEAST_GAIN = 1.05
_PARALLEL_KINDS = ("Map", "Interleave", "Batch")


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A stage that a remedy may change.

    Args:
        kind: Such as "Map".
        label: For the reader, such as "map decode (train.py:12)".
        work: Numbers of the entries of its work.
        nested: Numbers of those of the datasets that it reads, of an interleave.
        cycle_length: Of an interleave.
        waits: Whether most of its time passes without a processor.
        stateful: Whether its function has a state, so that its calls must keep their order.
    """

    kind: str
    label: str
    work: tuple[int, ...]
    nested: tuple[int, ...] = ()
    cycle_length: int = 1
    waits: bool = False
    stateful: bool = False


@dataclasses.dataclass(frozen=True)
class Remedy:
    """A change of a pipeline.

    Args:
        action: What is done; "parallel", "thread pool" or "prefetch".
        stage: Place of the stage in `PipelineProfile.stages`; None for the whole pipeline.
        calls: Parallel calls or threads; None where tf.data chooses.
        text: The change in words, with the line of code.
        predicted_gain: Rate afterwards over the rate now.
        stateful: Whether it lets calls of a stateful function overtake each other.
    """

    action: str
    stage: int | None
    calls: int | None
    text: str
    predicted_gain: float
    stateful: bool = False

    def __str__(self) -> str:
        return f"{self.text} (predicted: {self.predicted_gain:.2f} times the rate)"


def find_remedies(
    candidates: Sequence[Candidate],
    works: Sequence[Work],
    machine: Machine,
    *,
    processor_seconds: float,
) -> list[Remedy]:
    """Return the changes that help, the one that brings most first.

    Args:
        candidates: The stages, by their place.
        works: The work of all of them, the last stage first.
        machine: What they share.
        processor_seconds: Processor time per element of the pipeline.
    """
    limits = find_limits(works, machine, processor_seconds=processor_seconds)

    def gain(changed: Sequence[Work], shared: Machine) -> float:
        after = find_limits(changed, shared, processor_seconds=processor_seconds)
        return min(limit.rate for limit in after) / min(limit.rate for limit in limits)

    found = []
    bound = _under(limits[0], works)
    for place, candidate in enumerate(candidates):
        if not bound & {*candidate.work, *candidate.nested}:
            continue
        if candidate.kind in _PARALLEL_KINDS and candidate.work:
            found += _parallel(place, candidate, works, machine, gain)
        if candidate.work:
            changed = _in_other_thread(works, max(candidate.work), downstream_included=False)
            text = f"put `.prefetch(tf.data.AUTOTUNE)` before {candidate.label}"
            found.append(Remedy(PREFETCH, place, None, text, gain(changed, machine)))
    if limits[0].kind == POOL and any(candidate.waits for candidate in candidates):
        wider = dataclasses.replace(machine, pool=max(WAITING_CALLS, machine.pool))
        tuned = [
            work if work.parallelism is None else dataclasses.replace(work, parallelism=wider.pool)
            for work in works
        ]
        text = f"set `options.threading.private_threadpool_size = {WAITING_CALLS}`"
        found.append(Remedy(POOL_SIZE, None, WAITING_CALLS, text, gain(tuned, wider)))
    helpful = [remedy for remedy in found if remedy.predicted_gain >= _LEAST_GAIN]
    return sorted(helpful, key=lambda remedy: -round(remedy.predicted_gain, 1))


def _parallel(
    place: int,
    candidate: Candidate,
    works: Sequence[Work],
    machine: Machine,
    gain: Callable[[Sequence[Work], Machine], float],
) -> list[Remedy]:
    found = []
    method = f"{candidate.label}: pass `num_parallel_calls="
    current = max(works[number].parallelism or 1.0 for number in candidate.work)
    choices: list[tuple[int | None, Machine]] = []
    if current < machine.pool and candidate.kind != "Interleave":
        choices.append((None, machine))
    if candidate.kind == "Interleave" and candidate.cycle_length > 1:
        choices.append((None, machine))
    if candidate.waits and candidate.kind == "Map" and machine.pool < WAITING_CALLS:
        choices.append((WAITING_CALLS, dataclasses.replace(machine, pool=WAITING_CALLS)))
    for calls, shared in choices:
        first = max(candidate.work)
        if candidate.kind == "Interleave":
            changed, shared = _interleaved(candidate, works, shared)
        else:
            changed = _in_other_thread(works, first, downstream_included=False)
            width = shared.pool if calls is None else float(calls)
            for number in candidate.work:
                changed[number] = dataclasses.replace(changed[number], parallelism=width)
        text = method + ("tf.data.AUTOTUNE`" if calls is None else f"{calls}`")
        if calls is not None:
            text += f" and set `options.threading.private_threadpool_size = {calls}`"
        found.append(
            Remedy(PARALLEL, place, calls, text, gain(changed, shared), candidate.stateful)
        )
    return found


def _interleaved(
    candidate: Candidate, works: Sequence[Work], machine: Machine
) -> tuple[list[Work], Machine]:
    changed = _in_other_thread(works, max(candidate.work), downstream_included=True)
    thread = 1 + max(work.thread for work in changed)
    for number in candidate.nested:
        changed[number] = dataclasses.replace(changed[number], thread=thread)
    workers = {**machine.workers, thread: float(candidate.cycle_length)}
    return changed, dataclasses.replace(machine, workers=workers)


def _in_other_thread(works: Sequence[Work], place: int, *, downstream_included: bool) -> list[Work]:
    """Return the works with what comes before `place` moved to a thread of its own."""
    thread = 1 + max(work.thread for work in works)
    mine = works[place].thread
    return [
        dataclasses.replace(work, thread=thread)
        if work.thread == mine
        and (number > place or (downstream_included and number == place))
        and not work.consumer
        else work
        for number, work in enumerate(works)
    ]


def _under(limit: Limit, works: Sequence[Work]) -> set[int]:
    """Return the numbers of the works that are bound by `limit`."""
    if limit.kind == POOL:
        return {number for number, work in enumerate(works) if work.in_pool}
    largest = next(work for work in works if work.stage == limit.stage)
    if largest.parallelism is not None:
        return {number for number, work in enumerate(works) if work is largest}
    return {
        number
        for number, work in enumerate(works)
        if work.parallelism is None and work.thread == largest.thread
    }


def advise(kind: str, *, stage: str) -> str:
    """Return what to do about a bottleneck that no change of the pipeline's stages lifts."""
    return {
        PROCESSOR: (
            "do less per element: preprocess once (`pipelines.cache_offline`), cache what is not "
            "random, normalise in the model, or share the work with other machines "
            "(`pipelines.through_service`)"
        ),
        CONSUMER: "nothing: the pipeline gives elements as fast as a Python program can take them",
        POOL: f"make {stage} cheaper, or preprocess once (`pipelines.cache_offline`)",
        PARALLELISM: f"raise `num_parallel_calls` of {stage}, or make it cheaper",
    }.get(
        kind,
        f"make {stage} cheaper, read several files at once with a parallel `interleave`, or "
        "preprocess once (`pipelines.cache_offline`)",
    )
