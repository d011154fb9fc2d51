"""A SIGTERM, the notice of a machine that is about to be taken away."""

import os
import signal
import threading
from types import FrameType
from typing import Any


class PreemptionNotice:
    """Takes note of the first SIGTERM; a second one does what it did before.

    Only the main thread of a process can listen; in others this does nothing.

    Attributes:
        received: Whether the notice has come since `listen`.
    """

    def __init__(self) -> None:
        self.received = False
        self._previous: Any = None

    def listen(self) -> None:
        """Take the place of the present handler until `close`."""
        self.received = False
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            self.close()
            os.kill(os.getpid(), number)
        self.received = True

    def close(self) -> None:
        """Give the handler back, unless another has taken our place meanwhile."""
        ours = self._previous is not None and signal.getsignal(signal.SIGTERM) == self._note
        if ours and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._previous)
        self._previous = None
