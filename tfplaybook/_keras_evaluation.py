"""Evaluating inside `fit` without a trace in the training. Checked on Keras 3.15.

`tests/callbacks/test_periodic_evaluation.py` fails when a private hook is gone.
"""

import contextlib
import functools
import math
import operator
import random
import sys
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from tfplaybook import _keras


class Evaluator:
    """`model.evaluate` with a compiled step of its own, traced once, that counts no padding.

    Keras computes `compile(metrics=[...])` without sample weights, so an example that pads the
    last batch with weight zero would count. Here such metrics count every example of weight zero
    not at all and every other one once; losses and weighted metrics see the weights as they are.
    """

    def __init__(self) -> None:
        self._function: Any = None

    def evaluate(self, model: keras.Model, batches: Any) -> dict[str, Any]:
        """Return what `model.evaluate` reports; the model's own `test_function` stays as it is."""
        own, model.test_function = model.test_function, self._function
        try:
            with _padding_left_out(model):
                results = model.evaluate(batches, verbose=0, return_dict=True)
            self._function = model.test_function
        finally:
            model.test_function = own
        return results


@contextlib.contextmanager
def _padding_left_out(model: keras.Model) -> Iterator[None]:
    compiled = model._compile_metrics
    if compiled is None:
        yield
        return
    standard = compiled.update_state

    def update_state(y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        if not compiled.built:
            compiled.build(y_true, y_pred)
        if sample_weight is None:
            standard(y_true, y_pred)
            return
        counted = _counted(sample_weight)
        unweighted = [metrics for metrics in compiled._flat_metrics if metrics]
        for metrics in unweighted:
            vars(metrics)["update_state"] = functools.partial(
                metrics.update_state, sample_weight=counted
            )
        try:
            standard(y_true, y_pred, sample_weight)
        finally:
            for metrics in unweighted:
                del vars(metrics)["update_state"]

    vars(compiled)["update_state"] = update_state
    try:
        yield
    finally:
        del vars(compiled)["update_state"]


def _counted(sample_weight: Any) -> Any:
    """Return 1.0 for each example of which a weight is not zero, float32 (batch,)."""
    flags = []
    for weight in tree.flatten(sample_weight):
        nonzero = ops.not_equal(weight, 0)
        axes = tuple(range(1, len(nonzero.shape)))
        flags.append(ops.any(nonzero, axis=axes) if axes else nonzero)
    return ops.cast(functools.reduce(ops.logical_or, flags), "float32")


@contextlib.contextmanager
def undisturbed(model: keras.Model) -> Iterator[None]:
    """Give training back as it was: its metrics, the seeds of Keras, and the host's generators."""
    weights = {id(variable) for variable in model.weights}
    seeds = [variable for variable in model.variables if id(variable) not in weights]
    generator = _keras.global_seed_generator()
    if generator is not None:
        seeds.append(generator.state)
    parts = [part for variable in [*model.metrics_variables, *seeds] for part in _parts(variable)]
    values = [_copy(part) for part in parts]
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        for part, value in zip(parts, values, strict=True):
            part.assign(value)
        if generator is None:
            _keras.forget_global_seed_generator()
        random.setstate(python)
        np.random.set_state(numpy)


@contextlib.contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """Let the model have the averages that its optimizer keeps, and then its weights again.

    By copies on the host: adding and subtracting a difference would change their bits.
    """
    optimizer = _keras.innermost_optimizer(model)
    pairs = [
        (weight, average)
        for weight, average in zip(
            optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True
        )
        if average is not None
    ]
    raw = [_copy(weight) for weight, _ in pairs]
    try:
        for weight, average in pairs:
            weight.assign(_copy(average))
        yield
    finally:
        for (weight, _), value in zip(pairs, raw, strict=True):
            weight.assign(value)


def check_averages(model: keras.Model, caller: str) -> None:
    """Raise unless the optimizer keeps averages of the weights."""
    optimizer = _keras.innermost_optimizer(model)
    if not getattr(optimizer, "use_ema", False):
        raise ValueError(
            f"{caller}(use_ema=True) evaluates the averages of the weights that the optimizer "
            f"keeps. Received: {type(optimizer).__name__} without them. Compile with "
            f"{type(optimizer).__name__}(..., use_ema=True, ema_momentum=...)."
        )


def mean_training_batch(model: keras.Model, batches: int) -> float | None:
    """Return the examples per batch over the first `batches` of the epoch, None if not known.

    Keras weighs the mean loss of the epoch by the examples, so their number is its count. Call it
    before evaluating.
    """
    tracker = next(iter(model.metrics), None)
    if not isinstance(tracker, keras.metrics.Mean) or tracker.name != "loss" or batches < 1:
        return None
    examples = float(ops.convert_to_numpy(tracker.count))
    return examples / batches if examples > 0 else None


def class_threshold(model: keras.Model) -> float:
    """Return the output above which a binary classifier says 1: 0 for logits, else 0.5."""
    losses = tree.flatten(model.loss)  # the loss of one output may stand in a list or a dict
    return 0.0 if len(losses) == 1 and getattr(losses[0], "from_logits", False) else 0.5


def replica_count(model: keras.Model) -> int:
    """Return into how many equal parts a batch is split, by `tf.distribute` or on JAX's devices."""
    strategy = getattr(model, "distribute_strategy", None)
    if strategy is not None:
        return strategy.num_replicas_in_sync
    distribution = keras.distribution.distribution()
    if distribution is None:
        return 1
    mesh = distribution.device_mesh
    return mesh.shape[mesh.axis_names.index(distribution.batch_dim_name)]


def is_tf_dataset(data: Any) -> bool:
    """Return whether `data` is a `tf.data.Dataset`, without importing TensorFlow."""
    tensorflow = sys.modules.get("tensorflow")
    return tensorflow is not None and isinstance(data, tensorflow.data.Dataset)


class ArrayBatches(keras.utils.PyDataset):
    """Arrays as batches of one shape; the last example is repeated where they end.

    Zeros instead could make a loss NaN, and 0 * NaN is NaN.

    Args:
        examples: Structure (x, y) of arrays of shape (num_examples, ...).
        weights: Structure of arrays of shape (steps * batch_size, ...), or None.
        batch_size: Examples per batch.
    """

    def __init__(self, examples: Any, weights: Any, batch_size: int):
        super().__init__()
        self._examples = examples
        self._weights = weights
        self._batch_size = batch_size
        self._last = len(tree.flatten(examples)[0]) - 1

    def __len__(self) -> int:
        return math.ceil((self._last + 1) / self._batch_size)

    def __getitem__(self, index: int) -> Any:
        rows = index * self._batch_size + np.arange(self._batch_size)
        shown = np.minimum(rows, self._last)
        batch = tree.map_structure(operator.itemgetter(shown), self._examples)
        if self._weights is None:
            return batch
        return (*batch, tree.map_structure(operator.itemgetter(rows), self._weights))

    def for_evaluate(self) -> Any:
        """Return what `model.evaluate` takes: on TensorFlow a dataset of static shapes."""
        if keras.backend.backend() != "tensorflow":
            return self
        import tensorflow as tf

        weighted = self._weights is not None
        arrays = (*self._examples, self._weights) if weighted else self._examples
        with tf.device("CPU"):
            tensors = tree.map_structure(tf.convert_to_tensor, arrays)

        def take(rows: Any) -> Any:
            shown = tf.minimum(rows, self._last)
            batch = tree.map_structure(lambda array: tf.gather(array, shown), tensors[:2])
            if not weighted:
                return batch
            return (*batch, tree.map_structure(lambda array: tf.gather(array, rows), tensors[2]))

        rows = tf.data.Dataset.range(len(self) * self._batch_size)
        return (
            rows.batch(self._batch_size, drop_remainder=True)
            .map(take, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
            .prefetch(tf.data.AUTOTUNE)
        )


def _parts(variable: Any) -> list[Any]:
    """Return the variables of the replicas under `tf.distribute`, or the variable itself."""
    values = getattr(variable.value, "values", None)
    return list(values) if isinstance(values, tuple | list) else [variable]


def _copy(variable: Any) -> np.ndarray:
    value = variable.value if isinstance(variable, keras.Variable) else variable
    return np.array(ops.convert_to_numpy(value))
