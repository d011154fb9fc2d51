"""Private hooks of Keras; those of clipping are in `_keras_clipping`. Checked on Keras 3.15.

`tests/test_keras_hooks.py` fails with a clear message when one of them is gone.
"""

import copy
import gc
import inspect
import math
import sys
import weakref
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, Protocol

import keras
import numpy as np
from keras import ops

_RATE_METHOD = "_get_current_learning_rate"
_RATE_VARIABLE = "_learning_rate"
GLOBAL_SEED_GENERATOR = "global_seed_generator"

_registries: "weakref.WeakKeyDictionary[Any, dict[str, Any]]" = weakref.WeakKeyDictionary()


class RunWriter(Protocol):
    """Where a callback of ours writes the numbers that it computes."""

    def scalar(self, name: str, step: int, value: float) -> None:
        """Record that `name` was `value` after `step` optimizer updates."""

    def histogram(self, name: str, step: int, values: Any) -> None:
        """Record how `values` were distributed after `step` optimizer updates, for TensorBoard."""

    def chart(self, title: str, names: Sequence[str]) -> None:
        """Let TensorBoard draw the named curves in one chart."""

    def flush(self) -> None:
        """Put on disk what was recorded."""


def registry(model: keras.Model) -> dict[str, Any]:
    """Return what our callbacks share about `model`, so that their order does not matter.

    Keys: `"callbacks"`, weak references to our callbacks in the order in which they were given;
    `"recorder"`, one to the `Callback` that records the run; `"resumer"`, one to the `Callback`
    with a method `resume`;
    `"learning_rate"`, the `InstalledRate`; `"clipping"`, a weak reference to the
    `InstalledClipping` of `_keras_clipping`. No value may hold the model, which would then never
    be freed.
    """
    return _registries.setdefault(model, {})


def announce_recorder(recorder: "Callback") -> None:
    """Make `recorder`, a `RunWriter`, known to the other callbacks of its model."""
    registry(recorder.model)["recorder"] = weakref.ref(recorder)


def find_recorder(callback: "Callback") -> Any:
    """Return the `RunWriter` that records the same `fit` as `callback`, or None."""
    reference = registry(callback.model).get("recorder")
    recorder = None if reference is None else reference()
    # Keras gives one object to all callbacks of a `fit`; an earlier fit's recorder has another.
    same_fit = recorder is not None and recorder.params is callback.params
    return recorder if same_fit else None


def stateful_callbacks(callback: "Callback") -> dict[str, Any]:
    """Return our callbacks of the same `fit` that have a `state_dict`, by a name for each.

    They are known once `fit` has given all callbacks its parameters.
    """
    found: dict[str, Any] = {}
    for reference in registry(callback.model).get("callbacks", []):
        other = reference()
        if other is None or other.params is not callback.params or other is callback:
            continue
        if hasattr(other, "state_dict"):
            name = type(other).__name__
            found[f"{name}:{sum(key.startswith(name) for key in found)}"] = other
    return found


def profiled_batches(callback: "Callback") -> list[tuple[int, int]]:
    """Return the first and last call, from 1, that a `TensorBoard` of the same `fit` profiles."""
    # A callback is not told of those beside it, but Keras gives all of a `fit` one `params`.
    boards = [
        thing
        for thing in gc.get_objects()
        if issubclass(type(thing), keras.callbacks.TensorBoard) and thing.params is callback.params
    ]
    return [(board._start_batch, board._stop_batch) for board in boards if board._stop_batch > 0]


def check_model(model: Any, caller: str) -> None:
    """Raise unless `model` is a compiled Keras 3 model."""
    if not isinstance(model, keras.Model):
        origin = type(model).__module__
        legacy = (
            " This is a legacy `tf_keras` (Keras 2) model: unset TF_USE_LEGACY_KERAS and build it "
            "with `import keras`."
            if any(base.__module__.startswith("tf_keras") for base in type(model).__mro__)
            else ""
        )
        raise ValueError(
            f"{caller} works with a `keras.Model` of Keras 3. "
            f"Received: {type(model).__name__} from {origin}.{legacy}"
        )
    if getattr(model, "optimizer", None) is None:
        raise ValueError(
            f"{caller} needs a compiled model. Received: {model.name!r} without an optimizer. "
            "Call model.compile(optimizer=..., loss=...) first."
        )


def innermost_optimizer(model: keras.Model) -> keras.optimizers.Optimizer:
    """Return the optimizer that updates the weights, inside any `LossScaleOptimizer`."""
    return optimizer_chain(model)[-1]


def optimizer_chain(model: keras.Model) -> list[Any]:
    """Return the model's optimizer, and the optimizers that it wraps, innermost last."""
    chain = [model.optimizer]
    while hasattr(chain[-1], "inner_optimizer"):
        chain.append(chain[-1].inner_optimizer)
    return chain


