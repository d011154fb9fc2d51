"""What decides the next training step, read from a model and put back. Checked on Keras 3.15.

`tests/test_keras_hooks.py` fails with a clear message when a private hook is gone.
"""

import random
import re
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from tfplaybook import _keras, _keras_clipping
from tfplaybook._copying import copy_all

MODEL = "model/"
OPTIMIZER = "optimizer/"
GENERATOR = "generator/"

_NUMPY_GENERATOR = "MT19937"
# Keras numbers layers in the order in which a process makes them: a second model of the same kind
# has other names, but no other meaning.
_MADE_BY_KERAS = re.compile(r"_\d+(?=[_/]|$)")
_SHOWN_DIFFERENCES = 5


def capture(
    model: keras.Model, buffers: Mapping[str, np.ndarray] | None = None
) -> dict[str, np.ndarray]:
    """Return a copy of everything that decides the next step but the data, by name.

    Weights and batch statistics, the optimizers with their slots, averages and accumulators, the
    loss scale, every seed of Keras, and the generators of NumPy and Python. Not the clipping of
    ours, which is part of the state of its callback.

    Args:
        model: A built model with a built optimizer.
        buffers: Arrays of an earlier capture, which are overwritten and returned where they fit:
            faster than new memory.
    """
    buffers = buffers or {}
    copies = {}

    def pairs() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for name, variable in _variables(model):
            value = _host_value(variable)
            copy = buffers.get(name)
            if copy is None or copy.shape != value.shape or copy.dtype != value.dtype:
                copy = np.empty_like(value)
            copies[name] = copy
            yield copy, value

    copy_all(pairs())
    return {**copies, **_host_generators()}


def capture_variables(model: keras.Model) -> dict[str, np.ndarray]:
    """Return a copy of what `restore_variables` puts back."""
    return {
        name: _host_value(variable).copy()
        for name, variable in _variables(model)
        if name.startswith((MODEL, OPTIMIZER))
    }


def capture_rates(model: keras.Model) -> dict[str, np.ndarray]:
    """Return a copy of the learning rates, as part of what `capture` returns."""
    rates = {id(getattr(optimizer, "_learning_rate", None)) for optimizer in _optimizers(model)}
    return {
        name: _host_value(variable).copy()
        for name, variable in _variables(model)
        if id(variable) in rates
    }


def restore(model: keras.Model, state: Mapping[str, np.ndarray]) -> None:
    """Put back what `capture` returned, and leave other entries of `state` alone.

    Raises:
        ValueError: The model or its optimizer has other variables; nothing is changed then.
    """
    generator = f"{GENERATOR}{_keras.GLOBAL_SEED_GENERATOR}"
    if generator in state:
        _keras.make_global_seed_generator()
    host = {name for name in state if name.startswith(GENERATOR)} - {generator}
    variables = {
        name: value
        for name, value in state.items()
        if name.startswith((MODEL, OPTIMIZER)) or name == generator
    }
    present = dict(_variables(model))
    if generator not in state:
        present.pop(generator, None)
    _assign_all(present, variables)
    _set_host_generators({name: state[name] for name in host})


def restore_variables(model: keras.Model, state: Mapping[str, np.ndarray]) -> None:
    """Put back the variables of model and optimizers, but no generator outside of them.

    Raises:
        ValueError: The model or its optimizer has other variables; nothing is changed then.
    """
    restore(model, {name: v for name, v in state.items() if name.startswith((MODEL, OPTIMIZER))})


def restore_model(
    model: keras.Model, state: Mapping[str, np.ndarray], *, use_average: bool = False
) -> None:
    """Put back the model's own variables: weights, statistics and seeds, not the optimizer.

    Args:
        model: A built model.
        state: What `capture` returned.
        use_average: Give the weights the averages that the optimizer kept (`use_ema`).

    Raises:
        ValueError: The model has other variables, or no averages were kept; nothing is changed.
    """
    own = {name: value for name, value in state.items() if name.startswith(MODEL)}
    present = {name: v for name, v in _variables(model) if name.startswith(MODEL)}
    if use_average:
        own = {**own, **_averages(present, state)}
    _assign_all(present, own)


def average_name(model_name: str) -> str:
    """Return the name under which the moving average of a weight is captured."""
    return f"{OPTIMIZER}average/{model_name.removeprefix(MODEL)}"


