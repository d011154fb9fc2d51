"""What must be the same when a run is resumed, and what of it has changed."""

import re
from collections.abc import Iterator
from typing import Any

# Keras numbers layers in the order in which a process makes them, and objects without a name show
# their address.
_MADE_IN_THIS_PROCESS = re.compile(r"_\d+\b| at 0x[0-9a-f]+")
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


def _differences(earlier: Any, now: Any, path: str) -> Iterator[str]:
    if isinstance(earlier, dict) and isinstance(now, dict):
        for key in [*earlier, *(key for key in now if key not in earlier)]:
            yield from _differences(
                earlier.get(key), now.get(key), f"{path}.{key}" if path else key
            )
    elif isinstance(earlier, list) and isinstance(now, list) and len(earlier) == len(now):
        for index, (one, other) in enumerate(zip(earlier, now, strict=True)):
            yield from _differences(one, other, f"{path}[{index}]")
    elif _comparable(earlier) != _comparable(now):
        yield f"{path}: {_shown(earlier)} -> {_shown(now)}"


def _comparable(value: Any) -> Any:
    if isinstance(value, str):
        return _MADE_IN_THIS_PROCESS.sub("", value)
    # In JSON 1 and 1.0 are one number, but true is none.
    return (isinstance(value, bool), value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
