"""From what the user passes as `source` to a `Source`."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from pipelines._array_records import ArrayRecordFiles
from pipelines._cache import OfflineCache
from pipelines._images import ImageFolders
from pipelines._records import TFRecordFiles
from pipelines._sources import Source, array_source, example_spec, in_memory, select_features
from pipelines._stream import DatasetStream, StreamSource
from pipelines._tfds import open_tfds, read_split


@dataclasses.dataclass(frozen=True)
class TfdsOptions:
    """The arguments of the pipelines that choose from a TFDS data set."""

    split: str | None
    data_dir: str | os.PathLike[str] | None
    download: bool
    encoded: Sequence[str] | None


def open_source(
    source: Any,
    *,
    keep: Sequence[str] | None,
    tfds: TfdsOptions,
    cache_bytes: int,
    shuffle_buffer_size: int,
) -> Source:
    """Return the `Source` behind what the user passed, or raise `ValueError`."""
    opened: Source
    builder = None
    if isinstance(source, str) or hasattr(source, "as_dataset"):
        builder = open_tfds(source, data_dir=tfds.data_dir, download=tfds.download)
        opened = read_split(
            builder,
            tfds.split,
            keep=keep,
            encoded=tfds.encoded,
            shuffle_buffer_size=shuffle_buffer_size,
        )
    else:
        for name, value in vars(tfds).items():
            if value:
                raise ValueError(
                    f"`{name}` chooses from a TFDS data set, and `source` is of type "
                    f"{type(source).__name__}. Remove `{name}`, or pass a TFDS builder or name."
                )
        opened = _open_other(source, keep, shuffle_buffer_size)
    if opened.num_examples == 0:
        raise ValueError("`source` is empty; at least one example is needed.")
    # A user's dataset is read anew each epoch, since it may change, and images vary in size.
    of_records = isinstance(source, TFRecordFiles | ArrayRecordFiles | OfflineCache)
    return _cached(opened, cache_bytes) if of_records or builder is not None else opened


def _open_other(source: Any, keep: Sequence[str] | None, shuffle_buffer_size: int) -> Source:
    if isinstance(source, ImageFolders | ArrayRecordFiles):
        return source.open(keep)
    if isinstance(source, TFRecordFiles | OfflineCache):
        return StreamSource(source.open(keep), shuffle_buffer_size)
    if isinstance(source, tuple | Mapping):
        return array_source(select_features(source, keep))
    dataset = source() if callable(source) else source
    if not isinstance(dataset, tf.data.Dataset):
        returned = "" if dataset is source else f", which returned a {type(dataset).__name__}"
        raise ValueError(
            "`source` must be a tuple of arrays such as (x, y), a dictionary of arrays, a finite "
            "tf.data.Dataset of single examples or a function that returns one, a TFDS builder or "
            "name, what `cache_offline` returned, or one of `TFRecordFiles`, `ArrayRecordFiles` "
            "and `ImageFolders`. Received an object of type "
            f"{type(source).__name__}{returned}."
        )
    num_examples = _known_length(dataset)
    if keep is not None:
        select_features(dataset.element_spec, keep)
        dataset = dataset.map(lambda element: select_features(element, keep))
    return StreamSource(DatasetStream(dataset, num_examples), shuffle_buffer_size)


def _cached(source: Source, cache_bytes: int) -> Source:
    """Return `source`, held in memory if it is small: parsed, or else as raw records."""
    decoded = decoded_bytes(example_spec(source), source.num_examples)
    if decoded is not None and 0 < decoded <= cache_bytes:
        return in_memory(source, parsed=True)
    raw = source.stream.num_bytes if isinstance(source, StreamSource) else None
    if raw is not None and 0 < raw <= cache_bytes:
        return in_memory(source, parsed=False)
    return source


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


def decoded_bytes(element_spec: Any, num_examples: int) -> int | None:
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
