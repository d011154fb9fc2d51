"""Directories that a `fit` of this process has taken, and how each is given back.

A `fit` that was interrupted gives nothing back, and its callback may be gone while its last
checkpoint is still being written.
"""

from collections.abc import Callable
from pathlib import Path

_taken: dict[Path, Callable[[], None]] = {}


def take(directory: Path, give_back: Callable[[], None]) -> None:
    """Remember that the directory is taken, until `release` calls `give_back`."""
    _taken[directory.resolve()] = give_back


def release(directory: Path) -> None:
    """Give the directory back, if it is taken."""
    give_back = _taken.pop(directory.resolve(), None)
    if give_back is not None:
        give_back()
