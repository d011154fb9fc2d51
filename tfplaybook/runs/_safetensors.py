"""Arrays with a few strings in one file of the safetensors format, which any of its readers opens.

The file begins with the length of its header, eight bytes, and the header, a JSON object of the
arrays' dtypes, shapes and places. Its `__metadata__` has the strings, and as `crc32` the checksum
of the data behind it.
"""

import json
import math
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfplaybook._files import REMEDY

_METADATA = "__metadata__"
_CODES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "float16": "F16",
    "uint32": "U32",
    "int32": "I32",
    "float32": "F32",
    "uint64": "U64",
    "int64": "I64",
    "float64": "F64",
}
_DTYPES = {code: np.dtype(name) for name, code in _CODES.items()}


def replace_arrays(
    path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Write the file so that `path` holds either the old or the new content, never a part.

    A dtype that NumPy does not have, such as bfloat16, is written as float32.
    """
    # The largest items first, so that each array of the file is aligned.
    plain = {name: _plain(array) for name, array in arrays.items()}
    names = sorted(plain, key=lambda name: (-plain[name].itemsize, name))
    entries: dict[str, Any] = {}
    offset = checksum = 0
    for name in names:
        array, start = plain[name], offset
        offset += array.nbytes
        checksum = zlib.crc32(_bytes_of(array), checksum)
        entries[name] = {
            "dtype": _CODES[array.dtype.name],
            "shape": array.shape,
            "data_offsets": (start, offset),
        }
    header = {_METADATA: {**metadata, "crc32": f"{checksum:08x}"}, **entries}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for name in names:
                file.write(_bytes_of(plain[name]))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def read_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the arrays and the strings of a file, verified.

    Raises:
        ValueError: The file is damaged, or `replace_arrays` did not write it.
        FileNotFoundError: There is no such file.
    """
    data = path.read_bytes()
    try:
        return _parse(data)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error} {REMEDY}") from error


def _parse(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    if len(data) < 8 or (length := struct.unpack("<Q", data[:8])[0]) > len(data) - 8:
        raise ValueError("its header is not whole.")
    header = json.loads(data[8 : 8 + length].decode())
    metadata = header.pop(_METADATA)
    content = memoryview(data)[8 + length :]
    if f"{zlib.crc32(content):08x}" != metadata.pop("crc32"):
        raise ValueError("its data does not match its checksum.")
    arrays = {}
    for name, entry in header.items():
        dtype, shape = _DTYPES[entry["dtype"]], tuple(entry["shape"])
        start, end = entry["data_offsets"]
        if (
            not 0 <= start <= end <= len(content)
            or end - start != math.prod(shape) * dtype.itemsize
        ):
            raise ValueError(f"the array {name!r} does not fit its shape.")
        arrays[name] = np.frombuffer(content[start:end], dtype).reshape(shape).copy()
    return arrays, {str(name): str(text) for name, text in metadata.items()}


def _bytes_of(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _plain(array: np.ndarray) -> np.ndarray:
    array = np.ascontiguousarray(array) if array.ndim else array
    return array if array.dtype.name in _CODES else array.astype("float32")
