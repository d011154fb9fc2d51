"""A study from rows, one mapping a trial: the way in for trials of any origin."""

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfplaybook._arguments import check_choice
from tfplaybook._files import excerpt
from tfplaybook.runs import Curve, Run
from tfplaybook.studies._inference import infer_hyperparameter, infer_objective, metric_names
from tfplaybook.studies._records import Hyperparameter, Objective, Status, Study, Trial, Value

OBJECTIVE = "objective"
NESTED = "hyperparameters"
# What a column of this name means does not depend on the study.
RESERVED = ("trial_id", "status", OBJECTIVE, "best_step", "seed", "message", "curves", NESTED)

# Beyond it a float is no longer every integer.
_LAST_STEP = 2**53
_STATUSES: dict[str, Status] = {
    **dict.fromkeys(("completed", "complete", "finished", "terminated", "succeeded"), "completed"),
    **dict.fromkeys(("infeasible", "diverged"), "infeasible"),
    **dict.fromkeys(
        ("failed", "fail", "error", "crashed", "killed", "pruned", "stopped", "invalid"), "failed"
    ),
    **dict.fromkeys(("running", "waiting", "pending", "queued"), "running"),
}


def from_records(
    rows: Iterable[Mapping[str, Any]],
    *,
    objective: Objective | None = None,
    space: Iterable[Hyperparameter] = (),
    hyperparameters: Sequence[str] | None = None,
    name: str | Path = "study",
    seed: int | None = None,
    goal: str = "",
    note: str = "",
) -> Study:
    """Return the study whose trials are `rows`, from any tuner or spreadsheet.

    A row maps column names to values. These columns are known, and all but the objective optional:

    | column | content |
    |---|---|
    | the objective's name, or `objective` | the best value over training (D11); NaN or infinite if training diverged |
    | `trial_id` | a text or a number, no two alike; by default `0000`, `0001`, ... |
    | `status` | `completed`, `infeasible`, `failed` or `running`, or a word of Optuna, Ray or Weights & Biases for one of them, in any case |
    | `best_step` | index of the epoch or evaluation with that best value, from 0 |
    | `seed` | seed of the training |
    | `message` | why there is no objective |
    | `hyperparameters` | a mapping: hyperparameters apart from the other columns |
    | `curves` | a mapping of metric names to values, or to `{"steps": [...], "values": [...]}`; a list of such mappings for several executions. Without `steps` they count from 1 |

    Every other column is a hyperparameter, except metrics: columns whose name begins with `val_` or
    `test_`, and columns of numbers whose name ends in the word `loss`, `accuracy`, `acc`, `auc`,
    `error` or `perplexity`. A None or NaN means that the trial does not have that hyperparameter
    (C4).

    Without a status, a finite objective means completed, one that is not finite infeasible, and
    none failed. If there are curves of the objective and no objective, it is the best value of the
    curve, averaged over the executions; a curve that is not finite somewhere means infeasible.

    A hyperparameter that `space` does not describe is inferred: a choice if it has a text, a
    boolean, or a range from the lowest to the highest value. The range is taken for logarithmic if
    all values are positive and the highest is at least 100 times the lowest. Its `is_inferred` is
    then True: where the *search* ended is not known, so describe it if you can (D1).

    >>> study = from_records(
    ...     [
    ...         {"learning_rate": 0.001, "val_loss": 0.5},
    ...         {"learning_rate": 0.1, "val_loss": 0.3},
    ...         {"learning_rate": 10.0, "val_loss": float("nan")},
    ...     ],
    ...     space=[Hyperparameter("learning_rate", "float", "log", 1e-4, 10.0)],
    ... )
    >>> study.objective, study.summary()
    (Objective(name='val_loss', direction='min'), '3 trials: 2 completed, 1 infeasible')

    Args:
        rows: The trials. Numbers may be those of NumPy.
        objective: What to compare trials by. Default: the only metric among the columns, or else
            the only one that begins with `val_`, lower being better if its last word is `loss`,
            `error` or `perplexity`, higher for `accuracy`, `acc` and `auc`.
        space: What is known of the hyperparameters.
        hyperparameters: Names of the columns that are hyperparameters. Default: as above.
        name: Name of the study, or the path that it came from.
        seed: Seed of the search.
        goal: The question that the study was to answer (B2).
        note: Free text.

    Raises:
        TypeError: If a row is no mapping, or `objective` no `Objective`.
        ValueError: If the objective or its direction cannot be told, if no row has it, or if a
            value is not what its column holds; the message names the row, counted from 0.
    """  # noqa: E501
    check_objective(objective)
    table = [_flat(row, index) for index, row in enumerate(rows)]
    columns = list(dict.fromkeys(name for row in table for name in row))
    described = {h.name: h for h in space}
    kept = [*described, *(hyperparameters or ())]
    objective = objective or infer_objective([c for c in columns if c not in kept], table)
    if table and not {objective.name, OBJECTIVE, "curves"} & set(columns):
        check_choice("the name of the objective", objective.name, columns)
    for wanted in kept if table else ():
        check_choice("a name in `space` or `hyperparameters`", wanted, columns)
    names = _names(columns, table, objective, described, hyperparameters)
    trials = tuple(_trial(row, i, names, objective) for i, row in enumerate(table))
    _check_ids([trial.trial_id for trial in trials])
    seen = {name for trial in trials for name in trial.values}
    full_space = tuple(
        described.get(n) or infer_hyperparameter(n, [t.values[n] for t in trials if n in t.values])
        for n in names or described
        if n in described or n in seen
    )
    return Study(Path(name), objective, trials, full_space, seed, goal, note)


