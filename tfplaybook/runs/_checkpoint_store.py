"""Checkpoints on disk: written by one, asynchronously and atomically, and read by anybody.

A checkpoint is a folder `step_<n>`. It is written in a hidden folder beside, put on the disk and
renamed: the rename is the commit, and the listing of the directory is the index. What a killed
writer leaves behind has a hidden name:

| name | left by a kill during | the next opening for writing |
|---|---|---|
| `.writing-step_<n>` | the write | removes it |
| `.replaced-step_<n>` | the replacement of a step | puts it back if there is no `step_<n>` |
| `.collected-step_<n>` | the collection of garbage | removes it |
"""

import contextlib
import functools
import json
import os
import re
import shutil
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from tfplaybook._arguments import check_count
from tfplaybook.runs import _checkpoint_files as files
from tfplaybook.runs._background import Background
from tfplaybook.runs._checkpoint_reader import CheckpointReader, folders
from tfplaybook.runs._directory_lock import DirectoryLock
from tfplaybook.runs._retention import CheckpointEntry, RetentionPolicy, check_policy
from tfplaybook.runs._safetensors import check_arrays

PHASES = ("begun", "written", "synced", "replacing", "committed", "collecting", "collected")

_WRITING, _REPLACED, _COLLECTED = ".writing-", ".replaced-", ".collected-"
_LEFTOVER = re.compile(r"(\.writing-|\.replaced-|\.collected-)(step_\d{10,})")


