"""Which metrics rank the checkpoints, and in which direction."""

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfplaybook._metric_names import Direction, direction
from tfplaybook.callbacks._periodic_evaluation import PeriodicEvaluation

MODES = ("auto", "min", "max")


class Monitor(NamedTuple):
    """A metric that ranks checkpoints: `mode` says whether small or large values are better."""

    name: str
    mode: Direction


def make_monitors(monitor: str | Sequence[str], mode: str | Sequence[str]) -> tuple[Monitor, ...]:
    """Return the metrics with their directions.

    Raises:
        ValueError: There is no metric, one is given twice, a mode is unknown, or a name leaves its
            direction open.
    """
    names = [monitor] if isinstance(monitor, str) else list(monitor)
    modes = [mode] * len(names) if isinstance(mode, str) else list(mode)
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ValueError(
            f"`monitor` must be the name of a metric, or a list of names. Received: {monitor!r}."
        )
    if len(set(names)) < len(names):
        raise ValueError(f"`monitor` must not name a metric twice. Received: {monitor!r}.")
    if len(modes) != len(names):
        raise ValueError(
            "`mode` must be one word, or one for each monitor. Received: "
            f"mode={mode!r} for monitor={monitor!r}."
        )
    return tuple(Monitor(name, _direction(name, m)) for name, m in zip(names, modes, strict=True))


def _direction(name: str, mode: str) -> Direction:
    if mode == "min":
        return "min"
    if mode == "max":
        return "max"
    if mode != "auto":
        raise ValueError(f"`mode` must be one of {MODES}. Received: {mode!r}.")
    known = direction(name)
    if known is None:
        raise ValueError(
            f"mode='auto' cannot tell from the name {name!r} whether the metric is minimized or "
            "maximized. Pass mode='min' or mode='max'."
        )
    return known


def stale_monitor(monitors: Iterable[Monitor], callbacks: Iterable[Any], step: int) -> str:
    """Say which monitor is that of an earlier step than `step`, if there is one.

    A `PeriodicEvaluation` puts its latest evaluation into the logs of an epoch, whatever update it
    was made after.
    """
    for evaluation in callbacks:
        if not isinstance(evaluation, PeriodicEvaluation) or not evaluation.evaluations:
            continue
        latest = evaluation.evaluations[-1]
        for monitor in monitors:
            if monitor.name in latest.metrics and latest.step != step:
                return (
                    f"`monitor` must be measured at the step that is saved. Received: "
                    f"{monitor.name!r} of step {latest.step:,} for the checkpoint of step "
                    f"{step:,}, from a {type(evaluation).__name__} in `callbacks`. Pass it as "
                    "`evaluation=` to the checkpoint, which is then saved when it evaluates, or "
                    "let each epoch end with an evaluation (`plan_epochs`)."
                )
    return ""


def check_reported(monitors: Iterable[Monitor], metrics: Collection[str]) -> str:
    """Raise for a monitor that is not among the metrics of an evaluation.

    Returns:
        What to say when it may be among those of a later one, else nothing.

    Raises:
        ValueError: It will never be.
    """
    missing = [monitor.name for monitor in monitors if monitor.name not in metrics]
    if not missing:
        return ""
    name, available = missing[0], sorted(metrics)
    message = (
        f"`monitor` must be a metric that is reported: one of {available}. Received: {name!r}."
    )
    # Under `validation_freq` not every epoch is evaluated.
    if name.startswith("val_") and not any(other.startswith("val_") for other in available):
        return f"{message} Pass `validation_data` to `fit`, or an `evaluation` to the checkpoint."
    close = difflib.get_close_matches(name, available, n=1)
    raise ValueError(message + (f" Did you mean {close[0]!r}?" if close else ""))


def scalars(logs: Mapping[str, Any]) -> dict[str, float]:
    """Return those of the logs of an epoch that can rank a checkpoint."""
    return {name: float(value) for name, value in logs.items() if np.ndim(value) == 0}