def check_objective(objective: Any) -> None:
    """Raise `TypeError` unless `objective` is an `Objective` or None."""
    if not isinstance(objective, Objective | None):
        raise TypeError(
            "`objective` must be a tfplaybook.studies.Objective, such as "
            f'Objective("val_loss", "min"). Received: {objective!r}.'
        )


def _flat(row: Any, index: int) -> dict[str, Any]:
    if not isinstance(row, Mapping):
        raise TypeError(
            "`rows` must be mappings of column names to values. "
            f"Received, as row {index}: {excerpt(row)}."
        )
    nested = row.get(NESTED) or {}
    if not isinstance(nested, Mapping):
        raise ValueError(f"`{NESTED}` of row {index} must be a mapping. Received: {nested!r}.")
    return {**{n: row[n] for n in row if n != NESTED}, **nested}


def _names(
    columns: list[str],
    table: list[dict[str, Any]],
    objective: Objective,
    described: Mapping[str, Hyperparameter],
    hyperparameters: Sequence[str] | None,
) -> list[str]:
    """Return the columns that are hyperparameters: those described first, in their order."""
    if hyperparameters is None:
        others = {*RESERVED, objective.name, *metric_names(columns, table)}
        found = [column for column in columns if column not in others]
    else:
        found = list(hyperparameters)
    return list(dict.fromkeys([*described, *found]))


def _trial(row: Mapping[str, Any], index: int, names: list[str], objective: Objective) -> Trial:
    trial_id = row.get("trial_id")
    trial_id = f"{index:04d}" if trial_id is None else str(trial_id)
    runs = _runs(row, index)
    key = objective.name if row.get(objective.name) is not None else OBJECTIVE
    value = _number(row.get(key), key, index)
    best_step = _count(row.get("best_step"), "best_step", index)
    curves = [run.curves[objective.name] for run in runs if objective.name in run.curves]
    curves = [curve for curve in curves if len(curve.values)]
    if value is None and curves:
        value = _best_of(curves, objective)
    if best_step is None and len(curves) == 1 and value is not None and math.isfinite(value):
        best_step = int(np.nanargmin([objective.cost(v) for v in curves[0].values]))
    settings = {name: _value(row.get(name), name, index) for name in names}
    return Trial(
        trial_id=trial_id,
        values={name: setting for name, setting in settings.items() if setting is not None},
        status=_status(row.get("status"), value, index),
        objective=value,
        best_step=None if value is None else best_step,
        message=str(row.get("message") or ""),
        runs=runs,
    )


