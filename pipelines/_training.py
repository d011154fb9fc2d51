"""Endless training input whose order is a pure function of (seed, epoch, step)."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from pipelines._checks import check_count, check_flag, check_seed
from pipelines._dataset import PREFETCH, Pipeline, Stage, deterministic_options
from pipelines._map import ExampleMap, check_static_shapes
from pipelines._open import open_source
from pipelines._order import Order
from pipelines._sources import Source


class TrainingPipeline(Pipeline):
    """Endless batches for `fit`, all of one shape.

    `training_pipeline` makes it; its constructor is not for users. Each iteration, so each call of
    `fit`, begins at the step that `start_step` holds.
    """

    def __init__(
        self, source: Source, order: Order, example_map: ExampleMap | None, *, start_step: int = 0
    ) -> None:
        self._source = source
        self._order = order
        self._map = example_map
        # In the host's memory, where the input pipeline runs.
        with tf.device("CPU:0"):
            self._start_step = tf.Variable(
                start_step, dtype=tf.int64, trainable=False, name="start_step"
            )
        super().__init__(self._build(), stages=self._describe())

    @property
    def batch_size(self) -> int:
        """Examples per step."""
        return self._order.batch_size

    @property
    def num_examples(self) -> int:
        """Examples in the source."""
        return self._order.num_examples

    @property
    def seed(self) -> int:
        """The seed of the order and of the map."""
        return self._order.seed

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in the source; pass it to `fit`, since the pipeline never ends."""
        return self._order.steps_per_epoch

    @property
    def start_step(self) -> tf.Variable:
        """Step at which the next iteration begins: an int64 scalar variable.

        `start_step.assign(step)` seeks, also from `Callback.on_train_begin`. An iteration under
        way is not affected; one that begins at a negative step raises `InvalidArgumentError`.
        """
        return self._start_step

    def starting_at(self, step: int) -> "TrainingPipeline":
        """Return the same pipeline beginning at `step`, counted from 0 over all epochs.

        Its first batch is, bit for bit, the batch `step` of this pipeline begun at 0. The arrays
        of the source are shared, not copied.

        Raises:
            ValueError: If `step` is not an integer of at least 0.
        """
        step = check_count("step", step, minimum=0)
        return TrainingPipeline(self._source, self._order, self._map, start_step=step)

    def _build(self) -> tf.data.Dataset:
        keyed_examples = self._source.endless(self._order, self._start_step)
        if self._map is None:
            check_static_shapes(self._source.element_spec)
            # The keys are dropped a batch at a time: a call per example would cost more than all
            # the rest.
            batches = keyed_examples.batch(self.batch_size, drop_remainder=True).map(
                lambda _, indexed_examples: indexed_examples[1]
            )
        else:
            examples = keyed_examples.map(
                self._map, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
            )
            check_static_shapes(examples.element_spec)
            batches = examples.batch(self.batch_size, drop_remainder=True)
        endless = batches.apply(
            tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
        )
        return endless.prefetch(tf.data.AUTOTUNE).with_options(deterministic_options())

    def _describe(self) -> tuple[Stage, ...]:
        remainder = self.num_examples - self.steps_per_epoch * self.batch_size
        dropped = (
            "nothing dropped"
            if remainder == 0
            else f"{remainder:,} of {self.num_examples:,} dropped"
        )
        if remainder and self._order.shuffle:
            dropped += ", others each epoch"
        mapped = () if self._map is None else (self._map.describe(),)
        return (
            *self._source.describe_endless(self._order),
            *mapped,
            Stage(
                "batch",
                f"{self.batch_size:,} examples, {self.steps_per_epoch:,} steps per epoch, "
                f"{dropped}",
                "after the map, which sees single examples; every batch has one static shape",
            ),
            PREFETCH,
        )