def count_updates(model: keras.Model) -> int:
    """Return how often the weights were updated; accumulated micro-steps count as one."""
    return int(ops.convert_to_numpy(innermost_optimizer(model).iterations))


def begin_at_epoch(model: keras.Model, epoch: int | None) -> None:
    """Make the `fit` that begins start at `epoch`; None undoes it, which Keras itself never does.

    Left there, the next `fit` would skip epochs.
    """
    model._initial_epoch = epoch


def global_seed_generator() -> Any:
    """Return the generator of unseeded `keras.random` calls, or None before the first of them."""
    from keras.src.backend.common import global_state

    return global_state.get_global_attribute(GLOBAL_SEED_GENERATOR)


def make_global_seed_generator() -> None:
    """Make the generator as the first unseeded call would."""
    from keras.src.random.seed_generator import global_seed_generator

    global_seed_generator()


def forget_global_seed_generator() -> None:
    """Let the next unseeded call make a new generator."""
    from keras.src.backend.common import global_state

    global_state.set_global_attribute(GLOBAL_SEED_GENERATOR, None)


def accumulation_steps(model: keras.Model) -> int:
    """Return how many batches make one update."""
    return innermost_optimizer(model).gradient_accumulation_steps or 1


def global_seed() -> int | None:
    """Return the seed given to `keras.utils.set_random_seed`, or None when it was not called."""
    from keras.src.utils.rng_utils import get_random_seed

    return get_random_seed()


def describe_architecture(model: keras.Model) -> Any:
    """Return the configuration of the layers as JSON data, or None if the model has none."""
    try:
        return _plain(model.get_config())
    except Exception:  # a subclassed model's `get_config` may raise anything
        return None


def describe_model(model: keras.Model) -> dict[str, Any]:
    """Return what a reader wants to know about a compiled model, as JSON data."""
    return {
        "name": model.name,
        "class": f"{type(model).__module__}.{type(model).__qualname__}",
        "parameters": model.count_params() if model.built else None,
        "optimizer": _plain(innermost_optimizer(model)),
        "loss": _plain(model.loss),
        "loss_weights": _plain(loss_weights(model)),
        "jit_compile": bool(model.jit_compile),
        "steps_per_execution": model.steps_per_execution,
    }


def loss_weights(model: keras.Model) -> Any:
    """Return what was given to `compile(loss_weights=...)`.

    The public `get_compile_config` serializes the loss too, which not every loss can be.
    """
    return model._compile_config.config["loss_weights"]


