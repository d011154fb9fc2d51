"""Search spaces of optimizers, as large as the number of trials allows."""

import keras_tuner as kt

from tfplaybook._arguments import check_count, check_number

_FEW_TRIALS = 10
_ENOUGH_TRIALS = 25
# The playbook says "substantially more than 25".
_MANY_TRIALS = 50


def adam_space(
    hp: kt.HyperParameters,
    max_trials: int,
    *,
    learning_rate: tuple[float, float] = (1e-4, 1e-1),
) -> dict[str, float]:
    r"""Declare Adam's hyperparameters, and return arguments for `keras.optimizers.Adam`.

    | `max_trials` | tuned |
    |---|---|
    | below 10 | `learning_rate` |
    | 10 to 24 | and \(1 - \beta_1\) from 0.01 to 0.5 |
    | 25 to 49 | and `epsilon` from 1e-10 to 1e-2 |
    | from 50 on | and \(1 - \beta_2\) from 1e-4 to 0.1 |

    All of them on log scales, as `learning_rate`, `one_minus_beta_1`, `epsilon` and
    `one_minus_beta_2`. In a conditional scope that does not hold, the dictionary is empty.

    Examples:
        >>> import keras_tuner as kt, tfplaybook as pb
        >>> hp = kt.HyperParameters()
        >>> sorted(pb.search.adam_space(hp, max_trials=20))
        ['beta_1', 'learning_rate']
        >>> [hyperparameter.name for hyperparameter in hp.space]
        ['learning_rate', 'one_minus_beta_1']

    Args:
        hp: The argument of the function that builds the model.
        max_trials: Number of trials that tune these hyperparameters, at least 1. In a study that
            compares optimizers it is that of Adam's share.
        learning_rate: Lowest and highest base learning rate, both positive.

    Raises:
        ValueError: `max_trials` or `learning_rate` is outside its range.

    Source: playbook G4, where 25 trials fall in two rows and "substantially more" has no number.
    """
    max_trials = check_count("max_trials", max_trials, minimum=1)
    found = {"learning_rate": _log(hp, "learning_rate", *_check_range(learning_rate))}
    if max_trials >= _FEW_TRIALS:
        found["beta_1"] = _one_minus(hp, "beta_1", 1e-2, 0.5, default=0.1)
    if max_trials >= _ENOUGH_TRIALS:
        found["epsilon"] = _log(hp, "epsilon", 1e-10, 1e-2, default=1e-7)
    if max_trials >= _MANY_TRIALS:
        found["beta_2"] = _one_minus(hp, "beta_2", 1e-4, 0.1, default=1e-3)
    return {name: value for name, value in found.items() if value is not None}


def nesterov_space(
    hp: kt.HyperParameters,
    max_trials: int,
    *,
    learning_rate: tuple[float, float] = (1e-3, 1.0),
) -> dict[str, float | bool]:
    r"""Declare the hyperparameters of Nesterov momentum, and return arguments for SGD.

    | `max_trials` | tuned |
    |---|---|
    | below 10 | `learning_rate`; the momentum is 0.9 |
    | from 10 on | and \(1 - \) `momentum` from 0.01 to 0.5 |

    Both on log scales, as `learning_rate` and `one_minus_momentum`. In a conditional scope that
    does not hold, the dictionary is empty.

    Examples:
        >>> import keras, keras_tuner as kt, tfplaybook as pb
        >>> arguments = pb.search.nesterov_space(kt.HyperParameters(), max_trials=5)
        >>> keras.optimizers.SGD(**arguments).nesterov
        True

    Args:
        hp: The argument of the function that builds the model.
        max_trials: Number of trials that tune these hyperparameters, at least 1.
        learning_rate: Lowest and highest base learning rate, both positive.

    Raises:
        ValueError: `max_trials` or `learning_rate` is outside its range.

    Source: playbook C4, N9; thresholds as in G4.
    """
    max_trials = check_count("max_trials", max_trials, minimum=1)
    rate = _log(hp, "learning_rate", *_check_range(learning_rate))
    momentum: float | None = 0.9
    if max_trials >= _FEW_TRIALS:
        momentum = _one_minus(hp, "momentum", 1e-2, 0.5, default=0.1)
    if rate is None or momentum is None:
        return {}
    return {"learning_rate": rate, "momentum": momentum, "nesterov": True}


def _log(
    hp: kt.HyperParameters, name: str, low: float, high: float, default: float | None = None
) -> float | None:
    try:
        return hp.Float(name, low, high, sampling="log", default=default)
    except KeyError as error:
        raise ValueError(
            f"{name!r} has no value, although it exists beside {hp.values}: KerasTuner's own "
            "oracles lose a hyperparameter whose name is declared under several parents. Search "
            "with `QuasiRandomSearch`, or `keras_tuner.Tuner(oracle=QuasiRandomOracle(...))`."
        ) from error


def _one_minus(
    hp: kt.HyperParameters, name: str, low: float, high: float, *, default: float
) -> float | None:
    value = _log(hp, f"one_minus_{name}", low, high, default)
    return None if value is None else 1.0 - value


def _check_range(learning_rate: tuple[float, float]) -> tuple[float, float]:
    if not isinstance(learning_rate, tuple | list) or len(learning_rate) != 2:
        raise ValueError(
            "`learning_rate` must be the lowest and the highest rate, such as (1e-4, 1e-1). "
            f"Received: {learning_rate!r}."
        )
    low = check_number("learning_rate[0]", learning_rate[0], above=0.0)
    return low, check_number("learning_rate[1]", learning_rate[1], minimum=low)
