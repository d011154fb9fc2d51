"""Checks of arguments, with messages that say what, expected, received and how to fix it."""

import operator
from typing import Any, SupportsIndex

MAX_SEED = 2**63 - 1  # of an int64


def check_count(
    name: str, value: SupportsIndex, *, minimum: int, maximum: int | None = None
) -> int:
    """Return `value` as an int with `minimum <= value <= maximum`, or raise `ValueError`."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if (
        number is None
        or isinstance(value, bool)
        or number < minimum
        or (maximum is not None and number > maximum)
    ):
        bounds = f"of at least {minimum}" + ("" if maximum is None else f" and at most {maximum}")
        raise ValueError(f"`{name}` must be an integer {bounds}. Received: {value!r}.")
    return number


def check_seed(value: SupportsIndex) -> int:
    """Return `value` as a seed, an int in [0, 2**63)."""
    return check_count("seed", value, minimum=0, maximum=MAX_SEED)


def check_flag(name: str, value: Any) -> bool:
    """Return `value` if it is True or False, or raise `ValueError`."""
    if not isinstance(value, bool):
        raise ValueError(f"`{name}` must be True or False. Received: {value!r}.")
    return value


def check_seconds(value: Any) -> None:
    """Raise `ValueError` unless `value` is a time above 0, in seconds."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ValueError(f"`seconds` must be a number above 0. Received: {value!r}.")
