"""Reading a study from disk, while it is being written or after."""

import json
import math
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tfplaybook.runs import load_run
from tfplaybook.studies._records import Hyperparameter, Objective, Status, Study, Trial, Value

_FORMAT = 1
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
    It may be read while the search goes on: a trial whose record is missing or half written
    counts as running.

    Args:
        directory: The project directory, `directory/project_name` of the tuner.
        objective: What to compare trials by, for a project without `study.json`. Default: the
            metric whose best value is the score that the project gave to its trials (of several,
            a `val_` one, then the first). A study with `study.json` has its objective there.

    Raises:
        ValueError: If `directory` is not a study, if its format is newer than this version
            reads, if its objective cannot be told, or if `objective` is given beside a
            `study.json`.
        TypeError: If `objective` is not an `Objective`.
    """
    if not isinstance(objective, Objective | None):
        raise TypeError(
            "`objective` must be a tfplaybook.studies.Objective, such as "
            f'Objective("val_loss", "min"). Received: {objective!r}.'
        )
    path = Path(directory)
    header = _read_header(path)
    oracle = _read_object(path / "oracle.json") or {}
    states = {trial: _read_object(trial / "trial.json") or {} for trial in _trial_directories(path)}

    if header is None:
        objective = objective or _scored_objective(path, states.values())
        header = {"seed": oracle.get("seed")}
    elif objective is not None:
        raise ValueError(
            f"`objective` is for a project without study.json. Received: objective={objective!r} "
            f"for {str(path)!r}, whose study.json has one. Leave it out."
        )
    else:
        objective = Objective(header["objective"]["name"], header["objective"]["direction"])

    space = _space(
        header.get("space", ()),
        *(
            state.get("hyperparameters", {}).get("space", ())
            for state in (oracle, *states.values())
        ),
    )
    trials = [_trial(trial, state, space) for trial, state in states.items()]
    return Study(
        path=path.resolve(),
        objective=objective,
        trials=tuple(sorted(trials, key=_order)),
        space=space,
        seed=header.get("seed"),
        goal=header.get("goal", ""),
        note=header.get("note", ""),
    )


def _read_header(path: Path) -> dict[str, Any] | None:
    """Return the content of `study.json`, or None for a KerasTuner project without one."""
    file = path / "study.json"
    if not file.is_file():
        if not _is_study(path):
            raise ValueError(_not_a_study(path))
        return None
    header = _read_object(file)
    if header is None or not {"format", "objective"} <= header.keys():
        raise ValueError(
            f"{str(file)!r} must be a JSON object with at least `format` and `objective`. "
            f"Received: {_excerpt(file)}. Restore the file, or remove it to read the directory as "
            "a plain KerasTuner project."
        )
    if header["format"] != _FORMAT:
        raise ValueError(
            f"{str(file)!r} must be of format {_FORMAT}, the one that this version of tfplaybook "
            f"reads. Received: format {header['format']!r}. Upgrade tfplaybook."
        )
    return header


def _read_object(file: Path) -> dict[str, Any] | None:
    """Return the JSON object in `file`, or None if it is missing or not (yet) whole."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _excerpt(file: Path) -> str:
    text = file.read_text(encoding="utf-8", errors="replace")
    return repr(text if len(text) <= 60 else f"{text[:60]}...")


def _is_study(path: Path) -> bool:
    files = ("study.json", "oracle.json", "trial_*/trial.json")
    return any(True for pattern in files for _ in path.glob(pattern))


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


def _trial_directories(path: Path) -> Iterator[Path]:
    return (entry for entry in path.glob("trial_*") if entry.is_dir())


def _order(trial: Trial) -> tuple[bool, int, str]:
    """Sort ids that are numbers as numbers, before those that are not."""
    number = trial.trial_id.isdecimal()
    return not number, int(trial.trial_id) if number else 0, trial.trial_id


def _space(*sources: list[dict[str, Any]]) -> tuple[Hyperparameter, ...]:
    """Join declared spaces; a later source adds the names that no earlier one has.

    The oracle's file and the trials also know the hyperparameters that training declared late.
    """
    space: list[Hyperparameter] = []
    for source in sources:
        known = {h.name for h in space}
        space += [
            _hyperparameter(entry) for entry in source if entry["config"]["name"] not in known
        ]
    return tuple(space)


def _hyperparameter(entry: dict[str, Any]) -> Hyperparameter:
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
        name=config["name"],
        kind=kind,
        sampling=config.get("sampling"),
        min_value=config.get("min_value"),
        max_value=config.get("max_value"),
        step=config.get("step"),
        values=tuple(values),
        conditions=tuple((parent["name"], tuple(parent["values"])) for parent in parents),
    )


def _trial(directory: Path, state: dict[str, Any], space: tuple[Hyperparameter, ...]) -> Trial:
    score = state.get("score")
    message = state.get("message") or ""
    executions = [entry for entry in directory.glob("execution_*") if entry.is_dir()]
    executions.sort(key=lambda entry: (len(entry.name), entry.name))
    return Trial(
        trial_id=directory.name.removeprefix("trial_"),
        values=_active(state.get("hyperparameters", {}).get("values") or {}, space),
        status=_status(state.get("status"), score, message),
        objective=None if score is None else float(score),
        best_step=None if score is None else state.get("best_step"),
        message=message,
        runs=tuple(load_run(entry) for entry in executions),
    )


def _status(status: str | None, score: float | None, message: str) -> Status:
    if status not in {"COMPLETED", "FAILED", "INVALID"}:
        return "running"
    if message.startswith("infeasible:") or (score is not None and not math.isfinite(float(score))):
        return "infeasible"
    return "completed" if status == "COMPLETED" and score is not None else "failed"


def _active(values: Mapping[str, Value], space: tuple[Hyperparameter, ...]) -> dict[str, Value]:
    """Drop the defaults that KerasTuner's workers leave for hyperparameters that do not exist."""
    declared = {h.name for h in space}
    active = {h.name for h in space if h.is_active(values)}
    return {name: values[name] for name in values if name in active or name not in declared}


def _scored_objective(path: Path, states: Any) -> Objective:
    """Find the metric whose best value is the score of every trial that has a score."""
    scored = [state for state in states if state.get("score") is not None]
    histories = [state.get("metrics", {}).get("metrics", {}) for state in scored]
    names = list(histories[0]) if histories else []
    fitting = [
        Objective(name, histories[0][name]["direction"])
        for name in names
        if all(
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
