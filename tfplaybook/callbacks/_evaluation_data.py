"""What is evaluated: a dataset, or arrays that are batched and padded here (I3)."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import tree

from tfplaybook import _keras_evaluation
from tfplaybook._arguments import check_count

DEFAULT_BATCH_SIZE = 256

_INFINITE = -1
_EMPTY = (
    "`validation_data` must have an example. Received: a dataset that yields no batch. Check what "
    "it reads and filters, whether drop_remainder=True drops its only batch, and, if a generator "
    "is behind it, that this can be read again."
)


@dataclasses.dataclass(frozen=True)
class Rows:
    """One batch with what tells its examples apart.

    Attributes:
        x: The input as it comes, padding included.
        y: The targets of the examples, padding removed: structure of arrays (n, ...).
        examples: The rows of `x` that are examples and not padding, int64 (n,).
        places: Place of each example in the whole set, int64 (n,).
    """

    x: Any
    y: Any
    examples: np.ndarray
    places: np.ndarray


class EvaluationData:
    """The evaluation set in batches, for `evaluate` and for looking at each example.

    Attributes:
        batch_size: Examples per batch, padding included; None if not known.
        num_examples: Examples of the set; None if not known.
    """

    def __init__(self, validation_data: Any, batch_size: int | None):
        self._arrays: _keras_evaluation.ArrayBatches | None = None
        self._batches: Any = None
        self._examples: Any = None
        self._given = batch_size
        if _keras_evaluation.is_tf_dataset(validation_data):
            _check_dataset(validation_data, batch_size)
            self._batches = validation_data
            self.batch_size = _static_batch_size(validation_data)
            self.num_examples: int | None = getattr(validation_data, "num_examples", None)
            return
        self._examples, self._weight = _as_arrays(validation_data)
        self.num_examples = len(tree.flatten(self._examples)[0])
        if batch_size is not None:
            check_count("batch_size", batch_size, minimum=1)
        self.prepare(1)

    def prepare(self, replicas: int) -> None:
        """Batch arrays so that each batch splits into equal parts for so many replicas.

        Raises:
            ValueError: The given batch size does not.
        """
        if self._examples is None:
            return
        assert self.num_examples is not None
        size = min(self.num_examples, DEFAULT_BATCH_SIZE) if self._given is None else self._given
        if self._given is None:
            size = -(-size // replicas) * replicas
        elif size % replicas:
            raise ValueError(
                f"`batch_size` must be a multiple of the {replicas} replicas among which a batch "
                f"is split. Received: {size}. Pass {-(-size // replicas) * replicas}."
            )
        if self._arrays is not None and size == self.batch_size:
            return
        self.batch_size = size
        weights = _padded_weights(self._examples[1], self._weight, self.num_examples, size)
        self._arrays = _keras_evaluation.ArrayBatches(self._examples, weights, size)
        self._batches = None

    def batches(self) -> Any:
        """Return what `model.evaluate` takes, the same object every time."""
        if self._batches is None:
            assert self._arrays is not None
            self._batches = self._arrays.for_evaluate()
        return self._batches

    def check_not_empty(self) -> None:
        """Raise `ValueError` if the dataset yields nothing; that reads a batch of it."""
        if self._arrays is None and next(iter(self._batches), None) is None:
            raise ValueError(_EMPTY)

    def rows(self) -> Iterator[Rows]:
        """Yield the batches of one pass."""
        place = 0
        for batch in self._elements():
            x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
            size = len(tree.flatten(x)[0])
            counted = np.ones(size, bool)
            if self._arrays is not None:
                counted = place + np.arange(size) < (self.num_examples or 0)
            elif weight is not None:
                flat = [np.asarray(w).reshape(size, -1) for w in tree.flatten(weight)]
                counted = np.any([np.any(w != 0, axis=1) for w in flat], axis=0)
            rows = np.flatnonzero(counted)
            yield Rows(
                x,
                tree.map_structure(lambda t, rows=rows: np.asarray(t)[rows], y),
                rows,
                place + rows,
            )
            place += size

    def _elements(self) -> Iterator[Any]:
        if self._arrays is not None:
            yield from (self._arrays[index] for index in range(len(self._arrays)))
            return
        for element in self._batches:
            if keras.backend.backend() == "tensorflow":
                yield element
            else:
                yield tree.map_structure(np.asarray, element)


def _check_dataset(dataset: Any, batch_size: int | None) -> None:
    if batch_size is not None:
        raise ValueError(
            "`batch_size` is for arrays; a dataset is batched already. Received: "
            f"batch_size={batch_size!r} and a {type(dataset).__name__}."
        )
    batches = int(dataset.cardinality())
    if batches == 0:
        raise ValueError(_EMPTY)
    if batches == _INFINITE:
        raise ValueError(
            "`validation_data` must end. Received: an endless dataset. Leave out `repeat()`, or "
            "take the batches of one pass: `dataset.take(...)`."
        )
    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) not in (2, 3):
        raise ValueError(
            "`validation_data` must be a dataset of (x, y) or (x, y, sample_weight) batches. "
            f"Received elements of the form {spec}."
        )


def _static_batch_size(dataset: Any) -> int | None:
    size = getattr(dataset, "batch_size", None)
    if isinstance(size, int):
        return size
    shape = getattr(tree.flatten(dataset.element_spec[0])[0], "shape", None)
    return None if shape is None or not shape.rank else shape[0]


def _as_arrays(data: Any) -> tuple[Any, Any]:
    """Return (x, y) as structures of NumPy arrays, and the sample weight or None."""
    if not isinstance(data, tuple) or len(data) not in (2, 3):
        raise ValueError(
            "`validation_data` must be a tf.data.Dataset, or a tuple of arrays (x, y) or "
            f"(x, y, sample_weight). Received: {type(data).__name__}"
            + (f" of {len(data)}." if isinstance(data, tuple) else ".")
        )
    arrays = tree.map_structure(np.asarray, data)
    shapes = [array.shape for array in tree.flatten(arrays)]
    if not shapes or any(not shape or shape[0] != shapes[0][0] for shape in shapes):
        raise ValueError(
            "The arrays of `validation_data` must have the same number of examples, their first "
            f"axis. Received shapes: {shapes}."
        )
    if shapes[0][0] < 1:
        raise ValueError("`validation_data` must have an example. Received: none.")
    return tuple(arrays[:2]), arrays[2] if len(arrays) == 3 else None


def _padded_weights(y: Any, weight: Any, count: int, batch_size: int) -> Any:
    """Return weights over all rows that make the loss exact, or None where Keras needs none.

    With N examples in steps * B rows, padding weighs 0 and an example steps * B / N times its own
    weight: Keras divides a batch's loss by B whatever the weights are, and averages the batches.
    """
    rows = -(-count // batch_size) * batch_size
    if rows == count:
        return weight
    share = np.where(np.arange(rows) < count, rows / count, 0.0).astype("float32")
    if weight is None:
        return tree.map_structure(lambda leaf: _with_rank(share, _loss_rank(leaf, batch_size)), y)

    def padded(own: np.ndarray) -> np.ndarray:
        widths = [(0, rows - count)] + [(0, 0)] * (own.ndim - 1)
        return np.pad(own.astype("float32"), widths) * _with_rank(share, own.ndim)

    if tree.is_nested(weight) or weight.ndim > 1:
        return tree.map_structure(padded, weight)
    whole = padded(weight)
    return tree.map_structure(lambda leaf: _with_rank(whole, _loss_rank(leaf, batch_size)), y)


def _loss_rank(target: np.ndarray, batch_size: int) -> int:
    """Return the number of axes of the loss of `target` before its reduction.

    Keras broadcasts weights from the right, so they need as many axes as the loss. A last axis of
    1 that the loss lacks is squeezed away; one of too few fails or, with as many columns as
    examples, is silently wrong.
    """
    rank, columns = target.ndim, target.shape[-1]
    if rank == 1 or columns == 1:
        return max(rank - 1, 1)
    may_be_classes = target.dtype.kind in "biu"
    return rank if may_be_classes or (rank == 2 and columns == batch_size) else rank - 1


def _with_rank(weight: np.ndarray, rank: int) -> np.ndarray:
    return weight.reshape(-1, *[1] * (rank - 1))
