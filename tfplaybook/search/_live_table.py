"""The table that the launcher shows while a search runs."""

import datetime
from collections.abc import Mapping
from typing import Any

from rich.table import Table


def progress_table(
    status: Mapping[str, Any] | None, *, seconds: float, done_before: int, workers: str
) -> Table:
    """Return how far a search is.

    Args:
        status: What the chief last wrote; None before it has.
        seconds: How long the search has run.
        done_before: How many trials were done when it began.
        workers: What to say of the workers.
    """
    table = Table("trials", "running", "infeasible", "failed", "best", "rate", "left", "workers")
    if status is None:
        table.add_row("starting", *[""] * 6, workers)
        return table
    done = status["done"] - done_before
    best = "none"
    if status["best"] is not None:
        best = f"{status['objective']} {status['best']:.4g} (trial {status['best_trial']})"
    rate, left = "", ""
    if done > 0 and seconds > 0:
        rate = f"{60 * done / seconds:.3g} a minute"
        remaining = (status["trials"] - status["done"]) * seconds / done
        left = str(datetime.timedelta(seconds=round(remaining)))
    table.add_row(
        f"{status['done']} of {status['trials']}",
        str(status["running"]),
        str(status["infeasible"]),
        str(status["failed"]),
        best,
        rate,
        left,
        workers,
    )
    return table
