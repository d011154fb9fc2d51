"""The user's `map`: checked by one trace, and given a seed where it asks for one."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from pipelines._dataset import Stage

# Ops whose result depends on state outside the example: the global generator, a
# `tf.random.Generator`, the `SeedGenerator` of a Keras layer.
STATEFUL_OPS = frozenset(
    {
        "AssignAddVariableOp",
        "AssignSubVariableOp",
        "AssignVariableOp",
        "Multinomial",
        "ParameterizedTruncatedNormal",
        "RandomGamma",
        "RandomPoisson",
        "RandomPoissonV2",
        "RandomShuffle",
        "RandomStandardNormal",
        "RandomUniform",
        "RandomUniformInt",
        "RngReadAndSkip",
        "RngSkip",
        "SampleDistortedBoundingBoxV2",
        "StatefulStandardNormalV2",
        "StatefulTruncatedNormal",
        "StatefulUniform",
        "StatefulUniformFullInt",
        "StatefulUniformInt",
        "TruncatedNormal",
    }
)

# Ops that call Python, which tf.data takes to have a state.
PYTHON_OPS = frozenset({"EagerPyFunc", "PyFunc", "PyFuncStateless"})


class ExampleMap:
    """A function of one example, traced once at construction.

    Args:
        function: Takes the components of an example as positional arguments, or the dictionary
            as one, and returns the new example. In training, one with a `seed` argument is given
            a stateless seed, int64 of shape (2,).
        element_spec: Structure of `tf.TensorSpec` of one example.
        training: Whether seeds are given.

    Raises:
        TypeError: If `function` cannot be called.
        ValueError: If `function` fails on an example, if it is random in a way that no seed
            decides, or if it needs a seed where none is given.
    """

    def __init__(self, function: Callable[..., Any], element_spec: Any, *, training: bool) -> None:
        if not callable(function):
            raise TypeError(
                "`map` must be a function of one example, such as `def prepare(x, y)`. "
                f"Received: {function!r}."
            )
        seed = _seed_parameter(function)
        self.name = getattr(function, "__name__", type(function).__name__)
        self.seeded = training and seed is not None
        self.function = function
        if seed is not None and seed.default is inspect.Parameter.empty and not training:
            raise ValueError(
                f"`map` must not need a seed in evaluation or in a cache, where nothing is random. "
                f"Received {self.name!r} with a required `seed`. Give it the default `seed=None` "
                "and augment only when there is a seed, or pass a function without augmentation."
            )
        self._check(element_spec)

    def __call__(self, epoch_word: tf.Tensor, indexed_example: tuple[tf.Tensor, Any]) -> Any:
        """Return the new example, made with the seed (epoch_word, index) if one is taken."""
        index, example = indexed_example
        arguments = example if isinstance(example, tuple) else (example,)
        if self.seeded:
            return self.function(*arguments, seed=tf.stack([epoch_word, index]))
        return self.function(*arguments)

    def describe(self, *, deterministic: bool = True) -> Stage:
        """Return the stage that applies the map."""
        seed = ", a stateless seed per (epoch, example)" if self.seeded else ""
        order = "in order" if deterministic else "in any order"
        return Stage(
            "map",
            f"{self.name}, in parallel and {order}{seed}",
            "after the order is decided, so that it changes what an example is and never which",
        )

    def _check(self, element_spec: Any) -> None:
        key = tf.TensorSpec([], tf.int64)
        try:
            traced = tf.function(self.__call__).get_concrete_function(key, (key, element_spec))
        except Exception as error:
            raise ValueError(
                f"`map` {self.name!r} failed on an example of the form {element_spec}: {error}"
            ) from error
        graph = traced.graph.as_graph_def()
        nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
        stateful = sorted({node.op for node in nodes} & STATEFUL_OPS)
        if stateful:
            raise ValueError(
                f"`map` must depend on the example and its seed alone, so that a run can be "
                f"repeated and resumed, and so that examples are mapped in parallel. Received "
                f"{self.name!r}, which runs the stateful operations {stateful}. Take a `seed` "
                "argument and use `tf.random.stateless_*` or `tf.image.stateless_random_*`."
            )
        if traced.structured_outputs is None:
            raise ValueError(
                f"`map` must return the new example. Received {self.name!r}, which returns None."
            )


def _seed_parameter(function: Callable[..., Any]) -> inspect.Parameter | None:
    if isinstance(function, functools.partial) and "seed" in function.keywords:
        return None  # it has its seed, and keeps it
    try:
        return inspect.signature(function).parameters.get("seed")
    except (TypeError, ValueError):  # some built-in callables show no signature
        return None


def check_static_shapes(element_spec: Any) -> None:
    """Raise `ValueError` unless every component of an example has one known shape."""
    for spec in tf.nest.flatten(element_spec):
        if not isinstance(spec, tf.TensorSpec) or not spec.shape.is_fully_defined():
            raise ValueError(
                "Every example must have the same known shape after `map`, so that every batch has "
                f"one shape. Received {spec} in examples of the form {element_spec}. Pass single "
                "examples rather than batches, resize or pad in `map`, and call `set_shape` after "
                "a py_function."
            )
