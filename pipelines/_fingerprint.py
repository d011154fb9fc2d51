"""What a set and a function of it are, in texts that change when their result may."""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from pipelines._graph_digest import GraphDigest
from pipelines._map import STATEFUL_OPS

KEY_DIGITS = 16

# The digest of a dataset covers its graph and its constants, not what a Python function does and
# what a variable or a table holds.
_PYTHON_OPS = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc"})
# A variable that is only read is assigned once in the graph, its own value.
_RANDOM_OPS = STATEFUL_OPS - {"AssignVariableOp"}
_RANDOM_DATASETS = ("Shuffle", "RandomDataset")
_HOLDER_OPS = frozenset(
    {"VarHandleOp", "ReadVariableOp", "HashTableV2", "MutableHashTableV2", "LookupTableFindV2"}
)


def tensors_fingerprint(tensors: Iterable[tf.Tensor]) -> list[str]:
    """Return a digest of each tensor of at least one axis: of its dtype, shape and values."""
    return [_digest(tensor) for tensor in tensors]


def files_fingerprint(paths: Iterable[str]) -> list[str]:
    """Return the path, size and time of change of each file."""
    found = []
    for path in paths:
        if "://" in path:
            remote = tf.io.gfile.stat(path)
            found.append(f"{path} {remote.length} {remote.mtime_nsec}")
        else:
            # TensorFlow rounds the time.
            local = os.stat(path)
            found.append(f"{os.path.abspath(path)} {local.st_size} {local.st_mtime_ns}")
    return found


def dataset_fingerprint(dataset: tf.data.Dataset, *, version: str) -> list[str]:
    """Return the digest of the operations and constants of `dataset`.

    Raises:
        ValueError: If the elements are random, or depend on something that the fingerprint does
            not cover and `version` is empty.
    """
    graph = GraphDigest(dataset)
    ops = graph.ops
    random = sorted(op for op in ops if op in _RANDOM_OPS or op.startswith(_RANDOM_DATASETS))
    if random:
        raise ValueError(
            "What is cached must be the same each time, and this is random: it runs the "
            f"operations {random}. Remove shuffles, and give random augmentation as `map` to the "
            "training pipeline that reads the cache."
        )
    uncovered = sorted(ops & (_PYTHON_OPS | _HOLDER_OPS))
    if uncovered and not version:
        raise ValueError(
            "The fingerprint covers TensorFlow operations and constants, and not what a Python "
            f"function does or a variable or table holds; this runs the operations {uncovered}. "
            "Pass `version`, a text of your own, and change it whenever these change."
        )
    return [graph.hexdigest()]


def function_fingerprint(
    function: Callable[[Any], Any], element_spec: Any, *, version: str
) -> list[str]:
    """Return the fingerprint of a function of one element, as `dataset_fingerprint`."""

    def placeholder(_: tf.Tensor) -> Any:
        # Of any dtype, and of shapes that may be unknown.
        return tf.nest.map_structure(
            lambda spec: tf.ensure_shape(tf.io.parse_tensor("", spec.dtype), spec.shape),
            element_spec,
        )

    def apply(*components: Any) -> Any:
        return function(components if isinstance(element_spec, tuple) else components[0])

    return dataset_fingerprint(
        tf.data.Dataset.range(1).map(placeholder).map(apply), version=version
    )


def key(parts: Sequence[str]) -> str:
    """Return `KEY_DIGITS` hexadecimal digits that stand for `parts`."""
    lengths = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.blake2b(lengths.encode(), digest_size=KEY_DIGITS // 2).hexdigest()


def _digest(tensor: tf.Tensor) -> str:
    digest = hashlib.blake2b(f"{tensor.dtype.name} {tensor.shape}".encode(), digest_size=16)
    if tensor.dtype == tf.string:
        digest.update(tf.io.serialize_tensor(tensor).numpy())
    else:
        digest.update(np.ascontiguousarray(tensor.numpy()).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
