"""What a source is, and the indexed kind: any example is reached at once by its number."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from pipelines._dataset import Stage, readable_size
from pipelines._fingerprint import tensors_fingerprint
from pipelines._host import Host
from pipelines._messages import plain_message
from pipelines._order import LARGEST_STEP, Order, epoch_word, when_iterated
from pipelines._stage_chain import stand_for

# Examples per fetch when a set is read in its own order.
_READ_BLOCK = 1024


class Source(Protocol):
    """A finite, numbered set of examples.

    What is read, shuffled and sharded are *raw* examples, such as records; `parse` makes an
    example of one, within the same parallel stage as the user's map.
    """

    @property
    def num_examples(self) -> int:
        """Number of examples, of all hosts together."""

    @property
    def parse(self) -> Callable[[Any], Any]:
        """From a raw example to an example."""

    @property
    def raw_spec(self) -> Any:
        """Structure of `tf.TensorSpec` of one raw example."""

    def steps_per_epoch(self, batch_size: int, host: Host) -> int:
        """Return the steps that every one of the hosts makes per epoch; 0 if one makes none."""

    def in_order(self, start: int, stop: int) -> tf.data.Dataset:
        """Return the raw examples [start, stop) once, in the set's own order."""

    def fingerprint(self, *, version: str) -> list[str]:
        """Return texts that change when the raw examples may; `version` is the user's own."""

    def locate(self, index: int) -> str:
        """Return where the raw example `index` is, in words."""

    def endless(
        self, order: Order, start_step: tf.Variable, *, deterministic: bool
    ) -> tf.data.Dataset:
        """Return keyed raw examples for ever, from the first one of `start_step`.

        The elements are (word of the epoch, (index of the example, raw example)).
        """

    def describe(self) -> Stage:
        """Return the stage that reads the set in its own order."""

    def describe_endless(self, order: Order) -> tuple[Stage, ...]:
        """Return the stages of `endless`."""


def identity(raw: Any) -> Any:
    """Return `raw`, which is an example already."""
    return raw


def example_spec(source: Source) -> Any:
    """Return the structure of `tf.TensorSpec` of one example of `source`."""
    if source.parse is identity:
        return source.raw_spec
    return map_parsed(source, source.in_order(0, source.num_examples)).element_spec


