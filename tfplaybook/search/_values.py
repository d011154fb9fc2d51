"""From a number in [0, 1) to the value of a hyperparameter.

KerasTuner's own `prob_to_value` misses values at the edges: `Float(0, 1, step=0.1)` never gives
1.0, an `Int` on a log scale can give `max_value + 1`, and a stepped `reverse_log` runs backwards.
Here every level of a stepped or discrete hyperparameter owns an equal share of [0, 1), the map
never decreases, and no value lies outside the declared range.
"""

import math
import sys
from typing import Any

import numpy as np

from tfplaybook._keras_tuner import Boolean, Choice, Fixed, Float, HyperParameter, Int

# (1.0 - 0.0) / 0.1 has to count as ten steps although it may be computed as 9.999999999999998.
_STEP_TOLERANCE = 1e-8

Value = float | int | str | bool


def value_at(hyperparameter: HyperParameter, probability: float) -> Value:
    """Return the value of `hyperparameter` at `probability`, a number in [0, 1).

    The inverse of the distribution that the hyperparameter declares: uniform over the levels of
    `Choice`, `Boolean` and everything with a `step`; else uniform on its `sampling` scale. Types
    that KerasTuner does not define are asked for their own `prob_to_value`.
    """
    match hyperparameter:
        case Fixed():
            return hyperparameter.value
        case Boolean():
            return probability >= 0.5
        case Choice():
            values = hyperparameter.values
            return values[_level(probability, len(values))]
        case Int() | Float() if hyperparameter.step is not None:
            return _stepped_value(hyperparameter, probability)
        case Int():
            # Every integer n owns the interval [n, n + 1) of the scale.
            number = _on_scale(hyperparameter, probability, hyperparameter.max_value + 1)
            return _clamp(hyperparameter, math.floor(number))
        case Float():
            number = _on_scale(hyperparameter, probability, hyperparameter.max_value)
            return _clamp(hyperparameter, number)
        case _:
            return hyperparameter.prob_to_value(probability)


def _level(probability: float, levels: int) -> int:
    return min(int(probability * levels), levels - 1)


def _on_scale(hyperparameter: Int | Float, probability: float, high: float) -> float:
    low = hyperparameter.min_value
    if hyperparameter.sampling == "log":
        return low * math.pow(high / low, probability)
    if hyperparameter.sampling == "reverse_log":
        return low + high - low * math.pow(high / low, 1.0 - probability)
    return low + probability * (high - low)


def _stepped_value(hyperparameter: Int | Float, probability: float) -> float | int:
    low, high, step = hyperparameter.min_value, hyperparameter.max_value, hyperparameter.step
    last = _last_step(hyperparameter)
    level = _level(probability, last + 1)
    if hyperparameter.sampling == "linear":
        value = low + level * step
    elif hyperparameter.sampling == "log":
        value = low * step**level
    else:
        value = high + low - low * step ** (last - level)
    return _clamp(hyperparameter, value)


def _last_step(hyperparameter: Int | Float) -> int:
    low, high, step = hyperparameter.min_value, hyperparameter.max_value, hyperparameter.step
    linear = hyperparameter.sampling == "linear"
    steps = (high - low) / step if linear else math.log(high / low, step)
    return int(steps + _STEP_TOLERANCE)


def _clamp(hyperparameter: Int | Float, value: float) -> float | int:
    return min(max(value, hyperparameter.min_value), hyperparameter.max_value)


def levels_of(hyperparameter: HyperParameter, *, at_most: int) -> list[Value] | None:
    """Return the values that `hyperparameter` can take; None if they are more than `at_most`."""
    match hyperparameter:
        case Fixed():
            return [hyperparameter.value]
        case Boolean():
            return [False, True]
        case Choice():
            return list(dict.fromkeys(hyperparameter.values))
        case Int() | Float() if hyperparameter.step is not None:
            count = _last_step(hyperparameter) + 1
            if count > at_most:
                return None
            return [_stepped_value(hyperparameter, (level + 0.5) / count) for level in range(count)]
        case Int():
            low, high = hyperparameter.min_value, hyperparameter.max_value
            return list(range(low, high + 1)) if high - low < at_most else None
        case Float() if hyperparameter.min_value == hyperparameter.max_value:
            return [float(hyperparameter.min_value)]
        case _:
            return None


def check_value(hyperparameter: HyperParameter, value: Value) -> Value:
    """Return `value` if it is one that `hyperparameter` can take.

    Raises:
        ValueError: It is not; the message says what the hyperparameter can take.
    """
    if isinstance(value, np.generic):
        value = value.item()
    number = isinstance(value, int | float) and not isinstance(value, bool)
    wanted = _range_of(hyperparameter)
    if isinstance(hyperparameter, Int | Float) and hyperparameter.step is None:
        kind = int if isinstance(hyperparameter, Int) else float
        inside = number and hyperparameter.min_value <= value <= hyperparameter.max_value
        if inside and kind(value) == value:
            return kind(value)
    else:
        levels = levels_of(hyperparameter, at_most=sys.maxsize)
        if levels is None:
            return value
        for level in levels:
            if value == level or (number and _is_close(value, level)):
                return level
    raise ValueError(f"{hyperparameter.name!r} must be {wanted}. Received: {value!r}.")


def _range_of(hyperparameter: HyperParameter) -> str:
    if not isinstance(hyperparameter, Int | Float):
        return f"one of {levels_of(hyperparameter, at_most=sys.maxsize)}"
    kind = "an integer" if isinstance(hyperparameter, Int) else "a number"
    text = f"{kind} from {hyperparameter.min_value} to {hyperparameter.max_value}"
    if hyperparameter.step in (None, 1):
        return text
    return f"{text} in steps of {hyperparameter.step} ({hyperparameter.sampling})"


def _is_close(value: Any, level: Value) -> bool:
    return isinstance(level, float) and math.isclose(value, level)
