"""The safetensors format, which any of its readers opens.

A file begins with the length of its header, eight bytes, and the header, a JSON object of the
arrays' dtypes, shapes and places, with a few strings as `__metadata__`; the arrays follow without a
gap. Written here and not by the library of that name, whose writer takes arrays that are not
contiguous for others, knows no float8, and loses the `errno` of a full disk.
"""

import json
import math
import os
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

METADATA = "__metadata__"
CODES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "uint16": "U16",
    "int16": "I16",
    "float16": "F16",
    "bfloat16": "BF16",
    "uint32": "U32",
    "int32": "I32",
    "float32": "F32",
    "uint64": "U64",
    "int64": "I64",
    "float64": "F64",
    "complex64": "C64",
}


def check_arrays(arrays: Mapping[str, np.ndarray]) -> None:
    """Raise `TypeError` or `ValueError` unless each array can be written as it is."""
    for name, array in arrays.items():
        if not isinstance(name, str) or name == METADATA:
            raise ValueError(
                f"The names of `arrays` must be strings other than {METADATA!r}. "
                f"Received: {name!r}."
            )
        if not isinstance(array, np.ndarray):
            raise TypeError(
                f"`arrays` must hold NumPy arrays. Received for {name!r}: {type(array).__name__}."
            )
        if array.dtype.name not in CODES or not array.dtype.isnative:
            raise TypeError(
                f"`arrays` must have dtypes of the safetensors format: {', '.join(CODES)}. "
                f"Received for {name!r}: {array.dtype!r}."
            )


def in_order(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """Return the names in the order of the data: the largest items first, so that all align."""
    return sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))


def encode_header(
    arrays: Mapping[str, tuple[str, tuple[int, ...]]], metadata: Mapping[str, str] | None = None
) -> bytes:
    """Return how a file begins: length of the header, header.

    Args:
        arrays: Name to NumPy dtype by name and shape, in the order of the data.
        metadata: Strings to keep beside the arrays.
    """
    entries: dict[str, Any] = {} if metadata is None else {METADATA: dict(metadata)}
    offset = 0
    for name, (dtype, shape) in arrays.items():
        end = offset + size_in_bytes(dtype, shape)
        entries[name] = {"dtype": CODES[dtype], "shape": shape, "data_offsets": (offset, end)}
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def read_header(file: BinaryIO) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read what describes the arrays, and the metadata; `file` then is at the first array.

    Nothing of the two is verified but that they are JSON objects.

    Raises:
        ValueError: The header is not whole, or no JSON object.
    """
    size = os.fstat(file.fileno()).st_size
    start = file.read(8)
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    if len(start) < 8 or length > size - 8:
        raise ValueError(f"its header would be {length} bytes long, and the file has {size}.")
    try:
        entries = json.loads(file.read(length))
        metadata = entries.pop(METADATA, {})
        return dict(entries), dict(metadata)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("its header is no JSON object.") from error


def dtype_of(name: str) -> np.dtype:
    """Return the NumPy dtype of that name, of which some are made by `ml_dtypes`."""
    import ml_dtypes

    return np.dtype(getattr(ml_dtypes, name, name))


def size_in_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    """Return the size of an array in bytes."""
    return math.prod(shape) * dtype_of(dtype).itemsize


def bytes_of(array: np.ndarray) -> memoryview:
    """Return the memory of a contiguous array; the buffer protocol does not know bfloat16."""
    return array.reshape(-1).view(np.uint8).data
