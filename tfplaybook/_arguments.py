"""Checks of arguments, with messages that say what, expected, received and how to fix it."""

import difflib
import math
import operator
from collections.abc import Iterable
from typing import SupportsFloat, SupportsIndex


def check_count(name: str, value: SupportsIndex, *, minimum: int) -> int:
    """Return `value` as an int of at least `minimum`, or raise `ValueError`.

    Integers of any library pass (NumPy's too); booleans, floats and strings do not, since 0.5
    given for a number of steps is nearly always a fraction in the wrong place.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or number < minimum:
        raise ValueError(f"`{name}` must be an integer of at least {minimum}. Received: {value!r}.")
    return number


def check_number(
    name: str,
    value: SupportsFloat,
    *,
    above: float = -math.inf,
    minimum: float = -math.inf,
    maximum: float = math.inf,
) -> float:
    """Return `value` as a finite float with `above < value` and `minimum <= value <= maximum`."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool | str) or not (
        math.isfinite(number) and number > above and minimum <= number <= maximum
    ):
        bounds = [
            f"greater than {above:g}" if above > -math.inf else "",
            f"at least {minimum:g}" if minimum > -math.inf else "",
            f"at most {maximum:g}" if maximum < math.inf else "",
        ]
        wanted = " and ".join(bound for bound in bounds if bound)
        raise ValueError(
            f"`{name}` must be a finite number{' ' + wanted if wanted else ''}. "
            f"Received: {value!r}."
        )
    return number


def check_choice(name: str, value: str, choices: Iterable[str]) -> str:
    """Return `value` if it is one of `choices`, or raise naming the closest of them."""
    choices = list(choices)
    if value in choices:
        return value
    close = difflib.get_close_matches(str(value), choices, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"`{name}` must be one of {choices}. Received: {value!r}.{hint}")
