"""From a number in [0, 1) to the value of a hyperparameter.

KerasTuner's own `prob_to_value` misses values at the edges: `Float(0, 1, step=0.1)` never gives
1.0, an `Int` on a log scale can give `max_value + 1`, and a stepped `reverse_log` runs backwards.
Here every level of a stepped or discrete hyperparameter owns an equal share of [0, 1), the map
never decreases, and no value lies outside the declared range.

Levels are computed in decimal, so that they are the numbers that a user writes: the fourth of
`Float(0, 1, step=0.1)` is 0.3, while 3 * 0.1 is 0.30000000000000004 and equal to no `0.3`, neither
in a condition nor in an `if`.
"""

import decimal
import math
import sys
from typing import Any, TypeGuard

import numpy as np

from tfplaybook._keras_tuner import Boolean, Choice, Fixed, Float, HyperParameter, Int

# 0.1 + 0.7 is 0.7999999999999999, and has to count as eight steps of 0.1.
_STEP_TOLERANCE = 1e-8
# More than any float has.
_DIGITS = 40

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
            level = _level(probability, _last_level(hyperparameter) + 1)
            return _stepped_value(hyperparameter, level)
        case Int():
            # Every integer n owns the interval [n, n + 1) of the scale.
            number = _on_scale(hyperparameter, probability, hyperparameter.max_value + 1)
            return _clamp(hyperparameter, math.floor(number))
        case Float():
            number = _on_scale(hyperparameter, probability, hyperparameter.max_value)
            return _clamp(hyperparameter, number)
        case _:
            return hyperparameter.prob_to_value(probability)


def probability_of(hyperparameter: HyperParameter, value: Value) -> float:
    """Return a number in [0, 1] at which `value_at` is `value`, the middle of its level."""
    if isinstance(hyperparameter, Int | Float) and hyperparameter.step is not None:
        return (_nearest_level(hyperparameter, value) + 0.5) / (_last_level(hyperparameter) + 1)
    return float(hyperparameter.value_to_prob(value))


def _level(probability: float, levels: int) -> int:
    return min(int(probability * levels), levels - 1)


def _on_scale(hyperparameter: Int | Float, probability: float, high: float) -> float:
    low = hyperparameter.min_value
    if hyperparameter.sampling == "log":
        return low * math.pow(high / low, probability)
    if hyperparameter.sampling == "reverse_log":
        return low + high - low * math.pow(high / low, 1.0 - probability)
    return low + probability * (high - low)


def _stepped_value(hyperparameter: Int | Float, level: int) -> float | int:
    """Return the value of a level, from 0 to `_last_level`."""
    whole = isinstance(hyperparameter, Int)
    with decimal.localcontext(prec=_DIGITS):
        low, high, step = (
            number if whole else decimal.Decimal(repr(float(number)))
            for number in (hyperparameter.min_value, hyperparameter.max_value, hyperparameter.step)
        )
        if hyperparameter.sampling == "linear":
            value = low + level * step
        elif hyperparameter.sampling == "log":
            value = low * step**level
        else:
            value = high + low - low * step ** (_last_level(hyperparameter) - level)
    return _clamp(hyperparameter, int(value) if whole else float(value))


def _last_level(hyperparameter: Int | Float) -> int:
    low, high, step = hyperparameter.min_value, hyperparameter.max_value, hyperparameter.step
    whole = isinstance(hyperparameter, Int)
    if hyperparameter.sampling == "linear":
        return (high - low) // step if whole else int((high - low) / step + _STEP_TOLERANCE)
    last = int(math.log(high / low, step) + _STEP_TOLERANCE)
    # Of integers, 999_999_999 is no power of ten.
    return last - 1 if whole and low * step**last > high else last


def _nearest_level(hyperparameter: Int | Float, value: Any) -> int:
    low, high, step = hyperparameter.min_value, hyperparameter.max_value, hyperparameter.step
    value = _clamp(hyperparameter, value)
    last = _last_level(hyperparameter)
    if hyperparameter.sampling == "linear":
        # Large integers are none when they are divided.
        whole = isinstance(hyperparameter, Int) and isinstance(value, int)
        level = (value - low) // step if whole else round((value - low) / step)
    elif hyperparameter.sampling == "log":
        level = round(math.log(value / low, step))
    else:
        level = last - round(math.log((high + low - value) / low, step))
    return min(max(level, 0), last)


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
            count = _last_level(hyperparameter) + 1
            if count > at_most:
                return None
            return [_stepped_value(hyperparameter, level) for level in range(count)]
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
    if isinstance(hyperparameter, Int | Float):
        checked = _as_number(hyperparameter, value)
        if checked is not None:
            return checked
    else:
        levels = levels_of(hyperparameter, at_most=sys.maxsize)
        if levels is None:
            return value
        for level in levels:
            if value == level or _is_close(value, level):
                return level
    wanted = _range_of(hyperparameter)
    raise ValueError(f"{hyperparameter.name!r} must be {wanted}. Received: {value!r}.")


def _as_number(hyperparameter: Int | Float, value: Any) -> float | int | None:
    """Return `value` as the type of the hyperparameter, if it is in range and, if any, a level."""
    # NaN is not either.
    if not _is_number(value) or not abs(value) <= sys.float_info.max:
        return None
    if hyperparameter.step is not None:
        level = _stepped_value(hyperparameter, _nearest_level(hyperparameter, value))
        scale = hyperparameter.step if hyperparameter.sampling == "linear" else level
        tolerance = 0 if isinstance(hyperparameter, Int) else _STEP_TOLERANCE * scale
        return level if abs(value - level) <= tolerance else None
    kind = int if isinstance(hyperparameter, Int) else float
    inside = hyperparameter.min_value <= value <= hyperparameter.max_value
    return kind(value) if inside and kind(value) == value else None


def _range_of(hyperparameter: HyperParameter) -> str:
    if not isinstance(hyperparameter, Int | Float):
        return f"one of {levels_of(hyperparameter, at_most=sys.maxsize)}"
    kind = "an integer" if isinstance(hyperparameter, Int) else "a number"
    text = f"{kind} from {hyperparameter.min_value} to {hyperparameter.max_value}"
    if hyperparameter.step in (None, 1):
        return text
    return f"{text} in steps of {hyperparameter.step} ({hyperparameter.sampling})"


def _is_close(value: Value, level: Value) -> bool:
    return isinstance(level, float) and _is_number(value) and math.isclose(value, level)


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
