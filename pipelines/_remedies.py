"""Changes of a pipeline that would lift its bottleneck, and what each would bring."""

import dataclasses
from collections.abc import Callable, Sequence

from pipelines._limits import (
    CONSUMER,
    PARALLELISM,
    POOL,
    PROCESSOR,
    Machine,
    Work,
    find_rate,
    find_rate_after,
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
        work: Number of the entry of its work; None if it cannot be changed.
        before: Numbers of those of all stages before it, those of nested datasets too.
        nested: Numbers of those of the datasets that it reads, of an interleave.
        cycle_length: Of an interleave.
        waits: Whether most of its time passes without a processor.
        stateful: Whether its function has a state, so that its calls must keep their order.
    """

    kind: str
    label: str
    work: int | None
    before: tuple[int, ...] = ()
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
    now = find_rate(works, machine, processor_seconds=processor_seconds)

    def gain(changed: Sequence[Work], shared: Machine) -> float:
        after = find_rate_after(changed, shared, processor_seconds=processor_seconds, rate=now)
        return after / now

    found = []
    for place, candidate in enumerate(candidates):
        if candidate.work is None:
            continue
        if candidate.kind in _PARALLEL_KINDS:
            found += _parallel(place, candidate, candidate.work, works, machine, gain)
        text = f"put `.prefetch(tf.data.AUTOTUNE)` before {candidate.label}"
        changed = _prefetched(works, candidate.work, candidate.before)
        found.append(Remedy(PREFETCH, place, None, text, gain(changed, machine)))
    if any(candidate.waits for candidate in candidates):
        wider = dataclasses.replace(machine, pool=max(WAITING_CALLS, machine.pool))
        tuned = [
            dataclasses.replace(work, parallelism=wider.pool) if work.tuned else work
            for work in works
        ]
        text = f"set `options.threading.private_threadpool_size = {WAITING_CALLS}`"
        found.append(Remedy(POOL_SIZE, None, WAITING_CALLS, text, gain(tuned, wider)))
    helpful = [remedy for remedy in found if remedy.predicted_gain >= _LEAST_GAIN]
    return sorted(helpful, key=lambda remedy: -round(remedy.predicted_gain, 1))


def _parallel(
    place: int,
    candidate: Candidate,
    number: int,
    works: Sequence[Work],
    machine: Machine,
    gain: Callable[[Sequence[Work], Machine], float],
) -> list[Remedy]:
    found = []
    method = f"{candidate.label}: pass `num_parallel_calls="
    is_interleave = candidate.kind == "Interleave"
    choices: list[tuple[int | None, Machine]] = []
    if is_interleave:
        if candidate.cycle_length > 1:
            choices.append((None, machine))
    elif (works[number].parallelism or 1.0) < machine.pool:
        choices.append((None, machine))
    if candidate.waits and candidate.kind == "Map" and machine.pool < WAITING_CALLS:
        choices.append((WAITING_CALLS, dataclasses.replace(machine, pool=WAITING_CALLS)))
    for calls, shared in choices:
        if is_interleave:
            changed, shared = _interleaved(candidate, number, works, shared)
        else:
            width = shared.pool if calls is None else float(calls)
            changed = _in_parallel(works, number, candidate.before, width)
        text = method + ("tf.data.AUTOTUNE`" if calls is None else f"{calls}`")
        if calls is not None:
            text += f" and set `options.threading.private_threadpool_size = {calls}`"
        found.append(
            Remedy(PARALLEL, place, calls, text, gain(changed, shared), candidate.stateful)
        )
    return found


def _in_parallel(
    works: Sequence[Work], number: int, before: Sequence[int], calls: float
) -> list[Work]:
    changed, reads = list(works), works[number].reads
    if works[number].parallelism is None:
        changed, reads = _in_other_thread(works, works[number].thread, before)
    changed[number] = dataclasses.replace(changed[number], parallelism=calls, reads=reads)
    return changed


def _interleaved(
    candidate: Candidate, number: int, works: Sequence[Work], machine: Machine
) -> tuple[list[Work], Machine]:
    changed, thread = _in_other_thread(works, works[number].thread, (*candidate.before, number))
    for nested in candidate.nested:
        changed[nested] = dataclasses.replace(changed[nested], thread=thread + 1)
    workers = {**machine.workers, thread + 1: float(candidate.cycle_length)}
    return changed, dataclasses.replace(machine, workers=workers)


def _prefetched(works: Sequence[Work], number: int, before: Sequence[int]) -> list[Work]:
    """Return the works with the input of one made ready by a thread of its own."""
    if works[number].parallelism is None:
        return _in_other_thread(works, works[number].thread, before)[0]
    changed = list(works)
    changed[number] = dataclasses.replace(works[number], reads=None)
    return changed


def _in_other_thread(
    works: Sequence[Work], thread: int, moved: Sequence[int]
) -> tuple[list[Work], int]:
    """Return the works with those of `moved` that run in `thread` in a new one, and its number."""
    new = 1 + max(max(work.thread, work.reads or 0) for work in works)
    changed = list(works)
    for number in moved:
        if works[number].thread == thread:
            changed[number] = dataclasses.replace(works[number], thread=new)
    return changed, new


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
