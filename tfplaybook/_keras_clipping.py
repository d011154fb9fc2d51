"""Clipping inside the compiled step, and the private hooks of Keras that it needs.

Checked on Keras 3.15. `tests/test_keras_hooks.py` fails with a clear message when one is gone.
"""

import contextlib
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfplaybook import _keras

# Where the whole gradient can be replaced once it is aggregated over replicas, accumulated and
# unscaled. On TensorFlow `_clip_gradients` comes before the aggregation and sees one replica's.
_HOOKS = {"tensorflow": "_all_reduce_sum_gradients", "jax": "_clip_gradients"}
_STORE_METHODS = ("save_own_variables", "load_own_variables")
_BUILT_IN = ("clipnorm", "clipvalue", "global_clipnorm")
_MINIMUM_CAPACITY = 1024

State = dict[str, Any]


class InstalledClipping:
    """Clips the global norm of the gradient that the compiled step applies.

    A norm above the threshold of its update is scaled down to it. Norm and threshold of the latest
    `capacity` updates are kept in a ring, where a callback reads them.

    What this adds to the optimizer stays out of files that are saved meanwhile, so that they load
    in a process without tfplaybook, and is gone after `uninstall`.

    Args:
        model: A compiled model.
        state: The state of the threshold's rule before the next update, plain arrays.
        update: Maps state and norm (float32, shape ()) to the new state and the threshold (float32,
            shape ()). Called while the step is traced.
        clips: Whether to clip, or only to record.
        caller: Name of the callback, for error messages.
    """

    def __init__(
        self,
        model: keras.Model,
        state: dict[str, np.ndarray],
        update: Callable[[State, Any], tuple[State, Any]],
        *,
        clips: bool,
        caller: str,
    ):
        previous = installed_clipping(model)
        if previous is not None:  # left by `keep_installed` or an interrupted `fit`
            previous.uninstall(model)
        optimizer = _keras.innermost_optimizer(model)
        hook = _HOOKS.get(keras.backend.backend(), "")
        _check_optimizer(model, optimizer, hook, caller)
        self.capacity = max(_MINIMUM_CAPACITY, 2 * model.steps_per_execution)
        self.called = False
        self._optimizer = optimizer
        self._update = update
        self._clips = clips
        with strategy_scope(optimizer):
            self._state = {
                name: _add_variable(optimizer, f"clipping_{name}", value)
                for name, value in state.items()
            }
            self._records = _add_variable(
                optimizer, "clipping_records", np.zeros((self.capacity, 2), "float32")
            )
        self._overridden: list[tuple[Any, str]] = []
        self._override(optimizer, hook, self._clipping(hook, getattr(optimizer, hook)))
        for wrapper in _keras.optimizer_chain(model):
            for name in _STORE_METHODS:
                self._override(wrapper, name, self._hiding_our_variables(getattr(wrapper, name)))
        if _replicas(optimizer) > 1 and model.optimizer is not optimizer:
            self._override(
                model.optimizer, "check_finite", _on_any_replica(model.optimizer.check_finite)
            )
        # The optimizer holds it; held here as well it would keep the model alive by `update`.
        _keras.registry(model)["clipping"] = weakref.ref(self)
        _keras.retrace(model)

    def _override(self, owner: Any, name: str, method: Callable[..., Any]) -> None:
        setattr(owner, name, method)
        self._overridden.append((owner, name))

    def _clipping(self, hook: str, original: Callable[..., Any]) -> Callable[..., Any]:
        if hook == "_clip_gradients":
            return self._clip

        def all_reduce_sum_gradients(grads_and_vars: Any) -> Any:
            gradients, variables = zip(*original(grads_and_vars), strict=True)
            return list(zip(self._clip(gradients), variables, strict=True))

        return all_reduce_sum_gradients

    def _clip(self, gradients: Sequence[Any]) -> list[Any]:
        self.called = True
        norm = global_norm(gradients)
        state, threshold = self._update(
            {name: _read(variable) for name, variable in self._state.items()}, norm
        )
        for name, variable in self._state.items():
            variable.assign(state[name])
        row = ops.cast(ops.mod(self._optimizer.iterations, self.capacity), "int32")
        self._records.assign(
            ops.scatter_update(
                _read(self._records),
                ops.reshape(row, (1, 1)),
                ops.reshape(ops.stack([norm, threshold]), (1, 2)),
            )
        )
        if not self._clips:
            return list(gradients)
        return scale_down(gradients, norm, threshold)

    def _hiding_our_variables(self, original: Callable[[Any], None]) -> Callable[[Any], None]:
        def method(store: Any) -> None:
            with self._hidden():
                original(store)

        return method

    @contextlib.contextmanager
    def _hidden(self) -> Iterator[None]:
        # The compiled step relies on the order of the tracked list, so that list itself stays as it
        # is and another takes its place meanwhile.
        attributes = vars(self._optimizer)
        tracked = attributes["_variables"]
        ours = {id(variable) for variable in self.variables}
        attributes["_variables"] = [v for v in tracked if id(v) not in ours]
        try:
            yield
        finally:
            attributes["_variables"] = tracked

    @property
    def variables(self) -> list[Any]:
        """The variables that this added to the optimizer."""
        return [*self._state.values(), self._records]

    def records(self, first: int, last: int) -> np.ndarray:
        """Return norm and threshold of the updates after `first` up to `last`, (updates, 2)."""
        rows = np.arange(first, last) % self.capacity
        return ops.convert_to_numpy(self._records)[rows]

    def state(self) -> dict[str, np.ndarray]:
        """Return the state of the threshold's rule, copied."""
        return {
            name: np.array(ops.convert_to_numpy(variable)) for name, variable in self._state.items()
        }

    def assign(self, state: dict[str, np.ndarray]) -> None:
        """Set the state of the threshold's rule."""
        for name, variable in self._state.items():
            variable.assign(state[name])

    def uninstall(self, model: keras.Model) -> None:
        """Give the optimizer back as it was before; nothing if another has taken its place."""
        if installed_clipping(model) is not self:
            return
        for owner, name in self._overridden:
            vars(owner).pop(name, None)
        for variable in self.variables:
            self._optimizer._untrack_variable(variable)
        _keras.registry(model).pop("clipping", None)
        _keras.retrace(model)