def _best_of(curves: list[Curve], objective: Objective) -> float:
    """Return the mean over the curves of their best values; NaN if one is not finite somewhere."""
    if not all(np.isfinite(curve.values).all() for curve in curves):
        return math.nan
    pick = np.min if objective.direction == "min" else np.max
    return float(np.mean([pick(curve.values) for curve in curves]))


def _status(status: Any, value: float | None, index: int) -> Status:
    is_diverged = value is not None and not math.isfinite(value)
    if status is None:
        return "failed" if value is None else "infeasible" if is_diverged else "completed"
    # Optuna writes TrialState.COMPLETE.
    word = str(status).lower().rpartition(".")[2]
    if word not in _STATUSES:
        raise ValueError(
            f"`status` of row {index} must be one of {', '.join(_STATUSES)}. "
            f"Received: {excerpt(status)}."
        )
    known = _STATUSES[word]
    if known != "completed":
        return known
    return "failed" if value is None else "infeasible" if is_diverged else "completed"


def _runs(row: Mapping[str, Any], index: int) -> tuple[Run, ...]:
    curves, seed = row.get("curves"), _count(row.get("seed"), "seed", index)
    info = {} if seed is None else {"seed": seed}
    if curves is None:
        return (Run(Path(), info, {}),) if info else ()
    executions = [curves] if isinstance(curves, Mapping) else curves
    if not isinstance(executions, Sequence) or not all(isinstance(e, Mapping) for e in executions):
        raise ValueError(
            f"`curves` of row {index} must map metric names to values, or be a list of such "
            f"mappings. Received: {excerpt(curves)}."
        )
    return tuple(
        Run(Path(), info, {str(name): _curve(content, name, index) for name, content in e.items()})
        for e in executions
    )


def _curve(content: Any, name: str, index: int) -> Curve:
    steps = None
    values = content
    if isinstance(content, Mapping):
        steps, values = content.get("steps"), content.get("values")
    try:
        # JSON without NaN spells it as a text, or null.
        array = np.array([math.nan if v is None else float(v) for v in values], np.float64)
        counted = np.arange(1, len(array) + 1) if steps is None else np.array(list(steps), float)
        if counted.shape != array.shape or not np.array_equal(counted, np.floor(counted)):
            raise ValueError
        if len(counted) and (counted[0] < 0 or counted[-1] >= _LAST_STEP):
            raise ValueError
        if not (np.diff(counted) > 0).all():
            raise ValueError
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"the curve {name!r} of row {index} must be a list of numbers, or have `steps`, "
            "ascending integers of at least 0, and as many `values`. "
            f"Received: {excerpt(content)}."
        ) from error
    return Curve(counted.astype(np.int64), array)


def _value(value: Any, name: str, index: int) -> Value | None:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool | str) or (
        isinstance(value, int | float) and abs(value) <= sys.float_info.max
    ):
        return value
    raise ValueError(
        f"The hyperparameter {name!r} of row {index} must be a finite number, a text or a boolean. "
        f"Received: {excerpt(value)}. If it is no hyperparameter, name those that are in "
        "`hyperparameters`."
    )


def _number(value: Any, name: str, index: int) -> float | None:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None:
        return None
    try:
        if isinstance(value, bool):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"{name!r} of row {index} must be a number. Received: {excerpt(value)}."
        ) from error


def _count(value: Any, name: str, index: int) -> int | None:
    number = _number(value, name, index)
    if number is None or math.isnan(number):
        return None
    if number != math.floor(number) or number < 0:
        raise ValueError(
            f"{name!r} of row {index} must be an integer of at least 0. Received: {value!r}."
        )
    return int(number)


def _check_ids(ids: list[str]) -> None:
    seen: set[str] = set()
    for index, trial_id in enumerate(ids):
        if trial_id in seen:
            raise ValueError(
                f"`trial_id` of row {index} must not be that of an earlier row. "
                f"Received: {trial_id!r}. For repeats of one configuration give each its own id."
            )
        seen.add(trial_id)
