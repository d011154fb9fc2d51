"""Endless training input whose order is a pure function of (seed, epoch, step)."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from pipelines._checks import check_count, check_flag, check_seed
from pipelines._dataset import PREFETCH, Pipeline, Stage, pipeline_options
from pipelines._host import Host, check_host
from pipelines._map import ExampleMap, check_static_shapes
from pipelines._open import TfdsOptions, open_source
from pipelines._order import Order
from pipelines._sources import Source, example_spec, identity
from pipelines._stage_chain import stand_for


class TrainingPipeline(Pipeline):
    """Endless batches for `fit`, all of one shape.

    `training_pipeline` makes it; its constructor is not for users. Each iteration, so each call of
    `fit`, begins at the step that `start_step` holds.
    """

    def __init__(
        self,
        source: Source,
        order: Order,
        example_map: ExampleMap | None,
        *,
        deterministic: bool,
        sharded: bool,
        start_step: int = 0,
    ) -> None:
        self._source = source
        self._order = order
        self._map = example_map
        self._deterministic = deterministic
        self._sharded = sharded
        # In the host's memory, where the input pipeline runs.
        with tf.device("CPU:0"):
            self._start_step = tf.Variable(
                start_step, dtype=tf.int64, trainable=False, name="start_step"
            )
        super().__init__(self._build(), stages=self._describe())

    @property
    def batch_size(self) -> int:
        """Examples per step on this host."""
        return self._order.batch_size

    @property
    def num_examples(self) -> int:
        """Examples in the source, of all hosts together."""
        return self._order.num_examples

    @property
    def host(self) -> Host:
        """The host that reads; `Host(0, 1)` without sharding."""
        return self._order.host

    @property
    def seed(self) -> int:
        """The seed of the order and of the map."""
        return self._order.seed

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch, on every host; pass it to `fit`, since the pipeline never ends."""
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
        return TrainingPipeline(
            self._source,
            self._order,
            self._map,
            deterministic=self._deterministic,
            sharded=self._sharded,
            start_step=step,
        )

    def _build(self) -> tf.data.Dataset:
        raw_examples = self._source.endless(
            self._order, self._start_step, deterministic=self._deterministic
        )
        parse, example_map = self._source.parse, self._map
        if parse is identity and example_map is None:
            check_static_shapes(self._source.raw_spec)
            # The keys are dropped a batch at a time: a call per example would cost more than all
            # the rest.
            batches = raw_examples.batch(self.batch_size, drop_remainder=True).map(
                lambda _, indexed_examples: indexed_examples[1]
            )
        else:

            def prepare(epoch_word: tf.Tensor, indexed_raw: tuple[tf.Tensor, Any]) -> Any:
                index, example = indexed_raw[0], parse(indexed_raw[1])
                return example if example_map is None else example_map(epoch_word, (index, example))

            if example_map is not None:
                stand_for(prepare, example_map.function)
            # Parsed and mapped in one parallel stage, so that an example changes threads once.
            examples = raw_examples.map(
                prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=self._deterministic
            )
            check_static_shapes(examples.element_spec)
            batches = examples.batch(self.batch_size, drop_remainder=True)
        endless = batches.apply(
            tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
        )
        return endless.prefetch(tf.data.AUTOTUNE).with_options(
            pipeline_options(deterministic=self._deterministic, sharded=self._sharded)
        )

    def _describe(self) -> tuple[Stage, ...]:
        order = self._order
        dropped = (
            "nothing dropped"
            if order.num_dropped == 0
            else f"{order.num_dropped:,} of {order.num_examples:,} dropped"
        )
        if order.num_dropped and order.shuffle:
            dropped += ", others each epoch"
        mapped: list[Stage] = []
        if self._map is not None:
            mapped.append(self._map.describe(deterministic=self._deterministic))
        free = () if self._deterministic else (_FREE_ORDER,)
        hosts = f" on each of {order.host.count:,} hosts" if order.host.count > 1 else ""
        return (
            *self._source.describe_endless(order),
            *mapped,
            *free,
            Stage(
                "batch",
                f"{order.batch_size:,} examples{hosts}, {order.steps_per_epoch:,} steps per "
                f"epoch, {dropped}",
                "after the map, which sees single examples; every batch has one static shape",
            ),
            PREFETCH,
        )


