"""Evaluation input: one pass in order, in batches of one shape, exact over the whole set."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from pipelines._checks import check_count
from pipelines._dataset import PREFETCH, Pipeline, Stage, deterministic_options
from pipelines._map import ExampleMap, check_static_shapes
from pipelines._open import open_source
from pipelines._sources import Source


class EvaluationPipeline(Pipeline):
    """One pass of (x, y, sample_weight) batches of one shape; made by `evaluation_pipeline`.

    Args:
        source: The examples.
        example_map: What is done to each, or None.
        batch_size: Examples per step.
        unit_weights: Whether a real example weighs 1 rather than
            steps * batch_size / num_examples.
    """

    def __init__(
        self,
        source: Source,
        example_map: ExampleMap | None,
        *,
        batch_size: int,
        unit_weights: bool,
    ) -> None:
        self._source = source
        self._map = example_map
        self._batch_size = batch_size
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
        return (
            examples.batch(self.batch_size)
            .map(self._pad, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
            .prefetch(tf.data.AUTOTUNE)
            .with_options(deterministic_options())
        )

    def _pad(self, x: Any, y: Any, sample_weight: Any = None) -> tuple[Any, Any, tf.Tensor]:
        size = tf.shape(tf.nest.flatten(x)[0])[0]
        rows = tf.range(self.batch_size)
        # The last real example is repeated. Zeros could make a loss NaN, and 0 * NaN is NaN.
        x, y = tf.nest.map_structure(
            lambda leaf: tf.gather(leaf, tf.minimum(rows, size - 1)), (x, y)
        )
        weight = self._weight * tf.cast(rows < size, tf.float32)
        if sample_weight is not None:
            own = tf.gather(tf.cast(sample_weight, tf.float32), tf.minimum(rows, size - 1))
            weight = own * tf.reshape(weight, [-1] + [1] * (own.shape.rank - 1))
        return x, y, weight

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

    the exact loss over the set. What you must do for it:

    - pass metrics as `compile(weighted_metrics=[...])`. Keras computes `metrics=[...]` without
      weights: these count the padding;
    - leave the loss at its default reduction "sum_over_batch_size". With
      "mean_with_sample_weight" the few examples of a padded batch count as much as a whole batch
      (1.402 instead of 1.395 in one measurement).

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
        split: Split of a TFDS set, such as "validation" or "train[80%:]".
        data_dir: Directory of a TFDS name; by default TFDS' own.
        download: Whether to download and prepare a TFDS set that is not there yet.
        cache_bytes: A TFDS split of at most so many decoded bytes, at least 0, is read into memory
            once; a larger one is streamed in each pass.

    Returns:
        A `tf.data.Dataset` of `steps` batches (x, y, sample_weight), where sample_weight is
        float32 of shape (batch_size,), or of the shape of the source's own sample weights.

    Raises:
        ValueError: As `training_pipeline`, and if an example is not (x, y) or
            (x, y, sample_weight), or if `map` needs a seed.
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
