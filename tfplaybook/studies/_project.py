"""Reading a KerasTuner project, with or without our `study.json`, while it grows or after."""

import math
import statistics
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, get_args

from tfplaybook._files import check_entries, read_json
from tfplaybook.runs import load_run
from tfplaybook.search import Roles
from tfplaybook.search._study_file import FILE_NAME as STUDY_FILE
from tfplaybook.search._study_file import read_study_file
from tfplaybook.search._trial_files import FILE_NAME as TRIAL_FILE
from tfplaybook.search._trial_files import (
    INFEASIBLE,
    check_hyperparameters,
    execution_folders,
    read_trial_file,
    trial_folders,
)
from tfplaybook.studies._names import named_entries
from tfplaybook.studies._records import (
    Direction,
    Hyperparameter,
    Objective,
    Status,
    Study,
    Trial,
    Value,
)

_KINDS = {
    "Float": "float",
    "Int": "int",
    "Choice": "choice",
    "Boolean": "boolean",
    "Fixed": "fixed",
}
# Hyperband keeps its books among the hyperparameters; how long a trial trained is worth knowing.
_BOOKKEEPING = "tuner/"
_EPOCHS = "tuner/epochs"

_States = Collection[dict[str, Any]]


def is_project(path: Path) -> bool:
    """Whether `path` is the directory of a study or of a plain KerasTuner project."""
    trials = (folder / TRIAL_FILE for folder in trial_folders(path).values())
    files = (path / STUDY_FILE, path / "oracle.json", *trials)
    return any(file.is_file() for file in files)


def read_project(path: Path, *, objective: Objective | None = None, runs: bool = True) -> Study:
    """Return the study in a directory that `is_project`; arguments and errors as of `load`.

    Args:
        path: The directory.
        objective: For a project without `study.json`.
        runs: Whether to read the runs of every trial, with all their curves.
    """
    header = read_study_file(path)
    late = _read_oracle(path)
    folders = trial_folders(path)
    states = {trial_id: _read_trial(folder) for trial_id, folder in folders.items()}

    metric = None
    if header is None:
        scored = _scored_objective(states.values())
        if objective is not None and objective != scored:
            metric = _measured(objective, states.values())
        objective = objective or scored
        if objective is None:
            raise ValueError(_no_objective(path, states.values()))
    elif objective is not None:
        raise ValueError(
            f"`objective` is for a project without study.json. Received: objective={objective!r} "
            f"for {str(path)!r}, whose study.json has one. Leave it out."
        )
    else:
        direction: Any = header.objective["direction"]
        objective = Objective(header.objective["name"], direction)

    space = _space(
        header.space if header else [],
        *(_hyperparameters(state).get("space", []) for state in (late, *states.values())),
    )
    return Study(
        path=path.resolve(),
        objective=objective,
        trials=tuple(
            _trial(
                i,
                folders[i],
                _rescored(state, metric),
                space,
                enqueued=header is not None and i in header.enqueued,
                with_runs=runs,
            )
            for i, state in states.items()
        ),
        space=space,
        seed=header.seed if header else late.get("seed"),
        goal=header.goal if header else "",
        note=header.note if header else "",
        roles=None if header is None or header.roles is None else Roles.from_json(header.roles),
    )


def _read_oracle(path: Path) -> dict[str, Any]:
    """Return what KerasTuner's own file says, as far as it is there and whole.

    KerasTuner does not write it in one piece, and it adds little to the files of the trials.
    """
    try:
        return read_json(path / "oracle.json", check=_check_oracle) or {}
    except ValueError:
        return {}


def _check_oracle(content: dict[str, Any]) -> None:
    check_entries(content, {"seed": int | None})
    check_hyperparameters(content)


def _read_trial(folder: Path) -> dict[str, Any]:
    """Return what `trial.json` says; of a damaged one, what is wrong with it, as its message."""
    try:
        return read_trial_file(folder) or {}
    except ValueError as error:
        return {"message": str(error)}


def _hyperparameters(state: dict[str, Any]) -> dict[str, Any]:
    return state.get("hyperparameters") or {}


def _space(*sources: list[dict[str, Any]]) -> tuple[Hyperparameter, ...]:
    """Join declared spaces; a later source adds the names that no earlier one has.

    The oracle's file and the trials also know the hyperparameters that training declared late.
    """
    return tuple(_hyperparameter(name, entry) for name, entry in named_entries(*sources))


def _hyperparameter(name: str, entry: dict[str, Any]) -> Hyperparameter:
    config = entry["config"]
    if entry["class_name"] not in _KINDS:
        raise ValueError(
            f"The hyperparameter {config['name']!r} must be one of {', '.join(_KINDS)}. "
            f"Received: {entry['class_name']!r}."
        )
    kind: Any = _KINDS[entry["class_name"]]
    values = config.get("values", ())
    if kind == "boolean":
        values = (False, True)
    elif kind == "fixed":
        values = (config["value"],)
    parents = [condition["config"] for condition in config.get("conditions", ())]
    return Hyperparameter(
        name=name,
        declared_name=None if name == config["name"] else config["name"],
        kind=kind,
        sampling=config.get("sampling"),
        min_value=config.get("min_value"),
        max_value=config.get("max_value"),
        step=config.get("step"),
        values=tuple(values),
        conditions=tuple((parent["name"], tuple(parent["values"])) for parent in parents),
    )


