"""Checks of arguments, with messages that say what, expected, received and how to fix it."""

import operator
from typing import SupportsIndex

# `RandomIndexShuffle` keeps the low 32 bits of a seed: larger ones would silently repeat orders.
MAX_SEED = 2**32 - 1


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
    """Return `value` as a seed, an int in [0, 2**32)."""
    return check_count("seed", value, minimum=0, maximum=MAX_SEED)
