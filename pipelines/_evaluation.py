"""Evaluation input: one pass in order, in batches of one shape, exact over the whole set."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from pipelines._checks import check_count, check_flag
from pipelines._dataset import PREFETCH, Pipeline, Stage, deterministic_options
from pipelines._map import ExampleMap, check_static_shapes
from pipelines._open import open_source
from pipelines._sources import Source


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
    ) -> None:
        self._source = source
        self._map = example_map
        self._batch_size = batch_size
        self._loss_rank = loss_rank
        self._weight = 1.0 if unit_weights else self.steps * batch_size / source.num_examples
        super().__init__(self._build(), stages=self._describe())

    @property
    def batch_size(self) -> int:
        """Examples per step, padding included."""
        return self._batch_size

    @property
    def num_examples(self) -> int:
        """Examples in the source, padding not included."""
        return self._source.num_examples

    @property
    def steps(self) -> int:
        """Batches in the pass."""
        return -(-self.num_examples // self.batch_size)

    def _build(self) -> tf.data.Dataset:
        examples = self._source.in_order()
        if self._map is not None:
            examples = examples.map(
                self._map.function, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
            )
        check_static_shapes(examples.element_spec)
        _check_components(examples.element_spec)
        _check_loss_rank(self._loss_rank, examples.element_spec)
        return (
            examples.batch(self.batch_size)
            .map(self._pad, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
            .prefetch(tf.data.AUTOTUNE)
            .with_options(deterministic_options())
        )

    def _pad(self, x: Any, y: Any, sample_weight: Any = None) -> tuple[Any, Any, Any]:
        size = tf.shape(tf.nest.flatten(x)[0])[0]
        rows = tf.range(self.batch_size)
        # The last real example is repeated. Zeros could make a loss NaN, and 0 * NaN is NaN.
        x, y = tf.nest.map_structure(
            lambda leaf: tf.gather(leaf, tf.minimum(rows, size - 1)), (x, y)
        )
        weight = self._weight * tf.cast(rows < size, tf.float32)
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
        return (
            self._source.describe(),
            *mapped,
            Stage(
                "batch",
                f"{self.batch_size:,} examples, {self.steps:,} steps",
                "after the map, which sees single examples",
            ),
            Stage(
                "pad",
                f"{rows - self.num_examples:,} of {rows:,} rows, of weight 0; the others weigh "
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
    split: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
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
        split: Split of a TFDS set, such as "validation" or "train[80%:]".
        data_dir: Directory of a TFDS name; by default TFDS' own.
        download: Whether to download and prepare a TFDS set that is not there yet.
        cache_bytes: A TFDS split of at most so many decoded bytes, at least 0, is read into memory
            once; a larger one is streamed in each pass.

    Returns:
        A `tf.data.Dataset` of `steps` batches (x, y, sample_weight), where sample_weight is
            float32 of the structure of y, each of shape (batch_size, 1, ...) with `loss_rank`
            axes, so (batch_size,) for plain targets. Sample weights of the source that have more
            than one axis keep their shape.

    Raises:
        ValueError: As `training_pipeline`, and if an example is not (x, y) or
            (x, y, sample_weight), if `map` needs a seed, or if `loss_rank` exceeds the axes of a
            target.
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

    The playbook's I3.
    """
    batch_size = check_count("batch_size", batch_size, minimum=1)
    unit_weights = check_flag("unit_weights", unit_weights)
    if loss_rank is not None:
        loss_rank = check_count("loss_rank", loss_rank, minimum=1)
    opened = open_source(
        source,
        keep=keep,
        split=split,
        data_dir=data_dir,
        download=download,
        cache_bytes=check_count("cache_bytes", cache_bytes, minimum=0),
        shuffle_buffer_size=1,
    )
    example_map = None if map is None else ExampleMap(map, opened.element_spec, training=False)
    return EvaluationPipeline(
        opened,
        example_map,
        batch_size=batch_size,
        unit_weights=unit_weights,
        loss_rank=loss_rank,
    )


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
