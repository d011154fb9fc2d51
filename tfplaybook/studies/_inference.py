"""What the columns of a table of trials are, as far as their names and values tell it."""

import numbers
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tfplaybook.studies._records import Direction, Hyperparameter, Objective, Value

_LOG_RATIO = 100.0
_DIRECTIONS: dict[str, Direction] = {
    **dict.fromkeys(("loss", "error", "perplexity"), "min"),
    **dict.fromkeys(("accuracy", "acc", "auc"), "max"),
}
_PREFIXES = ("val_", "test_")


def metric_names(columns: Iterable[str], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the columns that measure what came of a trial, in their order."""
    return [
        column
        for column in columns
        if column.startswith(_PREFIXES)
        or (_direction(column) is not None and _is_numeric(row.get(column) for row in rows))
    ]


def infer_objective(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Objective:
    """Return the only metric among the columns, or the only one on validation data.

    Raises:
        ValueError: If there is none or more than one, or if its name does not say its direction.
    """
    metrics = metric_names(columns, rows)
    validation = [name for name in metrics if name.startswith("val_")]
    candidates = validation or metrics
    if len(candidates) == 1:
        direction = _direction(candidates[0])
        if direction is not None:
            return Objective(candidates[0], direction)
    reason = (
        "no column is known to be a metric"
        if not candidates
        else f"{', '.join(candidates)} could be it"
        if len(candidates) > 1
        else f"{candidates[0]!r} does not say whether lower is better"
    )
    example = candidates[0] if candidates else "val_loss"
    raise ValueError(
        f"The objective must be given, since {reason}. "
        f"Columns: {', '.join(columns) or 'none'}. "
        f'Pass for example objective=tfplaybook.studies.Objective("{example}", "min").'
    )


def infer_hyperparameter(name: str, values: Sequence[Value]) -> Hyperparameter:
    """Return the hyperparameter that `values` are of, with the range that they span.

    >>> infer_hyperparameter("learning_rate", [1e-3, 0.1]).sampling
    'log'
    >>> infer_hyperparameter("units", [32, 64]).sampling
    'linear'
    """
    distinct = tuple(dict.fromkeys(values))
    if distinct and all(isinstance(value, bool) for value in distinct):
        return Hyperparameter(name, "boolean", values=(False, True), is_inferred=True)
    if len(distinct) <= 1:
        return Hyperparameter(name, "fixed", values=distinct, is_inferred=True)
    numeric = [v for v in distinct if not isinstance(v, bool | str)]
    if len(numeric) < len(distinct):
        return Hyperparameter(name, "choice", values=distinct, is_inferred=True)
    low, high = min(numeric), max(numeric)
    return Hyperparameter(
        name,
        kind="int" if all(isinstance(v, int) for v in numeric) else "float",
        sampling="log" if low > 0 and high / low >= _LOG_RATIO else "linear",
        min_value=low,
        max_value=high,
        is_inferred=True,
    )


def _direction(name: str) -> Direction | None:
    return _DIRECTIONS.get(re.split(r"[_\W]", name.lower())[-1])


def _is_numeric(values: Iterable[Any]) -> bool:
    present = [value for value in values if value is not None]
    return bool(present) and all(_is_number(value) for value in present)


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        # JSON without NaN spells it as a text.
        return value in {"NaN", "Infinity", "-Infinity"}
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
