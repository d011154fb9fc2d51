"""Record files that are written one at a time, so that what is finished survives a kill."""

import contextlib
import dataclasses
import itertools
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf

_INDEX = "index.json"
_FORMAT = 1
_NAME = re.compile(r"(\d{5,})-([0-9a-f]{8})\.tfrecord")
_BLOCK_BYTES = 2**20


@dataclasses.dataclass(frozen=True)
class Shard:
    """A finished shard: `num_examples` records in `path`, of `num_bytes` and a CRC-32."""

    path: Path
    num_examples: int
    num_bytes: int
    crc32: str


@dataclasses.dataclass(frozen=True)
class ShardFolder:
    """A folder of shards `<number>-<CRC-32>.tfrecord`, complete once it holds an index.

    Args:
        folder: Where they lie; made when it is needed.
        num_examples: Records of all shards.
        examples_per_shard: Records of each shard but the last.
    """

    folder: Path
    num_examples: int
    examples_per_shard: int

    @property
    def num_shards(self) -> int:
        """Number of shards."""
        return -(-self.num_examples // self.examples_per_shard)

    def read_index(self) -> list[Shard] | None:
        """Return the shards, or None if they are not complete.

        Raises:
            ValueError: If the index is damaged, or a shard is missing or of another size.
        """
        path = self.folder / _INDEX
        try:
            content = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise ValueError(f"{path} is damaged: {error}. {_REPAIR}") from error
        shards = [self._shard(path, number, content) for number in range(self.num_shards)]
        for shard in shards:
            size = shard.path.stat().st_size if shard.path.exists() else None
            if size != shard.num_bytes:
                found = "is missing" if size is None else f"has {size:,} bytes"
                raise ValueError(
                    f"{shard.path} {found}, and {path} states {shard.num_bytes:,} bytes. {_REPAIR}"
                )
        return shards

    @contextlib.contextmanager
    def locked(self, waiting: Callable[[], None]) -> Iterator[None]:
        """Hold the folder for this process alone; the lock ends with the process.

        Args:
            waiting: Called once if another process holds it.
        """
        try:
            import fcntl
        except ImportError as error:
            raise ImportError(
                "Writing a cache takes a file lock of POSIX systems, which this one lacks."
            ) from error
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def remove_damaged(self) -> None:
        """Remove the index, and every shard whose checksum is not that of its name."""
        (self.folder / _INDEX).unlink(missing_ok=True)
        for path in self._finished().values():
            match = _NAME.fullmatch(path.name)
            if match is None or _crc32(path) != match[2]:
                path.unlink()

    def complete(
        self,
        records_between: Callable[[int, int], Iterable[bytes]],
        progress: Callable[[int], None],
    ) -> None:
        """Write the shards that are missing, then the index.

        Args:
            records_between: From (start, stop) to the records of these examples, in order.
            progress: Called with the number of shards that are finished.
        """
        finished = set(self._finished())
        progress(len(finished))
        missing = [number for number in range(self.num_shards) if number not in finished]
        # Neighbours are read in one go: not every source can begin in the middle at no cost.
        for _, group in itertools.groupby(enumerate(missing), lambda pair: pair[1] - pair[0]):
            numbers = [number for _, number in group]
            records = iter(records_between(self._range(numbers[0])[0], self._range(numbers[-1])[1]))
            for number in numbers:
                start, stop = self._range(number)
                held = list(itertools.islice(records, stop - start))
                self._write(number, held)
                finished.add(number)
                progress(len(finished))
        self._write_index()

    def _range(self, number: int) -> tuple[int, int]:
        start = number * self.examples_per_shard
        return start, min(start + self.examples_per_shard, self.num_examples)

    def _finished(self) -> dict[int, Path]:
        matches = ((path, _NAME.fullmatch(path.name)) for path in sorted(self.folder.iterdir()))
        return {int(match[1]): path for path, match in matches if match is not None}

    def _write(self, number: int, records: list[bytes]) -> None:
        beside = self.folder / f".{number:05d}.tmp"
        with self._explained(f"Shard {number:,}"):
            try:
                with tf.io.TFRecordWriter(str(beside)) as writer:
                    for record in records:
                        writer.write(record)
                _flush(beside)
                beside.replace(self.folder / f"{number:05d}-{_crc32(beside)}.tfrecord")
            finally:
                beside.unlink(missing_ok=True)

    def _write_index(self) -> None:
        shards = []
        for number, path in sorted(self._finished().items()):
            start, stop = self._range(number)
            match = _NAME.fullmatch(path.name)
            shards.append(
                {
                    "file": path.name,
                    "num_examples": stop - start,
                    "num_bytes": path.stat().st_size,
                    "crc32": match[2] if match else "",
                }
            )
        text = json.dumps({"format": _FORMAT, "shards": shards}, indent=1)
        beside = self.folder / f".{_INDEX}.tmp"
        with self._explained("The index"):
            try:
                beside.write_text(text + "\n", encoding="utf-8")
                _flush(beside)
                beside.replace(self.folder / _INDEX)
            finally:
                beside.unlink(missing_ok=True)

    def _shard(self, index: Path, number: int, content: Any) -> Shard:
        start, stop = self._range(number)
        try:
            entry = content["shards"][number]
            match = _NAME.fullmatch(entry["file"])
            fits = (
                content["format"] == _FORMAT
                and len(content["shards"]) == self.num_shards
                and match is not None
                and (int(match[1]), match[2]) == (number, entry["crc32"])
                and entry["num_examples"] == stop - start
                and isinstance(entry["num_bytes"], int)
            )
        except (LookupError, TypeError):
            fits = False
        if not fits:
            raise ValueError(
                f"{index} is damaged: its entry for shard {number:,} does not fit. {_REPAIR}"
            )
        path = self.folder / entry["file"]
        return Shard(path, stop - start, entry["num_bytes"], entry["crc32"])

    @contextlib.contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, tf.errors.OpError) as error:
            reason = getattr(error, "message", None) or str(error)
            raise OSError(
                f"{what} cannot be written to {self.folder}: {reason}. Finished shards are kept: "
                "make room, or put the folder back, and call `cache_offline` again."
            ) from error


_REPAIR = "Pass `repair=True` to `cache_offline`, which makes damaged shards again."


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _crc32(path: Path) -> str:
    crc = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            crc = zlib.crc32(block, crc)
    return f"{crc:08x}"
