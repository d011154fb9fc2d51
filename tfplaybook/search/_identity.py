"""Which hyperparameter is meant: its name, and the parents' values under which it exists (C4).

`learning_rate` for Adam and `learning_rate` for Nesterov momentum are two hyperparameters. Inside a
model-building function both are `learning_rate`, since only one of them exists at a time; wherever
both can be met, they are `learning_rate (optimizer=adam)` and `learning_rate (optimizer=nesterov)`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from tfplaybook._keras_tuner import HyperParameter
from tfplaybook.search._values import Value

Entry = dict[str, Any]
Key = tuple[str, tuple[tuple[str, tuple[Value, ...]], ...]]


def key_of(hyperparameter: HyperParameter) -> Key:
    """Return the name of a hyperparameter and its conditions, each a parent with its values."""
    conditions = ((c.name, tuple(c.values)) for c in hyperparameter.conditions)
    return hyperparameter.name, tuple(conditions)


def key_of_entry(entry: Entry) -> Key:
    """Return the same for KerasTuner's configuration of a hyperparameter, as `study.json` has it.

    >>> parent = {"class_name": "Parent", "config": {"name": "optimizer", "values": ["adam"]}}
    >>> key_of_entry({"config": {"name": "learning_rate", "conditions": [parent]}})
    ('learning_rate', (('optimizer', ('adam',)),))
    """
    config = entry["config"]
    parents = (condition["config"] for condition in config.get("conditions") or ())
    return config["name"], tuple((parent["name"], tuple(parent["values"])) for parent in parents)


def labels(keys: Iterable[Key]) -> dict[Key, str]:
    """Return a name for each hyperparameter that no other one of them has.

    >>> adam, sgd = ("rate", (("optimizer", ("adam",)),)), ("rate", (("optimizer", ("sgd",)),))
    >>> list(labels([adam, sgd, ("width", ())]).values())
    ['rate (optimizer=adam)', 'rate (optimizer=sgd)', 'width']
    """
    keys = list(dict.fromkeys(keys))
    names = [name for name, _ in keys]
    return {key: _with_conditions(key) if names.count(key[0]) > 1 else key[0] for key in keys}


def _with_conditions(key: Key) -> str:
    name, conditions = key
    parents = (f"{parent}={'|'.join(map(str, values))}" for parent, values in conditions)
    return f"{name} ({', '.join(parents)})" if conditions else name


def reachable(entries: Mapping[Key, Entry]) -> list[Key]:
    """Return which hyperparameters of a space can exist.

    One whose parent is fixed at another value, or does not offer the value, cannot.
    """
    return [key for key in entries if _may_exist(key, entries)]


def _may_exist(key: Key, entries: Mapping[Key, Entry]) -> bool:
    return all(
        any(
            _can_take(entries[parent], values) and _may_exist(parent, entries)
            for parent in entries
            if parent[0] == name and parent != key
        )
        or all(parent[0] != name for parent in entries)
        for name, values in key[1]
    )


def _can_take(parent: Entry, values: tuple[Any, ...]) -> bool:
    config = parent["config"]
    possible = [config["value"]] if parent["class_name"] == "Fixed" else config.get("values")
    return possible is None or any(value in possible for value in values)


def refuse_ambiguous_names(space: Iterable[HyperParameter]) -> None:
    """Raise `ValueError` if two hyperparameters of one name may exist in the same trial."""
    by_name: dict[str, list[HyperParameter]] = {}
    for hyperparameter in space:
        for other in by_name.setdefault(hyperparameter.name, []):
            if not _exclude_each_other(hyperparameter, other):
                first, second = (_with_conditions(key_of(h)) for h in (other, hyperparameter))
                raise ValueError(
                    "Two hyperparameters may share a name only if no trial has both, such as "
                    "`learning_rate` under optimizer=adam and under optimizer=sgd. Received: "
                    f"{first!r} and {second!r}. Rename one, or declare both under different "
                    "values of the same parent."
                )
        by_name[hyperparameter.name].append(hyperparameter)


def _exclude_each_other(first: HyperParameter, second: HyperParameter) -> bool:
    return any(
        one.name == other.name and not set(one.values) & set(other.values)
        for one in first.conditions
        for other in second.conditions
    )
