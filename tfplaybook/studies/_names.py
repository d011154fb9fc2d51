"""Names of the hyperparameters of a study, where several under different parents share one (C4)."""

from collections.abc import Mapping
from typing import Any

from tfplaybook.search._identity import Key, key_of_entry, labels

Entry = dict[str, Any]


def named_entries(*sources: list[Entry]) -> list[tuple[str, Entry]]:
    """Join declared spaces, and give each hyperparameter a name of its own.

    A later source adds the names that no earlier one has. Hyperparameters that no trial can have,
    since a fixed parent has another value, are left out.
    """
    entries: dict[Key, Entry] = {}
    for source in sources:
        known = {name for name, _ in entries}
        found = {key_of_entry(entry): entry for entry in source}
        entries |= {key: entry for key, entry in found.items() if key[0] not in known}
    named = labels(entries)
    return [(named[key], entry) for key, entry in entries.items() if _may_exist(key, entries)]


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
