"""Known mistakes in a pipeline, found by reading it and not by running it."""

import dataclasses
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from pipelines._dataset import readable_size
from pipelines._map import PYTHON_OPS, STATEFUL_OPS
from pipelines._measurement import make_dataset
from pipelines._stage_chain import Link, links

# What a key made from a fingerprint looks like in a file name.
_KEY = re.compile(r"[0-9a-f]{8,}")


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
    - shuffle before shard: hosts with different orders read some examples twice, others never.
    - cache after random augmentation: what was drawn in the first epoch comes in every one.
    - normalised on the host: a batch of bytes becomes floats, four times as large, before it goes
      to the device; the model can do it.
    - no prefetch: the model waits while a batch is made. Only where `options` keep tf.data from
      adding one, as it does by default.
    - unseeded shuffle: no run can be repeated. The global seed counts as one.
    - unequal shards: hosts that make different numbers of steps wait for each other for ever.
    - file cache without a key: it is served after the pipeline before it has changed.
    - shuffle buffer larger than memory.

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
    found = [
        Finding(rule, message, stage.label, stage.source)
        for number, stage in enumerate(stages)
        for check in _CHECKS.get(stage.kind, ())
        for rule, message in check(stage, stages[:number])
    ]
    found += [
        Finding("no prefetch", message, stages[-1].label, stages[-1].source)
        for message in _missing_prefetch(dataset, stages[-1])
    ]
    return tuple(found)


_Found = Iterator[tuple[str, str]]


def _serial_map(stage: Link, before: Sequence[Link]) -> _Found:
    ops = stage.ops()
    if stage.is_parallel:
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


def _normalised_on_host(stage: Link, before: Sequence[Link]) -> _Found:
    if not any(earlier.kind in ("Batch", "PaddedBatch") for earlier in before):
        return
    given, made = (
        [spec for spec in tf.nest.flatten(each) if isinstance(spec, tf.TensorSpec)]
        for each in (stage.dataset._inputs()[0].element_spec, stage.dataset.element_spec)
    )
    small = {tuple(spec.shape) for spec in given if spec.dtype == tf.uint8 and spec.shape.rank}
    if any(spec.dtype.is_floating and tuple(spec.shape) in small for spec in made):
        yield (
            "normalised on the host",
            "a batch of bytes leaves as floats, four times as large; hand on the bytes and begin "
            "the model with `keras.layers.Rescaling`",
        )


def _unseeded_shuffle(stage: Link, before: Sequence[Link]) -> _Found:
    if _is_unseeded(stage):
        yield (
            "unseeded shuffle",
            "no run can be repeated or resumed; pass `seed`, or use `pipelines.training_pipeline`",
        )


def _large_buffer(stage: Link, before: Sequence[Link]) -> _Found:
    buffer, cardinality = int(stage.dataset._buffer_size), _cardinality(stage.dataset)
    held = buffer if cardinality is None else min(buffer, cardinality)
    needed = held * _element_bytes(stage.dataset.element_spec)
    memory = _memory_bytes()
    if memory is not None and needed > memory:
        yield (
            "shuffle buffer larger than memory",
            f"{held:,} elements take {readable_size(needed)}, of {readable_size(memory)}; shuffle "
            "indices or file names and read afterwards, or use a smaller buffer",
        )


def _shuffle_before_shard(stage: Link, before: Sequence[Link]) -> _Found:
    shuffles = [earlier for earlier in before if earlier.kind == "Shuffle"]
    if not shuffles:
        return
    if any(_is_unseeded(earlier) for earlier in shuffles):
        yield (
            "shuffle before shard",
            "each host shuffles in another order and then takes its part, so that some examples "
            "come twice and others never; shard first",
        )
    else:
        yield (
            "shuffle before shard",
            "every host reads and shuffles the whole set to keep a part of it; shard first",
        )


def _unequal_shards(stage: Link, before: Sequence[Link]) -> _Found:
    total, count = _cardinality(before[-1].dataset), int(stage.dataset._num_shards)
    if total is not None and total % count:
        yield (
            "unequal shards",
            f"{total:,} elements over {count} hosts leave some with one step more, for which the "
            "others are waited for in vain; take a multiple, or pass `host` to "
            "`pipelines.training_pipeline`",
        )


def _cached_randomness(stage: Link, before: Sequence[Link]) -> _Found:
    for earlier in before:
        if earlier.kind == "Map" and any(map(_is_random, earlier.ops())):
            yield (
                "cache after random augmentation",
                f"what {earlier.label} drew in the first epoch is repeated in every one; cache "
                "before it",
            )


def _file_cache(stage: Link, before: Sequence[Link]) -> _Found:
    path = stage.dataset._filename.numpy().decode()
    if path and not _KEY.search(path):
        yield (
            "file cache without a key",
            f"{path!r} is served unchanged after the pipeline before it has changed; use "
            "`pipelines.cache_offline`, whose key is a fingerprint",
        )


def _missing_prefetch(dataset: tf.data.Dataset, last: Link) -> Iterator[str]:
    options = dataset.options()
    optimizations = options.experimental_optimization
    adds_one = (
        options.autotune.enabled is not False
        and optimizations.apply_default_optimizations is not False
        and optimizations.inject_prefetch is not False
    )
    if last.kind != "Prefetch" and not adds_one:
        yield "the model waits while a batch is made; end with `.prefetch(tf.data.AUTOTUNE)`"


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


def _element_bytes(element_spec: Any) -> int:
    """Return the size of an element, of what has a known one."""
    return sum(
        math.prod(spec.shape) * spec.dtype.size
        for spec in tf.nest.flatten(element_spec)
        if isinstance(spec, tf.TensorSpec) and spec.shape.is_fully_defined()
    )


def _memory_bytes() -> int | None:
    """Return the memory of this machine, where the system tells."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


_CHECKS: dict[str, tuple[Callable[[Link, Sequence[Link]], _Found], ...]] = {
    "Cache": (_cached_randomness, _file_cache),
    "Map": (_serial_map, _normalised_on_host),
    "Shard": (_shuffle_before_shard, _unequal_shards),
    "Shuffle": (_unseeded_shuffle, _large_buffer),
}
