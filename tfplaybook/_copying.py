"""Copies of arrays while training waits."""

import queue
import threading
from collections.abc import Iterable

import numpy as np


def copy_all(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> None:
    """Copy the second array of each pair into the first, of the same shape and dtype.

    Another thread copies while this one gets the pairs and until both have copied all: memory is
    faster than one core.
    """
    waiting: queue.SimpleQueue[tuple[np.ndarray, np.ndarray] | None] = queue.SimpleQueue()

    def copy() -> None:
        while (pair := waiting.get()) is not None:
            np.copyto(*pair)

    other = threading.Thread(target=copy, name="copy")
    other.start()
    try:
        for pair in pairs:
            waiting.put(pair)
    finally:
        for _ in ("the other thread", "this one"):
            waiting.put(None)
        copy()
        other.join()
