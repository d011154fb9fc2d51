"""One call at a time in a thread, whose errors are never lost."""

import threading
import traceback
from collections.abc import Callable


class Background:
    """Runs one call at a time in a thread for which the end of the interpreter waits."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(self, call: Callable[[], None]) -> None:
        """Wait for the call before, raise its error, then run `call` in a thread."""
        self.wait()
        calls = [call]

        def run() -> None:
            try:
                # The traceback of an error holds this frame, which must not hold the call.
                calls.pop()()
            except BaseException as error:
                self._error = _without_locals(error)

        self._thread = threading.Thread(target=run, name="checkpoint", daemon=False)
        self._thread.start()

    def wait(self) -> None:
        """Return when no call is running; raise the error of the last one, once."""
        # The thread itself gets here when it is the last to hold the owner of this object.
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error


def _without_locals(error: BaseException) -> BaseException:
    """Return the error with a traceback that keeps nothing alive: arrays, or who waits for it."""
    chain: BaseException | None = error
    while chain is not None:
        traceback.clear_frames(chain.__traceback__)
        chain = chain.__cause__ or chain.__context__
    return error
