"""A digest of what a `tf.data.Dataset` computes, the same in every process.

`Dataset.fingerprint` of TensorFlow 2.21 is not: with two functions, such as two maps, about one
call in ten gives another number.
"""

import graphlib
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf

# Names and counters of this process.
_PASSING_ATTRS = frozenset({"metadata", "token", "shared_name", "container", "_class"})


class GraphDigest:
    """The operations of a dataset, and their digest.

    Two nodes have one digest if they run the same operation with the same attributes on inputs of
    the same digests; names count for nothing.

    Args:
        dataset: A dataset.
    """

    def __init__(self, dataset: tf.data.Dataset) -> None:
        serialised = tf.raw_ops.DatasetToGraphV2(
            input_dataset=tf.data.experimental.to_variant(dataset),
            external_state_policy=1,  # ignore it, without a warning
            strip_device_assignment=True,
        )
        self._graph = tf.compat.v1.GraphDef.FromString(serialised.numpy())
        self._functions = {f.signature.name: f for f in self._graph.library.function}
        self._digests: dict[str, str] = {}

    @property
    def ops(self) -> set[str]:
        """The names of all operations, those of functions included."""
        functions = (node for f in self._functions.values() for node in f.node_def)
        return {node.op for node in [*self._graph.node, *functions]}

    def hexdigest(self) -> str:
        """Return 32 hexadecimal digits that stand for the dataset."""
        nodes = self._node_digests(self._graph.node, {})
        return _join(nodes[node.name] for node in self._graph.node if node.op == "_Retval")

    def _function_digest(self, name: str) -> str:
        if name not in self._digests:
            function = self._functions[name]
            arguments = {
                arg.name: f"argument {i}" for i, arg in enumerate(function.signature.input_arg)
            }
            nodes = self._node_digests(function.node_def, arguments)
            self._digests[name] = _join(
                [
                    *(
                        _input_digest(function.ret[arg.name], nodes)
                        for arg in function.signature.output_arg
                    ),
                    # Such as assertions; they are run though nothing reads them.
                    *sorted(nodes[node] for node in function.control_ret.values()),
                ]
            )
        return self._digests[name]

    def _node_digests(self, nodes: Iterable[Any], arguments: Mapping[str, str]) -> dict[str, str]:
        by_name = {node.name: node for node in nodes}
        digests = dict(arguments)
        order = graphlib.TopologicalSorter(
            {name: {_name(text) for text in node.input} for name, node in by_name.items()}
        )
        for name in order.static_order():
            if name in by_name:
                node = by_name[name]
                attrs = (
                    f"{key}={self._attr_text(node.attr[key])}"
                    for key in sorted(node.attr)
                    if key not in _PASSING_ATTRS
                )
                read = [text for text in node.input if text[0] != "^"]
                awaited = [text for text in node.input if text[0] == "^"]
                digests[name] = _join(
                    [
                        node.op,
                        *attrs,
                        *(_input_digest(text, digests) for text in read),
                        *sorted(_input_digest(text, digests) for text in awaited),
                    ]
                )
        return digests

    def _attr_text(self, attr: Any) -> str:
        functions = [attr.func] if attr.HasField("func") else list(attr.list.func)
        if functions:
            return _join(
                self._function_digest(f.name)
                + _join(f"{key}={self._attr_text(f.attr[key])}" for key in sorted(f.attr))
                for f in functions
            )
        return attr.SerializeToString(deterministic=True).hex()


def _name(text: str) -> str:
    return text.lstrip("^").split(":")[0]


def _input_digest(text: str, digests: Mapping[str, str]) -> str:
    """Return the digest of an input such as "name", "name:1", "name:output:0" or "^name"."""
    name = _name(text)
    return text.replace(name, digests[name], 1)


def _join(parts: Iterable[str]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(f"{len(part)}:{part}".encode())
    return digest.hexdigest()
