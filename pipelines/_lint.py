"""Known mistakes in a pipeline, found by reading it and not by running it."""

import dataclasses
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from pipelines._dataset import readable_size
from pipelines._fingerprint import KEY_DIGITS
from pipelines._host_counts import host_counts
from pipelines._map import PYTHON_OPS, STATEFUL_OPS
from pipelines._measurement import make_dataset
from pipelines._stage_chain import CallSites, Link, links

# What a key made from a fingerprint looks like in a file name.
_KEY = re.compile(rf"[0-9a-f]{{{KEY_DIGITS},}}")

# Stages that hand on what is ready, without work of their own.
_PASSING = frozenset({"AssertCardinality", "Concatenate", "Repeat", "Shard", "Skip", "Take", "Zip"})
# Sources whose elements lie in memory or are counted, and stages that call a function.
_IN_MEMORY = frozenset({"Range", "TensorSlice"})
_COUNTERS = frozenset({"Range", "Variant"})
_FUNCTIONS = frozenset({"FlatMap", "Interleave", "Map"})


@dataclasses.dataclass(frozen=True)
class Finding:
    """One mistake.

    Args:
        rule: Its name, such as "shuffle before shard".
        message: What happens, and what to do instead.
        stage: The stage, such as "map augment".
        source: Line of code, such as "train.py:12"; None where it is not known.
    """

    rule: str
    message: str
    stage: str
    source: str | None

    def __str__(self) -> str:
        where = self.stage if self.source is None else f"{self.source}: {self.stage}"
        return f"{where}: {self.rule}: {self.message}"


def lint(pipeline: tf.data.Dataset | Callable[[], tf.data.Dataset]) -> tuple[Finding, ...]:
    """Return known mistakes of a pipeline, with their lines of code; nothing is run.

    - serial map: a function with `tf.random.*`, a variable or `py_function` is never made parallel
      by tf.data itself.
    - shuffle before shard: hosts with different orders read some examples twice, others never. With
      one seed on all hosts that does not happen, but each reads the whole set; it is right where
      only names or indices are shuffled, from which later stages make the examples.
    - cache after random augmentation: what was drawn in the first epoch comes in every one.
    - normalised on the host: a batch of bytes becomes floats, four times as large, before it goes
      to the device; the model can do it. Single examples may have to be floats for what follows.
    - no prefetch: the model waits while a batch is made. Only where `options` keep tf.data from
      adding one, as it does by default.
    - unseeded shuffle: no run can be repeated. The global seed counts as one.
    - unequal shards: hosts that make different numbers of steps wait for each other for ever. What
      follows the shard counts too, such as `batch(..., drop_remainder=True)` and `take`.
    - file cache without a key: it is served after the pipeline before it has changed. A key is 16
      hexadecimal digits or more in the name of the file.
    - shuffle buffer larger than memory, as far as shapes are known.

    Not seen are the stages of datasets that the function of an `interleave` or `flat_map` makes,
    and what happens in Python functions, such as random augmentation in a `py_function`.

    Args:
        pipeline: A dataset, or better a function without arguments that makes one: then every
            stage has its line, and otherwise only those that call a function, which is where that
            begins.

    Returns:
        The findings, first stage first; empty if there are none.

    Raises:
        TypeError: If `pipeline` is no dataset and no function that returns one.

    Examples:
        >>> import pipelines, tensorflow as tf
        >>> def examples():
        ...     return tf.data.Dataset.range(11).shuffle(11, seed=0).shard(2, 0)
        >>> [finding.rule for finding in pipelines.lint(examples)]
        ['shuffle before shard', 'unequal shards']

    Source: playbook I7, I9, J3.
    """
    dataset, sites = make_dataset(pipeline)
    stages = links(dataset, sites)[::-1]
    found = []
    for stage in stages:
        # Of its own inputs: those of a dataset that is joined later do not come before it.
        before = links(stage.dataset, sites)[:0:-1]
        for check in _CHECKS.get(stage.kind, ()):
            found += [
                Finding(rule, message, stage.label, stage.source)
                for rule, message in check(_Place(stage, before, dataset))
            ]
    found += [
        Finding("no prefetch", message, stages[-1].label, stages[-1].source)
        for message in _missing_prefetch(dataset, stages[-1].dataset)
    ]
    return tuple(found)


