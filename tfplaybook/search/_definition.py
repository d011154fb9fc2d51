"""From the declared search space to the points of a study, by way of what is on disk."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfplaybook._arguments import check_choice
from tfplaybook._keras_tuner import Fixed, SearchSpace
from tfplaybook.search._halton import prime
from tfplaybook.search._identity import key_of, labels
from tfplaybook.search._roles import Roles
from tfplaybook.search._sequence import PointSequence
from tfplaybook.search._study_file import StudyFile
from tfplaybook.search._values import Value


def defined_space(declared: SearchSpace, roles: Roles | None) -> dict[str, Any]:
    """Return the entries `space`, `primes` and `roles` of `study.json` for a declared space."""
    space = declared
    if roles is not None:
        roles = roles.resolved(declared)
        space = roles.pinned(declared)
    named = labels(map(key_of, space.space))
    # One prime each before fixed values are put in, so that to fix one moves no other.
    varied = [h for h in declared.space if not isinstance(h, Fixed)]
    primes = {named[key_of(h)]: prime(number) for number, h in enumerate(varied)}
    constant = {named[key_of(h)] for h in space.space if isinstance(h, Fixed)}
    entries = {
        "space": space.get_config()["space"],
        "primes": {label: base for label, base in primes.items() if label not in constant},
        "roles": None if roles is None else roles.to_json(),
    }
    # As it is when it has been on disk. KerasTuner keeps bounds of NumPy's types.
    return json.loads(json.dumps(entries, default=_as_python))


def _as_python(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} cannot be written as JSON.")


def points_of(study: StudyFile) -> PointSequence:
    """Return the points of a study."""
    space = study.search_space()
    roles = None if study.roles is None else Roles.from_json(study.roles)
    return PointSequence(
        space.space,
        study.primes_by_key(),
        seed=study.seed,
        start_index=study.start_index,
        scientific=() if roles is None else roles.keys(space),
        enqueued={int(number): values for number, values in study.enqueued.items()},
    )


def late_hyperparameters(names: list[str], found_in: str) -> str:
    """Return the message for hyperparameters that appear when the study has begun."""
    return (
        f"The search space must be complete before trial 0. Found {names} in {found_in}. Declare "
        "every hyperparameter in every call of `HyperModel.build`, not in `fit` and not behind an "
        "`if` or in a loop that depends on another one. One that exists for some values of another "
        'says so: `hp.Int("units_1", 4, 64, parent_name="layers", parent_values=[2, 3])`, or '
        "`hp.conditional_scope`. Then start afresh with a new `project_name` or `overwrite=True`."
    )


def with_enqueued(study: StudyFile, number: int, values: Mapping[str, Value]) -> StudyFile:
    """Return the study with `values` given for trial `number`.

    Raises:
        ValueError: A name or a value is not in the search space, or a hyperparameter does not exist
            in the point that the values and the sequence make together.
    """
    names = list(dict.fromkeys(entry["config"]["name"] for entry in study.space))
    given = {check_choice("values", name, names): values[name] for name in values}
    trial_id = f"{number:04d}"
    enqueued = {**study.enqueued, trial_id: given}
    point = points_of(dataclasses.replace(study, enqueued=enqueued)).point(number) or {}
    if missing := sorted(given.keys() - point.keys()):
        raise ValueError(
            f"`values` must be of hyperparameters that exist together. Received {missing}, which "
            f"do not exist beside {point}. Give the values of their parents too."
        )
    # As the types that the hyperparameters have.
    enqueued[trial_id] = {name: point[name] for name in given}
    return dataclasses.replace(study, enqueued=enqueued)
