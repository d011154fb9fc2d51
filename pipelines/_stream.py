"""Sources that are read from front to back, and shuffled through a buffer."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import tensorflow as tf

from pipelines._dataset import Stage, readable_size
from pipelines._fingerprint import dataset_fingerprint
from pipelines._host import Host
from pipelines._order import LARGEST_STEP, Order, epoch_word, epoch_words, when_iterated
from pipelines._sources import identity


class Stream(Protocol):
    """Raw examples that can only be read in order, as a whole or as one host's share."""

    @property
    def num_examples(self) -> int:
        """Number of raw examples, of all hosts together."""

    @property
    def raw_spec(self) -> Any:
        """Structure of `tf.TensorSpec` of one raw example."""

    @property
    def parse(self) -> Callable[[Any], Any]:
        """From a raw example to an example."""

    @property
    def num_bytes(self) -> int | None:
        """Size of all raw examples, or None if it is not known."""

    def shard_lengths(self, count: int, batch_size: int) -> list[int]:
        """Return the number of examples of each of `count` hosts."""

    def in_order(self, start: int, stop: int) -> tf.data.Dataset:
        """Return the raw examples [start, stop)."""

    def fingerprint(self, *, version: str) -> list[str]:
        """Return texts that change when the raw examples may; `version` is the user's own."""

    def locate(self, index: int) -> str:
        """Return where the raw example `index` is, in words."""

    def epoch(self, order: Order, epoch: tf.Tensor, *, deterministic: bool) -> tf.data.Dataset:
        """Return the (index, raw example) pairs of `order.host` in `epoch`, not yet shuffled."""

    def describe(self) -> Stage:
        """Return the stage that reads the stream in order."""

    def describe_epoch(self, order: Order) -> tuple[Stage, ...]:
        """Return the stages of `epoch`."""