class CheckpointStore(CheckpointReader):
    """Writes the checkpoints of one run, and keeps those that a policy wants.

    Nothing is copied: `save` returns at once, and a thread writes the arrays that it was given, one
    save at a time. After each commit the checkpoints that `keep` does not want are removed, never
    the latest from which training can go on, and never one that cannot be read.

    Opening is for the single writer: it locks the directory until `close` or until the process
    ends, and removes what a killed writer has left half done.

    Args:
        directory: The folder of the checkpoints; made when missing.
        keep: The retention policy.
        on_phase: Called, in the thread that writes, with the name of each phase of a save when it
            is over: for tests that kill there.

    Raises:
        ValueError: `directory` is a file.
        TypeError: `keep` is no retention policy.
        RuntimeError: Another process, or another object of this one, writes there.
        OSError: The directory cannot be written to.

    Source: playbook I8.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        keep: RetentionPolicy,
        on_phase: Callable[[str], None] | None = None,
    ):
        super().__init__(directory)
        self.keep = check_policy("keep", keep)
        self._on_phase = on_phase or _ignore
        self._background = Background()
        try:
            made = [path for path in self.directory.parents if not path.exists()]
            self.directory.mkdir(parents=True, exist_ok=True)
            self._lock = DirectoryLock(self.directory, f"The checkpoints in {self.directory}")
        except OSError as error:
            raise _in_our_terms(f"{self.directory} cannot hold checkpoints", error) from error
        weakref.finalize(self, _end, self._background, self._lock)
        try:
            _clean(self.directory)
            # A new folder is on the disk when the one that lists it is.
            for path in (self.directory, *made):
                files.sync_directory(path.parent)
        except OSError as error:
            self._lock.release()
            raise _in_our_terms(f"{self.directory} cannot be cleaned", error) from error
        # Listing again after each save would read every record.
        self._committed = {entry.step: entry for entry in self.entries()}

    def save(
        self,
        step: int,
        arrays: Mapping[str, np.ndarray],
        *,
        metrics: Mapping[str, float],
        resumable: bool,
        record: dict[str, Any],
        asynchronous: bool = True,
    ) -> None:
        """Write a checkpoint; one of the same step is replaced.

        Waits for the save before this one, and raises its error. The arrays must not change until
        `wait` has returned.

        Args:
            step: Optimizer updates made so far.
            arrays: Name to array, of any shape and of a dtype of the safetensors format.
            metrics: Metric name to value; not finite is allowed.
            resumable: Whether training can go on from it.
            record: What else to save, as plain JSON data; taken as it is now.
            asynchronous: False returns when the checkpoint is on the disk.

        Raises:
            ValueError: An argument is out of range, or `record` is not JSON data.
            TypeError: An array is none, or of a dtype that safetensors does not have.
            OSError: This or the previous save could not be written.
            RuntimeError: The store is closed.
        """
        self.wait()
        self._lock.check_held()
        step = check_count("step", step, minimum=0)
        check_arrays(arrays)
        arrays = dict(arrays)
        try:
            numbers = {str(name): float(value) for name, value in metrics.items()}
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"`metrics` must map names to numbers. Received: {metrics!r:.200}."
            ) from error
        if not isinstance(record, dict):
            raise TypeError(f"`record` must be a dict. Received: {record!r:.80}.")
        try:
            text = json.dumps(record, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"`record` must be plain JSON data: {error}.") from error
        # No closure: the frames of an error hold their functions, and so what these close over.
        write = functools.partial(self._write, step, arrays, numbers, bool(resumable), text)
        if asynchronous:
            self._background.start(write)
        else:
            write()

    def collect(self) -> None:
        """Delete what `keep` does not ask for, which a writer killed after its last save could not.

        Raises:
            OSError: The save in flight could not be written, or a checkpoint not be removed.
        """
        self.wait()
        self._lock.check_held()
        if self._committed:
            self._collect(max(self._committed))

    def discard(self, *, after: int) -> None:
        """Delete the checkpoints of higher steps than `after`, for a run that makes them again.

        Damaged ones stay until they are replaced.

        Raises:
            OSError: The save in flight could not be written, or a checkpoint not be removed.
        """
        self.wait()
        self._lock.check_held()
        obsolete = [step for step in self._committed.keys() - self._damaged if step > after]
        try:
            # A kill on the way leaves a beginning without gaps.
            for step in sorted(obsolete, reverse=True):
                self._remove(self._committed[step])
        except OSError as error:
            what = f"The checkpoints after step {after} could not be removed"
            raise _in_our_terms(what, error) from error

    def wait(self) -> None:
        """Return when the save in flight is on the disk.

        Raises:
            OSError: It could not be written. The next call does not raise it again.
        """
        self._background.wait()

    def close(self) -> None:
        """Wait as `wait` does, then let others write; may be called again."""
        try:
            self.wait()
        finally:
            self._lock.release()

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"A CheckpointStore cannot be copied: {self.directory} has one writer.")

    def __enter__(self) -> "CheckpointStore":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _write(
        self,
        step: int,
        arrays: Mapping[str, np.ndarray],
        metrics: dict[str, float],
        resumable: bool,
        record: str,
    ) -> None:
        folder = self.folder(step)
        writing = self._hidden(_WRITING, folder)
        replaced = self._hidden(_REPLACED, folder)
        try:
            self._lock.check()
            try:
                writing.mkdir()
                self._on_phase("begun")
                files.write_checkpoint(
                    writing,
                    step=step,
                    metrics=metrics,
                    resumable=resumable,
                    arrays=arrays,
                    record=record,
                    on_phase=self._on_phase,
                )
                self._commit(writing, folder, replaced)
            except BaseException:
                shutil.rmtree(writing, ignore_errors=True)
                raise
        except OSError as error:
            intact = sorted(folders(self.directory))
            raise _in_our_terms(
                f"The checkpoint of step {step} could not be written to {self.directory}",
                error,
                f" The checkpoints of steps {intact} are intact." if intact else "",
            ) from error
        self._damaged.discard(step)
        self._committed[step] = CheckpointEntry(step, metrics, resumable, folder)
        try:
            if replaced.exists():
                shutil.rmtree(replaced)
            self._collect(step)
        except OSError as error:
            what = f"The checkpoint of step {step} is written, but others could not be removed"
            raise _in_our_terms(what, error) from error
        self._on_phase("collected")

    def _commit(self, writing: Path, folder: Path, replaced: Path) -> None:
        try:
            if folder.exists():
                # A folder with files in it cannot be renamed over.
                folder.rename(replaced)
                self._on_phase("replacing")
            writing.rename(folder)
        except BaseException:
            if replaced.exists() and not folder.exists():
                replaced.rename(folder)
            raise
        files.sync_directory(self.directory)
        self._on_phase("committed")

    def _collect(self, saved: int) -> None:
        entries = [self._committed[step] for step in sorted(self._committed.keys() - self._damaged)]
        resumable = [entry.step for entry in entries if entry.resumable]
        # Of higher steps there may be damaged ones of which nobody knows.
        kept = self.keep.kept(entries) | set(resumable[-1:]) | ({saved} & set(resumable))
        for entry in entries:
            if entry.step not in kept:
                self._remove(entry)

    def _remove(self, entry: CheckpointEntry) -> None:
        del self._committed[entry.step]
        collected = self._hidden(_COLLECTED, entry.path)
        with contextlib.suppress(FileNotFoundError):
            entry.path.rename(collected)
            self._on_phase("collecting")
            shutil.rmtree(collected)

    def _hidden(self, prefix: str, folder: Path) -> Path:
        return self.directory / f"{prefix}{folder.name}"


def _ignore(phase: str) -> None:
    """Hear a phase and do nothing."""


def _clean(directory: Path) -> None:
    """End what a killed writer has left half done."""
    for path in sorted(directory.iterdir()):
        match = _LEFTOVER.fullmatch(path.name)
        if not match:
            continue
        folder = directory / match[2]
        if match[1] == _REPLACED and not folder.exists():
            path.rename(folder)
        else:
            shutil.rmtree(path)


def _end(background: Background, lock: DirectoryLock) -> None:
    """Close a store that its user has not closed; an error that nobody has seen is shown."""
    try:
        background.wait()
    finally:
        lock.release()


def _in_our_terms(what: str, error: OSError, more: str = "") -> OSError:
    """Return an error of the same kind that says what could not be done."""
    text = f"{what}: {error.strerror or error}.{more}"
    return OSError(error.errno, text) if error.errno else type(error)(text)
