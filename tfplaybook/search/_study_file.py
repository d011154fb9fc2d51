"""`study.json`: what a study searched, and from which points."""

import dataclasses
from pathlib import Path
from typing import Any

from tfplaybook._files import check_entries, excerpt, read_json, replace_json
from tfplaybook.search._trial_files import check_space, trial_folders

FORMAT = 1
FILE_NAME = "study.json"

_DIRECTIONS = ("min", "max")
_COUNTS = ("seed", "start_index", "max_trials", "executions_per_trial")
_KINDS = {
    "objective": dict,
    "space": list,
    "primes": dict,
    **dict.fromkeys(_COUNTS, int),
    **dict.fromkeys(("goal", "note"), str | None),
}


@dataclasses.dataclass(frozen=True)
class StudyFile:
    """The content of `study.json`.

    Attributes:
        objective: The metric's `name` and its `direction`, "min" or "max".
        seed: The seed of the points.
        start_index: The place of trial 0 in the sequence.
        max_trials: How many trials the study has when it is finished.
        executions_per_trial: How many times each trial is trained.
        space: KerasTuner's configuration of each hyperparameter, in declared order.
        primes: Hyperparameter name to the base of its coordinate.
        goal: What the study is to find out.
        note: Free text.

    Source: playbook B2, C5, J1.
    """

    objective: dict[str, str]
    seed: int
    start_index: int
    max_trials: int
    executions_per_trial: int
    space: list[dict[str, Any]]
    primes: dict[str, int]
    goal: str = ""
    note: str = ""

    def write(self, directory: Path) -> None:
        """Write the file, keeping entries that are not ours."""
        others = _read(directory) or {}
        replace_json(
            directory / FILE_NAME, {**others, "format": FORMAT, **dataclasses.asdict(self)}
        )

    def continued(self, stored: "StudyFile") -> "StudyFile":
        """Return this study as the continuation of the `stored` one.

        More trials may be asked for, and the goal and note may be reworded. What decides the
        points or the meaning of a score may not change.
        """
        differences = [
            *(
                f"{name} is {_short(getattr(stored, name))} there, {_short(getattr(self, name))} "
                "here"
                for name in ("seed", "start_index", "objective", "executions_per_trial")
                if getattr(stored, name) != getattr(self, name)
            ),
            *_space_differences(stored.space, self.space),
        ]
        if differences:
            raise ValueError(
                "The directory holds another study: "
                + "; ".join(differences)
                + ". Give a new `project_name`, or `overwrite=True` to delete what is there."
            )
        return dataclasses.replace(
            self,
            space=stored.space,
            primes=stored.primes,
            goal=self.goal or stored.goal,
            note=self.note or stored.note,
        )


def read_study_file(directory: Path) -> StudyFile | None:
    """Return the study in `directory`, or None if there is none.

    Raises:
        ValueError: The file was written by a newer version, or is damaged.
    """
    content = _read(directory)
    if content is None:
        return None
    names = [field.name for field in dataclasses.fields(StudyFile)]
    return StudyFile(**{name: content[name] for name in names if content.get(name) is not None})


def refuse_other_project(directory: Path) -> None:
    """Raise if a directory without `study.json` holds trials or KerasTuner's bookkeeping."""
    found = [folder.name for folder in trial_folders(directory).values()]
    if (directory / "oracle.json").exists():
        found.insert(0, "oracle.json")
    if found:
        shown = ", ".join(found[:4]) + (f" and {len(found) - 4} more" if len(found) > 4 else "")
        raise ValueError(
            f"{directory} holds {shown}, but no study.json: a project of another tuner, or a "
            "study that has lost it, whose points are not known. Restore study.json from a copy, "
            "give a new `project_name`, or `overwrite=True` to delete what is there."
        )


def _read(directory: Path) -> dict[str, Any] | None:
    return read_json(
        directory / FILE_NAME,
        newest_format=FORMAT,
        check=_check,
        remedy="Restore it from a copy; without it the points of the trials are not known.",
    )


def _check(content: dict[str, Any]) -> None:
    check_entries(content, _KINDS)
    objective = content["objective"]
    if not isinstance(objective.get("name"), str) or objective.get("direction") not in _DIRECTIONS:
        raise ValueError(
            '`objective` must have a `name` and a `direction`, "min" or "max". '
            f"Received: {excerpt(objective)}."
        )
    space, primes = content["space"], content["primes"]
    check_space(space)
    varied = {entry["config"]["name"] for entry in space if entry["class_name"] != "Fixed"}
    if primes.keys() != varied or not all(type(n) is int and n >= 2 for n in primes.values()):
        raise ValueError(
            f"`primes` must name a prime for each of {sorted(varied)}. Received: {excerpt(primes)}."
        )


def _space_differences(stored: list[dict[str, Any]], here: list[dict[str, Any]]) -> list[str]:
    # KerasTuner explores nested conditions in an order of its own, so the order says nothing.
    there = {entry["config"]["name"]: entry for entry in stored}
    now = {entry["config"]["name"]: entry for entry in here}
    return [
        *(f"hyperparameter {name!r} is only there" for name in there if name not in now),
        *(f"hyperparameter {name!r} is only here" for name in now if name not in there),
        *(
            f"hyperparameter {name!r} is {_short(there[name])} there, {_short(now[name])} here"
            for name in there
            if name in now and there[name] != now[name]
        ),
    ]


def _short(value: Any) -> str:
    if not isinstance(value, dict):
        return repr(value)
    if "class_name" not in value:
        return f"{value['direction']} {value['name']}"
    config = ", ".join(
        f"{name}={setting!r}"
        for name, setting in value["config"].items()
        if name != "name" and setting not in (None, [])
    )
    return f"{value['class_name']}({config})"
