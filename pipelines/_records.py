"""TFRecord files as a source: sharded, permuted and interleaved by file, and checked."""

import dataclasses
import functools
import heapq
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from pipelines._checks import check_count
from pipelines._dataset import Stage, readable_size
from pipelines._features import record_parser
from pipelines._files import Paths, exact_glob, find_files
from pipelines._fingerprint import files_fingerprint
from pipelines._host import Host, share
from pipelines._order import Order, permute
from pipelines._record_index import (
    Run,
    count_records,
    measure_prefix,
    readable_runs,
    records_from,
)

# Files read at a time, and records taken from each in turn: what TFDS found useful too.
CYCLE_LENGTH = 16
BLOCK_LENGTH = 16

# What `interleave` of TensorFlow 2.21 holds: twice as many further files are opened as are read,
# and of each it keeps two blocks and has a third in hand.
_OPEN_PER_READ = 3
_BLOCKS_AHEAD = 3


@dataclasses.dataclass(frozen=True)
class TFRecordFiles:
    """TFRecord files as the `source` of a pipeline.

    The number of records is read from their headers when the pipeline is made, which touches every
    record but reads none. Compressed and remote files have to be read once for it: state
    `lengths` instead.

    Args:
        files: Path, glob or sequence of these. The files of a glob are sorted.
        features: Feature specification, such as
            `{"image": tf.io.FixedLenFeature([], tf.string)}`; examples are then dictionaries of
            parsed features. None hands the records on as they are, as scalar strings.
        compression: "", "GZIP" or "ZLIB".
        lengths: Number of records of each file, in the order of the files; None counts them. It
            must be true: surplus records would never be read.
        skip_corrupt: Whether to read all files once when the pipeline is made, and to leave
            corrupt records out; `describe` says how many. By default a corrupt record is an error
            that names the file, the record and its byte. Behind a corrupt record length nothing
            can be found any more: the rest of that file counts as one.

    Examples:
        >>> import os, tempfile
        >>> import pipelines
        >>> import tensorflow as tf
        >>> directory = tempfile.mkdtemp()
        >>> for name in "ab":
        ...     path = os.path.join(directory, f"{name}.tfrecord")
        ...     with tf.io.TFRecordWriter(path) as writer:
        ...         for number in range(3):
        ...             writer.write(f"{name}{number}".encode())
        >>> source = pipelines.TFRecordFiles(os.path.join(directory, "*.tfrecord"))
        >>> train = pipelines.training_pipeline(source, batch_size=2, seed=0, shuffle=False)
        >>> [batch.numpy().tolist() for batch in train.take(3)]
        [[b'a0', b'a1'], [b'a2', b'b0'], [b'b1', b'b2']]
    """

    files: Paths
    features: Mapping[str, Any] | None = None
    compression: str = ""
    lengths: Sequence[int] | None = None
    skip_corrupt: bool = False

    def open(self, keep: Sequence[str] | None) -> "RecordStream":
        """Find the files, count their records and check the first; used by the pipelines.

        Raises:
            ValueError: If no file matches, a file is corrupt, a feature is not there, or an
                argument is not as described.
        """
        if self.compression not in ("", "GZIP", "ZLIB"):
            raise ValueError(
                f"`compression` must be '', 'GZIP' or 'ZLIB'. Received: {self.compression!r}."
            )
        paths = find_files(self.files)
        runs, num_corrupt = self._runs(paths)
        parse = record_parser(self.features, keep, lambda: _first_record(runs, self.compression))
        return RecordStream(
            runs=tuple(run for run in runs if run.take),
            parse=parse,
            compression=self.compression,
            num_corrupt=num_corrupt,
        )

    def _runs(self, paths: list[str]) -> tuple[list[Run], int]:
        if self.skip_corrupt:
            if self.compression or self.lengths is not None:
                raise ValueError(
                    "`skip_corrupt` finds and counts the records itself, in files without "
                    f"compression. Received compression={self.compression!r} and "
                    f"lengths={self.lengths!r}: remove them, or write the files again."
                )
            found = [readable_runs(path) for path in paths]
            return [run for runs, _ in found for run in runs], sum(bad for _, bad in found)
        if self.lengths is None:
            lengths = [count_records(path, self.compression) for path in paths]
        else:
            lengths = list(self.lengths)
            if len(lengths) != len(paths):
                raise ValueError(
                    "`lengths` must give the number of records of each file. Received "
                    f"{len(lengths)} numbers, {lengths!r:.60}, for {len(paths)} files."
                )
            lengths = [
                check_count(f"lengths[{place}]", length, minimum=0)
                for place, length in enumerate(lengths)
            ]
        return [Run(path, 0, 0, take) for path, take in zip(paths, lengths, strict=True)], 0