def installed_clipping(model: keras.Model) -> InstalledClipping | None:
    """Return what clips the gradients of the model now, or None."""
    reference = _keras.registry(model).get("clipping")
    return None if reference is None else reference()


def own_variables(model: keras.Model) -> list[Any]:
    """Return the variables that clipping has added to the model's optimizer."""
    installed = installed_clipping(model)
    return [] if installed is None else installed.variables


def global_norm(gradients: Sequence[Any]) -> Any:
    """Return the L2 norm of all gradients together, float32 of shape ().

    In float32 it overflows above 1.8e19, and is infinite then like that of an infinite gradient.
    """
    present = [gradient for gradient in gradients if gradient is not None]
    if keras.backend.backend() == "jax":
        import jax

        # Adam squares the gradient as well. XLA would compute one square for both and write it to
        # memory, which is most of the cost of a wide network that is only monitored.
        present = [jax.lax.optimization_barrier(gradient) for gradient in present]
    if keras.backend.backend() != "tensorflow":
        squares = [ops.sum(ops.square(ops.cast(gradient, "float32"))) for gradient in present]
        return ops.sqrt(ops.sum(ops.stack(squares)))
    import tensorflow as tf

    # One kernel and no temporary of the gradient's size, unlike the sum of the square.
    halves = [tf.nn.l2_loss(tf.cast(_dense(gradient), tf.float32)) for gradient in present]
    return tf.sqrt(2.0 * tf.add_n(halves))


def _dense(gradient: Any) -> Any:
    import tensorflow as tf

    return _distinct_rows(gradient) if isinstance(gradient, tf.IndexedSlices) else gradient


def _distinct_rows(gradient: Any) -> Any:
    """Return the rows of `tf.IndexedSlices` with the rows of a repeated index added up.

    Shape (slices, ...), with zeros for what was merged: static for XLA, and small even when the
    table of the embedding is large.
    """
    import tensorflow as tf

    order = tf.argsort(gradient.indices)
    indices = tf.gather(gradient.indices, order)
    is_new = tf.cast(indices[1:] != indices[:-1], tf.int32)
    place = tf.concat([tf.zeros((1,), tf.int32), tf.cumsum(is_new)], axis=0)
    rows = tf.gather(tf.cast(gradient.values, tf.float32), order)
    return tf.math.unsorted_segment_sum(rows, place, tf.shape(rows)[0])


