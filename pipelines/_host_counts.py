"""How many elements each host gets at the end of a pipeline that is sharded within."""

from collections.abc import Callable

import tensorflow as tf

from pipelines._stage_chain import kind_of

ENDLESS = float("inf")


def host_counts(dataset: tf.data.Dataset, count: int) -> list[float] | None:
    """Return the number of elements that `dataset` gives to each of `count` hosts.

    Each `shard(count, ...)` in it counts as that of the host in question.

    Returns:
        One number per host, `ENDLESS` without an end; None where it cannot be told, as it depends
        on the elements.

    Examples:
        >>> import tensorflow as tf
        >>> host_counts(tf.data.Dataset.range(11).shard(2, 0).batch(3), 2)
        [2.0, 2.0]
        >>> host_counts(tf.data.Dataset.range(11).shard(2, 0).filter(lambda x: x > 3), 2)
    """
    counts = [_count(dataset, count, index) for index in range(count)]
    known = [found for found in counts if found is not None]
    return known if len(known) == count else None


def _count(dataset: tf.data.Dataset, hosts: int, index: int) -> float | None:
    kind = kind_of(type(dataset).__name__.strip("_"))
    inputs = dataset._inputs()
    if not inputs or kind == "AssertCardinality":
        number = int(dataset.cardinality())
        if number == tf.data.INFINITE_CARDINALITY:
            return ENDLESS
        return None if number < 0 else float(number)
    if kind == "Repeat" and _endless(dataset._count):
        # Even of what is not known, unless it is nothing.
        return 0.0 if _count(inputs[0], hosts, index) == 0 else ENDLESS
    given = [_count(each, hosts, index) for each in inputs]
    known = [number for number in given if number is not None]
    if len(known) < len(given):
        return None
    if kind == "Shard" and int(dataset._num_shards) == hosts:
        return _share(known[0], hosts, index)
    wraps = len(inputs) == 1 and inputs[0]._variant_tensor is dataset._variant_tensor
    if wraps or kind in _AS_MANY:
        return known[0]
    change = _CHANGES.get(kind)
    return None if change is None else change(dataset, known)


def _endless(number: tf.Tensor | None) -> bool:
    return number is None or int(number) < 0


def _batched(dataset: tf.data.Dataset, given: list[float]) -> float:
    size = int(dataset._batch_size)
    if given[0] == ENDLESS:
        return ENDLESS
    return given[0] // size if bool(dataset._drop_remainder) else -(-given[0] // size)


def _taken(dataset: tf.data.Dataset, given: list[float]) -> float:
    return given[0] if _endless(dataset._count) else min(given[0], float(int(dataset._count)))


def _skipped(dataset: tf.data.Dataset, given: list[float]) -> float:
    return 0.0 if _endless(dataset._count) else max(given[0] - int(dataset._count), 0.0)


def _repeated(dataset: tf.data.Dataset, given: list[float]) -> float:
    number = int(dataset._count)
    return given[0] * number if number else 0.0


def _sharded_otherwise(dataset: tf.data.Dataset, given: list[float]) -> float:
    return _share(given[0], int(dataset._num_shards), int(dataset._index))


def _share(number: float, hosts: int, index: int) -> float:
    """Return how many of `number` elements have a place of `index` modulo `hosts`."""
    return ENDLESS if number == ENDLESS else max(0.0, (number - index + hosts - 1) // hosts)


_AS_MANY = frozenset({"Cache", "Map", "Options", "Prefetch", "Scan", "Shuffle"})
_CHANGES: dict[str, Callable[[tf.data.Dataset, list[float]], float]] = {
    "Batch": _batched,
    "Concatenate": lambda _, given: sum(given),
    "PaddedBatch": _batched,
    "Repeat": _repeated,
    "Shard": _sharded_otherwise,
    "Skip": _skipped,
    "Take": _taken,
    "Zip": lambda _, given: min(given),
}