def _averages(present: Mapping[str, Any], state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    averages = {_comparable(name): value for name, value in state.items()}
    found = {
        name: averages[key]
        for name in present
        if (key := _comparable(average_name(name))) in averages
    }
    if not found:
        raise ValueError(
            "The checkpoint holds no averages of the weights: its optimizer was made without "
            "`use_ema=True`."
        )
    return found


def average_batch_norm(model: keras.Model) -> int:
    """Average the batch statistics over replicas, in place; return how many differed (J2).

    Under `MirroredStrategy` each replica moves its own, and reading or saving them would take
    those of the first. Training does not read them.
    """
    averaged = 0
    for variable in model.non_trainable_variables:
        values = _replica_values(variable)
        if len(values) < 2 or values[0].dtype.kind in "iub":
            continue
        if any(not np.array_equal(values[0], value) for value in values[1:]):
            mean = np.mean([value.astype("float64") for value in values], axis=0)
            variable.assign(mean.astype(values[0].dtype))
            averaged += 1
    return averaged


def check_built(model: keras.Model, caller: str) -> None:
    """Raise unless the model's weights are there to be put back."""
    if not model.built:
        raise ValueError(
            f"{caller} needs a model whose weights are there. Received: {model.name!r}, which "
            "Keras builds in its first step. Call it once before, as in model(x[:1]), or begin a "
            "Sequential model with keras.Input(shape)."
        )


def check_optimizers_built(model: keras.Model, caller: str) -> None:
    """Raise unless those of a custom train step have their variables, too.

    Which weights they move, nobody else knows.
    """
    for name, value in sorted(vars(model).items()):
        if isinstance(value, keras.optimizers.Optimizer) and not value.built:
            raise ValueError(
                f"{caller} needs optimizers whose variables are there. Received: `{name}` of "
                f"{model.name!r}, which Keras builds in its first step. Call "
                f"model.{name}.build(variables) with those that it moves."
            )


def build_optimizer(model: keras.Model) -> None:
    """Make the optimizer's variables, which Keras on TensorFlow makes only in the first step."""
    if model.optimizer.built:
        return
    with _keras_clipping.strategy_scope(_keras.innermost_optimizer(model)):
        model.optimizer.build(model.trainable_variables)


def _variables(model: keras.Model) -> Iterator[tuple[str, Any]]:
    """Yield the variables with their names, each once."""
    seen = {id(v) for v in model.metrics_variables}
    seen |= {id(v) for v in _keras_clipping.own_variables(model)}
    names: dict[int, str] = {}
    own = model.variables
    for index, variable in enumerate(own):
        if id(variable) not in seen:
            seen.add(id(variable))
            names[id(variable)] = f"{MODEL}{index:05d}/{variable.path}"
            yield names[id(variable)], variable
    for optimizer in _optimizers(model):
        for weight, average in _averaged(optimizer):
            if id(weight) in names:
                seen.add(id(average))
                yield average_name(names[id(weight)]), average
    index = 0
    for optimizer in _optimizers(model):
        for variable in _optimizer_variables(optimizer):
            if id(variable) not in seen:
                seen.add(id(variable))
                yield f"{OPTIMIZER}{index:05d}/{variable.path}", variable
                index += 1
    generator = _keras.global_seed_generator()
    if generator is not None and id(generator.state) not in seen:
        yield f"{GENERATOR}{_keras.GLOBAL_SEED_GENERATOR}", generator.state


def _optimizers(model: keras.Model) -> list[Any]:
    """Return the compiled optimizer, and those that a custom train step keeps on the model."""
    found = _keras.optimizer_chain(model) if getattr(model, "optimizer", None) else []
    for _, value in sorted(vars(model).items(), key=lambda item: item[0]):
        if isinstance(value, keras.optimizers.Optimizer) and all(value is not o for o in found):
            found.append(value)
    return found


def keeps_other_optimizers(model: keras.Model) -> bool:
    """Return whether a custom train step keeps optimizers beside the compiled one.

    The counter of the compiled one then need not move.
    """
    return len(_optimizers(model)) > len(_keras.optimizer_chain(model))


def _optimizer_variables(optimizer: Any) -> list[Any]:
    """Return what the optimizer tracks, and what it holds untracked, as Nadam its product."""
    held = [v for _, v in sorted(vars(optimizer).items()) if isinstance(v, keras.Variable)]
    return [*optimizer.variables, *held]


def _averaged(optimizer: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the weights with their moving averages."""
    if getattr(optimizer, "use_ema", False) and optimizer.built:
        yield from zip(
            optimizer._trainable_variables,
            optimizer._model_variables_moving_average,
            strict=True,
        )


def _assign_all(variables: Mapping[str, Any], values: Mapping[str, np.ndarray]) -> None:
    """Assign all values or, when one does not fit, none."""
    wanted = {_comparable(name): value for name, value in values.items()}
    differences = [
        f"{name}: the model has {_describe(variable.shape, variable.dtype)}, the checkpoint "
        + (_describe(value.shape, value.dtype.name) if value is not None else "has none")
        for name, variable in variables.items()
        if (value := wanted.pop(_comparable(name), None)) is None
        or tuple(value.shape) != tuple(variable.shape)
        or value.dtype.name != keras.backend.standardize_dtype(variable.dtype)
    ]
    differences += [
        f"{name}: the model has none, the checkpoint {_describe(value.shape, value.dtype.name)}"
        for name, value in wanted.items()
    ]
    if differences:
        more = len(differences) - _SHOWN_DIFFERENCES
        raise ValueError(
            "The checkpoint is of another model or optimizer:\n  "
            + "\n  ".join(differences[:_SHOWN_DIFFERENCES])
            + (f"\n  and {more} more" if more > 0 else "")
            + "\nBuild and compile the model as it was when the checkpoint was saved."
        )
    by_name = {_comparable(name): value for name, value in values.items()}
    for name, variable in variables.items():
        variable.assign(by_name[_comparable(name)])


def _comparable(name: str) -> str:
    return _MADE_BY_KERAS.sub("", name)


def _describe(shape: Any, dtype: Any) -> str:
    return f"{keras.backend.standardize_dtype(dtype)} {tuple(shape)}"


def _host_value(variable: Any) -> np.ndarray:
    """Return the variable's value, perhaps without a copy."""
    values = _replica_values(variable)
    if any(not np.array_equal(values[0], value) for value in values[1:]):
        raise ValueError(
            f"The replicas hold different values of {variable.path}, of which a checkpoint keeps "
            "one. Make the variable with an aggregation, such as `aggregation='mean'`."
        )
    return values[0]


def _replica_values(variable: Any) -> list[np.ndarray]:
    """Return the values on the replicas of a `tf.distribute` strategy, or the only value."""
    if keras.backend.backend() != "tensorflow":
        return [np.asarray(variable.value)]
    replicas = getattr(variable.value, "values", None)
    if not isinstance(replicas, tuple | list):
        replicas = [variable.value]
    return [_read(replica) for replica in replicas]


def _read(variable: Any) -> np.ndarray:
    """Return the value of a `tf.Variable`, without a copy where it is in the host's memory."""
    import tensorflow as tf

    # `value()` takes twice the time, which counts with many small variables.
    return np.asarray(tf.raw_ops.ReadVariableOp(resource=variable.handle, dtype=variable.dtype))


def _host_generators() -> dict[str, np.ndarray]:
    """Return the states of Python's and NumPy's global generators."""
    version, words, gauss = random.getstate()
    state = {
        "python_version": np.array(version, "int64"),
        "python_words": np.array(words, "uint64"),
        "python_gauss": np.array(np.nan if gauss is None else gauss, "float64"),
    }
    numpy_state: Any = np.random.get_state(legacy=True)
    if numpy_state[0] == _NUMPY_GENERATOR:
        _, keys, position, has_gauss, cached = numpy_state
        state["numpy_keys"] = np.array(keys, "uint32")
        state["numpy_position"] = np.array([position, has_gauss], "int64")
        state["numpy_gauss"] = np.array(cached, "float64")
    return {f"{GENERATOR}{name}": value for name, value in state.items()}


def _set_host_generators(state: Mapping[str, np.ndarray]) -> None:
    own = {name.removeprefix(GENERATOR): value for name, value in state.items()}
    if "python_words" in own:
        gauss = float(own["python_gauss"])
        words = tuple(own["python_words"].tolist())
        random.setstate((int(own["python_version"]), words, None if np.isnan(gauss) else gauss))
    if "numpy_keys" in own:
        position, has_gauss = own["numpy_position"].tolist()
        np.random.set_state(
            (_NUMPY_GENERATOR, own["numpy_keys"], position, has_gauss, float(own["numpy_gauss"]))
        )
