"""Evaluation input: one pass in order, in batches of one shape, exact over the whole set."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from pipelines._checks import check_count, check_flag
from pipelines._dataset import PREFETCH, Pipeline, Stage, pipeline_options
from pipelines._host import Host, check_host, share
from pipelines._map import ExampleMap, check_static_shapes
from pipelines._open import TfdsOptions, open_source
from pipelines._sample import take_sample
from pipelines._sources import Source, example_spec, identity, map_parsed
from pipelines._stage_chain import stand_for


class EvaluationPipeline(Pipeline):
    """One pass of (x, y, sample_weight) batches of one shape.

    `evaluation_pipeline` makes it; its constructor is not for users.
    """

    def __init__(
        self,
        source: Source,
        example_map: ExampleMap | None,
        *,
        batch_size: int,
        unit_weights: bool,
        loss_rank: int | None,
        host: Host | None,
    ) -> None:
        self._source = source
        self._map = example_map
        self._batch_size = batch_size
        self._loss_rank = loss_rank
        self._host = check_host(host)
        self._sharded = host is not None
        self._start, self._stop = share(source.num_examples, self._host)
        rows = self.steps * batch_size * self._host.count
        self._weight = 1.0 if unit_weights else rows / source.num_examples
        super().__init__(self._build(), stages=self._describe())

    @property
    def batch_size(self) -> int:
        """Examples per step, padding included."""
        return self._batch_size

    @property
    def num_examples(self) -> int:
        """Examples in the pass, of all hosts together, padding not included."""
        return self._source.num_examples

    @property
    def host(self) -> Host:
        """The host that reads; `Host(0, 1)` without sharding."""
        return self._host

    @property
    def steps(self) -> int:
        """Batches in the pass, on every host."""
        largest_share = -(-self.num_examples // self._host.count)
        return -(-largest_share // self.batch_size)

    def _build(self) -> tf.data.Dataset:
        raw_examples = self._source.in_order(self._start, self._stop)
        if -(-(self._stop - self._start) // self.batch_size) < self.steps:
            # The shares of hosts differ by one example, which may take a batch of its own; here
            # that batch is all padding.
            last = self._source.in_order(self._stop - 1, self._stop)
            raw_examples = raw_examples.concatenate(last)
        examples = raw_examples
        if self._map is not None or self._source.parse is not identity:
            examples = map_parsed(self._source, raw_examples, _preparation(self._map))
        check_static_shapes(examples.element_spec)
        _check_components(examples.element_spec)
        _check_loss_rank(self._loss_rank, examples.element_spec)
        return (
            examples.batch(self.batch_size)
            .enumerate()
            .map(
                lambda step, batch: self._pad(step, *batch),
                num_parallel_calls=tf.data.AUTOTUNE,
                deterministic=True,
            )
            .prefetch(tf.data.AUTOTUNE)
            .with_options(pipeline_options(deterministic=True, sharded=self._sharded))
        )

    def _pad(self, step: tf.Tensor, x: Any, y: Any, sample_weight: Any = None) -> Any:
        size = tf.shape(tf.nest.flatten(x)[0])[0]
        rows = tf.range(self.batch_size)
        own_rows = tf.cast(self._stop - self._start - step * self.batch_size, tf.int32)
        # The last real example is repeated. Zeros could make a loss NaN, and 0 * NaN is NaN.
        x, y = tf.nest.map_structure(
            lambda leaf: tf.gather(leaf, tf.minimum(rows, size - 1)), (x, y)
        )
        weight = self._weight * tf.cast(rows < tf.minimum(size, own_rows), tf.float32)
        if sample_weight is not None:
            own = tf.gather(tf.cast(sample_weight, tf.float32), tf.minimum(rows, size - 1))
            weight = own * _with_rank(weight, own.shape.rank)
        if weight.shape.rank > 1:
            return x, y, weight
        return x, y, tf.nest.map_structure(lambda leaf: _with_rank(weight, self._rank_of(leaf)), y)

    def _rank_of(self, y: tf.Tensor) -> int:
        """Rank of the unreduced loss of a target of batched shape (batch_size, ...)."""
        if self._loss_rank is not None:
            return self._loss_rank
        rank = y.shape.rank
        if rank == 1 or y.shape[-1] == 1:
            return max(rank - 1, 1)
        # Integers may be classes, with a loss for each. Keras squeezes a last axis of 1 away where
        # the loss has one axis less, but broadcasts weights of one axis less from the right,
        # which fails, or with as many columns as examples is silently wrong.
        whole = y.dtype.is_integer or y.dtype.is_bool
        return rank if whole or (rank == 2 and y.shape[1] == self.batch_size) else rank - 1

    def _describe(self) -> tuple[Stage, ...]:
        mapped = () if self._map is None else (self._map.describe(),)
        rows = self.steps * self.batch_size
        own = self._stop - self._start
        shard: tuple[Stage, ...] = ()
        if self._host.count > 1:
            shard = (
                Stage(
                    "shard",
                    f"examples {self._start:,} to {self._stop - 1:,}: host {self._host.index} of "
                    f"{self._host.count}",
                    "so that each example is read by one host; all hosts make the same steps",
                ),
            )
        return (
            self._source.describe(),
            *shard,
            *mapped,
            Stage(
                "batch",
                f"{self.batch_size:,} examples, {self.steps:,} steps",
                "after the map, which sees single examples",
            ),
            Stage(
                "pad",
                f"{rows - own:,} of {rows:,} rows, of weight 0; the others weigh "
                f"{self._weight:.6g}",
                "for the last batch only, so that all have one static shape",
            ),
            PREFETCH,
        )


def evaluation_pipeline(
    source: Any,
    *,
    batch_size: int,
    map: Callable[..., Any] | None = None,
    keep: Sequence[str] | None = None,
    unit_weights: bool = False,
    loss_rank: int | None = None,
    sample: int | None = None,
    stratify_by: str | Callable[..., Any] | None = None,
    host: Host | None = None,
    split: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
    encoded: Sequence[str] | None = None,
    cache_bytes: int = 512 * 2**20,
) -> EvaluationPipeline:
    """Return one pass over `source`, its last batch padded with examples of zero weight.

    The elements are (x, y, sample_weight). With N examples in batches of B there are
    `steps = ceil(N / B)` batches of one static shape; the steps * B - N padding examples are
    copies of the last example with weight 0, and a real example weighs

        steps * B / N    (times its own sample weight, if `source` has one),

    so that the weights average 1 over all rows. Keras divides a batch's loss by its B rows and
    averages the batches, whatever the weights are, and hence `evaluate` reports

        sum_i loss_i * (steps * B / N) / (steps * B) = mean_i loss_i,

    the exact loss over the set.

    Warning: What you must do for it
        - Pass metrics as `compile(weighted_metrics=[...])`. Keras computes `metrics=[...]`
          without weights: these count the padding.
        - Leave the loss at its default reduction "sum_over_batch_size". With
          "mean_with_sample_weight" the few examples of a padded batch count as much as a whole
          batch (1.402 instead of 1.395 in one measurement).
        - With a loss that is not one of Keras', or with `F1Score` on integer targets, check
          `loss_rank`. A loss that is one number per batch (`Dice`) cannot be weighted.

    Means and ratios among the weighted metrics are exact too. Weighted counts, such as
    `TruePositives`, come out multiplied by steps * B / N: with `unit_weights=True` a real example
    weighs 1 and they are counts, but the loss is too small by that factor. When B divides N, there
    is no padding and all weights are 1.

    Args:
        source: As in `training_pipeline`; after `map` an example must be (x, y) or
            (x, y, sample_weight).
        batch_size: Examples per step, at least 1; may exceed the number of examples. The
            playbook's I2: at least the training batch size.
        map: As in `training_pipeline`, but nothing is random here: no seed is given. A function
            with `seed=None` may serve both.
        keep: Names of the features to keep, for dictionaries.
        unit_weights: Whether a real example weighs 1, which makes weighted counts exact instead
            of the loss.
        loss_rank: Number of axes, at least 1, of the loss before its reduction; all targets have
            it. The weights have as many: shape (batch_size, 1, ...). By default it follows from
            each target as it does for the losses of Keras: for targets of shape (N, d1, ..., dk)
            it is k, and at least 1, since a loss such as "mse" averages the last axis, or k + 1
            if they are integers or booleans and dk > 1, since they may be classes. It is 2 as well
            for (N, d1) with d1 = `batch_size`, where a mistake would go unnoticed. Pass 1 for a
            loss of one value per example.
        sample: Number of examples, in [1, num_examples], of a fixed pseudo-random sample to
            evaluate instead of the whole set; the same ones in each pass and process, in the
            set's order. Choose it so large that the label noise of the sample is small beside the
            differences that matter (I5). A sample of a stream is read once and held in memory.
        stratify_by: Feature name, or a function of an example (before `map`) such as
            `lambda x, y: y`, that gives its class; each class then has its share of the set in
            the sample, to within one example. The whole set is read once for it.
        host: Which of several hosts evaluates, each a contiguous share, even to one example, in
            the same number of steps. A real example then weighs steps * B * H / N on H hosts, so
            that the mean of the hosts' losses is the exact loss. With a host, `tf.distribute`
            does not shard again.
        split: Split of a TFDS set, such as "validation" or "train[80%:]".
        data_dir: Directory of a TFDS name; by default TFDS' own.
        download: Whether to download and prepare a TFDS set that is not there yet.
        encoded: As in `training_pipeline`.
        cache_bytes: As in `training_pipeline`; larger sets are streamed in each pass.

    Returns:
        A `tf.data.Dataset` of `steps` batches (x, y, sample_weight), where sample_weight is
            float32 of the structure of y, each of shape (batch_size, 1, ...) with `loss_rank`
            axes, so (batch_size,) for plain targets. Sample weights of the source that have more
            than one axis keep their shape.

    Raises:
        ValueError: As `training_pipeline`, and if an example is not (x, y) or
            (x, y, sample_weight), if `map` needs a seed, if `loss_rank` exceeds the axes of a
            target, if `sample` exceeds the set, or if there are more hosts than examples.
        ConnectionError: If a TFDS set has to be downloaded and there is no network.
        ImportError: If a TFDS name is given and tensorflow-datasets is not installed.

    Examples:
        >>> import numpy as np
        >>> import pipelines
        >>> x, y = np.zeros((4, 2)), np.zeros(4)
        >>> valid = pipelines.evaluation_pipeline((x, y), batch_size=3)
        >>> valid.steps
        2
        >>> [weight.numpy().tolist() for _, _, weight in valid]
        [[1.5, 1.5, 1.5], [1.5, 0.0, 0.0]]

    The playbook's I3, I5 and J3.
    """
    batch_size = check_count("batch_size", batch_size, minimum=1)
    unit_weights = check_flag("unit_weights", unit_weights)
    if loss_rank is not None:
        loss_rank = check_count("loss_rank", loss_rank, minimum=1)
    opened = open_source(
        source,
        keep=keep,
        tfds=TfdsOptions(split, data_dir, download, encoded),
        cache_bytes=check_count("cache_bytes", cache_bytes, minimum=0),
        shuffle_buffer_size=1,
    )
    if sample is not None:
        opened = take_sample(opened, sample, stratify_by)
    elif stratify_by is not None:
        raise ValueError(
            "`stratify_by` says how to draw a sample, and `sample` is None: the whole set is "
            "evaluated. Pass `sample`, or remove `stratify_by`."
        )
    if check_host(host).count > opened.num_examples:
        raise ValueError(
            f"Each host must evaluate at least one example. Received {opened.num_examples} "
            f"examples for {check_host(host).count} hosts: evaluate on fewer hosts."
        )
    example_map = None
    if map is not None:
        example_map = ExampleMap(map, example_spec(opened), training=False)
    return EvaluationPipeline(
        opened,
        example_map,
        batch_size=batch_size,
        unit_weights=unit_weights,
        loss_rank=loss_rank,
        host=host,
    )


def _preparation(example_map: ExampleMap | None) -> Callable[[Any], Any]:
    if example_map is None:
        return identity
    function = example_map.function

    def prepare(example: Any) -> Any:
        return function(*(example if isinstance(example, tuple) else (example,)))

    return stand_for(prepare, function)


def _with_rank(weight: tf.Tensor, rank: int) -> tf.Tensor:
    return tf.reshape(weight, [-1] + [1] * (rank - 1))


def _check_loss_rank(loss_rank: int | None, element_spec: Any) -> None:
    for spec in tf.nest.flatten(element_spec[1]):
        if loss_rank is not None and loss_rank > 1 + spec.shape.rank:
            raise ValueError(
                "`loss_rank` must be at most the number of axes of a batch of targets, "
                f"{1 + spec.shape.rank} here. Received: {loss_rank}."
            )


def _check_components(element_spec: Any) -> None:
    components = len(element_spec) if isinstance(element_spec, tuple) else 0
    if components == 2 or (components == 3 and isinstance(element_spec[2], tf.TensorSpec)):
        return
    raise ValueError(
        "Evaluation weighs its examples, so each must be (x, y) or (x, y, sample_weight), with one "
        f"tensor of sample weights. Received examples of the form {element_spec}: return such a "
        "tuple from `map`."
    )
