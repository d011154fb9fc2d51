"""From what the stages of a pipeline did to the work that bounds its rate."""

from difflib import SequenceMatcher

from pipelines._limits import Work
from pipelines._measurement import Measurement, count_cores
from pipelines._stage_chain import Link
from pipelines._stage_times import StageTimes

# tf.data's optimizer makes one iterator of two stages.
_FUSED = {"MapAndBatch": ("Batch", "Map"), "ShuffleAndRepeat": ("Repeat", "Shuffle")}
_POOLED = frozenset({"Map", "Filter", "MapAndBatch"})


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


def make_works(
    measured: Measurement, matched: list[Link | None], *, opens_in_turn: bool
) -> tuple[list[Work], dict[int, float]]:
    """Return the work of each stage for one element, and the threads with several workers.

    A parallel interleave calls its function for one dataset at a time, while the workers that wait
    for their turn count the time as their own. Datasets of like lengths end together: of n that
    wait in line for calls of time t, the first counts t and the last n t, (n + 1) / 2 times the
    time that passes in all.

    Args:
        measured: What was observed.
        matched: The stages as they were written.
        opens_in_turn: Whether a parallel interleave spends its own time so, as it does when its
            function is slow, and not in its workers beside the datasets that they read.
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
        parallelism = None if is_interleave else _parallelism(stage, measured.seconds)
        seconds = stage.seconds / measured.elements
        if is_interleave and opens_in_turn:
            seconds *= 2.0 / (1.0 + cycle_length(matched[number]))
        # Its time is part of what `_consumer_seconds` measures.
        handed_over = not reads and stage.name == "Prefetch"
        works.append(
            Work(
                stage=len(stages) - 1 - number,
                seconds=0.0 if handed_over else seconds,
                thread=thread,
                parallelism=parallelism,
                reads=None if parallelism is None else threads.setdefault(stage.path, len(threads)),
                tuned=stage.tuned,
                in_pool=stage.kind in _POOLED
                or (stage.kind == "Batch" and parallelism is not None)
                or (is_interleave and opens_in_turn),
            )
        )
    works.append(Work(-1, measured.consumer_seconds, thread=0, consumer=True))
    return works, workers


def cycle_length(link: Link | None) -> int:
    """Return how many datasets an interleave reads at a time."""
    written = None if link is None else getattr(link.dataset, "_cycle_length", None)
    chosen = 1 if written is None else int(written)
    return count_cores() if chosen < 1 else chosen


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
