"""From what the stages of a pipeline did to the work that bounds its rate."""

from difflib import SequenceMatcher

from pipelines._limits import Work
from pipelines._measurement import Measurement
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
    measured: Measurement, *, opens_in_turn: bool
) -> tuple[list[Work], dict[int, float]]:
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
