"""What lies in TFRecord files: how many records, and where they are corrupt.

A record is a length (8 bytes), the checksum of the length (4), the data, and its checksum (4).
"""

import dataclasses
import mmap
import os
import struct
from typing import Any

import tensorflow as tf

from pipelines._messages import plain_message

_HEADER = struct.Struct("<QI")
_FRAME_BYTES = 16

_BUFFER_BYTES = 256 * 2**10

# Reflected polynomial of CRC-32C, and the mask that the format adds.
_CRC_POLYNOMIAL = 0x82F63B78
_CRC_MASK = 0xA282EAD8


@dataclasses.dataclass(frozen=True)
class Run:
    """Records that lie in one file, one after the other.

    Args:
        path: The file.
        byte_offset: Where reading begins; 0 in a compressed file.
        skip: Records to pass over from there.
        take: Records to read after them.
    """

    path: str
    byte_offset: int
    skip: int
    take: int


def count_records(path: str, compression: str) -> int:
    """Return the number of records of a file, read from the headers where they can be reached.

    Raises:
        ValueError: If the file ends within a record, or a header is corrupt.
    """
    if compression or not os.path.isfile(path):  # such as gs://
        return _count_by_reading(path, compression)
    number = byte = 0
    size = os.path.getsize(path)
    if size == 0:
        return 0
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        while byte < size:
            end = _record_end(view, byte)
            if end is None:
                raise ValueError(
                    f"Record {number:,} of {path!r}, at byte {byte:,}, is corrupt, or the file is "
                    "cut off there or is no TFRecord file. Write the file again, state its "
                    "`compression` if it has one, or pass `skip_corrupt=True` to leave such "
                    "records out."
                )
            number, byte = number + 1, end
    return number


def _count_by_reading(path: str, compression: str) -> int:
    records = tf.data.TFRecordDataset(path, compression)
    try:
        return int(records.reduce(tf.constant(0, tf.int64), lambda count, _: count + 1))
    except tf.errors.DataLossError as error:
        number, _ = _readable_prefix(path, 0, compression)
        raise ValueError(
            f"Record {number:,} of {path!r} cannot be read with compression={compression!r}: "
            f"{plain_message(error)}. State the `compression` that the file has, or write it again."
        ) from error


def readable_runs(path: str) -> tuple[list[Run], int]:
    """Read a file once; return the runs between its corrupt records, and how many these are.

    Behind a corrupt header nothing can be found any more: the rest of the file counts as one.
    """
    runs: list[Run] = []
    num_corrupt = byte = 0
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        while byte < size:
            number, num_bytes = _readable_prefix(path, byte, "")
            if number:
                runs.append(Run(path, byte, 0, number))
            byte += num_bytes
            if byte >= size:
                break
            num_corrupt += 1
            file.seek(byte)
            end = _record_end(file.read(_HEADER.size), 0, size - byte)
            if end is None:
                break
            byte += end
    return runs, num_corrupt


def records_from(path: tf.Tensor, byte_offset: tf.Tensor, compression: str) -> tf.data.Dataset:
    """Return the records of a file from a byte on; use it within the function of a dataset.

    TensorFlow 2.21 cannot serialise the op with byte offsets outside a function.
    """
    variant = tf.raw_ops.TFRecordDatasetV2(
        filenames=tf.reshape(path, [1]),
        compression_type=compression,
        buffer_size=tf.constant(_BUFFER_BYTES, tf.int64),
        byte_offsets=tf.reshape(byte_offset, [1]),
    )
    return tf.data.experimental.from_variant(variant, tf.TensorSpec([], tf.string))


def measure_prefix(
    path: tf.Tensor, byte_offset: tf.Tensor, compression: str
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return how many records can be read from `byte_offset` on, and their bytes, int64 both."""

    def add(total: tuple[tf.Tensor, tf.Tensor], record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        length = tf.strings.length(record)
        return total[0] + 1, total[1] + tf.cast(length + _FRAME_BYTES, tf.int64)

    zero = tf.constant(0, tf.int64)
    start = tf.data.Dataset.from_tensors((path, byte_offset))
    readable = start.flat_map(
        lambda path, byte: records_from(path, byte, compression).ignore_errors()
    )
    return readable.reduce((zero, zero), add)


def _readable_prefix(path: str, byte_offset: int, compression: str) -> tuple[int, int]:
    if not tf.io.gfile.exists(path):  # `ignore_errors` would try for ever to open it
        raise ValueError(f"{path!r} is not there any more.")
    measured: Any = tf.function(measure_prefix)(
        tf.constant(path), tf.constant(byte_offset, tf.int64), compression
    )
    return int(measured[0]), int(measured[1])


def _record_end(view: Any, byte: int, size: int | None = None) -> int | None:
    """Return where the record at `byte` ends; None if its header is corrupt or it is cut off."""
    size = len(view) if size is None else size
    if byte + _HEADER.size > size:
        return None
    length, checksum = _HEADER.unpack_from(view, byte)
    end = byte + length + _FRAME_BYTES
    if end > size or checksum != _masked_crc(view[byte : byte + 8]):
        return None
    return end


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (_CRC_POLYNOMIAL if byte & 1 else 0)
        table.append(byte)
    return table


_CRC_TABLE = _crc_table()


def _masked_crc(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + _CRC_MASK) & 0xFFFFFFFF
