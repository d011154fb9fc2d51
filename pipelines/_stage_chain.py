"""The stages of any `tf.data.Dataset`: their kinds, functions, lines of code, and other versions.

The only place that touches private attributes of datasets; checked on TensorFlow 2.21.
`tests/pipelines/test_stage_chain.py` fails with a clear message when one of them is gone.
"""

import dataclasses
import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import tensorflow as tf

_STANDS_FOR = "stands_for"
_HIDDEN = (str(Path(tf.__file__).parent), str(Path(__file__).parent))


@dataclasses.dataclass(frozen=True)
class Link:
    """One stage of a dataset as its author wrote it.

    Args:
        dataset: The dataset that ends with this stage.
        kind: Such as "Map", "Batch" or "Interleave", whether parallel or not.
        source: Line of code, such as "train.py:12"; None when it is not known.
    """

    dataset: tf.data.Dataset
    kind: str
    source: str | None

    @property
    def label(self) -> str:
        """The method's name, and the function's where there is one: "map decode"."""
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", self.kind).lower()
        function = user_function(self.dataset)
        if function is None:
            return name
        # What `unbatch` puts before itself, and nobody has written.
        if _is_of_tensorflow(function) and _name(function) == "normalize":
            return "unbatch"
        return f"{name} {_name(function)}"

    @property
    def is_parallel(self) -> bool:
        """Whether the stage was written with `num_parallel_calls`."""
        return hasattr(self.dataset, "_num_parallel_calls")

    def ops(self) -> set[str]:
        """Return the names of all operations of the stage's functions."""
        found: set[str] = set()
        for wrapper in self.dataset._functions():
            graph = wrapper.function.graph.as_graph_def()
            found.update(node.op for node in graph.node)
            found.update(node.op for f in graph.library.function for node in f.node_def)
        return found


class CallSites:
    """Notes which line of the user's code makes which dataset, while it is entered.

    The nearest caller counts that is neither TensorFlow nor this package.
    """

    def __init__(self) -> None:
        # The datasets are kept, so that no other one takes the identity of one that is freed.
        self._sites: dict[int, tuple[tf.data.Dataset, str]] = {}

    def __enter__(self) -> "CallSites":
        self._previous = sys.getprofile()
        sys.setprofile(self._note)
        return self

    def __exit__(self, *error: object) -> None:
        sys.setprofile(self._previous)

    def find(self, dataset: tf.data.Dataset) -> str | None:
        """Return the line that made `dataset`, such as "train.py:12"."""
        found = self._sites.get(id(dataset))
        return None if found is None else found[1]

    def inherit(self, made: tf.data.Dataset, stage: tf.data.Dataset) -> None:
        """Note that `made` stands for what the line of `stage` has made."""
        if (source := self.find(stage)) is not None:
            self._sites[id(made)] = (made, source)

    def _note(self, frame: FrameType, event: str, argument: Any) -> None:
        if event != "call" or frame.f_code is not tf.data.Dataset.__init__.__code__:
            return
        caller = frame.f_back
        while caller is not None and caller.f_code.co_filename.startswith(_HIDDEN):
            caller = caller.f_back
        if caller is not None:
            made = frame.f_locals["self"]
            self._sites[id(made)] = (made, _line(caller.f_code.co_filename, caller.f_lineno))


def user_function(dataset: tf.data.Dataset) -> Callable[..., Any] | None:
    """Return the function that the stage calls, as its author wrote it; None without one."""
    wrappers = dataset._functions()
    return wrappers[0]._func if wrappers else None