@dataclasses.dataclass(frozen=True)
class StreamSource:
    """A stream as a source.

    Args:
        stream: What is read.
        shuffle_buffer_size: Examples held by the shuffle.
    """

    stream: Stream
    shuffle_buffer_size: int

    @property
    def num_examples(self) -> int:
        """Number of examples, of all hosts together."""
        return self.stream.num_examples

    @property
    def parse(self) -> Callable[[Any], Any]:
        """From a raw example to an example."""
        return self.stream.parse

    @property
    def raw_spec(self) -> Any:
        """Structure of `tf.TensorSpec` of one raw example."""
        return self.stream.raw_spec

    def steps_per_epoch(self, batch_size: int, host: Host) -> int:
        """Return the steps that every one of the hosts makes: those of the smallest share."""
        return min(self.stream.shard_lengths(host.count, batch_size)) // batch_size

    def in_order(self, start: int, stop: int) -> tf.data.Dataset:
        """Return the raw examples [start, stop) once, as the stream gives them."""
        return self.stream.in_order(start, stop).apply(
            tf.data.experimental.assert_cardinality(stop - start)
        )

    def fingerprint(self, *, version: str) -> list[str]:
        """Return texts that change when the raw examples may."""
        return self.stream.fingerprint(version=version)

    def locate(self, index: int) -> str:
        """Return where the example `index` is, in words."""
        return self.stream.locate(index)

    def endless(
        self, order: Order, start_step: tf.Variable, *, deterministic: bool
    ) -> tf.data.Dataset:
        """Return keyed raw examples for ever, from the first one of `start_step`.

        The epoch of `start_step` begins at once; within it, raw examples are read and skipped.
        """
        examples_per_epoch = order.steps_per_epoch * order.batch_size

        def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
            examples = self.stream.epoch(order, epoch, deterministic=deterministic)
            if order.shuffle:
                examples = self._shuffle(examples, order, epoch)
            words = tf.data.Dataset.from_tensors(epoch_word(order.seed, epoch)).repeat()
            return tf.data.Dataset.zip(words, examples.take(examples_per_epoch))

        def from_step(step: tf.Tensor) -> tf.data.Dataset:
            epochs = tf.data.Dataset.range(step // order.steps_per_epoch, LARGEST_STEP)
            skipped_steps = step % order.steps_per_epoch
            return epochs.flat_map(one_epoch).skip(skipped_steps * order.batch_size)

        return when_iterated(start_step).flat_map(from_step)

    def describe(self) -> Stage:
        """Return the stage that reads the stream."""
        return self.stream.describe()

    def describe_endless(self, order: Order) -> tuple[Stage, ...]:
        """Return the stages of `endless`."""
        read = self.stream.describe_epoch(order)
        if not order.shuffle:
            return read
        lengths = self.stream.shard_lengths(order.host.count, order.batch_size)
        held = min(self.shuffle_buffer_size, lengths[order.host.index])
        size = self.stream.num_bytes
        memory = (
            "" if size is None else f" (about {readable_size(size * held // self.num_examples)})"
        )
        own = f", host {order.host.index}" if order.host.count > 1 else ""
        return (
            *read,
            Stage(
                "shuffle",
                f"buffer of {held:,} examples{memory}, seed {order.seed}{own}, anew each epoch",
                "before the map, so that the buffer holds raw examples; a step within an epoch is "
                "reached by reading and skipping",
            ),
        )

    def _shuffle(
        self, examples: tf.data.Dataset, order: Order, epoch: tf.Tensor
    ) -> tf.data.Dataset:
        # `Dataset.shuffle` mixes the program's global seed into its own. The op takes exactly the
        # two words it is given. Each host takes two of its own.
        words = tf.unstack(epoch_words(order.seed, epoch, 3 + 2 * order.host.index))
        shuffled = tf.raw_ops.ShuffleDataset(
            input_dataset=tf.data.experimental.to_variant(examples),
            buffer_size=tf.constant(self.shuffle_buffer_size, tf.int64),
            seed=words[-2],
            seed2=words[-1],
            reshuffle_each_iteration=False,
            output_types=[spec.dtype for spec in tf.nest.flatten(examples.element_spec)],
            output_shapes=[spec.shape for spec in tf.nest.flatten(examples.element_spec)],
        )
        return tf.data.experimental.from_variant(shuffled, examples.element_spec)


@dataclasses.dataclass(frozen=True)
class DatasetStream:
    """A `tf.data.Dataset` of single examples, of which nothing else is known.

    Args:
        dataset: The examples.
        num_examples: Their number.
    """

    dataset: tf.data.Dataset
    num_examples: int

    @property
    def raw_spec(self) -> Any:
        """Structure of `tf.TensorSpec` of one example."""
        return self.dataset.element_spec

    @property
    def parse(self) -> Callable[[Any], Any]:
        """The identity: the examples are as they should be."""
        return identity

    @property
    def num_bytes(self) -> int | None:
        """None: examples may be of any size."""
        return None

    def shard_lengths(self, count: int, batch_size: int) -> list[int]:
        """Return the number of examples of each of `count` hosts."""
        return [len(range(index, self.num_examples, count)) for index in range(count)]

    def in_order(self, start: int, stop: int) -> tf.data.Dataset:
        """Return the examples [start, stop)."""
        if (start, stop) == (0, self.num_examples):
            return self.dataset
        return self.dataset.skip(start).take(stop - start)

    def fingerprint(self, *, version: str) -> list[str]:
        """Return the fingerprint of the dataset's operations and constants."""
        return dataset_fingerprint(self.dataset, version=version)

    def locate(self, index: int) -> str:
        """Return where the example `index` is, in words."""
        return f"example {index:,} of the dataset"

    def epoch(self, order: Order, epoch: tf.Tensor, *, deterministic: bool) -> tf.data.Dataset:
        """Return the (index, example) pairs of `order.host`."""
        stated = tf.data.experimental.assert_cardinality(self.num_examples)
        return self.dataset.apply(stated).enumerate().shard(order.host.count, order.host.index)

    def describe(self) -> Stage:
        """Return the stage that reads the stream in order."""
        return Stage(
            "read", f"{self.num_examples:,} examples, streamed", "in the stream's own order"
        )

    def describe_epoch(self, order: Order) -> tuple[Stage, ...]:
        """Return the stages of `epoch`."""
        host = order.host
        if host.count == 1:
            return (self.describe(),)
        return (
            self.describe(),
            Stage(
                "shard",
                f"one example in {host.count}, from example {host.index} on: host {host.index} of "
                f"{host.count}",
                "before the shuffle, or examples would come twice; every host reads the whole "
                "stream, as nothing is known of its files",
            ),
        )