_FREE_ORDER = Stage(
    "free order",
    "examples pass on as they are ready",
    "deterministic=False: a slow one holds up none, but two runs differ, and one that is resumed "
    "may repeat or miss the examples that were under way",
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
    host: Host | None = None,
    deterministic: bool = True,
    split: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
    encoded: Sequence[str] | None = None,
    cache_bytes: int = 512 * 2**20,
) -> TrainingPipeline:
    """Return endless training batches, the same ones for the same seed.

    Step `s` lies in epoch `e = s // steps_per_epoch`. *Indexed* sources are arrays, ArrayRecord
    files, image folders, and whatever fits into `cache_bytes`: there, with N examples, a batch
    size of B and H hosts, `steps_per_epoch = N // (B * H)`, and slot `i` of step `s` of host `h`
    holds the example

        permutation[seed, e](((s % steps_per_epoch) * H + h) * B + i),

    a pure function of (seed, step, host): it does not depend on the process, on the global seed or
    on what ran before, and any step is reached at once (`TrainingPipeline.starting_at`,
    `TrainingPipeline.start_step`). *Streams* are larger TFRecord files, larger TFDS sets and every
    `tf.data.Dataset`. Their files are permuted by (seed, e), up to 16 are read at a time, and the
    records are shuffled through a buffer whose seed is made of (seed, e, host): as repeatable, if
    the stream is, but less well mixed when the buffer is smaller than the set. A step within an
    epoch is reached by reading and skipping what comes before it in that epoch, at most one epoch
    of records, which are neither parsed nor decoded.

    An epoch holds each example at most once: what does not fill a batch on every host is dropped.
    With `shuffle` these are others in every epoch (in a stream, as far as its buffer reaches);
    without, always the same.

    Memory is bounded by the shuffle buffer and the records read ahead of it (`describe` says how
    much they hold of a set of files), by the batches under way, and by `cache_bytes`.

    Args:
        source: One of

            - a tuple of arrays, (x, y) or (x, y, sample_weight), each of shape (num_examples, ...)
              or a nested structure of such arrays;
            - a dictionary of such arrays;
            - `TFRecordFiles`, `ArrayRecordFiles` or `ImageFolders`;
            - what `cache_offline` returned;
            - a finite `tf.data.Dataset` of single examples with known cardinality, or a function
              without arguments that returns one;
            - a prepared TFDS builder, or the name of a TFDS data set.

            A TFDS example is the builder's supervised pair (input, target) if it declares one,
            and otherwise, or with `keep`, a dictionary of its features.
        batch_size: Examples per step, on each host; at least 1, and times the number of hosts at
            most num_examples.
        seed: Integer in [0, 2**63). Decides the order and the seeds given to `map`. The same on
            all hosts.
        map: Function of one example, given as positional components, (x, y) -> (x, y), or as one
            dictionary. It runs in parallel, and in order. With a `seed` argument it is also given
            a stateless seed, an int64 tensor of shape (2,) that is a pure function of
            (seed, epoch, index of the example): augment with `tf.image.stateless_random_*`, and
            make further seeds with `tf.random.split`. It must return examples of one static shape.
        keep: Names of the features to keep, for dictionaries; the others are dropped first, and
            from files not even parsed or decoded.
        shuffle: Whether the order is shuffled.
        shuffle_buffer_size: Examples in the shuffle buffer, at least 1; for streams only.
        host: Which of several hosts reads, each a disjoint share. An indexed source splits each
            step of one order among the hosts. TFRecord files are shared out whole where that costs
            no step, and otherwise as ranges of records, even to one. Of a `tf.data.Dataset` every
            host reads all and keeps its part. All hosts make the same number of steps. With a
            host, `tf.distribute` does not shard again.
        deterministic: Whether the order is kept. False lets examples pass one that is slow to read
            or to map. That gains time only where costs vary, and it loses what is said above: two
            runs differ, and a resumed run may repeat or miss the examples that were under way.
        split: Split of a TFDS set, such as "train" or "train[:80%]".
        data_dir: Directory of a TFDS name; by default TFDS' own.
        download: Whether to download and prepare a TFDS set that is not there yet.
        encoded: Names of TFDS image features to hand on as the encoded bytes, for
            `decode_and_random_crop` in `map`.
        cache_bytes: A TFDS split, or record files, of at most so many bytes, at least 0, are read
            into memory once: parsed and decoded if that is small enough and of one shape,
            otherwise as records. Larger ones are streamed.

    Returns:
        A `tf.data.Dataset` of batches of shape (batch_size, ...), of infinite cardinality.

    Raises:
        ValueError: If an argument is out of range; if `source` is empty, smaller than a batch on
            every host, of unknown or infinite length, or made of arrays of unequal lengths; if a
            named file, feature, split or data set is not there; if `map` fails, is random without
            its seed, or returns examples of no static shape.
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
    deterministic = check_flag("deterministic", deterministic)
    opened = open_source(
        source,
        keep=keep,
        tfds=TfdsOptions(split, data_dir, download, encoded),
        cache_bytes=check_count("cache_bytes", cache_bytes, minimum=0),
        shuffle_buffer_size=check_count("shuffle_buffer_size", shuffle_buffer_size, minimum=1),
    )
    reader = check_host(host)
    if batch_size * reader.count > opened.num_examples:
        raise ValueError(_too_large(batch_size, reader.count, opened.num_examples))
    order = Order(
        num_examples=opened.num_examples,
        batch_size=batch_size,
        seed=seed,
        shuffle=check_flag("shuffle", shuffle),
        steps_per_epoch=opened.steps_per_epoch(batch_size, reader),
        host=reader,
    )
    example_map = None
    if map is not None:
        example_map = ExampleMap(map, example_spec(opened), training=True)
    return TrainingPipeline(
        opened, order, example_map, deterministic=deterministic, sharded=host is not None
    )


def _too_large(batch_size: int, hosts: int, num_examples: int) -> str:
    if hosts == 1:
        return (
            f"`batch_size` must be at most the number of examples, {num_examples}, since "
            f"training drops what fills no batch. Received: {batch_size}."
        )
    return (
        f"`batch_size` times the number of hosts must be at most the number of examples, or no "
        f"step is the same on all hosts. Received: {batch_size} * {hosts} = {batch_size * hosts}, "
        f"above {num_examples}. Lower `batch_size` to {num_examples // hosts} or fewer, or use "
        "fewer hosts."
    )
