"""What must be the same when a run is resumed, and what of it has changed."""

import re
from collections.abc import Iterator
from typing import Any

# Objects without a name show their address.
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
# Keras numbers layers and optimizers in the order in which a process makes them.
_NUMBER = re.compile(r"_\d+\b")
# Where these names stand. Anywhere else a number tells `loss_1` from `loss_2`.
_NUMBERED = frozenset({"name", "keras_history", "input_layers", "output_layers"})
_SHOWN = 8


def check_unchanged(earlier: Any, now: Any, *, where: str) -> None:
    """Raise `ValueError` with the differences between two configurations, JSON data.

    Args:
        earlier: The configuration that the run was started with.
        now: The present one.
        where: The run directory, for the message.
    """
    differences = list(_differences(earlier, now, ""))
    if not differences:
        return
    more = len(differences) - _SHOWN
    raise ValueError(
        f"The run in {where} was started with another configuration:\n  "
        + "\n  ".join(differences[:_SHOWN])
        + (f"\n  and {more} more" if more > 0 else "")
        + "\nTake the change back to resume it, or start a new run in another directory."
    )


def _differences(earlier: Any, now: Any, path: str, *, numbered: bool = False) -> Iterator[str]:
    if isinstance(earlier, dict) and isinstance(now, dict):
        for key in [*earlier, *(key for key in now if key not in earlier)]:
            yield from _differences(
                earlier.get(key),
                now.get(key),
                f"{path}.{key}" if path else key,
                numbered=numbered or key in _NUMBERED,
            )
    elif isinstance(earlier, list) and isinstance(now, list) and len(earlier) == len(now):
        for index, (one, other) in enumerate(zip(earlier, now, strict=True)):
            yield from _differences(one, other, f"{path}[{index}]", numbered=numbered)
    elif _comparable(earlier, numbered=numbered) != _comparable(now, numbered=numbered):
        yield f"{path}: {_shown(earlier)} -> {_shown(now)}"


def _comparable(value: Any, *, numbered: bool) -> Any:
    if isinstance(value, str):
        text = _ADDRESS.sub("", value)
        return _NUMBER.sub("", text) if numbered else text
    # In JSON 1 and 1.0 are one number, but true is none.
    return (isinstance(value, bool), value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
