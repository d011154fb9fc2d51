"""Names of the hyperparameters of a study, where several under different parents share one (C4)."""

from tfplaybook.search._identity import Entry, Key, key_of_entry, labels, reachable


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
    return [(named[key], entries[key]) for key in reachable(entries)]