def scale_down(gradients: Sequence[Any], norm: Any, threshold: Any) -> list[Any]:
    """Return the gradients times `threshold / norm` where a finite norm is above the threshold.

    A gradient that is not finite has no direction to keep: it is left as it is, and the loss shows
    what has happened.
    """
    clipped = ops.logical_and(norm > threshold, ops.isfinite(norm))
    scale = ops.where(clipped, threshold / norm, 1.0)
    return [None if g is None else _times(g, scale) for g in gradients]


def _times(gradient: Any, scale: Any) -> Any:
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if isinstance(gradient, tf.IndexedSlices):
            values = _times(gradient.values, scale)
            return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return ops.cast(ops.cast(gradient, "float32") * scale, gradient.dtype)


def _add_variable(optimizer: Any, name: str, value: np.ndarray) -> Any:
    def initializer(shape: tuple[int, ...], dtype: Any = None) -> Any:
        return ops.convert_to_tensor(value, dtype)

    return optimizer.add_variable(
        value.shape,
        initializer,
        dtype=str(value.dtype),
        aggregation="only_first_replica",
        name=name,
    )


def _read(variable: Any) -> Any:
    """Return the value that the variable has now; Keras' TensorFlow variables are read lazily."""
    if keras.backend.backend() != "tensorflow":
        return variable.value
    import tensorflow as tf

    return tf.convert_to_tensor(variable.value)


def strategy_scope(optimizer: Any) -> contextlib.AbstractContextManager[Any]:
    """Return the scope in which the optimizer's variables are made."""
    strategy = getattr(optimizer, "_distribution_strategy", None)
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def _replicas(optimizer: Any) -> int:
    strategy = getattr(optimizer, "_distribution_strategy", None)
    return 1 if strategy is None else strategy.num_replicas_in_sync


def _on_any_replica(check_finite: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Make `LossScaleOptimizer` skip a step that overflowed on any replica, not on the first only.

    Keras asks the first replica alone; an overflow on another one would be clipped and applied.
    """
    import tensorflow as tf

    def check(gradients: Any) -> Any:
        overflowed = tf.cast(tf.logical_not(check_finite(gradients)), tf.float32)
        replicas = tf.distribute.get_replica_context()
        return tf.equal(replicas.all_reduce(tf.distribute.ReduceOp.SUM, overflowed), 0.0)

    return check


def _check_optimizer(model: keras.Model, optimizer: Any, hook: str, caller: str) -> None:
    """Raise for what cannot be clipped, and for what Keras itself cannot train."""
    name = type(optimizer).__name__
    if not isinstance(optimizer, keras.optimizers.Optimizer) or not hasattr(optimizer, hook):
        raise ValueError(
            f"{caller} does not know how {name} applies gradients (Keras {keras.version()}, "
            f"{keras.backend.backend()} backend): it must be a Keras 3 optimizer on TensorFlow or "
            "JAX."
        )
    for option in _BUILT_IN:
        value = getattr(optimizer, option, None)
        if value is not None:
            raise ValueError(
                f"{caller} replaces the optimizer's own clipping, which must not be set as well. "
                f"Received: {name} with {option}={value!r}. Leave {option} out when you make the "
                "optimizer."
            )
    if keras.backend.backend() == "tensorflow":
        _check_strategy(model, optimizer, caller)


def _check_strategy(model: keras.Model, optimizer: Any, caller: str) -> None:
    import tensorflow as tf

    strategy = optimizer._distribution_strategy
    replicas = strategy.num_replicas_in_sync
    if replicas == 1 or not isinstance(strategy, tf.distribute.MirroredStrategy):
        return
    accumulation = optimizer.gradient_accumulation_steps
    for unsupported, reason, fix in (
        (model.jit_compile, "jit_compile=True (keras#19005)", "jit_compile=False"),
        (
            model.steps_per_execution > 1,
            f"steps_per_execution={model.steps_per_execution} (keras#19246)",
            "steps_per_execution=1",
        ),
        (
            accumulation,
            f"gradient_accumulation_steps={accumulation} (keras#20582)",
            "a larger batch instead, which has the same gradient",
        ),
    ):
        if unsupported:
            raise ValueError(
                f"Keras cannot train on {replicas} replicas of {type(strategy).__name__} with "
                f"{reason}, also without {caller}. Use {fix}."
            )
