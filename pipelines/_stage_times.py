"""What each stage of a running iterator did, from tf.data's own model of it.

The model counts elements, bytes and the time that each iterator spends itself. It forgets the
iterators that `interleave` and `repeat` have finished, so it is read often and its increments are
added up; what was made and forgotten between two readings is made up for by the number of elements
that came through.
"""

import dataclasses
import statistics
import threading
import time
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from pipelines._stage_chain import kind_of

POLL_SECONDS = 0.05
# Stages that make and end the iterators below them while they run.
_RENEWING = frozenset({"Interleave", "FlatMap", "Repeat", "ShuffleAndRepeat"})
_NESTING = frozenset({"Interleave", "FlatMap"})

Path = tuple[str, ...]


@dataclasses.dataclass
class StageTimes:
    """What one stage of the running pipeline did, all of its iterators together.

    Args:
        name: tf.data's name of the iterator, such as "ParallelMapV2".
        path: Names from the end of the pipeline to this stage.
        nested: Whether it belongs to the datasets that an `interleave` or `flat_map` reads.
        elements: Elements made.
        seconds: Time spent in the stage itself, in all of its threads.
        num_bytes: Bytes made.
        parallelism: Calls that may run at once, mean over time; None for a stage in one thread.
        tuned: Whether tf.data chooses the parallelism.
        unseen: Whether too few of its elements were seen to know its time.
        parallelisms: The values of `parallelism` at each reading.
    """

    name: str
    path: Path
    nested: bool
    elements: float = 0.0
    seconds: float = 0.0
    num_bytes: float = 0.0
    parallelism: float | None = None
    tuned: bool = False
    unseen: bool = False
    parallelisms: list[float] = dataclasses.field(default_factory=list)

    @property
    def kind(self) -> str:
        """Such as "Map", as in `Link.kind`."""
        return kind_of(self.name)


class ModelReader:
    """Adds up what the stages of an iterator do from `start` to `stop`, in a thread of its own.

    Args:
        iterator: Of a `tf.data.Dataset`, with autotuning.

    Raises:
        ValueError: If the iterator keeps no model.
    """

    def __init__(self, iterator: Any) -> None:
        self._iterator = iterator
        self._stages: dict[Path, StageTimes] = {}
        self._last: dict[int, tuple[int, int, int]] = {}
        self._inputs: dict[int, int] = {}
        self._stopped = threading.Event()
        self._error: BaseException | None = None
        self.reading_seconds = 0.0
        try:
            self._read(count=False)
        except tf.errors.NotFoundError as error:
            raise ValueError(
                "Profiling reads the model by which tf.data tunes itself. Received a pipeline with "
                "`options.autotune.enabled = False`; leave autotuning on."
            ) from error

    def start(self) -> None:
        """Begin to count."""
        self._read(count=False)
        self._stages = {path: _emptied(stage) for path, stage in self._stages.items()}
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self._thread.start()

    def stop(self) -> list[StageTimes]:
        """End counting and return the stages, the last one of the pipeline first."""
        self._stopped.set()
        self._thread.join()
        if self._error is not None:
            raise self._error
        self._read(count=True)
        return complete(list(self._stages.values()))

    def _poll(self) -> None:
        try:
            while not self._stopped.wait(POLL_SECONDS):
                self._read(count=True)
        except BaseException as error:  # raised again by `stop`, in the caller's thread
            self._error = error

    def _read(self, *, count: bool) -> None:
        begin = time.thread_time()
        model = tf.data.experimental.get_model_proto(self._iterator)
        seen: dict[int, tuple[int, int, int]] = {}
        for identity, node, path, nested in self._nodes(model):
            now = (node.num_elements, node.processing_time, node.bytes_produced)
            seen[identity] = now
            before = self._last.get(identity, (0, 0, 0))
            if any(a < b for a, b in zip(now, before, strict=True)):
                before = (0, 0, 0)  # the counters were reset at the end of an epoch
            stage = self._stages.setdefault(path, StageTimes(node.name, path, nested))
            if count:
                stage.elements += now[0] - before[0]
                stage.seconds += (now[1] - before[1]) / 1e9
                stage.num_bytes += now[2] - before[2]
            for parameter in node.parameters:
                if parameter.name == "parallelism":
                    # Before tf.data has chosen it is negative.
                    stage.parallelisms.append(max(parameter.value, 1.0))
                    stage.parallelism = statistics.fmean(stage.parallelisms)
                    stage.tuned = parameter.tunable
        self._last = seen
        self.reading_seconds += time.thread_time() - begin

    def _nodes(self, model: Any) -> Iterator[tuple[int, Any, Path, bool]]:
        """Yield (identity, node, path, nested) of every iterator, the last stage first."""
        pending = [(model.output, (), False)]
        while pending:
            identity, above, nested = pending.pop()
            if identity not in model.nodes:
                continue
            node = model.nodes[identity]
            path: Path = (*above, node.name)
            yield identity, node, path, nested
            below = []
            nesting = kind_of(node.name) in _NESTING
            for place, given in enumerate(node.inputs):
                # The first iterator that it makes is that of its input.
                is_input = not nesting or given == self._inputs.setdefault(identity, given)
                # Several inputs, as of `zip`, are several stages; iterators of one interleave
                # are one.
                mark = f"{place}" if not nesting and len(node.inputs) > 1 else ""
                step = (mark,) if is_input and mark else () if is_input else ("each",)
                below.append((given, (*path, *step), nested or not is_input))
            pending.extend(reversed(below))


def _emptied(stage: StageTimes) -> StageTimes:
    return dataclasses.replace(stage, elements=0.0, seconds=0.0, num_bytes=0.0, parallelisms=[])


def complete(stages: list[StageTimes]) -> list[StageTimes]:
    """Scale stages below an `interleave` or a `repeat` to all the elements that came through it.

    Args:
        stages: The counts, the last stage of the pipeline first.

    Examples:
        >>> above = StageTimes("Interleave", ("Interleave",), False, elements=100)
        >>> seen = StageTimes("Map", ("Interleave", "each", "Map"), True, elements=50, seconds=2.0)
        >>> complete([above, seen])[1].seconds
        4.0
    """
    completed = list(stages)
    for stage in stages:
        if stage.kind not in _RENEWING:
            continue
        now = next(s for s in completed if s.path == stage.path)
        root = (*stage.path, "each") if stage.kind in _NESTING else stage.path
        below = [s for s in completed if s.path[: len(root)] == root and s.path != stage.path]
        top = [s for s in below if len(s.path) == len(root) + 1]
        made = sum(s.elements for s in top)
        if not below or now.elements <= made * 1.05:
            continue
        scale = now.elements / made if made else 1.0
        scaled = {
            id(s): dataclasses.replace(
                s,
                elements=s.elements * scale,
                seconds=s.seconds * scale,
                num_bytes=s.num_bytes * scale,
                unseen=s.unseen or scale > 5.0 or not made,
            )
            for s in below
        }
        completed = [scaled.get(id(s), s) for s in completed]
    return completed
