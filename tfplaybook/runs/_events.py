"""TensorBoard events, written without TensorFlow so that every backend has them."""

import os
import re
import socket
import struct
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, types_pb2
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as custom_scalar_metadata
from tensorboard.plugins.histogram.summary_v2 import histogram_pb
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.scalar import metadata as scalar_metadata
from tensorboard.summary.writer.record_writer import RecordWriter


class EventWriter:
    """Appends scalars, histograms and pictures to one TensorBoard event file of a directory.

    The file is made at the first flush and opened only while something is written: the writer can
    be copied, and what was flushed survives a kill.

    Args:
        directory: The TensorBoard run; made when needed.
    """

    def __init__(self, directory: str | os.PathLike[str]):
        self.directory = Path(directory)
        self._path: Path | None = None
        self._pending: list[event_pb2.Event] = []
        self._described: set[str] = set()

    def begin_attempt(self, step: int) -> None:
        """Start a new file, in which training starts (again) at `step` updates.

        TensorBoard then drops what earlier files say about later steps.
        """
        self._path = None
        self._described.clear()
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._pending.append(
            event_pb2.Event(step=step + 1, wall_time=time.time(), session_log=start)
        )

    def scalar(self, name: str, step: int, value: float) -> None:
        """Add a point of the curve `name` at `step`; `flush` puts it on disk."""
        # As TensorBoard's `scalar_pb`, which costs several times as much for every step.
        event = self._pending[-1] if self._pending else None
        if event is None or event.step != step or not event.HasField("summary"):
            event = event_pb2.Event(step=step, wall_time=time.time())
            self._pending.append(event)
        number = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[value])
        number.tensor_shape.SetInParent()
        added = event.summary.value.add(tag=name, tensor=number)
        if name not in self._described:
            self._described.add(name)
            added.metadata.CopyFrom(scalar_metadata.create_summary_metadata("", ""))

    def histogram(self, name: str, step: int, values: np.ndarray) -> None:
        """Add the histogram `name` of finite `values` at `step`; `flush` puts it on disk."""
        self._pending.append(
            event_pb2.Event(
                step=step, wall_time=time.time(), summary=histogram_pb(name, np.asarray(values))
            )
        )

    def image(self, name: str, step: int, png: bytes) -> None:
        """Add a picture, the content of a PNG file, at `step`; `flush` puts it on disk."""
        # The header of a PNG file has them at this place.
        width, height = struct.unpack(">II", png[16:24])
        content = [str(width).encode(), str(height).encode(), png]
        pixels = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=content)
        pixels.tensor_shape.dim.add(size=len(content))
        self.record(name, image_metadata.create_summary_metadata("", ""), pixels, step)

    def record(
        self,
        name: str,
        metadata: summary_pb2.SummaryMetadata,
        tensor: tensor_pb2.TensorProto,
        step: int = 0,
    ) -> None:
        """Add what a plugin of TensorBoard reads under `name`; `flush` puts it on disk."""
        event = event_pb2.Event(step=step, wall_time=time.time())
        event.summary.value.add(tag=name, metadata=metadata, tensor=tensor)
        self._pending.append(event)

    def chart(self, title: str, names: Sequence[str]) -> None:
        """Draw the named curves in one chart of TensorBoard's tab "Custom Scalars"."""
        lines = layout_pb2.MultilineChartContent(tag=[f"^{re.escape(name)}$" for name in names])
        chart = layout_pb2.Chart(title=title, multiline=lines)
        layout = layout_pb2.Layout(category=[layout_pb2.Category(title=title, chart=[chart])])
        text = tensor_pb2.TensorProto(
            dtype=types_pb2.DT_STRING, string_val=[layout.SerializeToString()]
        )
        text.tensor_shape.SetInParent()
        described = custom_scalar_metadata.create_summary_metadata()
        self.record(custom_scalar_metadata.CONFIG_SUMMARY_TAG, described, text)

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
