"""From what the user passes as `source` to a `Source`."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from pipelines._sources import ArraySource, Source, StreamSource, select_features
from pipelines._tfds import open_builder, read_split


def open_source(
    source: Any,
    *,
    keep: Sequence[str] | None,
    split: str | None,
    data_dir: str | os.PathLike[str] | None,
    download: bool,
    cache_bytes: int,
    shuffle_buffer_size: int,
) -> Source:
    """Return the `Source` behind what the user passed, or raise `ValueError`."""
    if isinstance(source, str) or hasattr(source, "as_dataset"):
        builder = open_builder(source, data_dir=data_dir, download=download)
        dataset, num_examples = read_split(builder, split, keep=keep)
        opened: Source = StreamSource(dataset, num_examples, shuffle_buffer_size)
        num_bytes = _decoded_bytes(dataset.element_spec, num_examples)
        if num_bytes is not None and 0 < num_bytes <= cache_bytes:
            opened = ArraySource(dataset.batch(num_examples).get_single_element())
    else:
        for name, value in (("split", split), ("data_dir", data_dir), ("download", download)):
            if value:
                raise ValueError(
                    f"`{name}` chooses from a TFDS data set, and `source` is of type "
                    f"{type(source).__name__}. Remove `{name}`, or pass a TFDS builder or name."
                )
        if isinstance(source, tf.data.Dataset):
            dataset, num_examples = source, _known_length(source)
            if keep is not None:
                select_features(dataset.element_spec, keep)
                dataset = dataset.map(lambda element: select_features(element, keep))
            opened = StreamSource(dataset, num_examples, shuffle_buffer_size)
        elif isinstance(source, tuple | Mapping):
            opened = ArraySource(select_features(source, keep))
        else:
            raise ValueError(
                "`source` must be a tuple of arrays such as (x, y), a dictionary of arrays, a "
                "finite tf.data.Dataset of single examples, a TFDS builder or a TFDS name. "
                f"Received an object of type {type(source).__name__}."
            )
    if opened.num_examples == 0:
        raise ValueError("`source` is empty; at least one example is needed.")
    return opened


def _known_length(dataset: tf.data.Dataset) -> int:
    cardinality = int(dataset.cardinality())
    if cardinality == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            "`source` must be finite; the epochs are made here. Received an infinite "
            "tf.data.Dataset: remove its `repeat()`, or limit it with `take(n)`."
        )
    if cardinality == tf.data.UNKNOWN_CARDINALITY:
        raise ValueError(
            "`source` must be a tf.data.Dataset of known length, so that the steps of an epoch can "
            "be counted. Received one of unknown length: state it with "
            "`dataset.apply(tf.data.experimental.assert_cardinality(n))`."
        )
    return cardinality


def _decoded_bytes(element_spec: Any, num_examples: int) -> int | None:
    """Bytes of the whole set in memory; None when examples vary in size or hold strings."""
    leaves = tf.nest.flatten(element_spec)
    for leaf in leaves:
        if (
            not isinstance(leaf, tf.TensorSpec)
            or not leaf.shape.is_fully_defined()
            or leaf.dtype in (tf.string, tf.variant)
        ):
            return None
    return num_examples * sum(leaf.dtype.size * leaf.shape.num_elements() for leaf in leaves)
