"""`study.json`: what a study searched, and from which points."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from tfplaybook._files import check_entries, excerpt, read_json, replace_json
from tfplaybook._keras_tuner import SearchSpace
from tfplaybook.search._identity import Key, key_of_entry, labels
from tfplaybook.search._roles import Roles
from tfplaybook.search._trial_files import check_space, trial_folders

FORMAT = 3
FILE_NAME = "study.json"

_DIRECTIONS = ("min", "max")
_COUNTS = ("seed", "start_index", "max_trials", "executions_per_trial")
_KINDS = {
    "objective": dict,
    "space": list,
    "primes": dict,
    "roles": dict | None,
    "enqueued": dict | None,
    "prior": list | None,
    **dict.fromkeys(_COUNTS, int),
    **dict.fromkeys(("goal", "note"), str | None),
}


@dataclasses.dataclass(frozen=True)
class StudyFile:
    """The content of `study.json`.

    Format 1 has neither roles nor enqueued trials, and no name twice in its space; format 2 has no
    prior.

    Attributes:
        objective: The metric's `name` and its `direction`, "min" or "max".
        seed: The seed of the points.
        start_index: The place of trial 0 in the sequence.
        max_trials: How many trials the study has when it is finished.
        executions_per_trial: How many times each trial is trained.
        space: KerasTuner's configuration of each hyperparameter, in declared order.
        primes: The base of the coordinate of each hyperparameter, by its name; by name and
            conditions, `"learning_rate (optimizer=adam)"`, if several have that name.
        roles: What each hyperparameter is for, as `Roles.to_json` writes it; None if not given.
        enqueued: Values given for single trials, by the trial's number as a string.
        prior: Trials of an earlier study that Bayesian optimization starts from, each with its
            `values` and its `objective`, None if it was infeasible; None for quasi-random points.
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
    roles: dict[str, Any] | None = None
    enqueued: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    prior: list[dict[str, Any]] | None = None
    goal: str = ""
    note: str = ""

    def write(self, directory: Path) -> None:
        """Write the file, keeping entries that are not ours."""
        others = _read(directory) or {}
        replace_json(
            directory / FILE_NAME, {**others, "format": FORMAT, **dataclasses.asdict(self)}
        )

    def search_space(self) -> SearchSpace:
        """Return the space, with the default values of what exists beside each other."""
        # KerasTuner changes the configuration that it is given.
        config = json.loads(json.dumps({"space": self.space, "values": {}}))
        space = SearchSpace.from_config(config)
        space.ensure_active_values()
        return space

    def primes_by_key(self) -> dict[Key, int]:
        """Return the base of each varied hyperparameter's coordinate."""
        named = labels(map(key_of_entry, self.space))
        return {key: self.primes[label] for key, label in named.items() if label in self.primes}

    def continued(self, stored: "StudyFile") -> "StudyFile":
        """Return this study as the continuation of the `stored` one.

        More trials may be asked for, and the goal and note may be reworded. What decides the
        points or the meaning of a score may not change, and neither may the space: a study has one
        (C5), in which its trials can be compared.
        """
        space = _space_differences(stored.space, self.space)
        differences = [
            *(
                f"{name} is {_short(getattr(stored, name))} there, {_short(getattr(self, name))} "
                "here"
                for name in ("seed", "start_index", "objective", "executions_per_trial")
                if getattr(stored, name) != getattr(self, name)
            ),
            *space,
            *_role_differences(stored.roles, self.roles),
            *_prior_differences(stored.prior, self.prior),
        ]
        if differences:
            kept = " With the same seed, all hyperparameters declared before a new one keep their "
            raise ValueError(
                "The directory holds another study: "
                + "; ".join(differences)
                + ". Give a new `project_name`, or `overwrite=True` to delete what is there."
                + (kept + "points." if space else "")
            )
        return dataclasses.replace(
            self,
            space=stored.space,
            primes=stored.primes,
            roles=stored.roles,
            enqueued=stored.enqueued,
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
    named = labels(map(key_of_entry, space))
    varied = {named[key_of_entry(entry)] for entry in space if entry["class_name"] != "Fixed"}
    if primes.keys() != varied or not all(type(n) is int and n >= 2 for n in primes.values()):
        raise ValueError(
            f"`primes` must name a prime for each of {sorted(varied)}. Received: {excerpt(primes)}."
        )
    if content.get("roles") is not None:
        Roles.from_json(content["roles"])
    for entry in content.get("prior") or ():
        check_entries(entry, {"values": dict, "objective": int | float | None}, where=" of `prior`")
    for number, values in (content.get("enqueued") or {}).items():
        if not number.isdecimal() or not isinstance(values, dict):
            raise ValueError(
                "`enqueued` must have the values of a trial by its number. "
                f"Received: {number!r}: {excerpt(values)}."
            )


def _space_differences(stored: list[dict[str, Any]], here: list[dict[str, Any]]) -> list[str]:
    # A plain KerasTuner explores conditions in an order of its own, so the order says nothing.
    there = {key_of_entry(entry): entry for entry in stored}
    now = {key_of_entry(entry): entry for entry in here}
    named = labels([*there, *now])
    return [
        *(f"hyperparameter {named[key]!r} is only there" for key in there if key not in now),
        *(f"hyperparameter {named[key]!r} is only here" for key in now if key not in there),
        *(
            f"hyperparameter {named[key]!r} is {_short(there[key])} there, {_short(now[key])} here"
            for key in there
            if key in now and there[key] != now[key]
        ),
    ]


def _role_differences(stored: dict[str, Any] | None, here: dict[str, Any] | None) -> list[str]:
    there, now = (
        {
            role: sorted(names) if isinstance(names, list) else names
            for role, names in (roles or {}).items()
        }
        for roles in (stored, here)
    )
    if bool(there) != bool(now):
        return [f"roles are {'given' if there else 'not given'} there"]
    return [
        f"{role} is {there.get(role)} there, {now[role]} here"
        for role in now
        if there.get(role) != now[role]
    ]


def _prior_differences(
    stored: list[dict[str, Any]] | None, here: list[dict[str, Any]] | None
) -> list[str]:
    if stored == here:
        return []
    there, now = (
        "quasi-random" if prior is None else f"Bayesian with {len(prior)} trials to start from"
        for prior in (stored, here)
    )
    also = " (others)" if there == now else ""
    return [f"the search is {there} there, {now}{also} here"]


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