@dataclasses.dataclass(frozen=True)
class _Place:
    """A stage, those that its elements come from, first stage first, and the whole pipeline."""

    stage: Link
    before: Sequence[Link]
    end: tf.data.Dataset


_Found = Iterator[tuple[str, str]]


def _serial_map(place: _Place) -> _Found:
    ops = place.stage.ops()
    if place.stage.is_parallel:
        return
    if ops & PYTHON_OPS:
        yield (
            "serial map",
            "tf.data runs a `py_function` one call at a time unless `num_parallel_calls` is given; "
            "TensorFlow operations would also run outside Python's lock",
        )
    elif stateful := sorted(ops & STATEFUL_OPS):
        yield (
            "serial map",
            f"tf.data runs the stateful {', '.join(stateful)} one call at a time; use "
            "`tf.random.stateless_*`, or pass `num_parallel_calls`",
        )


def _normalised_on_host(place: _Place) -> _Found:
    dataset = place.stage.dataset
    if _batch_size(dataset) is None:
        return
    given, made = dataset._inputs()[0].element_spec, dataset.element_spec
    lost = _shapes(given, _is_bytes) - _shapes(made, _is_bytes)
    if lost & (_shapes(made, _is_float) - _shapes(given, _is_float)):
        yield (
            "normalised on the host",
            "a batch of bytes leaves as floats, four times as large; hand on the bytes and begin "
            "the model with `keras.layers.Rescaling`",
        )


def _unseeded_shuffle(place: _Place) -> _Found:
    if _is_unseeded(place.stage):
        yield (
            "unseeded shuffle",
            "no run can be repeated or resumed; pass `seed`, or use `pipelines.training_pipeline`",
        )


def _large_buffer(place: _Place) -> _Found:
    dataset = place.stage.dataset
    buffer, cardinality = int(dataset._buffer_size), _cardinality(dataset)
    held = buffer if cardinality is None else min(buffer, cardinality)
    needed = held * _element_bytes(dataset.element_spec, _batch_size(dataset) or 1)
    memory = _memory_bytes()
    if memory is not None and needed > memory:
        yield (
            "shuffle buffer larger than memory",
            f"{held:,} elements take {readable_size(needed)}, of {readable_size(memory)}; shuffle "
            "indices or file names and read afterwards, or use a smaller buffer",
        )


def _shuffle_before_shard(place: _Place) -> _Found:
    shuffles = [earlier for earlier in place.before if earlier.kind == "Shuffle"]
    if not shuffles:
        return
    if any(_is_unseeded(earlier) for earlier in shuffles):
        yield (
            "shuffle before shard",
            "each host shuffles in another order and then takes its part, so that some examples "
            "come twice and others never; shard first",
        )
    elif not _shares_out_names(place):
        yield (
            "shuffle before shard",
            "every host reads and shuffles the whole set to keep a part of it; shard first",
        )


def _unequal_shards(place: _Place) -> _Found:
    total, count = _cardinality(place.before[-1].dataset), int(place.stage.dataset._num_shards)
    if total is None or total % count == 0:
        return
    counts = host_counts(place.end, count)
    if counts is not None and len(set(counts)) == 1:
        return
    steps = "" if counts is None else f", {max(counts):,.0f} steps against {min(counts):,.0f}"
    yield (
        "unequal shards",
        f"{total:,} elements over {count} hosts leave some with one more{steps}; who has fewer "
        "keeps the others waiting for ever. Take a multiple, or pass `host` to "
        "`pipelines.training_pipeline`",
    )


def _cached_randomness(place: _Place) -> _Found:
    for earlier in place.before:
        if earlier.kind == "Map" and any(map(_is_random, earlier.ops())):
            yield (
                "cache after random augmentation",
                f"what {earlier.label} drew in the first epoch is repeated in every one; cache "
                "before it",
            )


def _file_cache(place: _Place) -> _Found:
    path = place.stage.dataset._filename.numpy().decode()
    if path and not _KEY.search(os.path.basename(path)):
        yield (
            "file cache without a key",
            f"{path!r} is served unchanged after the pipeline before it has changed; use "
            "`pipelines.cache_offline`, whose key is a fingerprint",
        )


