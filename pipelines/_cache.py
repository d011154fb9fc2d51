"""Examples in the shards of a cache: how they are written, and how they are read as a source."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from pipelines._record_index import Run
from pipelines._records import RecordStream
from pipelines._sources import select_features


@dataclasses.dataclass(frozen=True)
class OfflineCache:
    """Preprocessed examples in record files, as the `source` of a pipeline.

    `cache_offline` makes it; its constructor is not for users.

    Args:
        folder: Folder of the shards.
        paths: The shards, in order.
        lengths: Examples of each shard.
        element_spec: Structure of `tf.TensorSpec` of one example.
    """

    folder: Path
    paths: tuple[Path, ...]
    lengths: tuple[int, ...]
    element_spec: Any

    @property
    def num_examples(self) -> int:
        """Number of examples."""
        return sum(self.lengths)

    def open(self, keep: Sequence[str] | None) -> RecordStream:
        """Return the examples as a stream; used by the pipelines.

        Raises:
            ValueError: If `keep` names features that the examples lack.
        """
        runs = zip(self.paths, self.lengths, strict=True)
        return RecordStream(
            runs=tuple(Run(os.fspath(path), 0, 0, length) for path, length in runs),
            parse=_parser(self.element_spec, keep),
            remedy="Pass `repair=True` to `cache_offline`, which makes damaged shards again.",
        )


def serialise(example: Any) -> tf.Tensor:
    """Return the components of `example` as one scalar string."""
    parts = [tf.io.serialize_tensor(leaf) for leaf in tf.nest.flatten(example)]
    return parts[0] if len(parts) == 1 else tf.io.serialize_tensor(tf.stack(parts))


def _parser(element_spec: Any, keep: Sequence[str] | None) -> Callable[[tf.Tensor], Any]:
    """Return the inverse of `serialise`, which parses only the components to keep."""
    specs = tf.nest.flatten(element_spec)
    places = tf.nest.pack_sequence_as(element_spec, range(len(specs)))
    kept = select_features(places, keep)

    def parse(record: tf.Tensor) -> Any:
        parts = [record]
        if len(specs) > 1:
            stacked = tf.io.parse_tensor(record, tf.string)
            parts = tf.unstack(tf.ensure_shape(stacked, [len(specs)]))
        return tf.nest.map_structure(lambda place: _parse_leaf(parts[place], specs[place]), kept)

    return parse


def _parse_leaf(part: tf.Tensor, spec: tf.TensorSpec) -> tf.Tensor:
    return tf.ensure_shape(tf.io.parse_tensor(part, spec.dtype), spec.shape)