@dataclasses.dataclass(frozen=True)
class RecordStream:
    """Records in files, as a `Stream`.

    Args:
        runs: What to read, in order.
        parse: From a record to an example.
        compression: Of the files.
        num_corrupt: Corrupt records that were left out.
        remedy: What to do about a corrupt record; ends the error message.
    """

    runs: tuple[Run, ...]
    parse: Callable[[Any], Any]
    compression: str = ""
    num_corrupt: int = 0
    remedy: str = "Write the file again, or pass `skip_corrupt=True`."

    @property
    def num_examples(self) -> int:
        """Number of records."""
        return sum(run.take for run in self.runs)

    @property
    def raw_spec(self) -> tf.TensorSpec:
        """A record: a scalar string."""
        return tf.TensorSpec([], tf.string)

    @functools.cached_property
    def num_bytes(self) -> int:
        """Size of the files; not quite of the records, if some are left out."""
        return sum(tf.io.gfile.stat(path).length for path in self.paths)

    @property
    def paths(self) -> list[str]:
        """The files, in order."""
        return list(dict.fromkeys(run.path for run in self.runs))

    def shard_lengths(self, count: int, batch_size: int) -> list[int]:
        """Return the number of examples of each of `count` hosts."""
        return [sum(run.take for run, _ in runs) for runs in self._shares(count, batch_size)]

    def in_order(self, start: int, stop: int) -> tf.data.Dataset:
        """Return the records [start, stop)."""
        return self._columns(self._cut(start, stop)).flat_map(
            lambda *columns: self._read(*columns).map(lambda _, record: record)
        )

    def fingerprint(self, *, version: str) -> list[str]:
        """Return the files, and which of their records are read."""
        return [
            *(f"{run.byte_offset} {run.skip} {run.take}" for run in self.runs),
            *files_fingerprint(self.paths),
        ]

    def locate(self, index: int) -> str:
        """Return in which file the record `index` is, and where."""
        ((run, _),) = self._cut(index, index + 1)
        behind = f", counted from byte {run.byte_offset:,}" if run.byte_offset else ""
        return f"record {run.skip:,} of {run.path!r}{behind}"

    def epoch(self, order: Order, epoch: tf.Tensor, *, deterministic: bool) -> tf.data.Dataset:
        """Return the (index, record) pairs of `order.host`, from many files in turn."""
        runs = self._shares(order.host.count, order.batch_size)[order.host.index]
        if not order.shuffle:
            return self._columns(runs).flat_map(self._read)
        columns = self._columns(runs).batch(len(runs)).get_single_element()
        places = permute(
            tf.range(len(runs), dtype=tf.int64),
            seed=order.seed,
            epoch=epoch,
            num_examples=len(runs),
        )
        shuffled = tuple(tf.gather(column, places) for column in columns)
        # Blocks change threads, not records. Only here: a corrupt record takes its block with it.
        blocks = tf.data.Dataset.from_tensor_slices(shuffled).interleave(
            lambda *columns: self._read(*columns).batch(BLOCK_LENGTH),
            cycle_length=min(CYCLE_LENGTH, len(runs)),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=deterministic,
        )
        return blocks.unbatch()

    def describe(self) -> Stage:
        """Return the stage that reads the records in order."""
        return Stage("read", self._size(), "in the order of the files, so that predictions line up")

    def describe_epoch(self, order: Order) -> tuple[Stage, ...]:
        """Return the stages of `epoch`."""
        host = order.host
        runs = self._shares(host.count, order.batch_size)[host.index]
        shard: tuple[Stage, ...] = ()
        if host.count > 1:
            level = "by file" if self._by_file(host.count, order.batch_size) else "below file level"
            shard = (
                Stage(
                    "shard",
                    f"{level}: {sum(run.take for run, _ in runs):,} records in {len(runs):,} "
                    f"files, host {host.index} of {host.count}",
                    "first, so that each record is read by one host only",
                ),
            )
        ahead = _BLOCKS_AHEAD * BLOCK_LENGTH * min(_OPEN_PER_READ * CYCLE_LENGTH, len(runs))
        ahead = min(ahead, sum(run.take for run, _ in runs))
        interleave = (
            f"{min(CYCLE_LENGTH, len(runs))} at a time, permuted per epoch, {BLOCK_LENGTH} records "
            f"of each in turn, up to {ahead:,} read ahead"
            if order.shuffle
            else "one after the other"
        )
        return (
            *shard,
            Stage(
                "read",
                f"{self._size()}, {interleave}",
                "whole records in the order of the files; they are parsed and decoded after the "
                "shuffle, in parallel",
            ),
        )

    def _size(self) -> str:
        left_out = f", {self.num_corrupt:,} corrupt left out" if self.num_corrupt else ""
        return (
            f"{self.num_examples:,} records of {len(self.paths):,} files "
            f"({readable_size(self.num_bytes)}){left_out}"
        )

    def _shares(self, count: int, batch_size: int) -> list[list[tuple[Run, int]]]:
        """Return the runs of each host, each with the index of its first record."""
        if self._by_file(count, batch_size):
            shares: list[list[tuple[Run, int]]] = [[] for _ in range(count)]
            for run, index in zip(self._whole(), _assign(self.runs, count), strict=True):
                shares[index].append(run)
            return shares
        return [self._cut(*share(self.num_examples, Host(i, count))) for i in range(count)]

    def _by_file(self, count: int, batch_size: int) -> bool:
        """Whether the hosts can read whole files without losing a step."""
        lengths = [0] * count
        for run, index in zip(self.runs, _assign(self.runs, count), strict=True):
            lengths[index] += run.take
        even = self.num_examples // count
        return 0 < min(lengths) // batch_size == even // batch_size

    def _whole(self) -> list[tuple[Run, int]]:
        firsts = itertools.accumulate((run.take for run in self.runs), initial=0)
        return list(zip(self.runs, firsts, strict=False))

    def _cut(self, start: int, stop: int) -> list[tuple[Run, int]]:
        """Return the runs, and parts of runs, that hold the records [start, stop)."""
        parts = []
        for run, first in self._whole():
            begin, end = max(start, first), min(stop, first + run.take)
            if begin < end:
                part = dataclasses.replace(run, skip=run.skip + begin - first, take=end - begin)
                parts.append((part, begin))
        return parts

    def _columns(self, runs: list[tuple[Run, int]]) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices(
            (
                [run.path for run, _ in runs],
                [exact_glob(run.path) for run, _ in runs],
                tf.constant([run.byte_offset for run, _ in runs], tf.int64),
                tf.constant([run.skip for run, _ in runs], tf.int64),
                tf.constant([run.take for run, _ in runs], tf.int64),
                tf.constant([first for _, first in runs], tf.int64),
            )
        )

    def _read(
        self,
        path: tf.Tensor,
        pattern: tf.Tensor,
        byte_offset: tf.Tensor,
        skip: tf.Tensor,
        take: tf.Tensor,
        first: tf.Tensor,
    ) -> tf.data.Dataset:
        """Return the (index, record) pairs of a run, or fail with the name of the bad record."""

        def fail(_: tf.Tensor) -> tf.Tensor:
            number, byte = measure_prefix(path, byte_offset, self.compression)
            at_byte = tf.strings.as_string(byte_offset + byte)
            parts = ["Record ", tf.strings.as_string(number), " of ", path, ", "]
            parts += ["at byte ", at_byte] if not self.compression else ["of a compressed file"]
            parts += [
                ", cannot be read: it is corrupt, or the file is shorter than it was or than "
                "`lengths` states. ",
                self.remedy,
            ]
            _fail_unless(tf.constant(False), parts)
            return tf.constant("")

        # `ignore_errors` would try for ever to open a file that is not there.
        there = tf.size(tf.io.matching_files(pattern)) > 0
        with tf.control_dependencies([_fail_unless(there, [path, " is not there any more."])]):
            present = tf.identity(path)
        records = records_from(present, byte_offset, self.compression).ignore_errors().skip(skip)
        # Errors of the reader do not name the file. Where records are missing, `take` comes to the
        # second part, which does.
        records = records.concatenate(tf.data.Dataset.from_tensors(path).map(fail)).take(take)
        return tf.data.Dataset.zip(tf.data.Dataset.range(first, first + take), records)


def _assign(runs: Sequence[Run], count: int) -> list[int]:
    """Return the host of each run: the longest first, each to the host that has least."""
    loads = [(0, index) for index in range(count)]
    hosts = [0] * len(runs)
    for place in sorted(range(len(runs)), key=lambda place: -runs[place].take):
        load, index = heapq.heappop(loads)
        heapq.heappush(loads, (load + runs[place].take, index))
        hosts[place] = index
    return hosts


def _fail_unless(condition: tf.Tensor, parts: list[Any]) -> tf.Operation:
    return tf.debugging.Assert(condition, [tf.strings.join(parts)])


def _first_record(runs: Sequence[Run], compression: str) -> bytes | None:
    for run in runs:
        if run.take:
            records = tf.data.TFRecordDataset(run.path, compression)
            return records.take(1).get_single_element().numpy()
    return None