def _missing_prefetch(dataset: tf.data.Dataset, last: tf.data.Dataset) -> Iterator[str]:
    options = dataset.options()
    optimizations = options.experimental_optimization
    adds_one = (
        options.autotune.enabled is not False
        and optimizations.apply_default_optimizations is not False
        and optimizations.inject_prefetch is not False
    )
    if not adds_one and not _hands_on_ready(last):
        yield "the model waits while a batch is made; end with `.prefetch(tf.data.AUTOTUNE)`"


def _hands_on_ready(dataset: tf.data.Dataset) -> bool:
    """Whether a prefetch is all that the elements wait for."""
    link = _last(dataset)
    if link.kind not in _PASSING:
        return link.kind == "Prefetch"
    # Such as that of `enumerate`: counting takes no time.
    inputs = [each for each in link.dataset._inputs() if _last(each).kind not in _COUNTERS]
    return bool(inputs) and all(map(_hands_on_ready, inputs))


def _last(dataset: tf.data.Dataset) -> Link:
    return links(dataset, CallSites())[0]


def _shares_out_names(place: _Place) -> bool:
    """Whether what is sharded are scalars that lie in memory, and examples are made of them."""
    specs = tf.nest.flatten(place.stage.dataset.element_spec)
    if any(not isinstance(spec, tf.TensorSpec) or spec.shape.rank != 0 for spec in specs):
        return False
    if any(link.kind in _FUNCTIONS for link in place.before):
        return False
    sources = [link for link in place.before if not link.dataset._inputs()]
    if any(link.kind not in _IN_MEMORY for link in sources):
        return False
    return any(
        link.kind in _FUNCTIONS and _comes_after(link.dataset, place.stage.dataset)
        for link in links(place.end, CallSites())
    )


def _comes_after(later: tf.data.Dataset, dataset: tf.data.Dataset) -> bool:
    return any(link.dataset is dataset for link in links(later, CallSites())[1:])


def _batch_size(dataset: tf.data.Dataset) -> int | None:
    """Return the size of the batches that `dataset` hands on; None of single examples."""
    link = _last(dataset)
    if link.kind in ("Batch", "PaddedBatch"):
        return int(link.dataset._batch_size)
    # What the function of the latter two makes is not seen.
    if link.kind in ("Unbatch", "FlatMap", "Interleave"):
        return None
    sizes = [_batch_size(each) for each in link.dataset._inputs()]
    return min((size for size in sizes if size is not None), default=None)


def _shapes(element_spec: Any, wanted: Callable[[tf.DType], bool]) -> Counter[tuple[Any, ...]]:
    """Return how many components have each shape, of those that hold more than labels."""
    return Counter(
        tuple(spec.shape)
        for spec in tf.nest.flatten(element_spec)
        if isinstance(spec, tf.TensorSpec) and (spec.shape.rank or 0) > 1 and wanted(spec.dtype)
    )


def _is_bytes(dtype: tf.DType) -> bool:
    return dtype == tf.uint8


def _is_float(dtype: tf.DType) -> bool:
    return dtype.is_floating


def _is_unseeded(stage: Link) -> bool:
    return (int(stage.dataset._seed), int(stage.dataset._seed2)) == (0, 0)


def _is_random(op: str) -> bool:
    if op.startswith("Stateless"):
        return "Random" in op or "Distorted" in op or "Truncated" in op
    return op in STATEFUL_OPS and not op.endswith("VariableOp")


def _cardinality(dataset: tf.data.Dataset) -> int | None:
    """Return the number of elements; None if it is endless or not known."""
    number = int(dataset.cardinality())
    return number if number >= 0 else None


def _element_bytes(element_spec: Any, batch_size: int) -> int:
    """Return the size of an element, where an unknown first axis has `batch_size` rows.

    Other unknown axes count as 1, and what has no known rank as 0: it is at least so large.
    """
    return sum(
        math.prod(
            (1 if axis else batch_size) if size is None else size
            for axis, size in enumerate(spec.shape)
        )
        * spec.dtype.size
        for spec in tf.nest.flatten(element_spec)
        if isinstance(spec, tf.TensorSpec) and spec.shape.rank is not None
    )


def _memory_bytes() -> int | None:
    """Return the memory of this machine, where the system tells."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


_CHECKS: dict[str, tuple[Callable[[_Place], _Found], ...]] = {
    "Cache": (_cached_randomness, _file_cache),
    "Map": (_serial_map, _normalised_on_host),
    "Shard": (_shuffle_before_shard, _unequal_shards),
    "Shuffle": (_unseeded_shuffle, _large_buffer),
}