def training_pipeline(
    source: Any,
    *,
    batch_size: int,
    seed: int,
    map: Callable[..., Any] | None = None,
    keep: Sequence[str] | None = None,
    shuffle: bool = True,
    shuffle_buffer_size: int = 10_000,
    split: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
    cache_bytes: int = 512 * 2**20,
) -> TrainingPipeline:
    """Return endless training batches, the same ones for the same seed.

    Step `s` lies in epoch `e = s // steps_per_epoch`, where
    `steps_per_epoch = num_examples // batch_size`. For arrays, and for TFDS sets that fit into
    `cache_bytes`, slot `i` of step `s` holds the example

        permutation[seed, e]((s % steps_per_epoch) * batch_size + i),

    a pure function of (seed, step): it does not depend on the process, on the global seed or on
    what ran before, and any step is reached at once (`TrainingPipeline.starting_at`,
    `TrainingPipeline.start_step`). Streams (a `tf.data.Dataset`, a larger TFDS set) are shuffled
    through a buffer whose seed is made of (seed, e): as repeatable, if the stream is, but less well
    mixed when the buffer is smaller than the set, and a step within an epoch is reached by reading
    and skipping what comes before it.

    An epoch holds each example at most once: the last `num_examples % batch_size` of its order are
    dropped. With `shuffle` these are others in every epoch; without, always the same.

    Args:
        source: One of

            - a tuple of arrays, (x, y) or (x, y, sample_weight), each of shape (num_examples, ...)
              or a nested structure of such arrays;
            - a dictionary of such arrays;
            - a finite `tf.data.Dataset` of single examples with known cardinality;
            - a prepared TFDS builder, or the name of a TFDS data set.

            A TFDS example is the builder's supervised pair (input, target) if it declares one,
            and otherwise, or with `keep`, a dictionary of its features.
        batch_size: Examples per step, in [1, num_examples].
        seed: Integer in [0, 2**63). Decides the order and the seeds given to `map`.
        map: Function of one example, given as positional components, (x, y) -> (x, y), or as one
            dictionary. It runs in parallel, and in order. With a `seed` argument it is also given
            a stateless seed, an int64 tensor of shape (2,) that is a pure function of
            (seed, epoch, index of the example): augment with `tf.image.stateless_random_*`, and
            make further seeds with `tf.random.split`. It must return examples of one static shape.
        keep: Names of the features to keep, for dictionaries; the others are dropped first, and
            from TFDS not even decoded.
        shuffle: Whether the order is shuffled.
        shuffle_buffer_size: Examples in the shuffle buffer, at least 1; for streams only.
        split: Split of a TFDS set, such as "train" or "train[:80%]".
        data_dir: Directory of a TFDS name; by default TFDS' own.
        download: Whether to download and prepare a TFDS set that is not there yet.
        cache_bytes: A TFDS split of at most so many decoded bytes, at least 0, is read into memory
            once; a larger one is streamed.

    Returns:
        A `tf.data.Dataset` of batches of shape (batch_size, ...), of infinite cardinality.

    Raises:
        ValueError: If an argument is out of range; if `source` is empty, smaller than a batch, of
            unknown or infinite length, or made of arrays of unequal lengths; if a named feature,
            split or data set is not there; if `map` fails, is random without its seed, or returns
            examples of no static shape.
        ConnectionError: If a TFDS set has to be downloaded and there is no network.
        ImportError: If a TFDS name is given and tensorflow-datasets is not installed.

    Examples:
        >>> import numpy as np
        >>> import pipelines
        >>> x, y = np.arange(20.0).reshape(10, 2), np.arange(10)
        >>> train = pipelines.training_pipeline((x, y), batch_size=4, seed=0)
        >>> train.steps_per_epoch
        2
        >>> batches = list(train.take(6))
        >>> resumed = next(iter(train.starting_at(5)))
        >>> bool(np.all(resumed[0] == batches[5][0]))
        True

    The playbook's I9 (drop unused features early, prefetch) and J3 (data seeds).
    """
    batch_size = check_count("batch_size", batch_size, minimum=1)
    seed = check_seed(seed)
    opened = open_source(
        source,
        keep=keep,
        split=split,
        data_dir=data_dir,
        download=download,
        cache_bytes=check_count("cache_bytes", cache_bytes, minimum=0),
        shuffle_buffer_size=check_count("shuffle_buffer_size", shuffle_buffer_size, minimum=1),
    )
    if batch_size > opened.num_examples:
        raise ValueError(
            f"`batch_size` must be at most the number of examples, {opened.num_examples}, since "
            f"training drops what fills no batch. Received: {batch_size}."
        )
    order = Order(
        num_examples=opened.num_examples,
        batch_size=batch_size,
        seed=seed,
        shuffle=check_flag("shuffle", shuffle),
    )
    example_map = None if map is None else ExampleMap(map, opened.element_spec, training=True)
    return TrainingPipeline(opened, order, example_map)