def stand_for(wrapper: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `wrapper`, whose stages are shown with the name and the line of `function`.

    Not by `__name__` and `__wrapped__`: AutoGraph would translate the source of `function` instead.
    """
    setattr(wrapper, _STANDS_FOR, function)
    return wrapper


def links(dataset: tf.data.Dataset, sites: CallSites) -> list[Link]:
    """Return every stage, the last one first; the inputs of a stage follow it."""
    return list(_walk(dataset, sites))


def _walk(dataset: tf.data.Dataset, sites: CallSites) -> Iterator[Link]:
    kind = _kind(dataset)
    inputs = dataset._inputs()
    # A wrapper around the same pipeline, such as `TrainingPipeline`, is no stage.
    wraps = len(inputs) == 1 and inputs[0]._variant_tensor is dataset._variant_tensor
    if kind != "Options" and not wraps:
        source = sites.find(dataset) or _source_of(user_function(dataset))
        yield Link(dataset, kind, source)
    for given in inputs:
        yield from _walk(given, sites)


def _kind(dataset: tf.data.Dataset) -> str:
    return kind_of(type(dataset).__name__.strip("_"))


def kind_of(name: str) -> str:
    """Return the kind of stage of a class of datasets or of an iterator of tf.data.

    Examples:
        >>> kind_of("ParallelMapDataset"), kind_of("ParallelInterleaveV4"), kind_of("ForeverRepeat")
        ('Map', 'Interleave', 'Repeat')
    """
    name = re.sub(r"V\d+$", "", name).removesuffix("Dataset").removeprefix("Parallel")
    return re.sub(r"^(Finite|Forever|Empty|Memory|From)(?=[A-Z])", "", name)


def _written(function: Any) -> Any:
    """Return the function that its author wrote, without what was put around it."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif hasattr(function, _STANDS_FOR):
            function = getattr(function, _STANDS_FOR)
        else:
            return function


def _is_of_tensorflow(function: Any) -> bool:
    return (getattr(function, "__module__", None) or "").startswith("tensorflow.")


def _source_of(function: Any) -> str | None:
    function = _written(function)
    code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
    # The functions of this package, and what TensorFlow puts around a method, are nobody's line.
    if code is None or code.co_filename.startswith(_HIDDEN):
        return None
    return _line(code.co_filename, code.co_firstlineno)


def _line(path: str, line: int) -> str:
    return f"{Path(path).name}:{line}"


def _name(function: Any) -> str:
    function = _written(function)
    return getattr(function, "__name__", type(function).__name__)


Change = Callable[[tf.data.Dataset, tf.data.Dataset], tf.data.Dataset]


def rebuild(
    dataset: tf.data.Dataset, changed: tf.data.Dataset, change: Change, sites: CallSites
) -> tf.data.Dataset:
    """Return `dataset` with one of its stages made anew by `change`, and all later ones as before.

    Args:
        dataset: The pipeline; it is left as it is.
        changed: The dataset that ends with the stage.
        change: Function (stage, input) -> dataset that puts another stage in its place.
        sites: Lines of code; those of the new stages are added.

    Raises:
        ValueError: If a later stage is of a kind that cannot be made again.
    """
    later = []
    current = dataset
    while current is not changed:
        inputs = current._inputs()
        if len(inputs) != 1:
            raise ValueError(
                f"Stages before one that joins {len(inputs)} datasets cannot be changed here. "
                f"Change the code that makes the {_kind(current)!r} stage."
            )
        later.append(current)
        current = inputs[0]
    given = changed._inputs()
    made = change(changed, given[0] if given else changed)
    sites.inherit(made, changed)
    for stage in reversed(later):
        if stage._inputs()[0]._variant_tensor is not stage._variant_tensor:
            made = make_again(stage, made)
            sites.inherit(made, stage)
    return made.with_options(dataset.options())


def make_again(stage: tf.data.Dataset, given: tf.data.Dataset) -> tf.data.Dataset:
    """Return what `stage` does with its input, done with `given`.

    Raises:
        ValueError: If nobody knows how to make a stage of this kind.
    """
    again = _AGAIN.get(_kind(stage))
    if again is None:
        raise ValueError(
            f"A stage of kind {_kind(stage)!r} cannot be made again with another input. Change the "
            "code that makes the pipeline."
        )
    return again(stage, given)


def map_again(
    stage: tf.data.Dataset, given: tf.data.Dataset, calls: int | None = None
) -> tf.data.Dataset:
    """Map `given` as `stage` does, with `calls` in parallel; None for as many as now."""
    calls = _calls(stage) if calls is None else calls
    deterministic = _determinism(stage) if calls is not None else None
    return given.map(user_function(stage), num_parallel_calls=calls, deterministic=deterministic)


def interleave_again(
    stage: tf.data.Dataset, given: tf.data.Dataset, calls: int | None = None
) -> tf.data.Dataset:
    """Interleave as `stage` does, with `calls` in parallel; None for as many as now."""
    calls = _calls(stage) if calls is None else calls
    return given.interleave(
        user_function(stage),
        cycle_length=int(stage._cycle_length),
        block_length=int(stage._block_length),
        num_parallel_calls=calls,
        deterministic=_determinism(stage) if calls is not None else None,
    )


def batch_again(
    stage: tf.data.Dataset, given: tf.data.Dataset, calls: int | None = None
) -> tf.data.Dataset:
    """Batch as `stage` does, with `calls` in parallel; None for as many as now."""
    calls = _calls(stage) if calls is None else calls
    return given.batch(
        int(stage._batch_size),
        drop_remainder=bool(stage._drop_remainder),
        num_parallel_calls=calls,
        deterministic=_determinism(stage) if calls is not None else None,
    )


def _shuffle_again(stage: tf.data.Dataset, given: tf.data.Dataset) -> tf.data.Dataset:
    seeds = int(stage._seed), int(stage._seed2)
    return given.shuffle(
        int(stage._buffer_size),
        seed=None if seeds == (0, 0) else seeds[1],
        reshuffle_each_iteration=stage._reshuffle_each_iteration,
    )


def _calls(stage: tf.data.Dataset) -> int | None:
    calls = getattr(stage, "_num_parallel_calls", None)
    return None if calls is None else int(calls)


def _determinism(stage: tf.data.Dataset) -> bool | None:
    return {"true": True, "false": False}.get(getattr(stage, "_deterministic", "default"))


_AGAIN: dict[str, Change] = {
    "AssertCardinality": lambda stage, given: given.apply(
        tf.data.experimental.assert_cardinality(stage.cardinality())
    ),
    "Batch": batch_again,
    "Cache": lambda stage, given: given.cache(stage._filename),
    "Filter": lambda stage, given: given.filter(user_function(stage)),
    "FlatMap": lambda stage, given: given.flat_map(user_function(stage)),
    "Interleave": interleave_again,
    "Map": map_again,
    "Options": lambda stage, given: given.with_options(stage.options()),
    "Prefetch": lambda stage, given: given.prefetch(int(stage._buffer_size)),
    "Repeat": lambda stage, given: given.repeat(stage._count),
    "Shard": lambda stage, given: given.shard(stage._num_shards, stage._index),
    "Shuffle": _shuffle_again,
    "Skip": lambda stage, given: given.skip(stage._count),
    "Take": lambda stage, given: given.take(stage._count),
}
