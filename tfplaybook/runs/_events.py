"""TensorBoard events, written without TensorFlow so that every backend has them."""

import os
import socket
import time
from pathlib import Path

import numpy as np
from tensorboard.compat.proto import event_pb2
from tensorboard.plugins.histogram.summary_v2 import histogram_pb
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.summary.writer.record_writer import RecordWriter


class EventWriter:
    """Appends scalars and histograms to one TensorBoard event file of a directory.

    The file is made at the first flush and opened only while something is written: the writer can
    be copied, and what was flushed survives a kill.

    Args:
        directory: The TensorBoard run; made when needed.
    """

    def __init__(self, directory: str | os.PathLike[str]):
        self.directory = Path(directory)
        self._path: Path | None = None
        self._pending: list[event_pb2.Event] = []

    def begin_attempt(self, step: int) -> None:
        """Start a new file, in which training starts (again) at `step` updates.

        TensorBoard then drops what earlier files say about later steps.
        """
        self._path = None
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._pending.append(
            event_pb2.Event(step=step + 1, wall_time=time.time(), session_log=start)
        )

    def scalar(self, name: str, step: int, value: float) -> None:
        """Add a point of the curve `name` at `step`; `flush` puts it on disk."""
        self._pending.append(
            event_pb2.Event(step=step, wall_time=time.time(), summary=scalar_pb(name, value))
        )

    def histogram(self, name: str, step: int, values: np.ndarray) -> None:
        """Add the histogram `name` of finite `values` at `step`; `flush` puts it on disk."""
        self._pending.append(
            event_pb2.Event(
                step=step, wall_time=time.time(), summary=histogram_pb(name, np.asarray(values))
            )
        )

    def flush(self) -> None:
        """Write what was added since the last flush."""
        if not self._pending:
            return
        if self._path is None:
            self._path = self._new_file()
        try:
            with self._path.open("ab") as file:
                records = RecordWriter(file)
                for event in self._pending:
                    records.write(event.SerializeToString())
        except OSError:
            # Nothing after a torn record can be read: the next attempt takes a new file.
            self._path = None
            raise
        self._pending.clear()

    def _new_file(self) -> Path:
        self.directory.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads the files of a directory in the order of their names: time first.
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
        self._pending.insert(
            0, event_pb2.Event(wall_time=time.time(), file_version="brain.Event:2")
        )
        return self.directory / name