def map_parsed(
    source: Source, raw_examples: tf.data.Dataset, function: Callable[[Any], Any] = identity
) -> tf.data.Dataset:
    """Return `function` of each example of raw ones of `source`, in parallel and in order."""

    def prepare(*components: Any) -> Any:
        # `Dataset.map` spreads a tuple over the arguments.
        raw = components if isinstance(source.raw_spec, tuple) else components[0]
        return function(source.parse(raw))

    if function is not identity:
        stand_for(prepare, function)
    return raw_examples.map(prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


@dataclasses.dataclass(frozen=True)
class IndexedSource:
    """Examples reached by their number.

    Args:
        num_examples: Number of examples.
        fetch: From int64 indices of shape (n,) to the raw examples, each of shape (n, ...).
        raw_spec: Structure of `tf.TensorSpec` of one raw example.
        parse: From a raw example to an example.
        where: Where the examples are and how large they are, for `describe`.
        contents: Returns texts that change when the raw examples may.
    """

    num_examples: int
    fetch: Callable[[tf.Tensor], Any]
    raw_spec: Any
    where: str
    contents: Callable[[], list[str]]
    parse: Callable[[Any], Any] = identity

    def fingerprint(self, *, version: str) -> list[str]:
        """Return texts that change when the raw examples may."""
        return self.contents()

    def locate(self, index: int) -> str:
        """Return where the example `index` is, in words."""
        return f"example {index:,} of {self.where}"

    def steps_per_epoch(self, batch_size: int, host: Host) -> int:
        """Return the steps that every one of the hosts makes per epoch."""
        return self.num_examples // (batch_size * host.count)

    def in_order(self, start: int, stop: int) -> tf.data.Dataset:
        """Return the raw examples [start, stop) once, in the set's own order."""
        return (
            tf.data.Dataset.range(start, stop)
            .batch(_READ_BLOCK)
            .map(self.fetch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
            .unbatch()
            .apply(tf.data.experimental.assert_cardinality(stop - start))
        )

    def endless(
        self, order: Order, start_step: tf.Variable, *, deterministic: bool
    ) -> tf.data.Dataset:
        """Return keyed raw examples for ever, from the first one of `start_step`."""

        def fetch(step: tf.Tensor) -> tuple[tf.Tensor, tuple[tf.Tensor, Any]]:
            epoch, indices = order.batch(step)
            words = tf.fill([order.batch_size], epoch_word(order.seed, epoch))
            return words, (indices, self.fetch(indices))

        # Gathering a whole batch and slicing it up again is 16 times as fast as a gather per
        # example (0.25 against 4.0 ms for 128 examples of 28 x 28 float32).
        return (
            when_iterated(start_step)
            .flat_map(lambda step: tf.data.Dataset.range(step, LARGEST_STEP))
            .map(fetch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=deterministic)
            .unbatch()
        )

    def subset(self, indices: np.ndarray) -> "IndexedSource":
        """Return the examples at int64 `indices`, of shape (n,), in that order."""
        with tf.device("CPU:0"):
            chosen = tf.constant(indices, tf.int64)
        return dataclasses.replace(
            self,
            num_examples=len(indices),
            fetch=lambda places: self.fetch(tf.gather(chosen, places)),
            where=f"{len(indices):,} of {self.where}",
            contents=lambda: [*self.contents(), *tensors_fingerprint([chosen])],
        )

    def describe(self) -> Stage:
        """Return the stage that reads the set in its own order."""
        return Stage(
            "read", self.where, "in the set's own order, so that predictions line up with examples"
        )

    def describe_endless(self, order: Order) -> tuple[Stage, ...]:
        """Return the stages of `endless`."""
        choice = "a permutation of the set per epoch" if order.shuffle else "the set's own order"
        shard: tuple[Stage, ...] = ()
        if order.host.count > 1:
            shard = (
                Stage(
                    "shard",
                    f"one batch of {order.batch_size:,} in {order.host.count} of the order, from "
                    f"batch {order.host.index} on: host {order.host.index} of {order.host.count}",
                    "before anything is read; all hosts share one order and split each step, so "
                    "no example comes twice",
                ),
            )
        return (
            Stage(
                "order",
                f"{choice}, seed {order.seed}",
                "first: indices are shuffled, not examples, so there is no buffer to fill, and "
                "any step is reached at once",
            ),
            *shard,
            Stage("gather", self.where, "by index, a batch at a time"),
        )


def array_source(arrays: Any) -> IndexedSource:
    """Return the source of examples held in memory as arrays of shape (num_examples, ...)."""
    # On an accelerator machine the arrays stay with the input pipeline, on the host.
    with tf.device("CPU:0"):
        try:
            tensors = tf.nest.map_structure(_as_tensor, arrays)
        except TypeError as error:  # tf.nest sorts the names
            raise ValueError(
                "The names in a dictionary of `source` must all be strings. Received an object of "
                f"type {type(arrays).__name__} with names of different types: {error}."
            ) from error
    leaves = tf.nest.flatten(tensors)
    if not leaves:
        raise ValueError("`source` must hold at least one array. Received an empty structure.")
    lengths = {len(leaf) for leaf in leaves}
    if len(lengths) > 1:
        shapes = tf.nest.map_structure(lambda leaf: tuple(leaf.shape), tensors)
        raise ValueError(
            "The arrays of `source` must have the same leading dimension, the number of "
            f"examples. Received the shapes {shapes}."
        )
    for leaf in leaves:
        if 0 in leaf.shape[1:]:
            # `Dataset.unbatch` divides by the size of an example, which ends the process.
            raise ValueError(
                "Every array of `source` must hold something for each example. Received one of "
                f"shape {tuple(leaf.shape)}, whose examples have no elements: leave it out."
            )
    num_examples = lengths.pop()
    return IndexedSource(
        num_examples=num_examples,
        fetch=lambda indices: tf.nest.map_structure(lambda leaf: tf.gather(leaf, indices), tensors),
        raw_spec=tf.nest.map_structure(
            lambda leaf: tf.TensorSpec(leaf.shape[1:], leaf.dtype), tensors
        ),
        where=f"{num_examples:,} examples in memory ({readable_size(_num_bytes(leaves))})",
        contents=lambda: tensors_fingerprint(leaves),
    )


def in_memory(source: Source, *, parsed: bool) -> IndexedSource:
    """Read `source` once and hold its raw examples, or the parsed ones, which are of one shape.

    Raises:
        ValueError: If an example cannot be parsed.
    """
    examples = source.in_order(0, source.num_examples)
    if parsed:
        examples = map_parsed(source, examples)
    try:
        arrays = examples.batch(source.num_examples).get_single_element()
    except tf.errors.InvalidArgumentError as error:
        problem = _parsing_problem(source) if parsed else None
        if problem is None:
            raise
        raise ValueError(problem) from error
    held = array_source(arrays)
    return held if parsed else dataclasses.replace(held, parse=source.parse)


def _parsing_problem(source: Source) -> str | None:
    """Return which example cannot be parsed and why; None if reading is what fails."""
    index = _count_parsed(source)
    try:
        raw = source.in_order(index, index + 1).get_single_element()
    except tf.errors.InvalidArgumentError:
        return None
    try:
        source.parse(raw)
    except tf.errors.InvalidArgumentError as error:
        return (
            f"`source` cannot be parsed at {source.locate(index)}: {plain_message(error)}. Correct "
            "it, leave it out, or give the feature a default in `features`."
        )
    return None


def _count_parsed(source: Source) -> int:
    """Return how many examples come before the first one that fails."""
    count = 0
    parsed = iter(map_parsed(source, source.in_order(0, source.num_examples)))
    try:
        while next(parsed, None) is not None:
            count += 1
    except tf.errors.InvalidArgumentError:
        return count
    return count


def select_features(element: Any, keep: Sequence[str] | None) -> Any:
    """Return the entries of `element` named in `keep`; with None, all of it."""
    if keep is None:
        return element
    if isinstance(keep, str) or not keep:
        raise ValueError(
            f"`keep` must be a sequence of feature names, such as ('image', 'label'). "
            f"Received: {keep!r}."
        )
    if not isinstance(element, Mapping):
        raise ValueError(
            "`keep` selects features by name, and the examples of `source` have no names: they "
            f"are of type {type(element).__name__}. Pass a dictionary of arrays, or remove `keep`."
        )
    missing = sorted(set(keep) - set(element))
    if missing:
        raise ValueError(
            f"`keep` names features that `source` lacks: {missing}. It has {sorted(element)}."
        )
    return {name: element[name] for name in keep}


def _num_bytes(leaves: Sequence[tf.Tensor]) -> int:
    return sum(
        int(tf.reduce_sum(tf.cast(tf.strings.length(leaf), tf.int64)))
        if leaf.dtype == tf.string
        else leaf.dtype.size * int(np.prod(leaf.shape))
        for leaf in leaves
    )


def _as_tensor(array: Any) -> tf.Tensor:
    if not hasattr(array, "shape") or not hasattr(array, "dtype") or len(array.shape) == 0:
        raise ValueError(
            "Every component of `source` must be an array whose first dimension counts the "
            f"examples. Received an object of type {type(array).__name__}: {array!r:.60}. "
            "Convert it with np.asarray(...)."
        )
    if isinstance(array, tf.RaggedTensor | tf.SparseTensor):
        raise ValueError(
            f"Every component of `source` must be a dense array. Received a {type(array).__name__} "
            f"of shape {tuple(array.shape)}: convert it with `to_tensor()` or `tf.sparse.to_dense`."
        )
    if np.ma.is_masked(array):
        raise ValueError(
            f"An array of `source`, of shape {tuple(array.shape)}, masks "
            f"{np.ma.count_masked(array)} values, and a tensor has no mask. Fill them in with "
            "`array.filled(value)`, and pass the mask as a component of its own or as "
            "`sample_weight`."
        )
    if array.dtype == object and len({np.shape(example) for example in array}) > 1:
        raise ValueError(
            f"An array of `source`, of shape {tuple(array.shape)}, holds examples of different "
            f"shapes, such as {np.shape(array[0])} and "
            f"{next(np.shape(e) for e in array if np.shape(e) != np.shape(array[0]))}. Every "
            "example must have one shape: pad or resize them before."
        )
    try:
        return tf.convert_to_tensor(array)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"An array of `source`, of dtype {array.dtype} and shape {tuple(array.shape)}, cannot "
            f"become a tensor: {error}. Give it a numeric, boolean or string dtype."
        ) from error