def _status(status: str | None, score: float | None, message: str) -> Status:
    if status not in {"COMPLETED", "FAILED", "INVALID"}:
        return "running"
    if message.startswith(INFEASIBLE) or (score is not None and not math.isfinite(score)):
        return "infeasible"
    return "completed" if status == "COMPLETED" and score is not None else "failed"


def _trial(
    trial_id: str,
    folder: Path,
    state: dict[str, Any],
    space: tuple[Hyperparameter, ...],
    *,
    enqueued: bool,
    with_runs: bool,
) -> Trial:
    values = _active(_hyperparameters(state).get("values") or {}, space)
    declared = {h.name: h.declared_name or h.name for h in space}
    score = state.get("score")
    message = state.get("message") or ""
    runs, damages = [], []
    for execution in execution_folders(folder) if with_runs else ():
        if not any(execution.iterdir()):
            continue  # it has just begun
        try:
            runs.append(load_run(execution))
        except ValueError as error:
            damages.append(f"{execution.name} is left out: {error}")
    return Trial(
        trial_id=trial_id,
        values=values,
        status=_status(state.get("status"), score, message),
        objective=score,
        best_step=None if score is None else state.get("best_step"),
        message="\n".join(filter(None, [message, *damages])),
        runs=tuple(runs),
        enqueued=enqueued,
        declared_values={declared.get(name, name): value for name, value in values.items()},
    )


def _active(values: Mapping[str, Value], space: tuple[Hyperparameter, ...]) -> dict[str, Value]:
    """Return the values of hyperparameters that exist, each by a name of its own.

    KerasTuner's workers leave defaults for hyperparameters that do not exist.
    """
    declared = {h.declared_name or h.name for h in space}
    active = {h.declared_name or h.name: h.name for h in space if h.is_active(values)}
    return {
        active.get(name, name): values[name]
        for name in values
        if name in active
        or (name not in declared and (name == _EPOCHS or not name.startswith(_BOOKKEEPING)))
    }


def _scored_objective(states: _States) -> Objective | None:
    """Find the metric whose best value is the score of every trial that has a score."""
    scored = _scored(states)
    histories = [_histories(state) for state in scored]
    names = list(histories[0]) if histories else []
    fitting = [
        Objective(name, histories[0][name]["direction"])
        for name in names
        if histories[0][name]["direction"] in get_args(Direction)
        and all(
            name in history and _is_best(history[name], state["score"])
            for history, state in zip(histories, scored, strict=True)
        )
    ]
    return next((o for o in fitting if o.name.startswith("val_")), next(iter(fitting), None))


def _no_objective(path: Path, states: _States) -> str:
    scored = _scored(states)
    names = list(_histories(scored[0])) if scored else []
    reason = (
        f"none of its metrics ({', '.join(names) or 'it has none'}) explains the scores"
        if scored
        else "no trial has a score"
    )
    return (
        f"The objective of {str(path)!r} must be given, since there is no study.json and {reason}. "
        'Pass for example objective=tfplaybook.studies.Objective("val_loss", "min"), or '
        'Objective("multi_objective", "min") if it had several.'
    )


def _measured(objective: Objective, states: _States) -> Objective | None:
    """Return the objective if every scored trial has a metric of its name, else None."""
    scored = _scored(states)
    has_all = scored and all(objective.name in _histories(state) for state in scored)
    return objective if has_all else None


def _rescored(state: dict[str, Any], metric: Objective | None) -> dict[str, Any]:
    """Return the state with the best recorded value of `metric` as its score, if it has one."""
    if metric is None or state.get("score") is None:
        return state
    return {**state, "score": _best(_histories(state)[metric.name], metric.direction)}


def _scored(states: _States) -> list[dict[str, Any]]:
    return [state for state in states if state.get("score") is not None]


def _histories(state: dict[str, Any]) -> dict[str, Any]:
    return (state.get("metrics") or {}).get("metrics", {})


def _is_best(history: dict[str, Any], score: float) -> bool:
    best = _best(history, history["direction"])
    if math.isnan(best):
        return math.isnan(score)
    # KerasTuner's workers round metrics to float32.
    return math.isclose(best, score, rel_tol=1e-6)


def _best(history: dict[str, Any], direction: str) -> float:
    means = [statistics.fmean(seen["value"]) for seen in history["observations"] if seen["value"]]
    means = [mean for mean in means if not math.isnan(mean)]
    return (min if direction == "min" else max)(means, default=math.nan)
