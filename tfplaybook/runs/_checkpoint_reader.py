"""Reading checkpoints: by anybody, at any time, with every byte verified."""

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfplaybook._arguments import check_count
from tfplaybook._files import NewerFormatError
from tfplaybook.runs import _checkpoint_files as files
from tfplaybook.runs._retention import CheckpointEntry, ranked

_FOLDER = re.compile(r"step_(\d{10,})")


class Checkpoint(NamedTuple):
    """A checkpoint in memory, each byte of it verified.

    Attributes:
        entry: Step, metrics and folder.
        arrays: Name to array, as they were saved: same values, dtypes and shapes.
        record: What else was saved with it, JSON data.
    """

    entry: CheckpointEntry
    arrays: dict[str, np.ndarray]
    record: dict[str, Any]


class LatestCheckpoint(NamedTuple):
    """What the search for the latest checkpoint has found.

    Attributes:
        checkpoint: The latest one that is whole, or None.
        skipped: Folder of each later one that is not whole, and why, latest first.
    """

    checkpoint: Checkpoint | None
    skipped: list[tuple[Path, str]]


class CheckpointReader:
    """Reads the checkpoints of a run, also while they are being written; changes nothing.

    Examples:
        >>> import tempfile, numpy as np, tfplaybook as pb
        >>> directory = tempfile.mkdtemp()
        >>> with pb.runs.CheckpointStore(directory, keep=pb.runs.LatestN(2)) as store:
        ...     for step in (100, 200, 300):
        ...         store.save(step, {"weight": np.full(2, step)}, metrics={"loss": 1 / step},
        ...                    resumable=True, record={})
        >>> reader = pb.runs.CheckpointReader(directory)
        >>> [entry.step for entry in reader.entries()]
        [200, 300]
        >>> reader.load(reader.best("loss", "min").step).arrays["weight"]
        array([300, 300])

    Args:
        directory: The folder of the checkpoints, `<run>/checkpoints`. One that does not exist has
            none.

    Raises:
        ValueError: `directory` is a file.

    Source: playbook I4, I8.
    """

    def __init__(self, directory: str | os.PathLike[str]):
        self.directory = Path(directory)
        if self.directory.exists() and not self.directory.is_dir():
            raise ValueError(f"`directory` must be a folder. Received a file: {self.directory}.")
        self._damaged: set[int] = set()

    def entries(self) -> list[CheckpointEntry]:
        """Return the checkpoints by rising step, without those known to be damaged.

        Reading the records tells a damaged one. That an array is damaged shows when it is loaded,
        and from then on this object leaves that checkpoint out.
        """
        return self._list()[0]

    def unreadable(self) -> list[tuple[Path, str]]:
        """Return the folder of each checkpoint whose record cannot be read, and why."""
        return self._list()[1]

    def best(self, monitor: str, mode: str) -> CheckpointEntry | None:
        """Return the checkpoint with the best finite metric, of equal ones the earlier, or None.

        Args:
            monitor: The name of the metric.
            mode: `"min"` or `"max"`.

        Raises:
            ValueError: `mode` is neither.
        """
        return next(iter(ranked(self.entries(), monitor, mode)), None)

    def load(self, step: int) -> Checkpoint:
        """Read the checkpoint taken at `step`, and verify each byte.

        Raises:
            ValueError: There is none, it is damaged, or it has a newer format. The message names
                what.
            OSError: The disk does not give it back.
        """
        step = check_count("step", step, minimum=0)
        folder = self.folder(step)
        if not folder.is_dir():
            steps = sorted(folders(self.directory))
            raise ValueError(
                f"`step` must be one of {steps} in {self.directory}. Received: {step}."
            )
        try:
            record = files.read_record(folder)
            arrays = files.read_arrays(folder, record.arrays)
        except ValueError as error:
            if not folder.exists():
                raise ValueError(
                    f"The checkpoint of step {step} was removed while it was read."
                ) from error
            self._damaged.add(step)
            raise
        return Checkpoint(_entry(record, folder), arrays, record.record)

    def load_latest(self, *, resumable: bool = True) -> LatestCheckpoint:
        """Read the latest checkpoint that is whole.

        Args:
            resumable: Only one from which training can go on.

        Raises:
            ValueError: A later one has a newer format: it is whole, and not to be passed over.
        """
        skipped: list[tuple[Path, str]] = []
        for step, folder in sorted(folders(self.directory).items(), reverse=True):
            try:
                if resumable and not files.read_record(folder).resumable:
                    continue
                return LatestCheckpoint(self.load(step), skipped)
            except NewerFormatError:
                raise
            except (ValueError, OSError) as error:
                self._damaged.add(step)
                skipped.append((folder, str(error)))
        return LatestCheckpoint(None, skipped)

    def folder(self, step: int) -> Path:
        """Return where the checkpoint taken at `step` is, if there is one."""
        return self.directory / files.folder_name(step)

    def _list(self) -> tuple[list[CheckpointEntry], list[tuple[Path, str]]]:
        entries, unreadable = [], []
        for step, folder in sorted(folders(self.directory).items()):
            try:
                entry = _entry(files.read_record(folder), folder)
            except (ValueError, OSError) as error:
                # The writer may have collected it since.
                if folder.exists():
                    unreadable.append((folder, str(error)))
                continue
            if step not in self._damaged:
                entries.append(entry)
        return entries, unreadable


def folders(directory: Path) -> dict[int, Path]:
    """Return the folders of all checkpoints by their steps."""
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    matches = (_FOLDER.fullmatch(name) for name in names)
    return {int(match[1]): directory / match[0] for match in matches if match}


def _entry(record: files.CheckpointRecord, folder: Path) -> CheckpointEntry:
    return CheckpointEntry(record.step, record.metrics, record.resumable, folder)
