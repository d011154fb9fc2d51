"""Reading a study from disk, while it is being written or after."""

import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from tfplaybook._files import check_entries, read_json
from tfplaybook.runs import load_run
from tfplaybook.search import Roles
from tfplaybook.search._study_file import FILE_NAME as STUDY_FILE
from tfplaybook.search._study_file import StudyFile, read_study_file
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


def load(directory: str | Path, *, objective: Objective | None = None) -> Study:
    """Read the study in `directory`.

    A study is a KerasTuner project directory, with a `study.json` if `tfplaybook.search` wrote it.
    It may be read while the search goes on: a trial whose record is missing, half written or
    damaged counts as running, since its end is not known; its message says what is wrong. A run
    whose `run.json` is damaged is left out of its trial, and the trial's message says so.

    Args:
        directory: The project directory, `directory/project_name` of the tuner.
        objective: What to compare trials by, for a project without `study.json`. Default: the
            metric whose best value is the score that the project gave to its trials (of several,
            a `val_` one, then the first). A study with `study.json` has its objective there.

    Raises:
        ValueError: If `directory` is not a study, if its `study.json` is damaged or of a newer
            format than this version reads, if its objective cannot be told, or if `objective` is
            given beside a `study.json`.
        TypeError: If `objective` is not an `Objective`.
    """
    if not isinstance(objective, Objective | None):
        raise TypeError(
            "`objective` must be a tfplaybook.studies.Objective, such as "
            f'Objective("val_loss", "min"). Received: {objective!r}.'
        )
    path = Path(directory)
    header = _read_header(path)
    late = _read_oracle(path)
    folders = trial_folders(path)
    states = {trial_id: _read_trial(folder) for trial_id, folder in folders.items()}

    if header is None:
        objective = objective or _scored_objective(path, states.values())
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
            _trial(i, folders[i], state, space, enqueued=bool(header and i in header.enqueued))
            for i, state in states.items()
        ),
        space=space,
        seed=header.seed if header else late.get("seed"),
        goal=header.goal if header else "",
        note=header.note if header else "",
        roles=None if header is None or header.roles is None else Roles.from_json(header.roles),
    )


def _read_header(path: Path) -> StudyFile | None:
    """Return the content of `study.json`, or None for a KerasTuner project without one."""
    if not _is_study(path):
        raise ValueError(_not_a_study(path))
    return read_study_file(path)


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


def _is_study(path: Path) -> bool:
    trials = (folder / TRIAL_FILE for folder in trial_folders(path).values())
    files = (path / STUDY_FILE, path / "oracle.json", *trials)
    return any(file.is_file() for file in files)


def _not_a_study(path: Path) -> str:
    """Say what a study is, what is there instead, and which directory was probably meant."""
    wanted = (
        "`directory` must be a study: a KerasTuner project directory, which holds study.json, "
        f"oracle.json or trial_<id>/trial.json. Received: {str(path)!r}, "
    )
    above = next((parent for parent in path.resolve().parents if _is_study(parent)), None)
    if above is not None:
        return f"{wanted}which is a part of a study. Did you mean {str(above)!r}?"
    if not path.exists():
        return f"{wanted}which does not exist."
    if not path.is_dir():
        return f"{wanted}which is a file."
    entries = sorted(entry.name for entry in path.iterdir())
    studies = [name for name in entries if _is_study(path / name)]
    if studies:
        return (
            f"{wanted}which contains studies but is none: {_some(studies)}. "
            f"Pass one of them, such as {str(path / studies[0])!r}."
        )
    return f"{wanted}which holds {_some(entries) if entries else 'nothing'}."


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:6])
    return shown if len(names) <= 6 else f"{shown} and {len(names) - 6} more"


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


def _trial(
    trial_id: str,
    folder: Path,
    state: dict[str, Any],
    space: tuple[Hyperparameter, ...],
    *,
    enqueued: bool,
) -> Trial:
    values = _active(_hyperparameters(state).get("values") or {}, space)
    declared = {h.name: h.declared_name or h.name for h in space}
    score = state.get("score")
    message = state.get("message") or ""
    runs, damages = [], []
    for execution in execution_folders(folder):
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


def _status(status: str | None, score: float | None, message: str) -> Status:
    if status not in {"COMPLETED", "FAILED", "INVALID"}:
        return "running"
    if message.startswith(INFEASIBLE) or (score is not None and not math.isfinite(score)):
        return "infeasible"
    return "completed" if status == "COMPLETED" and score is not None else "failed"


def _active(values: Mapping[str, Value], space: tuple[Hyperparameter, ...]) -> dict[str, Value]:
    """Return the values of hyperparameters that exist, each by a name of its own.

    KerasTuner's workers leave defaults for hyperparameters that do not exist.
    """
    declared = {h.declared_name or h.name for h in space}
    active = {h.declared_name or h.name: h.name for h in space if h.is_active(values)}
    return {
        active.get(name, name): values[name]
        for name in values
        if name in active or name not in declared
    }


def _scored_objective(path: Path, states: Any) -> Objective:
    """Find the metric whose best value is the score of every trial that has a score."""
    scored = [state for state in states if state.get("score") is not None]
    histories = [(state.get("metrics") or {}).get("metrics", {}) for state in scored]
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
    if fitting:
        return next((o for o in fitting if o.name.startswith("val_")), fitting[0])
    reason = (
        f"none of its metrics ({', '.join(names) or 'it has none'}) explains the scores"
        if scored
        else "no trial has a score"
    )
    raise ValueError(
        f"The objective of {str(path)!r} must be given, since there is no study.json and {reason}. "
        'Pass for example objective=tfplaybook.studies.Objective("val_loss", "min").'
    )


def _is_best(history: dict[str, Any], score: float) -> bool:
    means = [statistics.fmean(seen["value"]) for seen in history["observations"] if seen["value"]]
    means = [mean for mean in means if not math.isnan(mean)]
    if not means:
        return math.isnan(score)
    best = min(means) if history["direction"] == "min" else max(means)
    # KerasTuner's workers round metrics to float32.
    return math.isclose(best, score, rel_tol=1e-6)
