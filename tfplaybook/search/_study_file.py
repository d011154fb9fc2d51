"""`study.json`: what a study searched, and from which points."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from tfplaybook._files import replace_json

FORMAT = 1
FILE_NAME = "study.json"


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
        others = read_json(directory / FILE_NAME) or {}
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
    path = directory / FILE_NAME
    content = read_json(path)
    if content is None:
        return None
    if content.get("format", 0) > FORMAT:
        raise ValueError(
            f"{path} has format {content['format']}; this version of tfplaybook reads up to "
            f"{FORMAT}. Upgrade tfplaybook."
        )
    try:
        return StudyFile(
            **{
                field.name: content[field.name]
                for field in dataclasses.fields(StudyFile)
                if field.name in content
            }
        )
    except TypeError as error:
        raise ValueError(f"{path} is damaged: {error}.") from error


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file, or None if there is no such file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is damaged: {error}. Move it away to go on without it."
        ) from error


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
