"""The folder of a trial: `trial_<id>/`, with `trial.json` and a run in each `execution_<k>/`."""

from pathlib import Path
from typing import Any

from tfplaybook._files import check_entries, excerpt, read_json

FILE_NAME = "trial.json"
INFEASIBLE = "infeasible:"

_TRIAL = "trial_"
_EXECUTION = "execution_"
_TRACEBACK = "Traceback (most recent call last):"
_NUMBER = int | float | None


def trial_folder(project: Path, trial_id: str) -> Path:
    """Return where a trial of the project is kept."""
    return project / f"{_TRIAL}{trial_id}"


def trial_folders(project: Path) -> dict[str, Path]:
    """Return the folders of all trials by their ids, those that are numbers in order and first."""
    ids = [path.name.removeprefix(_TRIAL) for path in project.glob(f"{_TRIAL}*") if path.is_dir()]
    ids.sort(key=lambda i: (not i.isdecimal(), int(i) if i.isdecimal() else 0, i))
    return {trial_id: trial_folder(project, trial_id) for trial_id in ids}


def execution_folder(trial: Path, number: int) -> Path:
    """Return where an execution of the trial in folder `trial` is recorded."""
    return trial / f"{_EXECUTION}{number}"


def execution_folders(trial: Path) -> list[Path]:
    """Return the folders of all executions of a trial, in the order of their numbers."""
    folders = [path for path in trial.glob(f"{_EXECUTION}*") if path.is_dir()]
    return sorted(folders, key=lambda path: (len(path.name), path.name))


def read_trial_file(folder: Path) -> dict[str, Any] | None:
    """Return what `trial.json` says, or None if there is none.

    Raises:
        ValueError: The file is damaged.
    """
    return read_json(
        folder / FILE_NAME, check=_check_trial, remedy="Move it away to run the trial again."
    )


def check_space(space: Any) -> None:
    """Raise `ValueError` unless `space` lists hyperparameters as KerasTuner writes them."""
    if not isinstance(space, list):
        raise ValueError(f"`space` must be a list. Received: {excerpt(space)}.")
    for entry in space:
        config = entry.get("config") if isinstance(entry, dict) else None
        if not isinstance(config, dict) or not isinstance(config.get("name"), str):
            raise ValueError(
                "an entry of `space` must have a `class_name` and a `config` with a `name`. "
                f"Received: {excerpt(entry)}."
            )
        where = f" of the hyperparameter {config['name']!r}"
        check_entries(entry, {"class_name": str}, where=where)
        kinds = {"sampling": str | None, "values": list | None, "conditions": list | None}
        bounds = {"min_value": _NUMBER, "max_value": _NUMBER, "step": _NUMBER}
        check_entries(config, {**kinds, **bounds}, where=where)
        if entry["class_name"] in ("Float", "Int"):
            check_entries(config, {"min_value": int | float, "max_value": int | float}, where=where)
        if entry["class_name"] == "Fixed" and "value" not in config:
            raise ValueError(f"`value`{where} must be there.")
        for condition in config.get("conditions") or ():
            parent = condition.get("config") if isinstance(condition, dict) else None
            if not isinstance(parent, dict):
                raise ValueError(
                    f"a condition{where} must have a `config`. Received: {excerpt(condition)}."
                )
            check_entries(parent, {"name": str, "values": list}, where=f" of a condition{where}")


def check_hyperparameters(content: dict[str, Any]) -> None:
    """Raise `ValueError` unless `hyperparameters` are such as KerasTuner writes, or missing."""
    check_entries(content, {"hyperparameters": dict | None})
    hyperparameters = content.get("hyperparameters") or {}
    check_entries(hyperparameters, {"values": dict | None}, where=" of `hyperparameters`")
    check_space(hyperparameters.get("space", []))


def reason(message: str) -> str:
    r"""Return the line of a trial's message that says why the trial has no objective.

    Of a traceback that is the first line of the exception, whose text may go on for many.

    >>> reason("infeasible: loss became nan at step 8")
    'loss became nan at step 8'
    >>> reason("Traceback (most recent call last):\n  File ...\nValueError: no\n\nReceived: 3")
    'ValueError: no'
    """
    lines = message.rpartition(_TRACEBACK)[2].strip("\n").splitlines()
    stack = _TRACEBACK in message
    first = next((line for line in lines if line.strip() and not (stack and line[0] == " ")), "")
    return first.removeprefix(INFEASIBLE).strip()


def _check_trial(content: dict[str, Any]) -> None:
    kinds = {"status": str | None, "message": str | None, "score": _NUMBER, "metrics": dict | None}
    check_entries(content, {**kinds, "best_step": _NUMBER, "tuner_id": str | None})
    check_hyperparameters(content)
    histories = (content.get("metrics") or {}).get("metrics", {})
    check_entries({"metrics": histories}, {"metrics": dict})
    for name, history in histories.items():
        where = f" of the metric {name!r}"
        if not isinstance(history, dict):
            raise ValueError(
                f"the metric {name!r} must be an object. Received: {excerpt(history)}."
            )
        check_entries(history, {"direction": str | None, "observations": list}, where=where)
        for seen in history["observations"]:
            values = seen.get("value") if isinstance(seen, dict) else None
            if not isinstance(values, list) or not all(isinstance(v, int | float) for v in values):
                raise ValueError(
                    f"an observation{where} must have a list of numbers as its `value`. "
                    f"Received: {excerpt(seen)}."
                )
