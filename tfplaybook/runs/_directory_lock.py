"""A lock on a directory that ends with the process that holds it, however that ends."""

import contextlib
import errno
import json
import os
import socket
import weakref
from pathlib import Path
from typing import Any

from tfplaybook._files import read_json

FILE_NAME = ".lock"


class DirectoryLock:
    """The right to write into a directory, held by one object at a time.

    The kernel holds the lock (`flock`), so it is released when the process is killed. A forked
    child does not have it, and does not keep it from others when its parent has ended.

    Args:
        directory: The directory, which must exist.
        purpose: What is done there, for the error message: "The checkpoints in ... ".

    Raises:
        RuntimeError: Another process holds the lock, or another object of this process.
    """

    def __init__(self, directory: Path, purpose: str):
        self._path = directory / FILE_NAME
        self._purpose = purpose
        self._file: int | None = _open_locked(self._path, purpose)
        _held.add(self)

    def check_held(self) -> None:
        """Raise `RuntimeError` if the lock was released, or this is a fork of the holder."""
        if self._file is None:
            raise RuntimeError(
                f"{self._purpose} can no longer be written here: they are closed, or this process "
                "is a fork of the one that writes them."
            )

    def check(self) -> None:
        """Raise unless this object still is the one that may write.

        Raises:
            RuntimeError: As `check_held`.
            FileNotFoundError: The directory or its lock file is gone.
        """
        self.check_held()
        assert self._file is not None
        try:
            found = self._path.stat()
        except FileNotFoundError:
            if not self._path.parent.is_dir():
                raise
            raise FileNotFoundError(
                errno.ENOENT,
                f"its {FILE_NAME} was removed, which keeps other writers out; run it again",
            ) from None
        if not os.path.samestat(os.fstat(self._file), found):
            raise FileNotFoundError(
                errno.ENOENT, f"its {FILE_NAME} was removed, and another writer made it anew"
            )

    def release(self) -> None:
        """Let others write; may be called again."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _open_locked(path: Path, purpose: str) -> int:
    # No such module on Windows, where all else of this package can be imported.
    import fcntl

    # Python opens files so that they close on exec.
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(file, 0)
        os.write(file, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
    except BlockingIOError:
        os.close(file)
        raise RuntimeError(
            f"{purpose} are being written by {_holder(path)}. Wait until it has ended, or choose "
            "another directory."
        ) from None
    except BaseException:
        os.close(file)
        raise
    return file


def _holder(path: Path) -> str:
    holder: dict[str, Any] = {}
    # The holder may not have written it yet.
    with contextlib.suppress(ValueError, OSError):
        holder = read_json(path) or {}
    if holder.get("pid") == os.getpid() and holder.get("host") == socket.gethostname():
        return "this process, which has them open already"
    return f"process {holder.get('pid', 'unknown')} on {holder.get('host', 'an unknown host')}"


_held: "weakref.WeakSet[DirectoryLock]" = weakref.WeakSet()


def _release_in_child() -> None:
    # Parent and child share the open file, and so the lock, until both have closed it.
    for lock in _held:
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_in_child)
