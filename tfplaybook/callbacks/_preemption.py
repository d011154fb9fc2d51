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
        self._listens = False
        self._previous: Any = None

    def listen(self) -> None:
        """Take the place of the present handler until `close`."""
        self.received = False
        if threading.current_thread() is threading.main_thread():
            previous = signal.signal(signal.SIGTERM, self._note)
            if previous != self._note:
                self._previous = previous
            self._listens = True

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._listens and not self.received:
            self.received = True
            return
        # Also when closed: the handler stays below one that was set later, and where another
        # thread has closed it.
        self._listens = False
        if callable(self._previous):
            self._previous(number, frame)
        elif self._previous != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def close(self) -> None:
        """Give the handler back, unless another has taken our place meanwhile."""
        ours = self._previous is not None and signal.getsignal(signal.SIGTERM) == self._note
        self._listens = False
        if ours and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._previous)
