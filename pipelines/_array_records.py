"""ArrayRecord files as a source, read by index."""

import bisect
import dataclasses
import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from pipelines._dataset import readable_size
from pipelines._features import record_parser
from pipelines._files import Paths, find_files
from pipelines._fingerprint import files_fingerprint
from pipelines._iterators_at_exit import close_iterators_at_exit
from pipelines._record_index import Run
from pipelines._sources import IndexedSource


@dataclasses.dataclass(frozen=True)
class ArrayRecordFiles:
    """ArrayRecord files as the `source` of a pipeline; needs the package `array_record`.

    Any record is reached at once, and the order is one permutation over all files. Write them with
    the option "group_size:1", as TFDS does: a record that is read alone is then decompressed
    alone. They are read by a Python function, so a pipeline over them runs in this process only.

    Args:
        files: Path, glob or sequence of these. The files of a glob are sorted.
        features: As in `TFRecordFiles`.
    """

    files: Paths
    features: Mapping[str, Any] | None = None

    def open(self, keep: Sequence[str] | None) -> IndexedSource:
        """Find the files and check the first record; used by the pipelines.

        Raises:
            ValueError: If no file matches, a file is no ArrayRecord file, or a feature is not
                there.
            ImportError: If array_record is not installed.
        """
        readers = _Readers([Run(path, 0, 0, -1) for path in find_files(self.files)])
        parse = record_parser(
            self.features, keep, lambda: readers.read(0) if readers.num_records else None
        )
        return readers.source(parse)


def array_record_source(runs: Sequence[Run], parse: Callable[[Any], Any]) -> IndexedSource:
    """Return the source of the records in `runs` of ArrayRecord files."""
    return _Readers(runs).source(parse)


class _Readers:
    """Open files and the numbering of their records.

    Args:
        runs: Parts of the files; `take` of -1 is all that follows.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        module = _array_record_module()
        self._paths = [run.path for run in runs]
        self._readers = [
            # Records are read singly: what follows them is not wanted, and handing each to a
            # thread of the reader takes three times as long as reading it.
            module.ArrayRecordReader(run.path, options="readahead_buffer_size:0,max_parallelism:0")
            for run in runs
        ]
        self._locks = [threading.Lock() for _ in runs]
        for path, reader in zip(self._paths, self._readers, strict=True):
            if not reader.ok():
                raise ValueError(
                    f"{path!r} is cut off, corrupt at its end or no ArrayRecord file. Write it "
                    "again."
                )
        lengths = [
            reader.num_records() - run.skip if run.take < 0 else run.take
            for reader, run in zip(self._readers, runs, strict=True)
        ]
        self._skips = [run.skip for run in runs]
        self._firsts = list(itertools.accumulate(lengths, initial=0))

    @property
    def num_records(self) -> int:
        return self._firsts[-1]

    def read(self, index: int) -> bytes:
        place = bisect.bisect_right(self._firsts, index) - 1
        number = index - self._firsts[place] + self._skips[place]
        try:
            with self._locks[place]:
                return self._readers[place].read([number])[0]
        except (RuntimeError, IndexError, ValueError) as error:
            raise ValueError(
                f"Record {number:,} of {self._paths[place]!r} cannot be read: {error}. Write the "
                "file again."
            ) from error

    def source(self, parse: Callable[[Any], Any]) -> IndexedSource:
        close_iterators_at_exit()

        def read(indices: np.ndarray) -> np.ndarray:
            return np.array([self.read(index) for index in indices.tolist()], dtype=object)

        def fetch(indices: tf.Tensor) -> tf.Tensor:
            return tf.ensure_shape(tf.numpy_function(read, [indices], tf.string), [None])

        size = sum(tf.io.gfile.stat(path).length for path in set(self._paths))
        return IndexedSource(
            num_examples=self.num_records,
            fetch=fetch,
            raw_spec=tf.TensorSpec([], tf.string),
            where=(
                f"{self.num_records:,} records of {len(set(self._paths)):,} ArrayRecord files "
                f"({readable_size(size)})"
            ),
            contents=lambda: [
                *map(str, self._skips),
                *map(str, self._firsts),
                *files_fingerprint(self._paths),
            ],
            parse=parse,
        )


def _array_record_module() -> Any:
    try:
        from array_record.python import array_record_module
    except ImportError as error:
        raise ImportError(
            'ArrayRecord files need the package array_record: pip install "tfplaybook[datasets]".'
        ) from error
    return array_record_module