def _plain(config: Any) -> Any:
    """Return `config` as JSON data: objects by class and configuration, functions by name."""
    if isinstance(config, dict):
        return {str(key): _plain(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return [_plain(value) for value in config]
    if isinstance(config, np.generic):
        config = config.item()
    if config is None or isinstance(config, bool | int | str):
        return config
    if isinstance(config, float) and math.isfinite(config):
        return config
    if hasattr(config, "get_config"):
        try:
            return {"class": type(config).__name__, **_plain(config.get_config())}
        except NotImplementedError:
            return {"class": type(config).__name__}
    return getattr(config, "__qualname__", str(config))


def retrace(model: keras.Model) -> None:
    """Make the next `fit` compile its step anew, as it must after a change to the optimizer."""
    model.train_function = None


class Callback(keras.callbacks.Callback):
    """Base of our callbacks: refuses models it cannot serve, and its copies are as new.

    KerasTuner deep-copies the callbacks for every trial; a copy of a callback that has trained
    must not carry that model, its numbers or its open run along.
    """

    #: Arguments that a run may change when it is resumed.
    free_arguments: frozenset[str] = frozenset({"log_dir", "update_freq", "keep_installed"})

    _arguments: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> "Callback":
        callback = super().__new__(cls)
        callback._arguments = (args, kwargs)
        return callback

    def __deepcopy__(self, memo: dict[int, Any]) -> "Callback":
        args, kwargs = copy.deepcopy(self._arguments, memo)
        return type(self)(*args, **kwargs)

    def set_model(self, model: keras.Model) -> None:
        """Accept a compiled Keras 3 model."""
        check_model(model, type(self).__name__)
        super().set_model(model)
        known = [ref for ref in registry(model).get("callbacks", []) if ref() not in (None, self)]
        registry(model)["callbacks"] = [*known, weakref.ref(self)]

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Let the callback that resumes the run do so first, whatever the order of the list."""
        reference = registry(self.model).get("resumer")
        resumer = None if reference is None else reference()
        if resumer is not None and resumer.params is self.params:
            resumer.resume()

    def describe(self) -> dict[str, Any]:
        """Return the class and the arguments that decide about training, as JSON data."""
        bound = inspect.signature(type(self)).bind(*self._arguments[0], **self._arguments[1])
        fixed = {k: v for k, v in bound.arguments.items() if k not in self.free_arguments}
        return {"class": type(self).__name__, **_plain(fixed)}


class PresentFit:
    """The `fit` that calls our callbacks now, or none; to be made in a hook of a callback.

    Its list of callbacks is a local variable of `fit`: it dies with that call, however it ends. An
    error that somebody keeps keeps the call's variables too, so whether it runs is asked of the
    stacks of all threads.
    """

    def __init__(self) -> None:
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            owner = frame.f_locals.get("self")
            if isinstance(owner, keras.callbacks.CallbackList):
                break
            frame = frame.f_back
        self._callbacks = None if frame is None else weakref.ref(owner)
        # Not the frame, which would keep the variables. No other has its id while it runs.
        self._caller = None if frame is None else id(frame.f_back)

    def is_running(self) -> bool:
        """Return whether the call has not ended."""
        if self._callbacks is None or self._callbacks() is None:
            return False
        frames = list(sys._current_frames().values())
        frame: FrameType | None = None
        try:
            while frames:
                frame = frames.pop()
                while frame is not None:
                    if id(frame) == self._caller:
                        return True
                    frame = frame.f_back
            return False
        finally:
            # The present one is among them: a cycle, which would keep what all of them hold.
            frame = None
            frames.clear()

    def when_over(self, call: Callable[[], None]) -> None:
        """Call it when the call has ended and nobody keeps its variables."""
        callbacks = None if self._callbacks is None else self._callbacks()
        if callbacks is not None:
            weakref.finalize(callbacks, call).atexit = False


class InstalledRate:
    """A learning rate that the compiled step computes as `fraction(updates) * variable`.

    The optimizer's own learning-rate variable stays in its place and holds the peak. Replacing it
    by a schedule would untrack it, so that checkpoints lose the optimizer's state, and put a class
    of ours into every file saved during training, which a process without tfplaybook cannot load.

    Args:
        model: A compiled model whose optimizer has a constant rate.
        fraction: Maps the number of updates made (integer tensor, shape ()) to the share of the
            variable to use (float32, shape ()). Called while the step is traced.
        caller: Name of the callback, for error messages.
    """

    def __init__(self, model: keras.Model, fraction: Callable[[Any], Any], caller: str):
        optimizer = innermost_optimizer(model)
        previous = registry(model).pop("learning_rate", None)
        if previous is not None:
            # Left by `keep_installed` or an interrupted `fit`; a rate assigned since then is the
            # user's and becomes the compiled one.
            assigned = previous.written_by_others()
            previous.uninstall(model)
            if assigned is not None:
                previous.variable.assign(assigned)
        variable = getattr(optimizer, _RATE_VARIABLE, None)
        standard = getattr(keras.optimizers.Optimizer, _RATE_METHOD, None)
        if (
            standard is None
            or variable is None
            or getattr(type(optimizer), _RATE_METHOD, None) is not standard
            or hasattr(optimizer, "optimizers")
        ):
            raise ValueError(
                f"{caller} does not know how {type(optimizer).__name__} computes its learning "
                f"rate (Keras {keras.version()}): it must be a single optimizer that leaves this "
                "to Keras."
            )
        if not isinstance(variable, keras.Variable):
            raise ValueError(
                f"{caller} needs an optimizer compiled with a constant learning rate. Received: "
                f"{type(optimizer).__name__} with {type(variable).__name__}. Pass a float, or "
                "keep your schedule, wrap it in tfplaybook.schedules.prepend_warmup and leave "
                "the callback out."
            )
        self.variable = variable
        self.compiled_rate = float(variable.numpy())
        self._written = self.compiled_rate

        def current_learning_rate() -> Any:
            return ops.cast(fraction(optimizer.iterations), variable.dtype) * variable

        setattr(optimizer, _RATE_METHOD, current_learning_rate)
        registry(model)["learning_rate"] = self
        retrace(model)

    def assign(self, rate: float) -> None:
        """Set the variable that `fraction` multiplies."""
        self.variable.assign(rate)
        self._written = float(self.variable.numpy())

    def written_by_others(self) -> float | None:
        """Return what another callback has assigned since our last `assign`, or None."""
        value = float(self.variable.numpy())
        return None if value == self._written else value

    def uninstall(self, model: keras.Model) -> None:
        """Give the optimizer back with the rate it was compiled with."""
        vars(innermost_optimizer(model)).pop(_RATE_METHOD, None)
        self.variable.assign(self.compiled_rate)
        registry(model).pop("learning_rate", None)
        retrace(model)
