"""A fixed, representative part of a set."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from pipelines._checks import check_count
from pipelines._order import permute
from pipelines._sources import IndexedSource, Source, array_source, example_spec, map_parsed

_READ_BLOCK = 1024


def take_sample(
    source: Source, num_samples: int, stratify_by: str | Callable[..., Any] | None
) -> Source:
    """Return the same `num_samples` examples of `source` each time, in the source's order."""
    num_samples = check_count("sample", num_samples, minimum=1, maximum=source.num_examples)
    labels = None if stratify_by is None else _labels(source, stratify_by)
    indices = choose(source.num_examples, num_samples, labels)
    return source.subset(indices) if isinstance(source, IndexedSource) else _held(source, indices)


def choose(num_examples: int, num_samples: int, labels: np.ndarray | None = None) -> np.ndarray:
    """Return `num_samples` ascending indices, int64, of [0, num_examples).

    With `labels`, of shape (num_examples,), each class has its share of the set, rounded up or
    down: the largest remainders are rounded up.
    """
    order = permute(
        tf.range(num_examples, dtype=tf.int64),
        seed=0,
        epoch=tf.constant(0, tf.int64),
        num_examples=num_examples,
    ).numpy()
    if labels is None:
        return np.sort(order[:num_samples])
    _, classes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    # In integers, so that no rounding decides.
    quotas, remainders = np.divmod(sizes.astype(np.int64) * num_samples, num_examples)
    quotas[np.argsort(-remainders, kind="stable")[: num_samples - quotas.sum()]] += 1
    by_class = order[np.argsort(classes[order], kind="stable")]
    first_of_class = np.cumsum(sizes) - sizes
    place = np.arange(num_examples) - np.repeat(first_of_class, sizes)
    return np.sort(by_class[place < np.repeat(quotas, sizes)])


def _labels(source: Source, stratify_by: str | Callable[..., Any]) -> np.ndarray:
    def label(example: Any) -> tf.Tensor:
        if callable(stratify_by):
            return stratify_by(*(example if isinstance(example, tuple) else (example,)))
        return example[stratify_by]

    spec = example_spec(source)
    if not callable(stratify_by) and not (isinstance(spec, dict) and stratify_by in spec):
        raise ValueError(
            "`stratify_by` must be the name of a feature, or a function of an example such as "
            f"`lambda x, y: y`. Received {stratify_by!r} for examples of the form {spec}."
        )
    labels = map_parsed(source, source.in_order(0, source.num_examples), label)
    spec = labels.element_spec
    if not isinstance(spec, tf.TensorSpec) or spec.shape.rank != 0 or spec.dtype.is_floating:
        raise ValueError(
            "`stratify_by` must give one integer, boolean or string, the class, for each example. "
            f"It gives {spec}."
        )
    return np.concatenate([block.numpy() for block in labels.batch(_READ_BLOCK)])


def _held(source: Source, indices: np.ndarray) -> IndexedSource:
    """Read the stream once and hold the chosen raw examples, which may be of any size."""
    chosen = np.zeros(source.num_examples, bool)
    chosen[indices] = True
    flags = tf.data.Dataset.from_tensor_slices(chosen)
    raw = tf.data.Dataset.zip(flags, source.in_order(0, source.num_examples))
    packed = raw.filter(lambda flag, _: flag).map(
        lambda _, example: tuple(map(tf.io.serialize_tensor, tf.nest.flatten(example)))
    )
    columns = packed.batch(len(indices)).get_single_element()

    def parse(strings: Any) -> Any:
        leaves = [
            tf.ensure_shape(tf.io.parse_tensor(string, spec.dtype), spec.shape)
            for string, spec in zip(strings, tf.nest.flatten(source.raw_spec), strict=True)
        ]
        return source.parse(tf.nest.pack_sequence_as(source.raw_spec, leaves))

    held = dataclasses.replace(array_source(tuple(columns)), parse=parse)
    where = f"{held.where}, a sample of {source.num_examples:,}"
    return dataclasses.replace(held, where=where)
