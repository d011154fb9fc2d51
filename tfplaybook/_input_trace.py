"""The time for which TensorFlow waits for the next batch, from a trace of its own profiler.

The step asks for its batch inside the compiled function, where Python cannot look at the clock.
Checked on TensorFlow 2.21; `tests/callbacks/test_input_monitor.py` fails with a clear message when
the operations have other names.
"""

import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Iterable
from pathlib import Path

_WAITING = ("IteratorGetNext", "MultiDeviceIteratorGetNext")

# TensorFlow runs one trace per process, and one that its owner has left until it is stopped.
_running: "weakref.ref[InputTrace] | None" = None


class InputTrace:
    """A trace under way; it ends with this object at the latest.

    Attributes:
        seconds: Time from the beginning to `stop`; 0.0 before.
        thread: The thread that trains.

    Args:
        folder: Where the profiler writes; removed in the end.
    """

    def __init__(self, folder: Path) -> None:
        self.seconds = 0.0
        self.thread = threading.current_thread()
        self._folder = folder
        self._discard = weakref.finalize(self, _discard, self._folder)
        self._begin = time.perf_counter()

    @classmethod
    def start(cls) -> "InputTrace | None":
        """Begin to trace; None if something else is tracing, of which there can be one only."""
        global _running
        import tensorflow as tf

        close_stale_trace()
        folder = Path(tempfile.mkdtemp(prefix="input-trace-"))
        options = tf.profiler.experimental.ProfilerOptions(
            host_tracer_level=1, python_tracer_level=0, device_tracer_level=0
        )
        try:
            tf.profiler.experimental.start(str(folder), options)
        except tf.errors.AlreadyExistsError:
            shutil.rmtree(folder)
            return None
        trace = cls(folder)
        _running = weakref.ref(trace)
        return trace

    def stop(self) -> float | None:
        """End the trace; return the seconds of waiting.

        None if no batch was asked for, or if another `fit` has ended the trace.
        """
        import tensorflow as tf
        from tensorflow.tsl.profiler.protobuf import xplane_pb2

        self.seconds = time.perf_counter() - self._begin
        if self._discard.detach() is None:
            return None
        try:
            tf.profiler.experimental.stop()
            waits = []
            for path in self._folder.rglob("*.xplane.pb"):
                for plane in xplane_pb2.XSpace.FromString(path.read_bytes()).planes:
                    names = plane.event_metadata
                    waits += [
                        (begin, begin + event.duration_ps * 1e-12)
                        for line in plane.lines
                        for event in line.events
                        if _is_wait(names[event.metadata_id].name)
                        for begin in (line.timestamp_ns * 1e-9 + event.offset_ps * 1e-12,)
                    ]
        finally:
            shutil.rmtree(self._folder)
        return covered(waits) if waits else None

    def discard(self) -> None:
        """End the trace and measure nothing."""
        self._discard()


def close_stale_trace() -> None:
    """End a trace that another `fit` of this thread, or of one that is gone, has left.

    That `fit` has failed, or waits for the one that begins now: the trace no longer shows its
    steps alone.
    """
    trace = None if _running is None else _running()
    if trace is not None and (
        trace.thread is threading.current_thread() or not trace.thread.is_alive()
    ):
        trace.discard()


def _discard(folder: Path) -> None:
    import tensorflow as tf

    try:
        tf.profiler.experimental.stop(save=False)
    except tf.errors.UnavailableError:
        pass  # The program has stopped it by itself, which is what is wanted.
    finally:
        shutil.rmtree(folder)


def _is_wait(name: str) -> bool:
    return name.startswith(_WAITING) and name.endswith("::DoCompute")


def covered(intervals: Iterable[tuple[float, float]]) -> float:
    """Return the length of the union of intervals, since replicas wait at the same time.

    Examples:
        >>> covered([(0.0, 2.0), (1.0, 3.0), (5.0, 6.0)])
        4.0
    """
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(intervals):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total
